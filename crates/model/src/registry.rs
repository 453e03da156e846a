//! The folder of models: which versions there are, and which one each name opens.
//!
//! `models/<name>/<version>/` is a version; `promoted.json` says which one a name opens
//! (see `registry/promotions.rs`).
//!
//! **Invariant.** A visible version is complete and on disk. A process that adds, removes or
//! promotes a version holds a lock, which ends with the process, so writers take turns. The
//! number of a promoted version is never used again. Deliberately absent: a lock for readers;
//! versions never change, and `promoted.json` is replaced atomically.

mod promotions;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use tch::Device;

use monitor_core::domain::Precision;

use super::artifact::{self, ArtifactError, NewArtifact, at};
use super::{Compute, Manifest, Member, Model, ModelId, is_name, panic_message};

pub use promotions::{
    BEFORE_CALIBRATION, ChanceFigure, Comparison, Entry, Promotion, comparable, history, judge,
    promote, promote_checked, promoted, rollback,
};

/// Name prefix of a folder that is being written.
const NEW: &str = ".new-";
/// Name prefix of a folder that is being removed.
const GONE: &str = ".gone-";

/// Why the registry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file could not be read or written, or the model does not exist.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The version to be removed is promoted.
    #[error(
        "{0} is promoted, so {name:?} opens it: promote another version or roll back first, or \
         remove it with --force, after which {name:?} opens nothing", name = .0.name
    )]
    Promoted(ModelId),
    /// A cascade needs the version to be removed.
    #[error(
        "{by} needs {id}: remove {by} first, or remove {id} with --force, after which {by} cannot be opened"
    )]
    Needed {
        /// The version to be removed.
        id: ModelId,
        /// The cascade.
        by: ModelId,
    },
    /// A rollback without an earlier version.
    #[error(
        "{name:?} opens {current}, and no version that was promoted before it still exists; \
         promote one of: {}", .known.join(", ")
    )]
    NothingBefore {
        /// The model's name.
        name: String,
        /// The version it opens.
        current: ModelId,
        /// Its versions.
        known: Vec<String>,
    },
    /// A rollback without a promoted version.
    #[error("nothing is promoted under the name {0:?}")]
    NotPromoted(String),
}

/// State of one file of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// The file is unchanged.
    Verified,
    /// The file has another SHA-256.
    Changed,
    /// The file does not exist.
    Missing,
}

impl FileState {
    /// The name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Changed => "changed",
            Self::Missing => "missing",
        }
    }
}

/// The folder of models, and how they compute.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenOptions {
    /// Folder of the registry.
    pub directory: PathBuf,
    /// Threads that libtorch may use, in the whole process.
    pub threads: usize,
    /// `auto` (the first GPU, if any, else the CPU), `cpu`, `cuda:0`.
    pub device: String,
    /// The number format in which transformers compute.
    pub precision: Precision,
    /// Largest number of tokens of one pass, including padding; `None`: the device's default.
    pub tokens_max: Option<usize>,
}

/// Opens `name`, a model's name (its promoted version) or `name@version`, and sets
/// libtorch's number of threads for the whole process.
///
/// # Errors
/// [`ArtifactError`]: the model does not exist (the message lists those that do), a file is
/// missing, damaged or does not fit, or the GPU is missing.
pub fn open(options: &OpenOptions, name: &str) -> Result<Model, ArtifactError> {
    let id = resolve(&options.directory, name)?;
    let compute = Compute::of(options)?;
    tch::set_num_threads(i32::try_from(options.threads).unwrap_or(i32::MAX).max(1));
    load(&options.directory, &id, compute)
}

/// Which version `name` opens now; `name` as in [`open`].
///
/// # Errors
/// [`ArtifactError`]: the model does not exist, or `promoted.json` cannot be read.
pub fn resolve(directory: &Path, name: &str) -> Result<ModelId, ArtifactError> {
    let promoted = promoted(directory)?;
    let id = promoted.get(name).cloned().or_else(|| name.parse::<ModelId>().ok());
    match id {
        Some(id) if folder(directory, &id).is_dir() => Ok(id),
        Some(id) if promoted.contains_key(name) => Err(promotions::dangling(directory, &id)),
        _ => Err(ArtifactError::Unknown {
            name: name.to_owned(),
            directory: directory.to_owned(),
            known: known(directory, &promoted)?,
        }),
    }
}

/// Reads a model's manifest; `name` as in [`open`].
///
/// # Errors
/// [`ArtifactError`]: the model does not exist, or its manifest cannot be read.
pub fn read_manifest(directory: &Path, name: &str) -> Result<Manifest, ArtifactError> {
    artifact::read_manifest(&folder(directory, &resolve(directory, name)?))
}

/// Every version of every name, in order.
///
/// # Errors
/// A folder cannot be read. A missing folder has no models.
pub fn registered(directory: &Path) -> Result<Vec<ModelId>, ArtifactError> {
    let mut found = Vec::new();
    for name in names(directory)? {
        let versions = versions(&directory.join(&name))?;
        found.extend(versions.into_iter().map(|version| ModelId { name: name.clone(), version }));
    }
    found.sort();
    Ok(found)
}

/// The folder of a version.
pub fn folder(directory: &Path, id: &ModelId) -> PathBuf {
    directory.join(&id.name).join(id.version.to_string())
}

/// Compares each file of the version in `folder` with its checksum in the manifest.
///
/// # Errors
/// A file exists and cannot be read.
pub fn verify(
    folder: &Path,
    manifest: &Manifest,
) -> Result<BTreeMap<String, FileState>, ArtifactError> {
    let state = |(name, expected): (&String, &String)| {
        let state = match artifact::checksum(&folder.join(name)) {
            Ok(found) if found == *expected => FileState::Verified,
            Ok(_) => FileState::Changed,
            Err(ArtifactError::Missing(_)) => FileState::Missing,
            Err(error) => return Err(error),
        };
        Ok((name.clone(), state))
    };
    manifest.files.iter().map(state).collect()
}

/// Checks before a long training that [`register`] will be able to write a version of `name`:
/// creates the folder, takes the name's lock once, and reads `promoted.json`.
///
/// # Errors
/// [`ArtifactError`]: the name is invalid, the folder cannot be written to, or
/// `promoted.json` cannot be read.
pub fn ready(directory: &Path, name: &str) -> Result<(), ArtifactError> {
    if directory.exists() && !directory.is_dir() {
        return Err(at(directory)(io::ErrorKind::NotADirectory.into()));
    }
    let _alone = take_turn(directory, name)?;
    for folder in [directory, &directory.join(name)].into_iter().filter(|path| path.is_dir()) {
        tempfile::tempfile_in(folder).map_err(at(folder))?;
    }
    history(directory, name).map(drop)
}

/// Writes the next version of `artifact.manifest.name` and returns its manifest.
///
/// `measure` gets the new version, opened on `device` from the files that ship. It writes the
/// metrics into the manifest and returns the model card. Another process that registers the
/// same name waits, and gets the next version.
///
/// # Errors
/// A file could not be written, or `measure` failed; then no file is left. The next run
/// removes the files of a killed run.
pub fn register<E: From<ArtifactError>>(
    directory: &Path,
    mut artifact: NewArtifact,
    device: Device,
    measure: impl FnOnce(Model, &mut Manifest) -> Result<String, E>,
) -> Result<Manifest, E> {
    let name = &artifact.manifest.name;
    let _alone = take_turn(directory, name)?;
    let parent = directory.join(name);
    fs::create_dir_all(&parent).map_err(at(&parent))?;
    clear_leftovers(&parent)?;
    let given = history(directory, name)?.into_iter().map(|entry| entry.version);
    let last = versions(&parent)?.into_iter().chain(given).max();
    artifact.manifest.version = last.unwrap_or(0) + 1;
    let temporary = tempfile::Builder::new()
        .prefix(NEW)
        // The umask applies, so that a group can share the folder.
        .permissions(fs::Permissions::from_mode(0o777))
        .tempdir_in(&parent)
        .map_err(at(&parent))?;
    artifact::write_content(temporary.path(), &artifact)?;
    let mut manifest = artifact.manifest;
    artifact::seal(temporary.path(), &mut manifest, "")?;
    let compute = Compute::single(device);
    let model = artifact::load(temporary.path(), compute, member_of(directory, compute))?;
    let card = measure(model, &mut manifest)?;
    artifact::seal(temporary.path(), &mut manifest, &card)?;
    for entry in fs::read_dir(temporary.path()).map_err(at(temporary.path()))? {
        sync(&entry.map_err(at(temporary.path()))?.path())?;
    }
    sync(temporary.path())?;
    let target = folder(directory, &manifest.id());
    fs::rename(temporary.path(), &target).map_err(at(&target))?;
    // The folder was renamed, so there is nothing to delete.
    let _ = temporary.keep();
    sync(&parent)?;
    Ok(manifest)
}

/// Removes a version. A version that is promoted, or that a cascade needs, is removed only with
/// `force`; afterwards its name, or the cascade, cannot be opened. A daemon that has loaded the
/// version keeps it.
///
/// # Errors
/// [`RegistryError`]: the version does not exist, is promoted or needed, or cannot be removed.
pub fn remove(
    directory: &Path,
    id: &ModelId,
    force: bool,
    now: DateTime<Utc>,
) -> Result<(), RegistryError> {
    resolve(directory, &id.to_string())?;
    let _alone = lock(directory, &id.name)?;
    if !force && let Some(by) = needed_by(directory, id)? {
        return Err(RegistryError::Needed { id: id.clone(), by });
    }
    let promotions = promotions::release(directory, id, force, now)?;
    let target = folder(directory, id);
    let parent = directory.join(&id.name);
    // Rename it first, so that no process opens a partly removed version.
    let gone = parent.join(format!("{GONE}{}", id.version));
    fs::rename(&target, &gone).map_err(at(&target))?;
    drop(promotions);
    clear_leftovers(&parent)?;
    // Fails, and so keeps the folder, while other versions exist.
    let _ = fs::remove_dir(&parent);
    Ok(())
}

/// A cascade that opens only with `id`.
fn needed_by(directory: &Path, id: &ModelId) -> Result<Option<ModelId>, ArtifactError> {
    let needs = |other: &ModelId| {
        // A cascade whose manifest cannot be read needs nothing.
        artifact::read_manifest(&folder(directory, other)).is_ok_and(|manifest| {
            manifest.architecture.members().iter().any(|member| member.model == *id)
        })
    };
    Ok(registered(directory)?.into_iter().find(needs))
}

/// Removes the files of killed runs from the folder of a name, whose lock the caller holds.
fn clear_leftovers(parent: &Path) -> Result<(), ArtifactError> {
    for entry in fs::read_dir(parent).map_err(at(parent))? {
        let path = entry.map_err(at(parent))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(NEW) || name.starts_with(GONE) {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Reads and verifies a version, whose manifest must have the same id as its folder.
fn load(directory: &Path, id: &ModelId, compute: Compute) -> Result<Model, ArtifactError> {
    let folder = folder(directory, id);
    // tch reports only by a panic that the weights do not fit into a GPU.
    let load = || artifact::load(&folder, compute, member_of(directory, compute));
    let model = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        let Compute { device, .. } = compute;
        let reason = format!(
            "the model does not fit on {device:?}: {}; free memory there, or set model.device = \"cpu\"",
            panic_message(panic.as_ref())
        );
        Err(ArtifactError::Manifest { path: folder.clone(), reason })
    })?;
    tracing::debug!(%id, ?compute, "opened a model");
    if model.id != *id {
        let reason = format!("its manifest is that of {}; was its folder renamed?", model.id);
        return Err(ArtifactError::Manifest { path: folder, reason });
    }
    Ok(model)
}

/// Opens a cascade's models, which must be the versions that it was fitted on.
fn member_of(
    directory: &Path,
    compute: Compute,
) -> impl Fn(&Member) -> Result<Model, ArtifactError> {
    move |member| {
        artifact::check_manifest(&folder(directory, &member.model), &member.sha256)?;
        load(directory, &member.model, compute)
    }
}

/// The member of a cascade for a version: its id and the SHA-256 of its manifest; `name` as in
/// [`open`].
///
/// # Errors
/// [`ArtifactError`]: the model does not exist, or its manifest cannot be read.
pub fn member(directory: &Path, name: &str) -> Result<Member, ArtifactError> {
    let model = resolve(directory, name)?;
    let sha256 = artifact::manifest_checksum(&folder(directory, &model))?;
    Ok(Member { model, sha256 })
}

/// Creates the folder, and waits for the lock to write versions of `name`.
fn take_turn(directory: &Path, name: &str) -> Result<File, ArtifactError> {
    if !is_name(name) {
        return Err(ArtifactError::Name(name.to_owned()));
    }
    fs::create_dir_all(directory).map_err(at(directory))?;
    lock(directory, name)
}

/// Waits for a lock, with a message if another process holds it. The lock ends when the
/// returned file is dropped or the process dies. The umask decides whether a group may take
/// the lock too.
fn lock(directory: &Path, what: &str) -> Result<File, ArtifactError> {
    let path = directory.join(format!(".{what}.lock"));
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another process, which holds {}", path.display());
        }
        Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
    }
    file.lock().map_err(at(&path))?;
    Ok(file)
}

/// Waits until a file, or the entries of a folder, are safe from a power failure.
fn sync(path: &Path) -> Result<(), ArtifactError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

/// The version that each promoted name opens, then every version.
fn known(
    directory: &Path,
    promoted: &BTreeMap<String, ModelId>,
) -> Result<Vec<String>, ArtifactError> {
    let versions = registered(directory)?.into_iter().map(|id| id.to_string());
    let opened = promoted.iter().filter(|(_, id)| folder(directory, id).is_dir());
    Ok(opened.map(|(name, id)| format!("{name} (= {id})")).chain(versions).collect())
}

/// Versions in the folder of one model, ascending.
fn versions(parent: &Path) -> Result<Vec<u32>, ArtifactError> {
    let mut found: Vec<u32> =
        names(parent)?.into_iter().filter_map(|name| name.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

/// Names of the folders in a folder; none if the folder does not exist.
fn names(directory: &Path) -> Result<Vec<String>, ArtifactError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at(directory))?;
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
