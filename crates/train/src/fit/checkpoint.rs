//! A training that was stopped, on disk.
//!
//! **Invariant.** A checkpoint is written whole or not at all, and is taken up only by the
//! very training that wrote it: same command, data and program. It then ends with the
//! weights it would have had without the stop. Deliberately absent: more than the last
//! one.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use monitor_model::{StoredPrecision, Weights, WeightsError};

/// Folder of unfinished trainings in a folder of models.
const RUNS: &str = ".runs";
/// Both halves in one file: eight bytes of length, the JSON half, the arrays.
const FILE: &str = "checkpoint";

/// Where one training keeps its checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
    /// What makes it this training.
    fingerprint: String,
    /// What was typed, for the message to somebody who takes up another.
    command: String,
}

/// A checkpoint that cannot be written or taken up.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is none.
    #[error("{} holds no checkpoint to resume from: leave --resume out to begin anew", .0.display())]
    None(PathBuf),
    /// It belongs to another training.
    #[error(
        "the checkpoint in {} was written by another training, or on other data: `{command}` (files \
         without their folders); run that with --resume, or leave --resume out to begin anew",
        .path.display()
    )]
    Other {
        /// Where it lies.
        path: PathBuf,
        /// What wrote it.
        command: String,
    },
    /// It is damaged.
    #[error("{}: {reason}; leave --resume out to begin anew", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// `S` is the state of the training loop, which this file does not interpret.
#[derive(Serialize, Deserialize)]
struct Head<S> {
    fingerprint: String,
    command: String,
    state: S,
}

/// Whether a training of `name` was stopped in the folder of models `output`.
pub fn is_unfinished(output: &Path, name: &str) -> bool {
    output.join(RUNS).join(name).join(FILE).exists()
}

impl Checkpoint {
    /// The place of `name`'s checkpoint in the folder of models `output`.
    pub(super) fn new(output: &Path, name: &str, fingerprint: String, command: String) -> Self {
        Self { folder: output.join(RUNS).join(name), fingerprint, command }
    }

    /// Writes the state and the arrays, in place of those of before.
    pub(super) fn save<S: Serialize>(
        &self,
        state: &S,
        arrays: &HashMap<String, Tensor>,
    ) -> Result<(), CheckpointError> {
        let failed = |source| CheckpointError::Io { path: self.folder.join(FILE), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut weights = Weights::default();
        for (name, tensor) in arrays {
            weights.insert_tensor(name, tensor);
        }
        let head =
            Head { fingerprint: self.fingerprint.clone(), command: self.command.clone(), state };
        let head = serde_json::to_vec(&head).expect("a state is numbers and text");
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(failed)?;
        let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(failed);
        write(&(head.len() as u64).to_le_bytes())?;
        write(&head)?;
        write(&weights.to_bytes(StoredPrecision::Single))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(self.folder.join(FILE)).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Reads the state back, and the arrays into those given.
    pub(super) fn load<S: DeserializeOwned>(
        &self,
        arrays: &mut HashMap<String, Tensor>,
    ) -> Result<S, CheckpointError> {
        let path = self.folder.join(FILE);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CheckpointError::None(self.folder.clone()),
            _ => CheckpointError::Io { path: path.clone(), source },
        })?;
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        let cut = || damaged("it is cut off".into());
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (head, arrays_bytes) = rest.split_at_checked(length).ok_or_else(cut)?;
        let head: Head<S> = serde_json::from_slice(head).map_err(|e| damaged(e.to_string()))?;
        if head.fingerprint != self.fingerprint {
            return Err(CheckpointError::Other { path, command: head.command });
        }
        let unfit = |error: WeightsError| damaged(error.to_string());
        let mut weights = Weights::parse(arrays_bytes).map_err(unfit)?;
        for (name, tensor) in arrays {
            let size = tensor.size();
            let shape: Vec<usize> = size.iter().map(|n| *n as usize).collect();
            let values = Tensor::from_slice(&weights.take(name, &shape).map_err(unfit)?);
            tch::no_grad(|| tensor.copy_(&values.reshape(size)));
        }
        Ok(head.state)
    }

    /// Says so where another training, or an earlier one, is given up by this one.
    pub(super) fn begin_anew(&self) {
        let path = self.folder.join(FILE);
        if path.exists() {
            eprintln!(
                "{}: a stopped training is given up (--resume would go on with it)",
                path.display()
            );
        }
    }

    /// Removes it: the training is over.
    pub(crate) fn remove(&self) {
        // What stays behind is overwritten by the next training of this name.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = self.folder.parent().map(fs::remove_dir);
    }
}
