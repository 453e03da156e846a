use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    wait_without_spinning();
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

/// Starts this program once more with OpenMP told how to wait, where it is not told already.
///
/// libtorch's threads spin while they wait for work, against everything else that wants
/// the cores; when they sleep at once, as `PASSIVE` has them do, waking them takes longer
/// than most of the work (an LSTM trains at 0.6 of the speed on two cores). So they spin for
/// some ten microseconds first. OpenMP reads both variables when it is loaded, which is
/// before `main`.
fn wait_without_spinning() {
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
        // Returns only if it fails; spinning threads are then the lesser evil.
        let _ = again.exec();
    }
}
