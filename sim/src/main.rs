//! The simulator's command line.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use sim::{
    emulator::args::{self, LinkArguments, NatCommand},
    log::Reader,
    path::PathCommand,
    replay,
    report::Report,
    run, scenario, stack, swarm,
};

/// How often a swarm says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Plays Bandmesh's own cores in a virtual world, replayed from a seed and judged by checkers.
#[derive(Parser)]
#[command(name = "./dev sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// One JSON object a line on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Name the scenarios.
    List,
    /// Play one scenario with one seed.
    Run {
        /// Its name, as `list` gives it.
        scenario: String,
        /// The seed that everything random is drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// With these of its faults only, by their numbers from 1: `3,7`; none: `--only=`.
        #[arg(long, value_delimiter = ',', num_args = 0.., require_equals = true, value_parser = fault_number)]
        only: Option<Vec<usize>>,
        /// If it fails, look for the fewest faults that fail alike.
        #[arg(long, conflicts_with_all = ["only", "log"])]
        shrink: bool,
        /// Write every event to stderr.
        #[arg(long)]
        log: bool,
    },
    /// Play many seeds, each with the scenario it draws; what fails is made short.
    Swarm {
        /// How many seeds.
        #[arg(long)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// How many at a time; as many as there are processors if not given.
        #[arg(long)]
        jobs: Option<usize>,
    },
    /// Record what a real path does to packets.
    #[command(subcommand)]
    Path(PathCommand),
    /// Put a bad link between real programs.
    Link(Box<LinkArguments>),
    /// Set up routers that translate addresses, in network namespaces.
    #[command(subcommand)]
    Nat(NatCommand),
    /// Run a node's cores again on the trace it wrote with --trace, and compare every decision.
    Replay {
        /// The trace.
        file: PathBuf,
    },
}

/// An empty list is one empty value.
fn fault_number(text: &str) -> Result<usize, String> {
    if text.is_empty() {
        Ok(0)
    } else {
        text.parse().map_err(|_| format!("{text:?} is no number of a fault"))
    }
}

fn main() -> ExitCode {
    let Arguments { command, json } = Arguments::parse();
    let done = match command {
        Command::List => list(json),
        Command::Run { scenario, seed, only, shrink, log } => match scenario::find(&scenario) {
            Some(scenario) if shrink => show(&run::play_and_shrink(scenario, seed), json),
            Some(scenario) => show(&run::play(scenario, seed, only.as_deref(), log.then(to_stderr)), json),
            None if stack::scenario::find(&scenario).is_some() => play_stack(&scenario, seed, log, json),
            None => {
                let names: Vec<&str> = all_scenarios().map(|(name, _)| name).collect();
                say_error(&format!("there is no scenario {scenario}; there are {}", names.join(", ")));
                return ExitCode::from(2);
            }
        },
        Command::Swarm { seeds, first, jobs } => swarm_of(first, seeds, jobs, json),
        Command::Link(arguments) => return args::link(&arguments, json),
        Command::Nat(command) => return args::nat(&command, json),
        Command::Replay { file } => match play_again(&file) {
            Ok(outcome) => show_replay(&outcome, json),
            Err(why) => {
                say_error(&format!("{}: {why}", file.display()));
                return ExitCode::from(2);
            }
        },
        Command::Path(command) => match sim::path::run(&command, json) {
            Ok(()) => Ok(true),
            Err(error) => {
                say_error(&error.to_string());
                return ExitCode::FAILURE;
            }
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our output has gone; there is nobody left to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Plays one run of the whole stack, in a program of its own: [`sim::stack`] says why.
fn play_stack(scenario: &str, seed: u64, log: bool, json: bool) -> io::Result<bool> {
    let player = std::env::current_exe()?.with_file_name("bandmesh-sim-stack");
    let flags =
        [(log, "--log"), (json, "--json")].into_iter().filter_map(|(is_on, flag)| is_on.then_some(flag));
    let played = std::process::Command::new(&player)
        .args([scenario, "--seed", &seed.to_string()])
        .args(flags)
        .status()
        .inspect_err(|error| {
            say_error(&format!("{}: {error}; build it with the simulator", player.display()))
        })?;
    Ok(played.success())
}

/// Names and descriptions: of the cores' scenarios, then of the whole stack's.
fn all_scenarios() -> impl Iterator<Item = (&'static str, &'static str)> {
    let cores = scenario::ALL.iter().map(|it| (it.name, it.about));
    cores.chain(stack::scenario::ALL.iter().map(|it| (it.name, it.about)))
}

fn list(json: bool) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    for (name, about) in all_scenarios() {
        if json {
            writeln!(out, "{}", serde_json::json!({"scenario": name, "about": about}))?;
        } else {
            writeln!(out, "{name:22}{about}")?;
        }
    }
    Ok(true)
}

/// Plays the seeds, as many at a time as there are `jobs`; reports come out in order of their seeds.
fn swarm_of(first: u64, seeds: u64, jobs: Option<usize>, json: bool) -> io::Result<bool> {
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (begun, mut told) = (Instant::now(), Instant::now());
    let (mut done, mut failed) = (0u64, vec![]);
    let play = |index: u64| {
        let seed = first.wrapping_add(index);
        let whole = stack::drawn::of_seed(seed).map(|it| stack::drawn::play(it, seed, json));
        (run::play_and_shrink(scenario::of_seed(seed), seed), whole)
    };
    swarm::in_order(seeds, jobs, play, |(report, whole)| {
        done += 1;
        if !report.is_ok() || whole.as_ref().is_some_and(|whole| !whole.is_ok()) {
            failed.push(report.seed);
        }
        if let Some(whole) = whole {
            whole.show()?;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let per_second = done as f64 / begun.elapsed().as_secs_f64();
            say_error(&format!("{done} of {seeds} runs, {} failed, {per_second:.1}/s", failed.len()));
        }
        show(&report, json).map(|_| ())
    })?;
    say_error(&format!(
        "{} of {seeds} runs ok, {:.1} s{}",
        seeds - failed.len() as u64,
        begun.elapsed().as_secs_f64(),
        if failed.is_empty() { String::new() } else { format!("; failed: {failed:?}") }
    ));
    Ok(failed.is_empty())
}

/// Prints a report; says whether it is ok.
fn show(report: &Report, json: bool) -> io::Result<bool> {
    report.show(json)?;
    Ok(report.is_ok())
}

fn play_again(file: &Path) -> Result<replay::Outcome, replay::ReplayError> {
    let file = File::open(file).map_err(|error| replay::ReplayError::Read(error.into()))?;
    replay::replay(BufReader::new(file))
}

/// Prints what came of a replay; says whether every decision was equal.
fn show_replay(outcome: &replay::Outcome, json: bool) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    if json {
        let text = serde_json::to_string(outcome).map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
        return Ok(outcome.equal);
    }
    let replay::Outcome { name, peer_id, version, seconds, records, ended, .. } = outcome;
    writeln!(out, "trace of {name} ({peer_id}), bandmesh {version}: {seconds:.3} s, {records} records")?;
    let incomplete = if outcome.complete { "" } else { "INCOMPLETE, " };
    writeln!(out, "{incomplete}it ends {ended}")?;
    for (kind, count) in &outcome.compared {
        writeln!(out, "  {count:>10}  {}", kind.replace('_', " "))?;
    }
    if outcome.callbacks_left > 0 {
        writeln!(out, "  {:>10}  callbacks at the end took what the trace has not", outcome.callbacks_left)?;
    }
    for warning in &outcome.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let Some(difference) = &outcome.difference else {
        writeln!(out, "every recorded decision was made again")?;
        return Ok(true);
    };
    let replay::Difference { record, octet, at_s, what, recorded, replayed, context } = difference;
    writeln!(out, "DIFFERENCE at {at_s:.6} s, record {record} (octet {octet}): {what}")?;
    writeln!(out, "  recorded  {recorded}\n  replayed  {replayed}")?;
    writeln!(out, "  before it, of the same core:")?;
    for line in context {
        writeln!(out, "    {line}")?;
    }
    Ok(false)
}

fn to_stderr() -> Reader {
    Box::new(|at, line| say_error(&format!("{:12.6} {line}", at.as_seconds())))
}

fn say_error(text: &str) {
    // With stderr gone there is no other place to complain.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
