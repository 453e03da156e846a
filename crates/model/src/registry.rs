//! The folder of models: which versions there are, and which one each name opens.
//!
//! `models/<name>/<version>/` is a version; `promoted.json` says which one a name opens
//! (see `registry/promotions.rs`).
//!
//! **Invariant.** A version that can be seen is complete and on disk; whoever adds or
//! removes one, or promotes, holds a lock that ends with its process, so two at once take
//! turns. A number that was promoted once is never given to another version. Deliberately
//! absent: a lock for readers; versions never change, and `promoted.json` is replaced in
//! one step.

mod promotions;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use monitor_core::domain::Precision;

use tch::Device;

use super::artifact::{self, ArtifactError, NewArtifact, at};
use super::{Compute, Manifest, Member, Model, ModelId, is_name, words_of};

pub use promotions::{
    BEFORE_CALIBRATION, Comparison, Entry, Promotion, comparable, history, promote,
    promote_checked, promoted, rollback,
};

/// Begins the name of a folder that is being written.
const NEW: &str = ".new-";
/// Begins the name of a folder that is being removed.
const GONE: &str = ".gone-";

/// Why the registry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Something could not be read or written, or there is no such model.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Removing what a name opens.
    #[error(
        "{0} is promoted, so {name:?} opens it: promote another version or roll back first, or \
         remove it with --force, after which {name:?} opens nothing", name = .0.name
    )]
    Promoted(ModelId),
    /// Removing what a cascade needs.
    #[error(
        "{by} needs {id}: remove {by} first, or this with --force, after which {by} opens no more"
    )]
    Needed {
        /// What was to be removed.
        id: ModelId,
        /// Which cascade.
        by: ModelId,
    },
    /// Nothing to go back to.
    #[error(
        "{name:?} opens {current}, and no version that was promoted before it is still there; \
         promote one of: {}", .known.join(", ")
    )]
    NothingBefore {
        /// The model's name.
        name: String,
        /// What it opens.
        current: ModelId,
        /// Its versions.
        known: Vec<String>,
    },
    /// Nothing to go back from.
    #[error("nothing is promoted under the name {0:?}")]
    NotPromoted(String),
}

/// State of one file of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// It is the file that was written.
    Verified,
    /// Its SHA-256 is another.
    Changed,
    /// It is not there.
    Missing,
}

impl FileState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Changed => "changed",
            Self::Missing => "missing",
        }
    }
}

/// Where models are, and how they compute.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenOptions {
    /// Folder of the registry.
    pub directory: PathBuf,
    /// Threads that libtorch may use, in the whole process.
    pub threads: usize,
    /// `auto` (the first GPU, where there is one), `cpu`, `cuda:0`.
    pub device: String,
    /// How finely transformers compute.
    pub precision: Precision,
    /// Tokens of one pass at most, padding counted; `None` leaves it to the device.
    pub tokens_max: Option<usize>,
}

/// Opens `name`, a model's name (its promoted version) or `name@version`, and sets
/// libtorch's number of threads for the whole process.
///
/// # Errors
/// [`ArtifactError`]: no such model (the message lists those there are), a file that is
/// missing, damaged or does not fit, a GPU that is not there.
pub fn open(options: &OpenOptions, name: &str) -> Result<Model, ArtifactError> {
    let id = resolve(&options.directory, name)?;
    let compute = Compute::of(options)?;
    tch::set_num_threads(i32::try_from(options.threads).unwrap_or(i32::MAX).max(1));
    load(&options.directory, &id, compute)
}

/// Which version `name` opens now; `name` as in [`open`].
///
/// # Errors
/// [`ArtifactError`]: no such model, or `promoted.json` cannot be read.
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

/// Reads what a model says about itself; `name` as in [`open`].
///
/// # Errors
/// [`ArtifactError`]: no such model, or its manifest cannot be read.
pub fn read_manifest(directory: &Path, name: &str) -> Result<Manifest, ArtifactError> {
    artifact::read_manifest(&folder(directory, &resolve(directory, name)?))
}

/// Every version of every name, in order.
///
/// # Errors
/// A folder cannot be read; where there is none, there are no models.
pub fn registered(directory: &Path) -> Result<Vec<ModelId>, ArtifactError> {
    let mut found = Vec::new();
    for name in names(directory)? {
        let versions = versions(&directory.join(&name))?;
        found.extend(versions.into_iter().map(|version| ModelId { name: name.clone(), version }));
    }
    found.sort();
    Ok(found)
}

/// Where a version lies.
pub fn folder(directory: &Path, id: &ModelId) -> PathBuf {
    directory.join(&id.name).join(id.version.to_string())
}

/// Compares each file that the manifest of the version in `folder` names with its checksum.
///
/// # Errors
/// A file is there and cannot be read.
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

/// Sees before a long training that [`register`] could write a version of `name`, as far
/// as can be seen: the folder, which it creates, the name's lock, and `promoted.json`.
///
/// # Errors
/// [`ArtifactError`]: no model may have that name, the folder cannot be written to, or
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

/// Writes the next version of `artifact.manifest.name` and answers its manifest.
///
/// `measure` gets the new version, opened on `device` from the very files that ship, writes what it
/// measures into the manifest, and answers the model card. Who registers under the same
/// name meanwhile waits, and gets the version after this one.
///
/// # Errors
/// Something could not be written, or `measure` failed; nothing is left behind then. What
/// a run left that was killed, the next one clears away.
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
        // As the umask leaves it, so that a group can share the folder.
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
    // Renamed away, there is nothing left to delete.
    let _ = temporary.keep();
    sync(&parent)?;
    Ok(manifest)
}

/// Removes a version; the one that is promoted only by `force`, and then its name opens
/// nothing any more; so one that a cascade needs. A daemon that has it loaded goes on with it.
///
/// # Errors
/// [`RegistryError`]: there is no such version, it is promoted or needed, or it cannot be
/// removed.
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
    // Out of sight first, so that nobody opens half of it.
    let gone = parent.join(format!("{GONE}{}", id.version));
    fs::rename(&target, &gone).map_err(at(&target))?;
    drop(promotions);
    clear_leftovers(&parent)?;
    // With its last version goes the name's folder; the others keep it.
    let _ = fs::remove_dir(&parent);
    Ok(())
}

/// A cascade that opens only with `id`.
fn needed_by(directory: &Path, id: &ModelId) -> Result<Option<ModelId>, ArtifactError> {
    let needs = |other: &ModelId| {
        // One that cannot be read needs nothing.
        artifact::read_manifest(&folder(directory, other)).is_ok_and(|manifest| {
            manifest.architecture.members().iter().any(|member| member.model == *id)
        })
    };
    Ok(registered(directory)?.into_iter().find(needs))
}

/// Removes what killed runs left in the folder of a name, whose lock the caller holds.
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

/// Reads and verifies a version, which must be the one that its folder says.
fn load(directory: &Path, id: &ModelId, compute: Compute) -> Result<Model, ArtifactError> {
    let folder = folder(directory, id);
    // tch has no other way to say that a GPU has no room for the weights.
    let load = || artifact::load(&folder, compute, member_of(directory, compute));
    let model = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        let Compute { device, .. } = compute;
        let reason = format!(
            "the model cannot be put on {device:?}: {}; make room there, or set model.device = \"cpu\"",
            words_of(panic.as_ref())
        );
        Err(ArtifactError::Manifest { path: folder.clone(), reason })
    })?;
    tracing::debug!(%id, ?compute, "opened a model");
    if model.id != *id {
        let reason = format!("it says that it is {}; was its folder renamed?", model.id);
        return Err(ArtifactError::Manifest { path: folder, reason });
    }
    Ok(model)
}

/// Opens a cascade's models, which must be the versions that it was fitted with.
fn member_of(
    directory: &Path,
    compute: Compute,
) -> impl Fn(&Member) -> Result<Model, ArtifactError> {
    move |member| {
        artifact::check_manifest(&folder(directory, &member.model), &member.sha256)?;
        load(directory, &member.model, compute)
    }
}

/// Names a version as a cascade does: with the SHA-256 of its manifest; `name` as in [`open`].
///
/// # Errors
/// [`ArtifactError`]: no such model, or its manifest cannot be read.
pub fn member(directory: &Path, name: &str) -> Result<Member, ArtifactError> {
    let model = resolve(directory, name)?;
    let sha256 = artifact::manifest_checksum(&folder(directory, &model))?;
    Ok(Member { model, sha256 })
}

/// Waits for its turn to write versions of `name`, into a folder that it creates.
fn take_turn(directory: &Path, name: &str) -> Result<File, ArtifactError> {
    if !is_name(name) {
        return Err(ArtifactError::Name(name.to_owned()));
    }
    fs::create_dir_all(directory).map_err(at(directory))?;
    lock(directory, name)
}

/// Waits for its turn, and says so; others wait until the answer is dropped or this process
/// dies. The umask decides whether a group may take the lock too.
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

/// Waits until a file, or the entries of a folder, would survive a power cut.
fn sync(path: &Path) -> Result<(), ArtifactError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

/// What each promoted name opens, then every version.
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

/// Names of the folders in a folder; none where there is no such folder.
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
