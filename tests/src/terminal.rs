//! A person at a terminal: a pseudo terminal with a program in it, and eyes on its screen.

use crate::lan::Host;
use crate::node::{exit_code, pid, program};
use crate::wait::eventually_some;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const ROWS: u16 = 24;
const COLUMNS: u16 = 110;

/// The program in a terminal; killed on drop.
pub struct Terminal {
    child: Child,
    /// `None` once it is hung up.
    keyboard: Option<File>,
    eyes: Option<JoinHandle<()>>,
    hung_up: Arc<AtomicBool>,
    /// The program's side, held so that the terminal outlives the program.
    line: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Runs `bandmesh` with `arguments` for the node whose files are in `data_dir`.
    #[track_caller]
    pub fn run(host: &Host, data_dir: &Path, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo terminal");
        let line = || Stdio::from(pty.slave.try_clone().expect("the terminal's line"));
        let mut command = program(host);
        command.args(arguments).arg("--data-dir").arg(data_dir).env("TERM", "xterm-256color");
        let child = command.stdin(line()).stdout(line()).stderr(line()).spawn().expect("start bandmesh");
        drop(command);
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().expect("the terminal's output");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let shown = Arc::clone(&screen);
        let hung_up = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&hung_up);
        let eyes = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !ends.load(Ordering::Relaxed)
                && let Ok(length @ 1..) = output.read(&mut bytes)
            {
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self { child, keyboard: Some(keyboard), eyes: Some(eyes), hung_up, line: pty.slave, screen }
    }

    /// Presses keys.
    #[track_caller]
    pub fn press(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().expect("a terminal that is not hung up");
        keyboard.write_all(keys.as_bytes()).expect("press a key");
    }

    /// The terminal goes away, as when an ssh breaks: the program is told by SIGHUP, and can neither read nor write.
    #[track_caller]
    pub fn hang_up(&mut self) {
        self.hung_up.store(true, Ordering::Relaxed);
        // The eyes look up at the next thing on the screen only.
        let mut line = File::from(self.line.try_clone().expect("the terminal's line"));
        line.write_all(b"\r").expect("write on the screen");
        self.eyes.take().expect("hung up once").join().expect("eyes on the screen");
        self.keyboard = None;
        kill(pid(&self.child), Signal::SIGHUP).expect("send SIGHUP");
    }

    /// What is on the screen.
    pub fn picture(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen shows `text`.
    #[track_caller]
    pub fn shows(&self, limit: Duration, text: &str) {
        let what = format!("the terminal shows {text:?}");
        let seen = || self.picture().contains(text).then_some(());
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually_some(limit, &what, seen)))
            .is_err()
        {
            panic!("{what} within {limit:?}; it shows:\n{}", self.picture());
        }
    }

    /// Whether the shell would find its terminal as it was: keys come in lines, are echoed, and the screen is the usual one.
    pub fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.line).expect("the terminal's modes");
        let usual = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        modes.local_flags.contains(usual) && !self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Asks the program to end with SIGTERM.
    #[track_caller]
    pub fn terminate(&self) {
        kill(pid(&self.child), Signal::SIGTERM).expect("send SIGTERM");
    }

    /// Waits until the program ends, and returns its exit code.
    #[track_caller]
    pub fn ends(&mut self, limit: Duration) -> i32 {
        let child = &mut self.child;
        let status = eventually_some(limit, "the program in the terminal ends", || child.try_wait().unwrap());
        exit_code(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
