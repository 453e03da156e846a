//! Pretrained models from a model hub, in the cache that Python's `huggingface_hub` shares.
//!
//! hf-hub knows the layout of the cache. This module downloads: all files come from one commit, their
//! sizes and checksums are compared with the hub's, an interrupted download is resumed, and one without
//! progress times out. `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
//! `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT` have the same meaning as in Python.
//!
//! **Invariant.** Only [`fetch`] downloads. A revision can be opened in the cache only after all
//! of its files are complete and verified. Deliberately absent: pickles, weights in several files,
//! data sets.

mod error;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;
use std::{env, fs, io, thread};

use hf_hub::{Cache, Repo, RepoType};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::hash::hex;

pub use error::HubError;
use transfer::{Found, Transfer, TransferError};

/// The default revision.
pub const MAIN: &str = "main";

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const PICKLE: &str = "pytorch_model.bin";
const TOKENIZER: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.txt";
/// Says whether a vocabulary distinguishes upper and lower case.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

const HUB: &str = "https://huggingface.co";
/// Attempts per file when the connection breaks.
const ATTEMPTS_MAX: usize = 5;
/// Longest time without data, in seconds, unless `HF_HUB_DOWNLOAD_TIMEOUT` is set.
const SILENCE_S: u64 = 10;
const LINE_EVERY_S: f64 = 5.0;
/// Longest name on the hub.
const NAME_BYTES_MAX: usize = 96;

/// The folder of a model in the cache: `config.json`, `model.safetensors`, and
/// `tokenizer.json` or `vocab.txt`. `None` if any of them is missing.
pub fn cached(name: &str, revision: &str) -> Option<PathBuf> {
    check_names(name, revision).ok()?;
    let place = Cache::from_env().repo(repo(name, revision));
    let folder = place.get(CONFIG)?.parent()?.to_owned();
    let has = |file| folder.join(file).exists();
    (has(WEIGHTS) && (has(TOKENIZER) || has(VOCABULARY))).then_some(folder)
}

/// Downloads the files that the cache lacks and returns the model's folder in the cache. `say`
/// receives lines of progress. With `HF_HUB_OFFLINE=1` only the cache is used.
///
/// # Errors
/// [`HubError`]. The part of an interrupted download is kept and resumed by the next call.
pub fn fetch(name: &str, revision: &str, say: &mut dyn FnMut(&str)) -> Result<PathBuf, HubError> {
    check_names(name, revision)?;
    if is_on("HF_HUB_OFFLINE") {
        return cached(name, revision).ok_or_else(|| HubError::Offline {
            name: name.into(),
            cache: Cache::from_env().path().clone(),
        });
    }
    let hub = Hub::from_env(name)?;
    let Some(Metadata { commit, .. }) = hub.metadata(revision, CONFIG)? else {
        let (name, revision) = (name.into(), revision.into());
        return Err(HubError::Unknown { endpoint: hub.endpoint, name, revision });
    };
    let mut has = |file: &str| hub.file(&commit, file, say);
    let without = |file: &'static str| HubError::Without { name: name.into(), file };
    if !has(CONFIG)? {
        return Err(without(CONFIG));
    }
    if !has(TOKENIZER)? {
        if !has(VOCABULARY)? {
            return Err(without("tokenizer.json or vocab.txt"));
        }
        has(TOKENIZER_CONFIG)?;
    }
    if !has(WEIGHTS)? {
        return Err(match hub.metadata(&commit, PICKLE)? {
            Some(_) => HubError::Pickle { name: name.into() },
            None => without(WEIGHTS),
        });
    }
    // From now on the revision refers to these files.
    let place = hub.cache.repo(repo(name, revision));
    place.create_ref(&commit).map_err(|source| hub.disk(source))?;
    Ok(place.pointer_path(&commit))
}

fn repo(name: &str, revision: &str) -> Repo {
    Repo::with_revision(name.into(), RepoType::Model, revision.into())
}

/// Checks both, because they become parts of paths and URLs.
fn check_names(name: &str, revision: &str) -> Result<(), HubError> {
    let is_plain = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with(['-', '.']) && part.chars().all(plain)
    };
    let parts: Vec<&str> = name.split('/').collect();
    let doubled = name.contains("--") || name.contains("..");
    if parts.len() > 2
        || name.len() > NAME_BYTES_MAX
        || doubled
        || !parts.iter().all(|part| is_plain(part))
    {
        return Err(HubError::Name(name.into()));
    }
    if revision.contains("..") || !revision.split('/').all(is_plain) {
        return Err(HubError::Revision(revision.into()));
    }
    Ok(())
}

fn is_on(variable: &str) -> bool {
    let value = env::var(variable).unwrap_or_default().to_ascii_lowercase();
    matches!(value.as_str(), "1" | "true" | "yes" | "on")
}

/// The variable's value, unless it is empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The hub's metadata of a file.
struct Metadata {
    commit: String,
    /// Name of its blob in the cache.
    etag: String,
    /// SHA-256 of a large file, git's SHA-1 of a small one, in hexadecimal.
    checksum: String,
    bytes: u64,
}

/// One model on the hub.
struct Hub {
    transfer: Transfer,
    cache: Cache,
    endpoint: String,
    name: String,
    silence: Duration,
}

impl Hub {
    fn from_env(name: &str) -> Result<Self, HubError> {
        let cache = Cache::from_env();
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let transfer = Transfer::new(&endpoint, variable("HF_TOKEN"));
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok());
        let silence = Duration::from_secs(seconds.unwrap_or(SILENCE_S));
        Ok(Self { transfer, cache, endpoint, name: name.into(), silence })
    }

    /// Requests the metadata of a file; `None` if the hub has no such file.
    fn metadata(&self, revision: &str, file: &str) -> Result<Option<Metadata>, HubError> {
        let (transfer, url) = (self.transfer.clone(), self.url(revision, file));
        let found = match self.watch(file, move |_progress| transfer.metadata(&url), |_| ())? {
            Ok(found) => found,
            Err(error) if error.status() == Some(404) => return Ok(None),
            Err(error) => return Err(self.converted(file, error)),
        };
        let Found { commit, etag, bytes } = found;
        let checksum = etag.strip_prefix("W/").unwrap_or(&etag).to_ascii_lowercase();
        // Both become file names, so check them first.
        let is_hash = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !matches!(checksum.len(), 40 | 64) || !is_hash(&checksum) {
            return Err(self.answer(format!("it names no checksum of {file}, but {etag:?}")));
        }
        if commit.len() != 40 || !is_hash(&commit) {
            return Err(self.answer(format!("{commit:?} is not a commit")));
        }
        Ok(Some(Metadata { commit, etag, checksum, bytes }))
    }

    fn url(&self, revision: &str, file: &str) -> String {
        let revision = revision.replace('/', "%2F");
        format!("{}/{}/resolve/{revision}/{file}", self.endpoint, self.name)
    }

    /// Ensures that a file is in the cache and complete; `false` if the hub has no such file.
    fn file(&self, commit: &str, file: &str, say: &mut dyn FnMut(&str)) -> Result<bool, HubError> {
        let Some(metadata) = self.metadata(commit, file)? else { return Ok(false) };
        let place = self.cache.repo(repo(&self.name, commit));
        let snapshot = place.pointer_path(commit);
        let pointer = snapshot.join(file);
        let model = snapshot.ancestors().nth(2).expect("a snapshot lies in a model's folder");
        let blob = model.join("blobs").join(&metadata.etag);
        if blob.exists() {
            if self.verify(file, &blob, &metadata).is_ok() {
                link(&pointer, &blob, &metadata.etag).map_err(|source| self.disk(source))?;
                say(&format!("{file}: there already, checksum agrees"));
                return Ok(true);
            }
            say(&format!("{file}: what the cache has is damaged; fetching it again"));
            remove(&blob);
        }
        let part = blob.with_extension("part");
        let folder = blob.parent().expect("a blob lies in its folder");
        fs::create_dir_all(folder).map_err(|source| self.disk(source))?;
        let mut attempts = 0;
        loop {
            // A complete part cannot be resumed.
            let mut from = fs::metadata(&part).map_or(0, |part| part.len());
            if from >= metadata.bytes {
                remove(&part);
                from = 0;
            }
            let fetched = self.download(commit, file, (&part, &blob), (from, metadata.bytes), say);
            let Err(error) = fetched.and_then(|()| self.verify(file, &blob, &metadata)) else {
                link(&pointer, &blob, &metadata.etag).map_err(|source| self.disk(source))?;
                say(&format!("{file}: {} fetched, checksum agrees", size(metadata.bytes)));
                return Ok(true);
            };
            let again = match error {
                HubError::Cut { .. } => true,
                HubError::Size { .. } | HubError::Checksum { .. } => {
                    remove(&blob);
                    // The server may have answered the resumed request with other bytes.
                    from > 0
                }
                _ => false,
            };
            attempts += 1;
            if !again || attempts == ATTEMPTS_MAX {
                return Err(error);
            }
            say(&format!("{file}: attempt {attempts} of {ATTEMPTS_MAX} failed; trying again"));
        }
    }

    /// Downloads what is missing in `part`, which becomes `blob`.
    fn download(
        &self,
        commit: &str,
        file: &str,
        (part, blob): (&Path, &Path),
        (from, bytes): (u64, u64),
        say: &mut dyn FnMut(&str),
    ) -> Result<(), HubError> {
        let (transfer, url) = (self.transfer.clone(), self.url(commit, file));
        let (to, finished) = (part.to_owned(), blob.to_owned());
        let clock = SystemClock::new();
        let mut last_s = 0.0;
        let outcome = self.watch(
            file,
            move |progress| {
                transfer.download(&url, &to, |done| {
                    // The receiver is gone after a timeout.
                    let _ = progress.send(done);
                })?;
                Ok(fs::rename(&to, &finished)?)
            },
            |done| {
                let now_s = clock.elapsed().as_secs_f64();
                if now_s - last_s >= LINE_EVERY_S {
                    last_s = now_s;
                    say(&progress_line(file, from, done, bytes, now_s));
                }
            },
        )?;
        outcome.map_err(|error| self.converted(file, error))
    }

    /// Runs `work` on a separate thread, which reports the bytes received so far. Returns an error
    /// if it reports nothing for too long.
    fn watch<T: Send + 'static>(
        &self,
        file: &str,
        work: impl FnOnce(SyncSender<u64>) -> Result<T, TransferError> + Send + 'static,
        mut progress: impl FnMut(u64),
    ) -> Result<Result<T, TransferError>, HubError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let worker = thread::spawn(move || work(sender));
        loop {
            match receiver.recv_timeout(self.silence) {
                Ok(bytes) => progress(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.silence.as_secs();
                    return Err(HubError::Silent { file: file.into(), seconds });
                }
            }
        }
        worker.join().map_err(|_| self.answer(format!("the request for {file} panicked")))
    }

    /// Compares a file with the hub's metadata.
    fn verify(&self, file: &str, blob: &Path, expected: &Metadata) -> Result<(), HubError> {
        let file = file.to_owned();
        let found = fs::metadata(blob).map_err(|source| self.disk(source))?.len();
        if found != expected.bytes {
            return Err(HubError::Size { file, found, expected: expected.bytes });
        }
        let found = if expected.checksum.len() == 64 {
            digest(Sha256::new(), blob)
        } else {
            // Git's hash of a blob.
            digest(Sha1::new_with_prefix(format!("blob {found}\0")), blob)
        };
        let found = found.map_err(|source| self.disk(source))?;
        if found != expected.checksum {
            return Err(HubError::Checksum { file, found, expected: expected.checksum.clone() });
        }
        Ok(())
    }

    /// Converts an error of a request.
    fn converted(&self, file: &str, error: TransferError) -> HubError {
        let (endpoint, name, file) = (self.endpoint.clone(), self.name.clone(), file.to_owned());
        match (error.status(), error) {
            (Some(status @ (401 | 403)), _) => HubError::Denied { endpoint, name, status },
            (Some(status), _) => HubError::Refused { endpoint, name, file, status },
            (None, TransferError::Request(reason)) => {
                HubError::Unreachable { endpoint, name, reason: reason.to_string() }
            }
            (None, TransferError::Connection(source)) => HubError::Cut { file, source },
            (None, TransferError::Disk(source)) => self.disk(source),
            (None, TransferError::Locked) => HubError::Busy { file },
            (None, other) => self.answer(other.to_string()),
        }
    }

    fn answer(&self, reason: String) -> HubError {
        HubError::Answer { endpoint: self.endpoint.clone(), reason }
    }

    fn disk(&self, source: io::Error) -> HubError {
        HubError::Disk { cache: self.cache.path().clone(), source }
    }
}

/// A line of progress; `from` bytes were present at the start.
fn progress_line(file: &str, from: u64, done: u64, bytes: u64, seconds: f64) -> String {
    let rate = (done.saturating_sub(from) as f64 / seconds).max(1.0);
    let left_s = bytes.saturating_sub(done) as f64 / rate;
    let percent = 100 * done / bytes.max(1);
    let (done, all) = (size(done), size(bytes));
    format!("{file}: {percent:3} %, {done} of {all}, {:.1} MB/s, {left_s:.0} s left", rate / 1e6)
}

fn size(bytes: u64) -> String {
    if bytes < 100_000 { format!("{bytes} bytes") } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}

/// The checksum of a file, in lower-case hexadecimal.
fn digest(mut hasher: impl Digest, path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// Links a commit's file to its blob. Replaces whatever is there: a copied cache may have files
/// instead of links.
fn link(pointer: &Path, blob: &Path, etag: &str) -> io::Result<()> {
    if fs::canonicalize(pointer).is_ok_and(|to| fs::canonicalize(blob).is_ok_and(|it| it == to)) {
        return Ok(());
    }
    remove(pointer);
    fs::create_dir_all(pointer.parent().expect("a file lies in its snapshot"))?;
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer)
}

/// Removes a file or a dangling link, if it exists.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}
