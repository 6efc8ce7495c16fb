//! The simulator's command line.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use sim::{
    emulator::args::{self, LinkArguments, NatCommand},
    log::Reader,
    path::PathCommand,
    report::Report,
    run,
    scenario::{self, Scenario},
    swarm,
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
    /// Put a bad link between real programs.
    Link(Box<LinkArguments>),
    /// Set up routers that translate addresses, in network namespaces.
    #[command(subcommand)]
    Nat(NatCommand),
    /// Record what a real path does to packets.
    #[command(subcommand)]
    Path(PathCommand),
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
            None => {
                let names: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
                say_error(&format!("there is no scenario {scenario}; there are {}", names.join(", ")));
                return ExitCode::from(2);
            }
        },
        Command::Swarm { seeds, first, jobs } => swarm_of(first, seeds, jobs, json),
        Command::Path(command) => match sim::path::run(&command, json) {
            Ok(()) => Ok(true),
            Err(error) => {
                say_error(&error.to_string());
                return ExitCode::FAILURE;
            }
        },
        Command::Link(arguments) => return args::link(&arguments, json),
        Command::Nat(command) => return args::nat(&command, json),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our output has gone; there is nobody left to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn list(json: bool) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    for Scenario { name, about, .. } in scenario::ALL {
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
        run::play_and_shrink(scenario::of_seed(seed), seed)
    };
    swarm::in_order(seeds, jobs, play, |report| {
        done += 1;
        if !report.is_ok() {
            failed.push(report.seed);
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
    let mut out = io::stdout().lock();
    if json {
        let text = serde_json::to_string(report).map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
    } else {
        writeln!(
            out,
            "{:22} seed {:<6} {} nodes {:6.1} s in {:5.2} s  {:16} {}",
            report.scenario,
            report.seed,
            report.nodes,
            report.virtual_s,
            report.wall_s,
            report.log_hash.get(..16).unwrap_or_default(),
            report.verdict
        )?;
    }
    if !report.is_ok() {
        let detail = report.detail.as_deref().unwrap_or_default();
        say_error(&format!("{}: {detail}\nreplay: {}", report.verdict, report.replay()));
        if let Some(shrunk) = &report.shrunk {
            say_error(&format!("shorter: {} ({} tries)", shrunk.replay, shrunk.tries));
            shrunk.faults.iter().for_each(|fault| say_error(&format!("  fault {fault}")));
        }
    }
    Ok(report.is_ok())
}

fn to_stderr() -> Reader {
    Box::new(|at, line| say_error(&format!("{:12.6} {line}", at.as_seconds())))
}

fn say_error(text: &str) {
    // With stderr gone there is no other place to complain.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
