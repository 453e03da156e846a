use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    limit_openmp_spinning();
    match monitor::cli::run(monitor::cli::Cli::parse(), commit()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", monitor::cli::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The commit this program was built from, 12 hexadecimal digits; `None` outside a
/// repository.
fn commit() -> Option<&'static str> {
    // `<old commit> <new commit> <who> <when>\t<what>`, a line for each change of HEAD.
    let last = include_str!(env!("MONITOR_COMMIT_LOG")).lines().next_back()?;
    last.split(' ').nth(1)?.get(..12)
}

/// Restarts this program with settings for OpenMP's waiting, unless the user has set them.
///
/// By default, libtorch's threads spin while they wait for work and block the cores for others.
/// With `PASSIVE` they sleep at once, but waking them takes longer than most of the work (an LSTM
/// trains at 0.6 of the speed on two cores). So they first spin for some ten microseconds.
/// OpenMP reads both variables when it is loaded, which is before `main`.
fn limit_openmp_spinning() {
    const POLICY: &str = "OMP_WAIT_POLICY";
    const SPINS: &str = "GOMP_SPINCOUNT";
    if env::var_os(POLICY).is_none()
        && let Ok(program) = env::current_exe()
    {
        let mut again = Command::new(program);
        again.args(env::args_os().skip(1)).env(POLICY, "PASSIVE");
        if env::var_os(SPINS).is_none() {
            again.env(SPINS, "20000");
        }
        // Returns only on failure; the program then runs with spinning threads.
        let _ = again.exec();
    }
}
