//! Plays one run of the whole network stack in virtual time. `bandmesh-sim` starts it; see [`sim::stack`].

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system;

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn main() -> ExitCode {
    // Before anything else: the first hash map would already be seeded by the system.
    let taken = system::take_over(0);
    program::main(taken)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "runs of the whole stack need Linux with glibc");
    ExitCode::from(2)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod program {
    use std::{io::Write as _, process::ExitCode};

    use clap::{Parser, ValueEnum};
    use sim::{
        log::Reader,
        report::Report,
        stack::{self, Congestion, Machine, scenario},
    };

    use super::system;

    /// Plays one run of the whole network stack in virtual time.
    #[derive(Parser)]
    #[command(name = "bandmesh-sim-stack", version)]
    struct Arguments {
        /// Its name, as `./dev sim list` gives it.
        scenario: String,
        /// The seed that everything random is drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
        /// Write every event to stderr.
        #[arg(long)]
        log: bool,
        /// Measure another congestion controller in place of our own.
        #[arg(long, value_enum, default_value = "own")]
        congestion: Controller,
    }

    #[derive(Clone, Copy, ValueEnum)]
    #[value(rename_all = "lowercase")]
    enum Controller {
        Own,
        Cubic,
        NewReno,
        Bbr,
    }

    impl From<Controller> for Congestion {
        fn from(controller: Controller) -> Self {
            match controller {
                Controller::Own => Self::Own,
                Controller::Cubic => Self::Cubic,
                Controller::NewReno => Self::NewReno,
                Controller::Bbr => Self::Bbr,
            }
        }
    }

    pub(super) fn main(taken: Result<(), &'static str>) -> ExitCode {
        let arguments = Arguments::parse();
        let Some(scenario) = scenario::find(&arguments.scenario) else {
            let names: Vec<&str> = scenario::ALL.iter().map(|it| it.name).collect();
            say_error(&format!(
                "there is no scenario {}; there are {}",
                arguments.scenario,
                names.join(", ")
            ));
            return ExitCode::from(2);
        };
        if let Err(reason) = taken {
            say_error(&format!("{reason}: two runs of a seed may differ"));
        }
        let (seed, congestion) = (arguments.seed, arguments.congestion.into());
        let reader: Option<Reader> = arguments.log.then(to_stderr);
        let begun = system::wall_clock();
        system::reseed(seed);
        // A new thread: the keys of this one's hash maps were drawn before the seed was known.
        let played = std::thread::spawn(move || {
            let machine = Machine { heap_bytes: system::heap_bytes };
            stack::run(scenario, seed, congestion, machine, reader)
        });
        let Ok(report) = played.join() else { return ExitCode::FAILURE };
        let wall_s = system::wall_clock().saturating_sub(begun).as_secs_f64();
        let report = Report { wall_s, ..report };
        match report.show(arguments.json) {
            Ok(()) if report.is_ok() => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    fn to_stderr() -> Reader {
        Box::new(|at, line| say_error(&format!("{:14.9} {line}", at.as_seconds())))
    }

    fn say_error(text: &str) {
        // With stderr gone there is no other place to complain.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}
