//! The demo as a process: the airline week through the whole pipeline, with its database and its page.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use monitor_embedded::with_database;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use super::root;
use crate::support::fresh_database;

/// `monitor demo --keep`, when everything is stored and notified.
pub struct Demo {
    process: Child,
    /// Kept open, so that the demo may go on printing.
    _said: Lines<BufReader<ChildStdout>>,
    _mails: TempDir,
    admin: String,
    database: String,
    /// The address of its page.
    pub page: String,
}

impl Demo {
    /// Runs the week as fast as it goes, with the smallest model that ships.
    pub async fn start() -> Self {
        let admin = fresh_database().await;
        tokio::task::spawn_blocking(move || Self::start_on(admin)).await.unwrap()
    }

    fn start_on(admin: String) -> Self {
        let mails = TempDir::new().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .args([
                "demo",
                "--keep",
                "--speed",
                "0",
                "--set",
                "model.name=logistic-tfidf",
                "--output",
            ])
            .arg(mails.path())
            .current_dir(root(""))
            .env("DATABASE_URL", &admin)
            .env_remove("MONITOR_KAFKA__BROKERS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (mut said, mut database) = (String::new(), None);
        let page = loop {
            let Some(line) = lines.next() else { panic!("the demo ended: {said}") };
            let line = line.unwrap();
            if let Some(page) = line.strip_prefix("Still up, until Ctrl-C: ") {
                break page.trim_end_matches('/').to_owned();
            }
            if let Some((_, name)) = line.split_once("psql to database ") {
                database = Some(name.trim().to_owned());
            }
            said += &(line + "\n");
        };
        let database = database.unwrap_or_else(|| panic!("no database in: {said}"));
        Self { process, _said: lines, _mails: mails, admin, database, page }
    }

    /// The address of its database.
    pub fn url(&self) -> String {
        with_database(&self.admin, &self.database).unwrap()
    }

    /// Ends the demo and drops its database.
    pub async fn end(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut admin = PgConnection::connect(&self.admin).await.unwrap();
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
