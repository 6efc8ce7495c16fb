//! The simulator's command line.

use std::{
    fs::File,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use clap::{Parser, Subcommand};
use sim::{
    emulator::args::{self, LinkArguments, NatCommand},
    log::Reader,
    replay,
    report::Report,
    scenario::{self, Scenario},
    stack, world,
};

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
        /// Write every event to stderr.
        #[arg(long)]
        log: bool,
    },
    /// Play many seeds, each with the scenario it draws.
    Swarm {
        /// How many seeds.
        #[arg(long)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        first: u64,
    },
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

fn main() -> ExitCode {
    let Arguments { command, json } = Arguments::parse();
    let done = match command {
        Command::List => list(json),
        Command::Run { scenario, seed, log } => match scenario::find(&scenario) {
            Some(scenario) => show(&play(scenario, seed, log.then(to_stderr)), json),
            None if stack::scenario::find(&scenario).is_some() => play_stack(&scenario, seed, log, json),
            None => {
                let names: Vec<&str> = all_scenarios().map(|(name, _)| name).collect();
                say_error(&format!("there is no scenario {scenario}; there are {}", names.join(", ")));
                return ExitCode::from(2);
            }
        },
        Command::Swarm { seeds, first } => swarm(first, seeds, json),
        Command::Link(arguments) => return args::link(&arguments, json),
        Command::Nat(command) => return args::nat(&command, json),
        Command::Replay { file } => match play_again(&file) {
            Ok(outcome) => show_replay(&outcome, json),
            Err(why) => {
                say_error(&format!("{}: {why}", file.display()));
                return ExitCode::from(2);
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

/// Plays one run and times it.
fn play(scenario: &Scenario, seed: u64, reader: Option<Reader>) -> Report {
    let begun = Instant::now();
    let report = world::run(scenario.draw(seed), seed, reader);
    Report { wall_s: begun.elapsed().as_secs_f64(), ..report }
}

/// Plays one run of the whole stack, in a program of its own: [`sim::stack`] says why.
fn play_stack(scenario: &str, seed: u64, log: bool, json: bool) -> std::io::Result<bool> {
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

fn list(json: bool) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    for (name, about) in all_scenarios() {
        if json {
            writeln!(out, "{}", serde_json::json!({"scenario": name, "about": about}))?;
        } else {
            writeln!(out, "{name:22}{about}")?;
        }
    }
    Ok(true)
}

/// Plays the seeds on all processors; a report comes out when its run is done.
fn swarm(first: u64, seeds: u64, json: bool) -> std::io::Result<bool> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (reports, finished) = mpsc::sync_channel(workers);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (reports, next, stop) = (reports.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        return;
                    }
                    let seed = first.wrapping_add(index);
                    if reports.send(play(scenario::of_seed(seed), seed, None)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        let mut failed = 0;
        let shown = finished.iter().try_for_each(|report: Report| {
            failed += u64::from(!report.is_ok());
            show(&report, json).map(|_| ())
        });
        stop.store(true, Ordering::Relaxed);
        // Workers that wait to send see that nobody listens.
        drop(finished);
        shown?;
        if !json {
            writeln!(std::io::stdout().lock(), "{} of {seeds} runs ok", seeds - failed)?;
        }
        Ok(failed == 0)
    })
}

/// Prints a report; says whether it is ok.
fn show(report: &Report, json: bool) -> std::io::Result<bool> {
    report.show(json)?;
    Ok(report.is_ok())
}

fn play_again(file: &Path) -> Result<replay::Outcome, replay::ReplayError> {
    let file = File::open(file).map_err(|error| replay::ReplayError::Read(error.into()))?;
    replay::replay(BufReader::new(file))
}

/// Prints what came of a replay; says whether every decision was equal.
fn show_replay(outcome: &replay::Outcome, json: bool) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    if json {
        let text = serde_json::to_string(outcome).map_err(std::io::Error::other)?;
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
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
