use std::io;
use std::path::PathBuf;

/// Why a model could not be fetched from the hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The model's name is invalid.
    #[error("{0:?} is not a model's name: give one such as distilbert-base-uncased or owner/name")]
    Name(String),
    /// The revision's name is invalid.
    #[error("{0:?} is not a revision: give a branch, a tag or a commit")]
    Revision(String),
    /// There is no such model, or no such revision.
    #[error(
        "{endpoint} has no model {name:?} at revision {revision:?} with a config.json: check both \
         names there"
    )]
    Unknown {
        /// Which hub.
        endpoint: String,
        /// Which model.
        name: String,
        /// Which revision.
        revision: String,
    },
    /// The hub denies access.
    #[error(
        "{endpoint} does not give {name} to us (status {status}): check the name; if the model is \
         private or gated, accept its terms there and put your token into HF_TOKEN"
    )]
    Denied {
        /// Which hub.
        endpoint: String,
        /// Which model.
        name: String,
        /// 401 or 403.
        status: u16,
    },
    /// The hub answers with another error status.
    #[error("{endpoint} answers {status} when asked for {file} of {name}: try again later")]
    Refused {
        /// Which hub.
        endpoint: String,
        /// Which model.
        name: String,
        /// Which file.
        file: String,
        /// HTTP status.
        status: u16,
    },
    /// The hub cannot be reached.
    #[error(
        "cannot reach {endpoint}: {reason}; check the network and HF_ENDPOINT, or bring the folder \
         of {name} from a machine that reaches it (--base takes a folder)"
    )]
    Unreachable {
        /// Which hub.
        endpoint: String,
        /// Which model.
        name: String,
        /// The network error.
        reason: String,
    },
    /// The server does not answer like a model hub.
    #[error("{endpoint} does not answer as a model hub does ({reason}): check HF_ENDPOINT")]
    Answer {
        /// Which hub.
        endpoint: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// No data arrived for too long.
    #[error(
        "{file}: nothing came for {seconds} s; the same command resumes there \
         (HF_HUB_DOWNLOAD_TIMEOUT says how long to wait)"
    )]
    Silent {
        /// Which file.
        file: String,
        /// How long, in seconds.
        seconds: u64,
    },
    /// The connection broke, several times.
    #[error("{file}: the connection broke ({source}); the same command resumes there")]
    Cut {
        /// Which file.
        file: String,
        /// The network error.
        source: io::Error,
    },
    /// The file has the wrong size.
    #[error(
        "{file}: {found} bytes came where the hub names {expected}; they are removed: fetch the \
         model again"
    )]
    Size {
        /// Which file.
        file: String,
        /// Bytes received.
        found: u64,
        /// Bytes according to the hub.
        expected: u64,
    },
    /// The checksum is wrong.
    #[error(
        "{file}: its checksum is {found} where the hub names {expected}; it is removed: fetch the \
         model again"
    )]
    Checksum {
        /// Which file.
        file: String,
        /// Checksum of the received file.
        found: String,
        /// Checksum according to the hub.
        expected: String,
    },
    /// The weights are a pickle, which can run code.
    #[error(
        "{name} has its weights only as pytorch_model.bin: that is a pickle, which can carry code, \
         and is never downloaded nor read; choose a model or a --revision with model.safetensors"
    )]
    Pickle {
        /// Which model.
        name: String,
    },
    /// A required file is missing.
    #[error("{name} has no {file}: choose a model that has one")]
    Without {
        /// Which model.
        name: String,
        /// Which file.
        file: &'static str,
    },
    /// Another process downloads the same file.
    #[error("{file}: another process downloads it; wait for it")]
    Busy {
        /// Which file.
        file: String,
    },
    /// The cache cannot be written or read.
    #[error(
        "the cache in {} fails: {source}; free some space, or name another folder in HF_HOME",
        cache.display()
    )]
    Disk {
        /// The cache.
        cache: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The model is not in the cache, and downloads are switched off.
    #[error(
        "{name} is not in {}, and HF_HUB_OFFLINE forbids to fetch it: unset it, or bring that \
         folder from a machine that has it",
        cache.display()
    )]
    Offline {
        /// Which model.
        name: String,
        /// The cache.
        cache: PathBuf,
    },
}
