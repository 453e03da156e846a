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

/// The commit that this program was built from, as 12 hexadecimal digits; `None` outside a
/// repository.
fn commit() -> Option<&'static str> {
    // One line per change of HEAD: `<old commit> <new commit> <author> <time>\t<message>`.
    let last = include_str!(env!("MONITOR_COMMIT_LOG")).lines().next_back()?;
    last.split(' ').nth(1)?.get(..12)
}

/// Restarts this program with environment variables that configure how OpenMP's threads wait,
/// unless they are set already.
///
/// By default, libtorch's threads spin while they wait for work and so take the cores from
/// other threads. With `PASSIVE` they sleep at once, but then waking them takes longer than most
/// of the work (an LSTM trains at 0.6 of the speed on two cores). With both variables they spin
/// for about ten microseconds and then sleep. OpenMP reads the variables when it is loaded,
/// before `main`.
fn wait_without_spinning() {
    const POLICY: &str = "OMP_WAIT_POLICY";
    const SPINS: &str = "GOMP_SPINCOUNT";
    if env::var_os(POLICY).is_none()
        && let Ok(program) = env::current_exe()
    {
        let mut restarted = Command::new(program);
        restarted.args(env::args_os().skip(1)).env(POLICY, "PASSIVE");
        if env::var_os(SPINS).is_none() {
            restarted.env(SPINS, "20000");
        }
        // Returns only on failure; the program then continues with spinning threads.
        let _ = restarted.exec();
    }
}
