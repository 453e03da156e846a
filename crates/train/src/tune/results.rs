//! The results of a search on disk, one line each.
//!
//! **Invariant.** A result is on the disk before the next training begins. Only a search with the same
//! settings, on the same rows, continues from the file; it may ask for more trials. Deliberately
//! absent: the settings of a trial as what counts; they follow from seed and number.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fit::CheckpointError;
use crate::report::{TrialRun, TrialSettings};

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Identifies the search: command, rows and program.
    fingerprint: String,
    /// For the error message.
    command: String,
}

/// A result.
#[derive(Serialize)]
struct Written<'a> {
    trial: usize,
    run: TrialRun,
    /// For people.
    settings: &'a TrialSettings,
}

#[derive(Deserialize)]
struct Read {
    trial: usize,
    run: TrialRun,
}

/// The file of a search.
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the file `path`, anew or with the results that are in it: trials and what became of
    /// them.
    ///
    /// # Errors
    /// It cannot be read or written, or is that of another search.
    pub(super) fn open(
        path: PathBuf,
        fingerprint: String,
        command: &str,
        resume: bool,
    ) -> Result<(Self, Vec<(usize, TrialRun)>), CheckpointError> {
        let failed = |source| CheckpointError::Io { path: path.clone(), source };
        let folder = path.parent().unwrap_or(Path::new("."));
        let head = Head { fingerprint, command: command.to_owned() };
        if !resume {
            if path.exists() {
                eprintln!(
                    "{}: discarding the results of an earlier search (--resume would continue it)",
                    path.display()
                );
                fs::remove_dir_all(folder).map_err(failed)?;
            }
            fs::create_dir_all(folder).map_err(failed)?;
            let mut file = File::create(&path).map_err(failed)?;
            append(&mut file, &head).map_err(failed)?;
            return Ok((Self { path, file }, Vec::new()));
        }
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CheckpointError::None(folder.to_owned()),
            _ => CheckpointError::Io { path: path.clone(), source },
        })?;
        let damaged = |error: serde_json::Error| CheckpointError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        };
        // A kill may have cut the last line off.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let mut lines = text[..whole].lines();
        let found: Head =
            serde_json::from_str(lines.next().unwrap_or_default()).map_err(damaged)?;
        if found.fingerprint != head.fingerprint {
            return Err(CheckpointError::Other { path, command: found.command });
        }
        let read = |line| serde_json::from_str(line).map(|Read { trial, run }| (trial, run));
        let results = lines.map(read).collect::<Result<_, _>>().map_err(damaged)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        Ok((Self { path, file }, results))
    }

    /// Adds a result.
    pub(super) fn add(
        &mut self,
        trial: usize,
        run: TrialRun,
        settings: &TrialSettings,
    ) -> Result<(), CheckpointError> {
        append(&mut self.file, &Written { trial, run, settings })
            .map_err(|source| CheckpointError::Io { path: self.path.clone(), source })
    }
}

fn append(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(line).expect("numbers and text");
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_after_a_kill_and_refuses_another_search() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tune-lstm/trials.jsonl");
        let open = |fingerprint: &str, resume| {
            Log::open(path.clone(), fingerprint.into(), "monitor tune lstm", resume)
        };
        let error = |result: Result<_, CheckpointError>| {
            result.err().map(|it| it.to_string()).unwrap_or_default()
        };
        assert!(error(open("a", true)).contains("leave --resume out"));
        let (mut log, results) = open("a", false).unwrap();
        assert!(results.is_empty());
        let run = |rung, loss| TrialRun { rung, rows: 10, loss, value: Some(0.5), minutes: 0.125 };
        let expected = [(0, run(0, Some(0.7))), (1, run(0, None)), (0, run(1, Some(0.123456)))];
        for (trial, run) in &expected {
            log.add(*trial, *run, &TrialSettings::default()).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"trial\":1,\"ru"].concat()).unwrap();
        let (mut log, results) = open("a", true).unwrap();
        assert_eq!(results, expected);
        log.add(1, run(1, Some(0.5)), &TrialSettings::default()).unwrap();
        assert_eq!(open("a", true).unwrap().1.len(), 4, "the cut line is gone");
        let other = error(open("b", true));
        assert!(other.contains("`monitor tune lstm`") && other.contains("another"), "{other}");
        fs::write(&path, "{\"fingerprint\":").unwrap();
        assert!(error(open("a", true)).contains("start over"));
        assert!(open("b", false).unwrap().1.is_empty(), "started over");
    }
}
