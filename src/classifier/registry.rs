//! The folder of models: which there are, and which one each family promotes.
//!
//! **Invariant.** A version that can be seen is complete; `promoted.json` is replaced in
//! one step, so a daemon that starts meanwhile reads the old one or the new one.
//! Deliberately absent: deleting; a version is a folder, and `rm -r` removes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::artifact::{self, ArtifactError, Manifest, NewArtifact, at};
use super::{Model, ModelId};

const PROMOTED: &str = "promoted.json";

/// Opens `name`, a family (its promoted version) or `name@version`, from the folder of
/// models, and lets libtorch use `threads` threads from here on, in this whole process.
///
/// # Errors
/// [`ArtifactError`]: no such model (the message lists those there are), a file that is
/// missing, damaged or does not fit.
pub fn open(directory: &Path, name: &str, threads: usize) -> Result<Model, ArtifactError> {
    let id = resolve(directory, name)?;
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX).max(1));
    artifact::load(&folder(directory, &id))
}

/// Reads what a model says about itself; `name` as in [`open`].
///
/// # Errors
/// [`ArtifactError`]: no such model, or its manifest cannot be read.
pub fn read_manifest(directory: &Path, name: &str) -> Result<Manifest, ArtifactError> {
    artifact::read_manifest(&folder(directory, &resolve(directory, name)?))
}

/// Promoted version of each family.
///
/// # Errors
/// `promoted.json` cannot be read. Where there is none, nothing is promoted.
pub fn promoted(directory: &Path) -> Result<BTreeMap<String, ModelId>, ArtifactError> {
    let path = directory.join(PROMOTED);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(at(&path)(error)),
    };
    let raw: BTreeMap<String, String> = serde_json::from_slice(&text)
        .map_err(|source| ArtifactError::Json { path: path.clone(), source })?;
    raw.into_iter()
        .map(|(family, id)| match id.parse() {
            Ok(id) => Ok((family, id)),
            Err(error) => {
                let reason = format!("{family}: {error}");
                Err(ArtifactError::Manifest { path: path.clone(), reason })
            }
        })
        .collect()
}

/// Makes `id` what its family's name opens.
///
/// # Errors
/// `promoted.json` cannot be read or replaced.
pub fn promote(directory: &Path, family: &str, id: &ModelId) -> Result<(), ArtifactError> {
    let mut all = promoted(directory)?;
    all.insert(family.to_owned(), id.clone());
    let words: BTreeMap<_, _> = all.iter().map(|(family, id)| (family, id.to_string())).collect();
    let mut json = serde_json::to_vec_pretty(&words).expect("names and ids are text");
    json.push(b'\n');
    let path = directory.join(PROMOTED);
    let file = tempfile::Builder::new()
        .prefix(".promoted-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(at(directory))?;
    artifact::write_file(file.path(), &json)?;
    file.persist(&path).map_err(|error| at(&path)(error.error))?;
    Ok(())
}

/// Writes the next version of `artifact.manifest.name` and answers its manifest.
///
/// `measure` gets the new version, opened from the very files that ship, writes what it
/// measures into the manifest, and answers the model card.
///
/// # Errors
/// Something could not be written, or `measure` failed; nothing is left behind then.
pub fn register<E: From<ArtifactError>>(
    directory: &Path,
    mut artifact: NewArtifact,
    measure: impl FnOnce(Model, &mut Manifest) -> Result<String, E>,
) -> Result<Manifest, E> {
    let parent = directory.join(&artifact.manifest.name);
    fs::create_dir_all(&parent).map_err(at(&parent))?;
    artifact.manifest.version = versions(&parent)?.last().map_or(1, |last| last + 1);
    let temporary = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(&parent)
        .map_err(at(&parent))?;
    artifact::write_content(temporary.path(), &artifact)?;
    let mut manifest = artifact.manifest;
    artifact::seal(temporary.path(), &mut manifest, "")?;
    let card = measure(artifact::load(temporary.path())?, &mut manifest)?;
    artifact::seal(temporary.path(), &mut manifest, &card)?;
    let target = folder(directory, &manifest.id());
    fs::rename(temporary.path(), &target).map_err(at(&target))?;
    // Renamed away, there is nothing left to delete.
    let _ = temporary.keep();
    Ok(manifest)
}

fn folder(directory: &Path, id: &ModelId) -> PathBuf {
    directory.join(&id.name).join(id.version.to_string())
}

fn resolve(directory: &Path, name: &str) -> Result<ModelId, ArtifactError> {
    let promoted = promoted(directory)?;
    let id = promoted.get(name).cloned().or_else(|| name.parse::<ModelId>().ok());
    match id {
        Some(id) if folder(directory, &id).is_dir() => Ok(id),
        _ => Err(ArtifactError::Unknown {
            name: name.to_owned(),
            directory: directory.to_owned(),
            known: known(directory, &promoted)?,
        }),
    }
}

/// Promoted families, then every version.
fn known(
    directory: &Path,
    promoted: &BTreeMap<String, ModelId>,
) -> Result<Vec<String>, ArtifactError> {
    let mut known = Vec::new();
    for name in names(directory)? {
        for version in versions(&directory.join(&name))? {
            known.push(ModelId { name: name.clone(), version }.to_string());
        }
    }
    known.sort();
    Ok(promoted.iter().map(|(family, id)| format!("{family} (= {id})")).chain(known).collect())
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
