use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    wait_without_spinning();
    match monitor::cli::run(monitor::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program once more with `OMP_WAIT_POLICY=PASSIVE` where that is not set.
///
/// libtorch's threads spin while they wait for work, against everything else that wants
/// the cores, and OpenMP reads the variable when it is loaded, which is before `main`.
fn wait_without_spinning() {
    const POLICY: &str = "OMP_WAIT_POLICY";
    if env::var_os(POLICY).is_none()
        && let Ok(program) = env::current_exe()
    {
        // Returns only if it fails; spinning threads are then the lesser evil.
        let _ = Command::new(program).args(env::args_os().skip(1)).env(POLICY, "PASSIVE").exec();
    }
}
