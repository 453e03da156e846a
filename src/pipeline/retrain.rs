//! Has models trained again when that is due, by a child process of low priority.
//!
//! **Invariant.** Only the leader does. What is due and what became of it is in Postgres: a retraining
//! that was interrupted, by a stop or a crash, is continued by the next leader. Deliberately absent:
//! training and promoting, which `monitor retrain --scheduled` does; and people, who are not notified.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::counter;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::retraining::{Next, next};
use monitor_config::{self as config, Schedule};
use monitor_core::clock::Clock;
use monitor_store::{RetrainOutcome, Retraining, Store, StoreError};
use monitor_telemetry as telemetry;

/// Folder of the logs and labels of retrainings in the folder of models.
pub const RETRAINING_FOLDER: &str = ".retraining";
/// What the child ends with if another retraining runs in the same folder of models.
pub const RETRAINING_BUSY: i32 = 75;
/// Time between two looks whether one is due.
const LOOK_WAIT: Duration = Duration::from_secs(60);
/// Time between two looks whether this daemon still leads, while a child runs.
const LEAD_WAIT: Duration = Duration::from_secs(20);
/// How long a child that was told to stop may take.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// A retraining that did not end after so many attempts has failed.
const ATTEMPTS_MAX: u32 = 3;
/// The latest retrainings that decide.
const KNOWN_MAX: u32 = 100;
/// Priority of the child, as `nice` has it: the lowest.
const NICE: &str = "19";

/// The program that trains, with the arguments that give it the daemon's settings.
#[derive(Debug, Clone)]
pub struct RetrainCommand {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

/// Starts retrainings.
pub struct Retrainer {
    store: Arc<dyn Store>,
    schedule: Option<Schedule>,
    on_drift: bool,
    drifted: watch::Receiver<Option<DateTime<Utc>>>,
    command: RetrainCommand,
    models: PathBuf,
    clock: Arc<dyn Clock>,
    since: DateTime<Utc>,
}

impl Retrainer {
    /// `drifted` has the end of the last whole day if it has drifted.
    pub fn new(
        store: Arc<dyn Store>,
        settings: &config::Settings,
        command: RetrainCommand,
        drifted: watch::Receiver<Option<DateTime<Utc>>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let since = clock.now();
        Self {
            store,
            schedule: settings.retrain.parsed_schedule(),
            on_drift: settings.retrain.on_drift,
            drifted,
            command,
            models: settings.model.directory.clone(),
            clock,
            since,
        }
    }

    /// Looks every minute, until `stop`; a child that runs then is stopped, too.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            match self.look(&stop).await {
                Ok(_) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot see whether a retraining is due; trying again");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_WAIT) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Runs the retraining that is due now, if any, and returns it as it is afterwards. Does nothing while
    /// another daemon leads.
    ///
    /// # Errors
    /// [`StoreError`]; what was begun is continued by a later call.
    pub async fn look(&self, stop: &CancellationToken) -> Result<Option<Retraining>, StoreError> {
        if !self.store.lead().await? {
            return Ok(None);
        }
        let now = self.clock.now();
        let known = self.store.retrainings(KNOWN_MAX).await?;
        let drifted = (*self.drifted.borrow()).filter(|_| self.on_drift);
        let due = match next(&known, self.schedule.as_ref(), drifted, self.since, now) {
            Next::Resume(open) => Some(open),
            Next::Begin(reason, due) => self.store.begin_retraining(reason, due, now).await?,
            Next::Nothing => None,
        };
        let Some(mut due) = due else { return Ok(None) };
        if due.attempts >= ATTEMPTS_MAX {
            due.ended = Some((RetrainOutcome::Failed, now));
            due.note =
                format!("it did not end after {ATTEMPTS_MAX} attempts; {}", self.log_of(due.id));
            self.store.put_retraining(&due).await?;
            report(&due);
            return Ok(Some(due));
        }
        due.attempts += 1;
        self.store.put_retraining(&due).await?;
        tracing::info!(
            id = due.id,
            reason = due.reason.as_str(),
            attempt = due.attempts,
            "retraining"
        );
        let ended = self.train(due.id, stop).await;
        let known = self.store.retrainings(KNOWN_MAX).await?;
        let Some(mut found) = known.into_iter().find(|it| it.id == due.id) else { return Ok(None) };
        match ended {
            _ if found.ended.is_some() => report(&found),
            Ok(Some(status)) if status.code() != Some(RETRAINING_BUSY) => {
                let log = self.log_of(due.id);
                tracing::warn!(id = due.id, %status, log, "the retraining ended too early; trying again");
            }
            Ok(_) => {
                // Stopped on purpose, or another one runs: no attempt was lost.
                found.attempts = found.attempts.saturating_sub(1);
                self.store.put_retraining(&found).await?;
                tracing::info!(id = due.id, "the retraining is continued later");
            }
            Err(error) => {
                tracing::warn!(id = due.id, %error, "cannot start the retraining; trying again");
            }
        }
        Ok(Some(found))
    }

    /// Runs the child. `None` if it was told to stop, because this daemon stops or leads no longer.
    async fn train(&self, id: i64, stop: &CancellationToken) -> io::Result<Option<ExitStatus>> {
        let folder = self.folder_of(id);
        fs::create_dir_all(&folder)?;
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        let mut child = Command::new("nice")
            .args(["-n", NICE])
            .arg(&self.command.program)
            .args(&self.command.arguments)
            .args(["retrain", "--scheduled", "--retraining", &id.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        loop {
            tokio::select! {
                status = child.wait() => return status.map(Some),
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LEAD_WAIT) => {
                    if self.store.lead().await.is_ok_and(|leads| !leads) {
                        break;
                    }
                }
            }
        }
        end(&mut child).await?;
        Ok(None)
    }

    fn folder_of(&self, id: i64) -> PathBuf {
        self.models.join(RETRAINING_FOLDER).join(id.to_string())
    }

    fn log_of(&self, id: i64) -> String {
        format!("its log is {}", self.folder_of(id).join("log").display())
    }
}

/// Asks the child to stop, so that it keeps its progress, and kills it if it does not in time.
async fn end(child: &mut Child) -> io::Result<()> {
    if let Some(pid) = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill has no preconditions; the child was not waited for, so the id is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    match tokio::time::timeout(STOP_WAIT, child.wait()).await {
        Ok(status) => status.map(drop),
        Err(_) => child.kill().await,
    }
}

fn report(retraining: &Retraining) {
    let Some((outcome, _)) = retraining.ended else { return };
    counter!(telemetry::RETRAININGS, "outcome" => outcome.as_str()).increment(1);
    let Retraining { id, reason, model, note, .. } = retraining;
    let (reason, model) = (reason.as_str(), model.as_deref().unwrap_or("none"));
    match outcome {
        RetrainOutcome::Promoted => {
            tracing::info!(id, reason, model, note, "retrained and promoted")
        }
        RetrainOutcome::Kept => tracing::info!(id, reason, model, note, "retrained, not promoted"),
        RetrainOutcome::Failed => tracing::error!(id, reason, note, "the retraining failed"),
    }
}
