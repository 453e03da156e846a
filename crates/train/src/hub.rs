//! Pretrained models from a model hub, in the cache that Python's `huggingface_hub` shares.
//!
//! Downloading and going on where a download broke off are hf-hub's. Added here is what it
//! leaves out: every file is of one commit, and its size and checksum are those that the hub
//! names; a server that falls silent is given up. `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
//! `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT` mean what they mean to Python's.
//!
//! **Invariant.** Nothing is downloaded but by [`fetch`]; a revision opens in the cache only
//! once all of its files are whole. Deliberately absent: pickles, weights in several files,
//! data sets.

mod error;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;
use std::{env, fs, io, thread};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::hash::hex;

pub use error::HubError;

/// The revision where none is named.
pub const MAIN: &str = "main";

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const PICKLE: &str = "pytorch_model.bin";
const TOKENIZER: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.txt";
/// Says of a vocabulary whether it knows capitals.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

const HUB: &str = "https://huggingface.co";
/// A file whose connection breaks is asked for so many times.
const ATTEMPTS_MAX: usize = 5;
/// So long may nothing come, in seconds, if `HF_HUB_DOWNLOAD_TIMEOUT` does not say.
const SILENCE_S: u64 = 10;
const LINE_EVERY_S: f64 = 5.0;
/// Longest name on the hub.
const NAME_BYTES_MAX: usize = 96;

/// The folder of a model in the cache: `config.json`, `model.safetensors`, and
/// `tokenizer.json` or `vocab.txt`. `None` where any of them is not there.
pub fn cached(name: &str, revision: &str) -> Option<PathBuf> {
    check_names(name, revision).ok()?;
    let place = Cache::from_env().repo(repo(name, revision));
    let folder = place.get(CONFIG)?.parent()?.to_owned();
    let has = |file| folder.join(file).exists();
    (has(WEIGHTS) && (has(TOKENIZER) || has(VOCABULARY))).then_some(folder)
}

/// Downloads what is not in the cache yet, and answers the model's folder there. `say` is
/// given lines for the person who waits. Without a network (`HF_HUB_OFFLINE=1`) it answers
/// what the cache has.
///
/// # Errors
/// [`HubError`]; what came of a file that broke off is kept, to go on from there.
pub fn fetch(name: &str, revision: &str, say: &mut dyn FnMut(&str)) -> Result<PathBuf, HubError> {
    check_names(name, revision)?;
    if is_on("HF_HUB_OFFLINE") {
        return cached(name, revision).ok_or_else(|| HubError::Offline {
            name: name.into(),
            cache: Cache::from_env().path().clone(),
        });
    }
    let hub = Hub::from_env(name)?;
    let Some(Metadata { commit, .. }) = hub.ask(revision, CONFIG)? else {
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
        return Err(match hub.ask(&commit, PICKLE)? {
            Some(_) => HubError::Pickle { name: name.into() },
            None => without(WEIGHTS),
        });
    }
    // From now on the revision opens these files.
    let place = hub.cache.repo(repo(name, revision));
    place.create_ref(&commit).map_err(|source| hub.disk(source))?;
    Ok(place.pointer_path(&commit))
}

fn repo(name: &str, revision: &str) -> Repo {
    Repo::with_revision(name.into(), RepoType::Model, revision.into())
}

/// Both become parts of paths and addresses.
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

/// What is not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// What the hub says of a file.
struct Metadata {
    commit: String,
    /// Its name among the blobs of the cache.
    etag: String,
    /// SHA-256 of a large file, git's SHA-1 of a small one, in hexadecimal.
    checksum: String,
    bytes: u64,
}

/// One model on the hub.
struct Hub {
    api: Api,
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
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.clone());
        if let Some(token) = variable("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        let builder = builder.with_user_agent("monitor", env!("CARGO_PKG_VERSION"));
        let answer = |error: ApiError| HubError::Answer {
            endpoint: endpoint.clone(),
            reason: error.to_string(),
        };
        let api = builder.build().map_err(answer)?;
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok());
        let silence = Duration::from_secs(seconds.unwrap_or(SILENCE_S));
        Ok(Self { api, cache, endpoint, name: name.into(), silence })
    }

    /// What there is to know of a file; `None` where there is no such file.
    fn ask(&self, revision: &str, file: &str) -> Result<Option<Metadata>, HubError> {
        let (api, url) = (self.api.clone(), self.api.repo(repo(&self.name, revision)).url(file));
        let found = match self.watch(file, move |_heard| api.metadata(&url), |_| ())? {
            Ok(found) => found,
            Err(error) if error::status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(self.wrong(file, error)),
        };
        let (commit, etag) = (found.commit_hash().to_owned(), found.etag().to_owned());
        let checksum = etag.strip_prefix("W/").unwrap_or(&etag).to_ascii_lowercase();
        // Both become names of files here, so they are looked at first.
        let is_hash = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !matches!(checksum.len(), 40 | 64) || !is_hash(&checksum) {
            return Err(self.answer(format!("it names no checksum of {file}, but {etag:?}")));
        }
        if commit.len() != 40 || !is_hash(&commit) {
            return Err(self.answer(format!("{commit:?} is no commit")));
        }
        Ok(Some(Metadata { commit, etag, checksum, bytes: found.size() as u64 }))
    }

    /// Sees that a file is in the cache and whole; `false` where the hub has no such file.
    fn file(&self, commit: &str, file: &str, say: &mut dyn FnMut(&str)) -> Result<bool, HubError> {
        let Some(metadata) = self.ask(commit, file)? else { return Ok(false) };
        let place = self.cache.repo(repo(&self.name, commit));
        let blob = place.blob_path(&metadata.etag);
        let pointer = place.pointer_path(commit).join(file);
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
        let mut attempts = 0;
        loop {
            // It would stay where it leads elsewhere.
            remove(&pointer);
            // hf-hub goes on behind the part there is; behind a whole one there is nothing.
            let mut from = fs::metadata(&part).map_or(0, |part| part.len());
            if from >= metadata.bytes {
                remove(&part);
                from = 0;
            }
            let fetched = self.download(commit, file, (from, metadata.bytes), say);
            let Err(error) = fetched.and_then(|()| self.verify(file, &blob, &metadata)) else {
                say(&format!("{file}: {} fetched, checksum agrees", size(metadata.bytes)));
                return Ok(true);
            };
            let again = match error {
                HubError::Cut { .. } => true,
                HubError::Size { .. } | HubError::Checksum { .. } => {
                    remove(&blob);
                    remove(&pointer);
                    // What came behind the part may be something else than was asked for.
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

    fn download(
        &self,
        commit: &str,
        file: &str,
        (from, bytes): (u64, u64),
        say: &mut dyn FnMut(&str),
    ) -> Result<(), HubError> {
        let (api, repo, name) = (self.api.clone(), repo(&self.name, commit), file.to_owned());
        let clock = SystemClock::new();
        let mut last_s = 0.0;
        let outcome = self.watch(
            file,
            move |heard| api.repo(repo).download_with_progress(&name, heard),
            |done| {
                let now_s = clock.elapsed().as_secs_f64();
                if now_s - last_s >= LINE_EVERY_S {
                    last_s = now_s;
                    say(&course(file, from, done, bytes, now_s));
                }
            },
        )?;
        outcome.map(drop).map_err(|error| self.wrong(file, error))
    }

    /// Does `work` on a thread of its own, which tells how many bytes of a file there are,
    /// and gives it up when nothing is heard for too long: hf-hub would wait for ever.
    fn watch<T: Send + 'static>(
        &self,
        file: &str,
        work: impl FnOnce(Heard) -> Result<T, ApiError> + Send + 'static,
        mut progress: impl FnMut(u64),
    ) -> Result<Result<T, ApiError>, HubError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let worker = thread::spawn(move || work(Heard { bytes: 0, sender }));
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
        worker.join().map_err(|_| self.answer(format!("hf-hub gave up on {file}")))
    }

    /// Compares a file with what the hub says of it.
    fn verify(&self, file: &str, blob: &Path, expected: &Metadata) -> Result<(), HubError> {
        let file = file.to_owned();
        let found = fs::metadata(blob).map_err(|source| self.disk(source))?.len();
        if found != expected.bytes {
            return Err(HubError::Size { file, found, expected: expected.bytes });
        }
        let found = if expected.checksum.len() == 64 {
            digest(Sha256::new(), blob)
        } else {
            // Git's name of a blob.
            digest(Sha1::new_with_prefix(format!("blob {found}\0")), blob)
        };
        let found = found.map_err(|source| self.disk(source))?;
        if found != expected.checksum {
            return Err(HubError::Checksum { file, found, expected: expected.checksum.clone() });
        }
        Ok(())
    }

    /// In our own words.
    fn wrong(&self, file: &str, error: ApiError) -> HubError {
        let (endpoint, name, file) = (self.endpoint.clone(), self.name.clone(), file.to_owned());
        match (error::status(&error), error) {
            (Some(status @ (401 | 403)), _) => HubError::Denied { endpoint, name, status },
            (Some(status), _) => HubError::Refused { endpoint, name, file, status },
            (None, ApiError::RequestError(reason)) => {
                HubError::Unreachable { endpoint, name, reason: reason.to_string() }
            }
            (None, ApiError::IoError(source)) if error::is_connection(&source) => {
                HubError::Cut { file, source }
            }
            (None, ApiError::IoError(source)) => self.disk(source),
            (None, ApiError::LockAcquisition(path)) => HubError::Busy { file, path },
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

/// Tells the one who watches how many bytes of a file there are.
struct Heard {
    bytes: u64,
    sender: SyncSender<u64>,
}

impl hf_hub::api::Progress for Heard {
    fn init(&mut self, _size: usize, _file: &str) {
        self.bytes = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        // Nobody listens any more where it was given up.
        let _ = self.sender.send(self.bytes);
    }

    fn finish(&mut self) {}
}

/// How far, how fast, how long yet; `from` bytes were there before.
fn course(file: &str, from: u64, done: u64, bytes: u64, seconds: f64) -> String {
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

/// Lets a commit's file be the blob that is there, whatever it was before: a cache that was
/// copied may have files in place of links.
fn link(pointer: &Path, blob: &Path, etag: &str) -> io::Result<()> {
    if fs::canonicalize(pointer).is_ok_and(|to| fs::canonicalize(blob).is_ok_and(|it| it == to)) {
        return Ok(());
    }
    remove(pointer);
    fs::create_dir_all(pointer.parent().expect("a file lies in its snapshot"))?;
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer)
}

/// A file, or a link that leads nowhere; that it is not there is no error.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}
