use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match monitor::cli::run(monitor::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
