//! nisshi, a broker with the Kafka protocol, as a child process.
//!
//! **Invariant.** After a restart it has the same address. With [`Storage::Disk`] it also has
//! the same records and offsets, even after `kill -9`.
//! Deliberately absent: building nisshi; `scripts/test --real-broker` builds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::child::Child;
use super::{Doing, EmbeddedError, cache, free_port, log_tail};

const READY_TRIES: usize = 100;
const READY_POLL: Duration = Duration::from_millis(100);
const PORT_TRIES: usize = 5;

/// Where the broker keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Fast; lost when the broker ends. The broker can be paused.
    Memory,
    /// SQLite in the broker's folder: survives `kill -9`, stores a few thousand records per
    /// second.
    Disk,
}

/// A running broker; dropping it ends the broker and removes its data.
#[derive(Debug)]
pub struct Nisshi {
    // Dropped first: the broker ends before its folder is removed.
    broker: Option<Child>,
    binary: PathBuf,
    storage: Storage,
    port: u16,
    folder: TempDir,
}

impl Nisshi {
    /// Finds the program: `$NISSHI_BIN`, else `nisshi` on the `PATH`, else in the cache.
    pub fn find() -> Option<PathBuf> {
        if let Some(path) = std::env::var_os("NISSHI_BIN").filter(|value| !value.is_empty()) {
            return Some(path.into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(cache())
            .map(|dir| dir.join("nisshi"))
            .find(|path| path.is_file())
    }

    /// Starts a broker and waits until it is ready. Blocks, usually for 0.2 seconds.
    ///
    /// # Errors
    /// nisshi is not installed, or does not become ready.
    pub fn start(storage: Storage) -> Result<Self, EmbeddedError> {
        let binary = Self::find().ok_or_else(|| {
            EmbeddedError::Missing(
                "nisshi is not on this machine: run scripts/test --real-broker, which builds \
                 it, or set NISSHI_BIN to it"
                    .into(),
            )
        })?;
        let binary = fs::canonicalize(&binary).doing(format!("find {}", binary.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("monitor-nisshi-")
            .tempdir()
            .doing("make a folder for the broker")?;
        let mut nisshi = Self { broker: None, binary, storage, port: 0, folder };
        for tries_left in (0..PORT_TRIES).rev() {
            nisshi.port = free_port()?;
            match nisshi.start_again() {
                Err(EmbeddedError::Failed { log, .. })
                    if tries_left > 0 && log.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(nisshi)
    }

    /// `host:port`, for `kafka.brokers`; does not change.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts a stopped or killed broker again, on the same port. Blocks until it is ready.
    ///
    /// # Errors
    /// The broker does not become ready; the error contains the end of its log.
    pub fn start_again(&mut self) -> Result<(), EmbeddedError> {
        if self.broker.as_ref().is_some_and(|broker| broker.exit().is_none()) {
            return Ok(());
        }
        let log = self.folder.path().join("log");
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .doing(format!("open {}", log.display()))?;
        let errors = output.try_clone().doing("share the log file")?;
        let url = format!("tcp://{}", self.brokers());
        let mut command = Command::new(&self.binary);
        command
            // The path of the database is relative to the working directory.
            .current_dir(self.folder.path())
            .args(["broker", "--silent", "--storage-engine"])
            .arg(match self.storage {
                Storage::Memory => "memory://nisshi/",
                Storage::Disk => "sqlite://nisshi.db",
            })
            .args(["--listener-url", &url, "--advertised-listener-url", &url])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let broker =
            Child::spawn(command, libc::SIGKILL).doing(format!("run {}", self.binary.display()))?;
        self.wait_until_ready(&broker, &log)?;
        self.broker = Some(broker);
        Ok(())
    }

    /// Stops the broker and waits for its end.
    pub fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop(libc::SIGTERM, Duration::from_secs(10));
        }
    }

    /// Kills the broker as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop(libc::SIGKILL, Duration::from_secs(10));
        }
    }

    /// Pauses the broker: connections stay open, but it does not respond.
    pub fn pause(&self) {
        if let Some(broker) = &self.broker {
            broker.signal(libc::SIGSTOP);
        }
    }

    /// Ends [`Nisshi::pause`].
    pub fn resume(&self) {
        if let Some(broker) = &self.broker {
            broker.signal(libc::SIGCONT);
        }
    }

    /// Waits until the broker returns its topics to a client.
    fn wait_until_ready(&self, broker: &Child, log: &Path) -> Result<(), EmbeddedError> {
        let failed = |what: String| EmbeddedError::Failed {
            what: format!("nisshi {what}"),
            log: log_tail(log),
        };
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, self.port));
        // After "connection refused" a Kafka client waits before it retries, so wait for the port
        // first.
        for tries_left in (0..READY_TRIES).rev() {
            if std::net::TcpStream::connect_timeout(&address, READY_POLL).is_ok() {
                break;
            }
            if let Some(exit) = broker.exit() {
                return Err(failed(format!("ended at once ({exit})")));
            }
            if tries_left == 0 {
                return Err(failed("does not listen".into()));
            }
            std::thread::sleep(READY_POLL);
        }
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create()?;
        client
            .fetch_metadata(None, READY_POLL * 100)
            .map_err(|error| failed(format!("does not answer: {error}")))?;
        Ok(())
    }
}
