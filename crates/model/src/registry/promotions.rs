//! Which version each name opens, since when, and which ones it opened before.
//!
//! `promoted.json` has a list for each name, oldest first. The last entry that was not
//! withdrawn is the current one. The older form `{"lstm": "lstm@2"}` is also read.
//!
//! **Invariant.** A version is loaded and verified before a name opens it. Reading, comparing
//! and replacing the file happen under one lock. Deliberately absent: promoting a version
//! under another name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use monitor_core::domain::Classes;

use super::{RegistryError, folder, load, lock, registered, resolve, sync};
use crate::artifact::{self, ArtifactError, at};
use crate::{Compute, HELD_OUT, Manifest, ModelId, is_name};

const FILE: &str = "promoted.json";
/// The default of `model.directory`.
const DIRECTORY: &str = "models";
/// Entries kept for a name; the oldest are dropped.
const ENTRIES_MAX: usize = 100;
/// A new version may lose this much ROC AUC: repeated runs of one recipe differ by about as
/// much.
const AUC_LOSS_MAX: f64 = 0.0005;
/// Suffix of the metrics before calibration. Their ROC AUC is the same as without the suffix,
/// so a comparison skips them.
pub const BEFORE_CALIBRATION: &str = ", before calibration";
/// Tolerance for rounding, far below the four decimal places of manifests.
const ROUNDING: f64 = 1e-9;

/// One promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The promoted version.
    pub version: u32,
    /// The time; `None` if it came from the older form of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// The time at which a rollback withdrew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<DateTime<Utc>>,
}

/// Metrics of two versions on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Name of the data set.
    pub data: String,
    /// Number of rows.
    pub rows: usize,
    /// ROC AUC of the version promoted now.
    pub current: f64,
    /// ROC AUC of the version to be promoted.
    pub new: f64,
}

impl Comparison {
    /// Whether the new version loses more than 0.0005 of ROC AUC.
    pub fn is_worse(&self) -> bool {
        self.current - self.new > AUC_LOSS_MAX + ROUNDING
    }
}

/// A figure of the held-out rows whose 95 % interval does not lie above chance.
#[derive(Debug, Clone, PartialEq)]
pub struct ChanceFigure {
    /// Its name: ROC AUC, or macro recall with three classes.
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
    /// Low end of its interval.
    pub low: f64,
    /// Its value for a model that guesses.
    pub chance: f64,
}

impl ChanceFigure {
    /// The figure of a model that is no better than chance; `None` if it is, or was not measured.
    fn of(manifest: &Manifest) -> Option<Self> {
        let figures = manifest.metrics.get(HELD_OUT)?;
        let (figure, key, chance) = match manifest.classes {
            Classes::Two => ("ROC AUC", "roc_auc", 0.5),
            Classes::Three => ("macro recall", "macro_recall", 1.0 / 3.0),
        };
        let value = *figures.get(key)?;
        // Scores that separate all rows have no interval.
        let low = *figures.get(&format!("{key}_low")).unwrap_or(&value);
        (low <= chance).then_some(Self { figure, value, low, chance })
    }
}

impl fmt::Display for ChanceFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, value, low, chance } = self;
        write!(f, "{figure} {value:.4}, at 95 % perhaps {low:.4}, where guessing has {chance:.4}")
    }
}

/// The outcome of an attempt to promote a version.
#[derive(Debug, Clone, PartialEq)]
pub enum Promotion {
    /// Promoted: its name opened no version before.
    First,
    /// It was already promoted.
    Already,
    /// Promoted: it is not worse on any data set.
    Promoted {
        /// The version that the name opened before.
        current: ModelId,
        /// Metrics of both on the same rows.
        figures: Vec<Comparison>,
    },
    /// Not promoted: its name opened no version before, and it is no better than chance.
    Chance(ChanceFigure),
    /// Not promoted: it is worse on at least one data set.
    Worse {
        /// The version that the name still opens.
        current: ModelId,
        /// Metrics of both on the same rows.
        figures: Vec<Comparison>,
    },
    /// Not promoted: the two have no metrics on the same rows.
    NotComparable {
        /// The version that the name still opens.
        current: ModelId,
    },
    /// Not promoted: the manifest of the current version cannot be read.
    Unreadable {
        /// The version that the name still opens.
        current: ModelId,
    },
}

impl Promotion {
    /// A version that is worse on one data set is worse. Compares ROC AUC, which does not depend
    /// on the threshold.
    fn decide(current: ModelId, figures: Vec<Comparison>) -> Self {
        if figures.is_empty() {
            Self::NotComparable { current }
        } else if figures.iter().any(Comparison::is_worse) {
            Self::Worse { current, figures }
        } else {
            Self::Promoted { current, figures }
        }
    }

    /// Whether the version is now promoted.
    pub fn is_promoted(&self) -> bool {
        matches!(self, Self::First | Self::Already | Self::Promoted { .. })
    }

    /// The outcome for `id` in `directory`, and the remedy if it was rejected; for people.
    pub fn words(&self, id: &ModelId, directory: &Path) -> String {
        let to_promote = format!("monitor models promote {id}");
        let set = if directory == Path::new(DIRECTORY) {
            String::new()
        } else {
            format!(" --set model.directory={}", directory.display())
        };
        match self {
            Self::First => format!("{id} is promoted, the first version of its name"),
            Self::Already => format!("{id} was already promoted"),
            Self::Chance(figure) => format!(
                "{id} is registered, but not promoted: on the rows held out it is no better than \
                 chance: {figure}; train it on more rows or for longer; to promote it anyway: \
                 {to_promote} --force{set}"
            ),
            Self::Promoted { current, figures } => {
                format!("{id} is promoted in place of {current}: {}", list(figures))
            }
            Self::Worse { current, figures } => format!(
                "{id} is not promoted: it is worse than {current}: {}; to promote it \
                 anyway: {to_promote} --force{set}",
                list(figures)
            ),
            Self::NotComparable { current } => format!(
                "{id} is not promoted: it and {current} have no metrics on the same rows; to \
                 measure both now: {to_promote} --data FILE{set}; to promote it without: --force \
                 instead"
            ),
            Self::Unreadable { current } => format!(
                "{id} is not promoted: the manifest of {current}, the current version, cannot be \
                 read, so they cannot be compared; to promote it anyway: {to_promote} --force{set}"
            ),
        }
    }
}

fn list(figures: &[Comparison]) -> String {
    let one = |c: &Comparison| {
        let worse = if c.is_worse() { " (worse)" } else { "" };
        let Comparison { data, rows, current, new } = c;
        format!("ROC AUC {new:.4}, was {current:.4}, on {data} ({rows} rows){worse}")
    };
    figures.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The metrics of both manifests on the same rows: data sets of the same name whose rows have
/// the same SHA-256, once each.
pub fn comparable(current: &Manifest, new: &Manifest) -> Vec<Comparison> {
    let compare = |(data, rows): (&String, &String)| {
        (current.rows_sha256.get(data) == Some(rows)).then_some(())?;
        let (current, new) = (current.metrics.get(data)?, new.metrics.get(data)?);
        Some(Comparison {
            data: data.clone(),
            rows: *new.get("rows")? as usize,
            current: *current.get("roc_auc")?,
            new: *new.get("roc_auc")?,
        })
    };
    new.rows_sha256
        .iter()
        .filter(|(data, _)| !data.ends_with(BEFORE_CALIBRATION))
        .filter_map(compare)
        .collect()
}

/// The version that each name opens.
///
/// # Errors
/// `promoted.json` cannot be read. If it does not exist, no version is promoted.
pub fn promoted(directory: &Path) -> Result<BTreeMap<String, ModelId>, ArtifactError> {
    let all = Promotions::read(directory)?;
    let open = |name: &String| Some((name.clone(), all.current(name)?));
    Ok(all.0.keys().filter_map(open).collect())
}

/// Every promotion under `name`, oldest first.
///
/// # Errors
/// `promoted.json` cannot be read.
pub fn history(directory: &Path, name: &str) -> Result<Vec<Entry>, ArtifactError> {
    Ok(Promotions::read(directory)?.0.remove(name).unwrap_or_default())
}

/// Promotes `id` without a comparison. Daemons that run keep the model of their stream.
///
/// # Errors
/// The version does not exist or is damaged, or `promoted.json` cannot be read or replaced.
pub fn promote(directory: &Path, id: &ModelId, now: DateTime<Utc>) -> Result<(), ArtifactError> {
    resolve(directory, &id.to_string())?;
    let _alone = lock(directory, FILE)?;
    let all = Promotions::read(directory)?;
    load(directory, id, Compute::CPU)?;
    if all.current(&id.name).as_ref() == Some(id) {
        return Ok(());
    }
    all.push(directory, id, now)
}

/// Whether `id` would be promoted; changes nothing. `compare` as in [`promote_checked`].
///
/// # Errors
/// As [`promote_checked`].
pub fn judge<E: From<ArtifactError>>(
    directory: &Path,
    id: &ModelId,
    compare: impl FnOnce(&Manifest, &Manifest) -> Result<Vec<Comparison>, E>,
) -> Result<Promotion, E> {
    resolve(directory, &id.to_string())?;
    judge_in(&Promotions::read(directory)?, directory, id, compare)
}

fn judge_in<E: From<ArtifactError>>(
    all: &Promotions,
    directory: &Path,
    id: &ModelId,
    compare: impl FnOnce(&Manifest, &Manifest) -> Result<Vec<Comparison>, E>,
) -> Result<Promotion, E> {
    load(directory, id, Compute::CPU)?;
    Ok(match all.current(&id.name) {
        None => {
            let manifest = artifact::read_manifest(&folder(directory, id))?;
            ChanceFigure::of(&manifest).map_or(Promotion::First, Promotion::Chance)
        }
        Some(current) if current == *id => Promotion::Already,
        Some(current) => {
            let read = |id: &ModelId| artifact::read_manifest(&folder(directory, id));
            match read(&current) {
                Ok(manifest) => Promotion::decide(current, compare(&manifest, &read(id)?)?),
                Err(_) => Promotion::Unreadable { current },
            }
        }
    })
}

/// Promotes `id` unless it is worse than the current version, or is the first of its name and no
/// better than chance on its held-out rows.
///
/// `compare` gets the manifests of the current and of the new version and returns metrics of
/// both on the same rows: those of [`comparable`], or new measurements. Other processes that
/// promote wait meanwhile.
///
/// # Errors
/// As [`promote`], the new manifest cannot be read, or `compare` failed.
pub fn promote_checked<E: From<ArtifactError>>(
    directory: &Path,
    id: &ModelId,
    now: DateTime<Utc>,
    compare: impl FnOnce(&Manifest, &Manifest) -> Result<Vec<Comparison>, E>,
) -> Result<Promotion, E> {
    resolve(directory, &id.to_string())?;
    let _alone = lock(directory, FILE)?;
    let all = Promotions::read(directory)?;
    let outcome = judge_in(&all, directory, id, compare)?;
    if matches!(outcome, Promotion::First | Promotion::Promoted { .. }) {
        all.push(directory, id, now)?;
    }
    Ok(outcome)
}

/// Makes `name` open the version that it opened before. Returns the version that it opened
/// until now, and the one that it opens from now on. Skips versions that were removed.
///
/// # Errors
/// [`RegistryError`]: no version was promoted before, or that version is damaged.
pub fn rollback(
    directory: &Path,
    name: &str,
    now: DateTime<Utc>,
) -> Result<(ModelId, ModelId), RegistryError> {
    let nothing = || RegistryError::NotPromoted(name.to_owned());
    Promotions::read(directory)?.current(name).ok_or_else(nothing)?;
    let _alone = lock(directory, FILE)?;
    let mut all = Promotions::read(directory)?;
    let current = all.current(name).ok_or_else(nothing)?;
    let entries = all.0.entry(name.to_owned()).or_default();
    let id = |entry: &Entry| ModelId { name: name.to_owned(), version: entry.version };
    let Some(place) = entries.iter().rposition(|entry| {
        entry.withdrawn.is_none()
            && entry.version != current.version
            && folder(directory, &id(entry)).is_dir()
    }) else {
        let known = registered(directory)?.into_iter().filter(|id| id.name == name);
        let known = known.map(|id| id.to_string()).collect();
        return Err(RegistryError::NothingBefore { name: name.to_owned(), current, known });
    };
    let earlier = id(&entries[place]);
    load(directory, &earlier, Compute::CPU)?;
    withdraw(&mut entries[place + 1..], now);
    all.write(directory)?;
    Ok((current, earlier))
}

/// The error for a promoted version that does not exist.
pub(super) fn dangling(directory: &Path, id: &ModelId) -> ArtifactError {
    let reason = format!("{:?} opens {id}, which does not exist: promote another version", id.name);
    ArtifactError::Manifest { path: directory.join(FILE), reason }
}

/// Withdraws `id`, which is about to be removed. No process can promote it until the returned
/// lock is dropped.
pub(super) fn release(
    directory: &Path,
    id: &ModelId,
    force: bool,
    now: DateTime<Utc>,
) -> Result<File, RegistryError> {
    let guard = lock(directory, FILE)?;
    let mut all = Promotions::read(directory)?;
    if all.current(&id.name).as_ref() == Some(id) {
        if !force {
            return Err(RegistryError::Promoted(id.clone()));
        }
        withdraw(all.0.entry(id.name.clone()).or_default(), now);
        all.write(directory)?;
    }
    Ok(guard)
}

fn withdraw(entries: &mut [Entry], now: DateTime<Utc>) {
    for entry in entries.iter_mut().filter(|entry| entry.withdrawn.is_none()) {
        entry.withdrawn = Some(now.trunc_subsecs(0));
    }
}

/// The file's content.
#[derive(Debug, Default, Serialize)]
struct Promotions(BTreeMap<String, Vec<Entry>>);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "each name should have \"name@version\", or a list of promotions such as \
                 {\"version\": 2, \"at\": \"2026-01-31T12:00:00Z\"}, oldest first"
)]
enum Stored {
    /// `"lstm@2"`
    Plain(String),
    Entries(Vec<Entry>),
}

impl Promotions {
    fn read(directory: &Path) -> Result<Self, ArtifactError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(at(&path)(error)),
        };
        let refuse = |reason: String| ArtifactError::Manifest { path: path.clone(), reason };
        let stored: BTreeMap<String, Stored> =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        let mut all = BTreeMap::new();
        for (name, stored) in stored {
            if !is_name(&name) {
                return Err(refuse(format!("{name:?} is not a model name")));
            }
            let entries = match stored {
                Stored::Entries(entries) => entries,
                Stored::Plain(id) => match id.parse::<ModelId>() {
                    Ok(id) if id.name == name => {
                        vec![Entry { version: id.version, at: None, withdrawn: None }]
                    }
                    Ok(id) => return Err(refuse(format!("{name:?} cannot open {id}"))),
                    Err(error) => return Err(refuse(format!("{name}: {error}"))),
                },
            };
            all.insert(name, entries);
        }
        Ok(Self(all))
    }

    fn current(&self, name: &str) -> Option<ModelId> {
        let entry = self.0.get(name)?.iter().rfind(|entry| entry.withdrawn.is_none())?;
        Some(ModelId { name: name.to_owned(), version: entry.version })
    }

    /// Adds a promotion of a verified version.
    fn push(
        mut self,
        directory: &Path,
        id: &ModelId,
        now: DateTime<Utc>,
    ) -> Result<(), ArtifactError> {
        let entries = self.0.entry(id.name.clone()).or_default();
        let at = Some(now.trunc_subsecs(0));
        entries.push(Entry { version: id.version, at, withdrawn: None });
        entries.drain(..entries.len().saturating_sub(ENTRIES_MAX));
        self.write(directory)
    }

    /// Replaces the file atomically.
    fn write(&self, directory: &Path) -> Result<(), ArtifactError> {
        let mut json = serde_json::to_vec_pretty(self).expect("names and entries are plain data");
        json.push(b'\n');
        let path = directory.join(FILE);
        let mut file = tempfile::Builder::new()
            .prefix(".promoted-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)
            .map_err(at(directory))?;
        file.write_all(&json).map_err(at(file.path()))?;
        file.as_file().sync_all().map_err(at(file.path()))?;
        file.persist(&path).map_err(|error| at(&path)(error.error))?;
        sync(directory)
    }
}
