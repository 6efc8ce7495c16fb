//! The `bandmesh` program.

use std::process::ExitCode;

use bandmesh::{
    cli::{self, Command, Exit},
    run,
};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Err(exit) => exit.print(),
        Ok(Command::Task(task)) => cli::run(&task, &run::LocalMachine),
        Ok(Command::Up(options)) => finish(run::up(options)),
        Ok(Command::Demo { options, bandmates }) => finish(run::demo(options, bandmates)),
    }
}

fn finish(outcome: Result<(), Exit>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.print(),
    }
}
