//! The state of a stopped training on disk.
//!
//! **Invariant.** A checkpoint is written atomically, and only the training that wrote it
//! resumes from it: same command, data and program. The resumed training ends with the weights
//! of an uninterrupted one. Deliberately absent: older checkpoints, and what the state means.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use monitor_model::{StoredPrecision, Weights, WeightsError};

/// Folder of unfinished trainings in a folder of models.
pub(crate) const RUNS: &str = ".runs";
/// File name. Format: length of the JSON (8 bytes, little endian), JSON, arrays.
const FILE: &str = "checkpoint";

/// Location of one training's checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
    /// Identifies the training: command, data and program.
    fingerprint: String,
    /// Command line, for the error message if another training tries to resume.
    command: String,
}

/// A checkpoint cannot be written or resumed from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is none.
    #[error("{} holds no checkpoint to resume from: leave --resume out to start over", .0.display())]
    None(PathBuf),
    /// Another training wrote it.
    #[error(
        "the checkpoint in {} was written by another training, or on other data: `{command}` (files \
         without their folders); run that with --resume, or leave --resume out to start over",
        .path.display()
    )]
    Other {
        /// Its file.
        path: PathBuf,
        /// Command that wrote it.
        command: String,
    },
    /// It is damaged.
    #[error("{}: {reason}; leave --resume out to start over", .path.display())]
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
        /// The cause.
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

/// Whether the folder of models `output` has a checkpoint of a stopped training of `name`.
pub fn is_unfinished(output: &Path, name: &str) -> bool {
    output.join(RUNS).join(name).join(FILE).exists()
}

impl Checkpoint {
    /// Location of `name`'s checkpoint in the folder of models `output`.
    pub(super) fn new(output: &Path, name: &str, fingerprint: String, command: String) -> Self {
        Self { folder: output.join(RUNS).join(name), fingerprint, command }
    }

    /// Writes the state and the arrays, replacing the previous ones.
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

    /// Reads the state, and copies the stored arrays into those given.
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

    /// Prints a warning if this training discards the checkpoint of a stopped one.
    pub(super) fn warn_if_discarded(&self) {
        let path = self.folder.join(FILE);
        if path.exists() {
            eprintln!(
                "{}: discarding the checkpoint of a stopped training (--resume would continue it)",
                path.display()
            );
        }
    }

    /// Removes it after the training.
    pub(crate) fn remove(&self) {
        // A remaining file is overwritten by the next training of this name.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = self.folder.parent().map(fs::remove_dir);
    }
}
