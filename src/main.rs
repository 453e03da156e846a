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

/// How OpenMP's threads wait. By default, libtorch's threads spin while they wait for work and so take the cores from
/// other threads. With `PASSIVE` they sleep at once, but then waking them takes longer than most
/// of the work (an LSTM trains at 0.6 of the speed on two cores). With both variables they spin
/// for about ten microseconds and then sleep.
const WAITING: [(&str, &str); 2] = [("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "20000")];
/// What oneDNN, which multiplies bfloat16, and libtorch's layer above it keep prepared, each for the last 1,024 shapes by
/// default. Each pass has its own number of rows and tokens, so a process that ran all models grew beyond 3 GB.
const PREPARED: [(&str, &str); 2] =
    [("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64"), ("LRU_CACHE_CAPACITY", "64")];

/// Restarts this program with those of these variables that are not set, because the libraries read them when they
/// are loaded, before `main`. Whoever has set the first has chosen how threads wait.
fn configure_libraries() {
    let is_missing = |(name, _): &(&str, &str)| env::var_os(name).is_none();
    let mut missing: Vec<_> = PREPARED.into_iter().filter(is_missing).collect();
    if is_missing(&WAITING[0]) {
        missing.extend(WAITING.into_iter().filter(is_missing));
    }
    if !missing.is_empty()
        && let Ok(program) = env::current_exe()
    {
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
