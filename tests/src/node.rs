//! Nodes as processes: started, killed, asked, and never left behind.

use crate::audio::write_wav;
use crate::binary::bandmesh;
use crate::client::Client;
use crate::lan::Host;
use crate::wait::{eventually_some, ms, seconds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A node that is not ready by then will not be: loading a project is promised in under a second.
const READY_LIMIT: Duration = seconds(10);
/// The promise is 2 s; the rest is for the process to be reaped on a busy machine.
const EXIT_LIMIT: Duration = ms(2_500);
/// Lines of log shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// How to start a node.
#[derive(Clone, Debug)]
pub struct Options {
    name: String,
    subcommand: &'static str,
    audio: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Options {
    /// A player of this name, with the `null` audio device.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            subcommand: "up",
            audio: "null".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// With a simulated band around it: `bandmesh demo` instead of `bandmesh up`.
    pub fn demo(mut self) -> Self {
        self.subcommand = "demo";
        self
    }

    /// With this `--audio`.
    pub fn audio(mut self, audio: &str) -> Self {
        self.audio = audio.into();
        self
    }

    /// Plays the WAV file `input` and records what the player hears to `output`.
    pub fn file(self, input: &Path, output: &Path) -> Self {
        self.audio(&format!("file:{},{}", input.display(), output.display()))
    }

    /// In this session instead of the default one.
    pub fn session(self, name: &str) -> Self {
        self.with(&["--session", name])
    }

    /// With further arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// A node and its data directory; killed on drop, its log shown if the test failed.
#[derive(Debug)]
pub struct Node {
    host: Host,
    options: Options,
    home: TempDir,
    process: Option<Process>,
    ready: Option<Ready>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    started: Instant,
    /// What it printed, each with the time since the start.
    events: Arc<Mutex<Vec<(Duration, Value)>>>,
}

#[derive(Debug)]
struct Ready {
    after: Duration,
    line: Value,
    client: Client,
}

impl Node {
    /// Starts a node on `host` and waits for its ready line.
    #[track_caller]
    pub fn start(host: &Host, options: Options) -> Self {
        let mut node = Self::prepared(host, options);
        node.restart();
        node
    }

    /// A node that is not started yet: its data directory exists and is empty.
    pub fn prepared(host: &Host, options: Options) -> Self {
        let home = tempfile::Builder::new().prefix("bandmesh-test").tempdir().expect("a temporary directory");
        let node = Self { host: host.clone(), options, home, process: None, ready: None };
        std::fs::create_dir(node.data_dir()).expect("create the data directory");
        node
    }

    /// A node that is not started yet, and then plays `signal` and records what it hears ([`Self::recording`]).
    #[track_caller]
    pub fn player(host: &Host, options: Options, signal: &[f32]) -> Self {
        let mut node = Self::prepared(host, options);
        write_wav(&node.playing(), signal);
        let (input, output) = (node.playing(), node.recording());
        node.set_options(|options| options.file(&input, &output));
        node
    }

    /// The file that a [`Self::player`] plays.
    pub fn playing(&self) -> PathBuf {
        self.scratch("plays.wav")
    }

    /// The file in which it records.
    pub fn recording(&self) -> PathBuf {
        self.scratch("hears.wav")
    }

    /// Starts it (again), same place, same data, and waits for its ready line.
    #[track_caller]
    pub fn restart(&mut self) {
        self.launch();
        self.await_ready();
    }

    /// Starts the process and waits for nothing.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "{} is already running", self.options.name);
        let log = File::options().create(true).append(true).open(self.log_path()).expect("open the log");
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let stdout = child.stdout.take().expect("piped");
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line);
                let event = event.unwrap_or_else(|_| json!({"event": "not JSON", "line": line}));
                sink.lock().unwrap().push((started.elapsed(), event));
            }
        });
        self.process = Some(Process { child, started, events });
    }

    /// Types a line on its terminal.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        let process = self.process.as_mut().expect("it runs");
        let stdin = process.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("type a line");
    }

    /// Waits for the ready line of a launched node.
    #[track_caller]
    pub fn await_ready(&mut self) {
        let name = self.options.name.clone();
        let (ready_after, ready) = eventually_some(READY_LIMIT, &format!("{name} is ready"), || {
            assert!(self.is_alive(), "{name} ended instead of being ready:\n{}", self.log_tail());
            let events = self.process().events.lock().unwrap();
            events.iter().find(|(_, event)| event["event"] == "ready").cloned()
        });
        let text = |key: &str| ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {ready}"));
        let token = std::fs::read_to_string(text("token_file")).expect("read the token");
        let client = Client::new(&self.host, text("http"), token.trim());
        self.ready = Some(Ready { after: ready_after, line: ready.clone(), client });
    }

    fn command(&self) -> Command {
        let mut command = program(&self.host);
        command.args([self.options.subcommand, "--json", "--headless"]);
        if !self.options.arguments.iter().any(|argument| argument == "--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        command.args(["--name", &self.options.name, "--audio", &self.options.audio]);
        command.arg("--data-dir").arg(self.data_dir());
        command.args(self.host.loopback_arguments()).args(&self.options.arguments);
        command.envs(self.options.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Changes how it is started the next time.
    pub fn set_options(&mut self, change: impl FnOnce(Options) -> Options) {
        self.options = change(self.options.clone());
    }

    #[track_caller]
    fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("{} is not running", self.options.name))
    }

    #[track_caller]
    fn when_ready(&self) -> &Ready {
        self.ready.as_ref().unwrap_or_else(|| panic!("{} is not ready", self.options.name))
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its peer id.
    #[track_caller]
    pub fn id(&self) -> &str {
        self.ready()["peer_id"].as_str().expect("peer_id in the ready line")
    }

    /// The ready line.
    #[track_caller]
    pub fn ready(&self) -> &Value {
        &self.when_ready().line
    }

    /// How long it took from start to the ready line.
    #[track_caller]
    pub fn ready_after(&self) -> Duration {
        self.when_ready().after
    }

    /// When the process was started.
    #[track_caller]
    pub fn started(&self) -> Instant {
        self.process().started
    }

    /// Everything printed on stdout so far.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.process().events.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }

    /// Its HTTP interface.
    #[track_caller]
    pub fn api(&self) -> &Client {
        &self.when_ready().client
    }

    /// `GET /status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.api().get("/status").ok()
    }

    /// `GET /peers`.
    #[track_caller]
    pub fn peers(&self) -> Vec<Value> {
        let peers = self.api().get("/peers").ok();
        peers.as_array().cloned().unwrap_or_else(|| panic!("/peers is not a list: {peers}"))
    }

    /// What it says of `other`; `Null` if it does not know them.
    #[track_caller]
    pub fn peer(&self, other: &Node) -> Value {
        let id = other.id();
        self.peers().into_iter().find(|p| p["peer_id"] == id).unwrap_or_default()
    }

    /// True while audio packets of `other` have been received.
    #[track_caller]
    pub fn hears(&self, other: &Node) -> bool {
        self.peer(other)["audio"]["received"].as_u64().is_some_and(|count| count > 0)
    }

    /// `doc.heads_hash`.
    #[track_caller]
    pub fn heads(&self) -> String {
        let status = self.status();
        status["doc"]["heads_hash"].as_str().unwrap_or_else(|| panic!("no heads_hash: {status}")).into()
    }

    /// The shared project, or one node of it, by its address; `""` is all.
    #[track_caller]
    pub fn project(&self, address: &str) -> Value {
        self.api().get(&format!("/project{address}")).ok()
    }

    /// Applies edits, waits until they are on disk, and returns the addresses they made or touched.
    #[track_caller]
    pub fn edit(&self, commands: Value) -> Vec<String> {
        let answer = self.api().patch("/project", &json!({ "commands": commands })).ok();
        assert_eq!(answer["durable"], true, "{answer}");
        let results = answer["results"].as_array().unwrap_or_else(|| panic!("no results: {answer}"));
        results.iter().map(|r| r["address"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.ready = None;
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Asks it to stop with SIGTERM, and returns its exit code and how long it took.
    #[track_caller]
    pub fn stop(&mut self) -> (i32, Duration) {
        let asked = Instant::now();
        kill(pid(&self.process().child), Signal::SIGTERM).expect("send SIGTERM");
        let what = format!("{} stops on SIGTERM", self.options.name);
        let status = eventually_some(EXIT_LIMIT, &what, || self.exit_status());
        (self.process, self.ready) = (None, None);
        (exit_code(status), asked.elapsed())
    }

    /// True if the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_some() && self.exit_status().is_none()
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(|process| process.child.try_wait().expect("ask for the exit status"))
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.process().child.id());
        let text = std::fs::read_to_string(path).expect("read statm");
        let pages: u64 = text.split(' ').nth(1).and_then(|p| p.parse().ok()).expect("resident pages");
        pages * 4096
    }

    /// Its threads, as the system sees them.
    #[track_caller]
    pub fn threads(&self) -> Vec<Thread> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process_id())).expect("list the threads");
        // One that ends meanwhile is none.
        tasks.flatten().filter_map(|task| Thread::read(&task.path())).collect()
    }

    /// Its thread of this name.
    #[track_caller]
    pub fn thread(&self, name: &str) -> Thread {
        let named = self.threads().into_iter().find(|thread| thread.name == name);
        named.unwrap_or_else(|| panic!("{} has no thread {name}", self.options.name))
    }

    /// The node's process id.
    #[track_caller]
    pub fn process_id(&self) -> u32 {
        self.process().child.id()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A path for a file of this test beside the data directory.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the log of {} ends:\n{}", self.options.name, self.log_tail());
        }
    }
}

/// One thread of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name, at most 15 characters.
    pub name: String,
    /// Its realtime priority; 0 for an ordinary thread.
    pub realtime_priority: u32,
    /// How long it has kept a processor busy.
    pub busy: Duration,
    /// When it began, to some hundredths of a second.
    pub started: Instant,
}

/// Units in which the system tells when a thread began.
const TICKS_PER_S: f64 = 100.0;

impl Thread {
    fn read(task: &Path) -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(task.join(file)).ok();
        let (stat, schedule) = (read("stat")?, read("schedstat")?);
        // The name may hold anything but this; of what follows, see proc_pid_stat(5), the first is field 3.
        let (_, fields) = stat.rsplit_once(") ")?;
        let field = |number: usize| fields.split(' ').nth(number - 3);
        let realtime_priority = field(40)?.parse().ok()?;
        let busy = Duration::from_nanos(schedule.split(' ').next()?.parse().ok()?);
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime_s: f64 = uptime.split(' ').next()?.parse().ok()?;
        let age_s = uptime_s - field(22)?.parse::<f64>().ok()? / TICKS_PER_S;
        let started = Instant::now().checked_sub(Duration::from_secs_f64(age_s.max(0.0)))?;
        Some(Self { name: read("comm")?.trim_end().to_owned(), realtime_priority, busy, started })
    }
}

/// The number at a JSON pointer such as `/audio/one_way_ms`.
#[track_caller]
pub fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at {pointer} in {value}"))
}

/// How a program ended by itself.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `bandmesh` with `arguments` on `host` until it ends, which it must within `limit`. Its data directory, unless
/// given, is a fresh one.
#[track_caller]
pub fn run_to_exit(host: &Host, arguments: &[&str], limit: Duration) -> Exit {
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut child = program(host)
        .env("BANDMESH_DATA_DIR", home.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap())
        .spawn()
        .expect("start bandmesh");
    let what = format!("bandmesh {} ends", arguments.join(" "));
    let status = eventually_some(limit, &what, || child.try_wait().unwrap());
    Exit { code: exit_code(status), stdout: text(out), stderr: text(err) }
}

/// The program on a host, without what this test run's own environment would tell it.
pub(crate) fn program(host: &Host) -> Command {
    let mut command = host.command(bandmesh());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BANDMESH_")) {
        command.env_remove(name);
    }
    command
}

fn text(mut file: File) -> String {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read back what was printed");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}
