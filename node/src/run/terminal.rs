//! The terminal of a running node, for which nothing has to wait.
//!
//! A terminal can stand still: Ctrl-S, a pager, a program that does not read the pipe it was given. Whoever writes to it
//! directly stands still with it, and here that would be music and the answer to Ctrl-C. So a thread writes each of
//! stdout and stderr, from a queue of [`QUEUE`] lines; when it is full the newest line is dropped. The page keeps a log
//! of its own.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use crate::cli::{Event, Exit};

/// Lines that may wait for the terminal.
const QUEUE: usize = 512;
/// How long the last lines may take to be read when the program ends.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// What a running node says on stdout, for a person or as JSON.
pub struct Terminal {
    stdout: Outlet,
    stderr: Outlet,
    json: bool,
}

impl Terminal {
    /// Begins to write.
    ///
    /// # Errors
    /// The [`Exit`] to print if there are no threads for it.
    pub fn open(json: bool) -> Result<Self, Exit> {
        let outlet = |name: &str, to: Box<dyn Write + Send>| {
            Outlet::start(name, to)
                .map_err(|error| Exit::failure(&format!("cannot start threads: {error}; raise `ulimit -u`")))
        };
        Ok(Self {
            stdout: outlet("stdout", Box::new(io::stdout()))?,
            stderr: outlet("stderr", Box::new(io::stderr()))?,
            json,
        })
    }

    /// Says it on stdout, unless nobody has read there for long.
    pub fn say(&self, event: &Event) {
        self.stdout.line(format!("{}\n", event.line(self.json)).into_bytes());
    }

    /// What goes to a person only; a program would not know what to do with it.
    pub fn explain(&self, message: String) {
        if !self.json {
            self.say(&Event::Warning { message });
        }
    }

    /// Where the log goes.
    pub fn log(&self) -> Outlet {
        self.stderr.clone()
    }

    /// Waits, within a bound, until all that was said is written.
    pub fn close(self) {
        self.stdout.flush_within(LAST_WORDS);
        self.stderr.flush_within(LAST_WORDS);
    }
}

/// A way to one of the program's outputs.
#[derive(Clone)]
pub struct Outlet {
    queue: SyncSender<Said>,
}

enum Said {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Outlet {
    fn start(name: &str, to: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, said) = sync_channel(QUEUE);
        thread::Builder::new().name(name.to_owned()).spawn(move || write_all(&said, to))?;
        Ok(Self { queue })
    }

    fn line(&self, line: Vec<u8>) {
        match self.queue.try_send(Said::Line(line)) {
            // Dropped, see above; the writer never ends before the program.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    fn flush_within(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Said::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

/// One call of the log is one line of it.
impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(said: &Receiver<Said>, mut to: impl Write) {
    while let Ok(said) = said.recv() {
        match said {
            // A terminal that is gone: the node plays on without.
            Said::Line(line) => drop(to.write_all(&line).and_then(|()| to.flush())),
            Said::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    };

    /// Takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Stopped {
        open: Arc<(Mutex<bool>, Condvar)>,
        /// Somebody has begun to write.
        begun: Arc<AtomicBool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Stopped {
        fn open(&self) {
            *self.open.0.lock().unwrap() = true;
            self.open.1.notify_all();
        }
    }

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.begun.store(true, Ordering::Release);
            drop(self.open.1.wait_while(self.open.0.lock().unwrap(), |open| !*open).unwrap());
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_that_stands_still_holds_nobody_up() {
        let terminal = Stopped::default();
        let outlet = Outlet::start("test", terminal.clone()).unwrap();
        for number in 0..3 * QUEUE {
            outlet.line(format!("{number}\n").into_bytes());
            // Later it would make room for a line between those that find none.
            while !terminal.begun.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        outlet.flush_within(Duration::from_millis(1));
        assert!(terminal.written.lock().unwrap().is_empty());
        terminal.open();
        // The first lines come, in order; those that found no room do not.
        outlet.flush_within(Duration::from_secs(10));
        let (done, written) = sync_channel(1);
        outlet.queue.send(Said::Flush(done)).unwrap();
        written.recv_timeout(Duration::from_secs(10)).unwrap();
        let written = String::from_utf8(terminal.written.lock().unwrap().clone()).unwrap();
        let lines: Vec<usize> = written.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(lines.len(), QUEUE + 1);
        assert!(lines.iter().enumerate().all(|(index, line)| index == *line));
    }

    #[test]
    fn what_was_said_last_is_written_before_the_end() {
        let terminal = Stopped::default();
        terminal.open();
        let outlet = Outlet::start("test", terminal.clone()).unwrap();
        outlet.line(b"Left the session\n".to_vec());
        outlet.flush_within(Duration::from_secs(10));
        assert_eq!(*terminal.written.lock().unwrap(), b"Left the session\n");
    }
}
