use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    configure_libraries();
    match monitor::cli::run(monitor::cli::Cli::of_arguments(commit()), commit()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", monitor::cli::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The commit that this program was built from, as 12 hexadecimal digits; `None` outside a
/// repository. Only the digits become part of the program, not the log.
static COMMIT: Option<[u8; 12]> = last_commit(include_bytes!(env!("MONITOR_COMMIT_LOG")));

fn commit() -> Option<&'static str> {
    COMMIT.as_ref().and_then(|digits| std::str::from_utf8(digits).ok())
}

/// The commit in the last line of Git's log of HEAD, which has one line per change of HEAD:
/// `<old commit> <new commit> <author> <time>\t<message>`.
const fn last_commit(log: &[u8]) -> Option<[u8; 12]> {
    let mut start = log.len().saturating_sub(1);
    while start > 0 && log[start - 1] != b'\n' {
        start -= 1;
    }
    // The old commit takes 40 digits and a space.
    let first = start + 41;
    if log.len() < first + 40 || log[first - 1] != b' ' {
        return None;
    }
    let mut digits = [0; 12];
    let mut place = 0;
    while place < digits.len() {
        digits[place] = log[first + place];
        place += 1;
    }
    Some(digits)
}

/// What libtorch's libraries read from the environment when they are loaded, before `main`.
///
/// By default, libtorch's threads spin while they wait for work and so take the cores from
/// other threads. With `PASSIVE` they sleep at once, but then waking them takes longer than most
/// of the work (an LSTM trains at 0.6 of the speed on two cores). With both variables they spin
/// for about ten microseconds and then sleep.
///
/// oneDNN, which multiplies bfloat16, and libtorch's layer above it each keep what they prepared for the last 1,024 shapes.
/// Each pass has its own number of rows and tokens, so a transformer's memory grew to 3 GB; with 64
/// it has 0.6 GB, and is as fast.
const OF_LIBRARIES: [(&str, &str); 4] = [
    ("OMP_WAIT_POLICY", "PASSIVE"),
    ("GOMP_SPINCOUNT", "20000"),
    ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64"),
    ("LRU_CACHE_CAPACITY", "64"),
];

/// Restarts this program with those of [`OF_LIBRARIES`] that are not set, unless the first is: then
/// somebody has chosen them.
fn configure_libraries() {
    if env::var_os(OF_LIBRARIES[0].0).is_none()
        && let Ok(program) = env::current_exe()
    {
        let missing = OF_LIBRARIES.into_iter().filter(|(name, _)| env::var_os(name).is_none());
        let mut restarted = Command::new(program);
        restarted.args(env::args_os().skip(1)).envs(missing);
        // Returns only on failure; the program then continues with the libraries' defaults.
        let _ = restarted.exec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_last_commit() {
        let (old, new) = ("0".repeat(40), format!("0123456789ab{}", "c".repeat(28)));
        let check = |name, log: String, expected: Option<&[u8; 12]>| {
            assert_eq!(last_commit(log.as_bytes()).as_ref(), expected, "{name}");
        };
        let line = format!("{old} {new} Ada <ada@example.com> 1 +0000\tcommit: x\n");
        check("one line", line.clone(), Some(b"0123456789ab"));
        let earlier = format!("{new} {old} Ada <ada@example.com> 1 +0000\tcommit: y\n");
        check("the last of two", earlier + &line, Some(b"0123456789ab"));
        check("no log", String::new(), None);
        check("another file", "ref: refs/heads/main\n".repeat(9), None);
    }
}
