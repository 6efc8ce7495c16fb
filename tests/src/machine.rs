//! A virtual machine with MIDI ports and a sound card.
//!
//! Few machines that run tests have a kernel with ALSA's sequencer, and on those that have, a test must not play on the
//! user's instruments. So such a test runs in a machine of its own: a Debian kernel in QEMU, emulated (KVM is not to be
//! had everywhere), which sees this machine's files and changes none of them. In there, `/dev/snd/midiC0D0` is a keyboard's
//! cable: what is written to it is played on the input "VirMIDI 0-0"; what is sent to the output "VirMIDI 1-0" can be read
//! from `/dev/snd/midiC1D0`.
//!
//! `./dev setup test` fetches the kernel into `target/machine`.

use crate::binary::{bandmesh, target_directory};
use crate::turn::Turn;
use crate::wait::seconds;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Tells a test that it runs in the machine.
const INSIDE: &str = "BANDMESH_TEST_MACHINE";
/// Booting takes 5 s, the rest is the test's.
const LIMIT: Duration = seconds(200);
/// Modules and their parameters: the host's files, two cards with MIDI ports (a keyboard; a synthesiser and another), a
/// sound card that is silent, and what comes with every sequencer.
const MODULES: [&str; 9] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "snd-hrtimer",
    "snd-seq",
    "snd-virmidi enable=1,1 index=0,1 midi_devs=1,2",
    "snd-seq-dummy",
    "snd-dummy index=2 id=Dummy",
];
const INIT: &str = include_str!("machine/init.sh");

/// Whether this is the inside of the machine, where an emulated processor takes its time.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs `story`, which is the body of the test called `test`, in the machine.
#[track_caller]
pub fn in_machine(test: &str, story: impl FnOnce()) {
    if is_inside() {
        return story();
    }
    if cfg!(not(target_arch = "x86_64")) {
        eprintln!("LEFT OUT on this processor: a virtual machine with MIDI ports");
        return;
    }
    let bandmesh = bandmesh();
    let _turn = Turn::alone();
    let mut machine = Machine::boot(test, bandmesh);
    let said = machine.wait();
    let passed = said.lines().any(|line| line.trim() == "machine: exit 0") && said.contains("1 passed");
    assert!(passed, "{test} failed in the machine, whose console said:\n{said}");
    // What the test measured.
    let told = said.lines().skip_while(|line| !line.contains("running 1 test"));
    eprintln!("{}", told.take_while(|line| !line.contains("test result")).collect::<Vec<_>>().join("\n"));
}

/// QEMU; killed on drop.
struct Machine {
    qemu: Child,
    console: Arc<Mutex<Vec<u8>>>,
    _files: tempfile::TempDir,
}

impl Machine {
    fn boot(test: &str, bandmesh: &Path) -> Self {
        let kernel = target_directory().join("machine");
        let release = fs::read_to_string(kernel.join("release"));
        let release =
            release.unwrap_or_else(|e| panic!("{}: {e}; ./dev setup test fetches it", kernel.display()));
        let files = tempfile::tempdir().expect("a temporary directory");
        let image = pack(files.path(), &kernel, release.trim(), test, bandmesh);
        let mut qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "2", "-m", "1536", "-nic", "none", "-nographic", "-no-reboot"])
            .arg("-kernel")
            .arg(kernel.join("vmlinuz"))
            .arg("-initrd")
            .arg(image)
            // Where the emulator gets little time itself, the kernel takes the timer for a broken one.
            .args(["-append", "console=ttyS0 panic=-1 quiet no_timer_check"])
            .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|e| panic!("qemu-system-x86_64: {e}; ./dev setup test installs it"));
        let mut output = qemu.stdout.take().expect("piped");
        let console = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&console);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..length]);
            }
        });
        Self { qemu, console, _files: files }
    }

    /// Waits until it is switched off, or for too long; what its console said.
    fn wait(&mut self) -> String {
        let began = Instant::now();
        while began.elapsed() < LIMIT && self.qemu.try_wait().expect("ask for QEMU's exit status").is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = String::from_utf8_lossy(&self.console.lock().unwrap()).replace('\r', "");
        let late = if began.elapsed() < LIMIT { "" } else { "\n(and then nothing for too long)" };
        format!("{said}{late}")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The first file system of the machine, in memory.
fn pack(folder: &Path, kernel: &Path, release: &str, test: &str, bandmesh: &Path) -> PathBuf {
    let root = folder.join("root");
    for name in ["bin", "dev", "layers", "modules", "proc", "root", "sys"] {
        fs::create_dir_all(root.join(name)).expect("make a folder");
    }
    let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("write a file");
    fs::copy("/bin/busybox", root.join("bin/busybox"))
        .unwrap_or_else(|e| panic!("/bin/busybox: {e}; ./dev setup test installs it"));
    write("init", INIT);
    let this = std::env::current_exe().expect("path of the test");
    write("programs", &format!("{}\n{}\n", bandmesh.display(), this.display()));
    let name = |path: &Path| path.file_name().expect("a program's name").to_string_lossy().into_owned();
    // Without realtime threads: two emulated processors have no time to spare that nobody else may have.
    write(
        "command",
        &format!(
            "export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp BANDMESH_TEST_NO_NETNS=1 {INSIDE}=1\n\
             export BANDMESH_BIN=/run/{}\n\
             exec setpriv --inh-caps -sys_nice --bounding-set -sys_nice \
             /run/{} --exact {test} --nocapture --test-threads 1\n",
            name(bandmesh),
            name(&this)
        ),
    );
    write("modules/order", &modules(&root.join("modules"), kernel, release));
    let image = folder.join("image");
    let pack = "chmod 755 init && find . | cpio --create --format=newc --quiet > ../image";
    let packed = Command::new("sh").args(["-ec", pack]).current_dir(&root).status().expect("run a shell");
    assert!(packed.success(), "cpio does not pack; ./dev setup test installs it");
    image
}

/// Copies the modules into `folder`; their names with their parameters, in the order of loading.
fn modules(folder: &Path, kernel: &Path, release: &str) -> String {
    let mut order: Vec<String> = Vec::new();
    for wanted in MODULES {
        let (module, parameters) = wanted.split_once(' ').unwrap_or((wanted, ""));
        let shown = Command::new("modprobe")
            .arg("-d")
            .arg(kernel)
            .args(["-S", release, "--config", "/dev/null", "--show-depends", module])
            .output()
            .unwrap_or_else(|e| panic!("modprobe: {e}; ./dev setup test installs it"));
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let files: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert!(
            !files.is_empty(),
            "the kernel {release} has no {module}; remove {} and run ./dev setup test",
            kernel.display()
        );
        for (index, file) in files.iter().enumerate() {
            let file = Path::new(file);
            let name = file.file_name().expect("a module's name").to_string_lossy().into_owned();
            let own = if index + 1 == files.len() { parameters } else { "" };
            let line = format!("{name} {own}\n");
            if !order.iter().any(|known| known.starts_with(&format!("{name} "))) {
                fs::copy(file, folder.join(&name)).expect("copy a module");
                order.push(line);
            }
        }
    }
    order.concat()
}
