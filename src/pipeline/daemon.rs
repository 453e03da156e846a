//! The daemon: starts all parts in order, monitors them, and stops them from source to sink.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::digest::Weekly;
use super::drift::DriftWatch;
use super::error::PipelineError;
use super::evaluator::Evaluator;
use super::models::{self, FollowSettings, ModelsError};
use super::positions::StoredPositions;
use super::recorded;
use super::retrain::{RetrainCommand, Retrainer};
use super::serving;
use super::stages::{Pipeline, Settings};
use super::upkeep;
use monitor_config as config;
use monitor_core::alerting::{Counting, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::Clock;
use monitor_core::text::{BrandError, BrandMatcher, BrandRule};
use monitor_ingest::{KafkaSource, SourceError, WireLimits};
use monitor_notify::heartbeat::Heartbeat;
use monitor_notify::{Dispatcher, Linker, NotifyError};
use monitor_serve as serve;
use monitor_store::{Bounded, Keep, PostgresStore, Store, StoreError, Switches};
use monitor_telemetry::{self as telemetry, Readiness};

/// How long storing the rows in flight may take after SIGTERM.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// How much longer than `store.statement_timeout_ms` to wait for Postgres: it cancels a slow
/// statement itself, unless it is down.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// Why the daemon could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A model cannot be opened.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// The store's settings or schema are invalid.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The terms of a brand are invalid.
    #[error(transparent)]
    Brands(#[from] BrandError),
    /// A receiver's settings are invalid.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The Kafka source could not start.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The pipeline stopped.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

/// Everything `monitor run` runs.
pub struct Daemon {
    settings: config::Settings,
    clock: Arc<dyn Clock>,
    commit: Option<&'static str>,
    retrain: Option<RetrainCommand>,
}

impl Daemon {
    /// A daemon with validated settings.
    pub fn new(settings: config::Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock, commit: None, retrain: None }
    }

    /// Names the commit that the program was built from, in `/info` and `monitor_build_info`.
    #[must_use]
    pub fn built_from(self, commit: Option<&'static str>) -> Self {
        Self { commit, ..self }
    }

    /// Trains again as `[retrain]` of the settings says, with this program.
    #[must_use]
    pub fn retraining_with(self, command: RetrainCommand) -> Self {
        Self { retrain: Some(command).filter(|_| self.settings.retrain.is_on()), ..self }
    }

    /// Runs until `shutdown`; serves HTTP on `listener` from the start. Waits for brokers,
    /// Postgres and receivers that are not available; `/readyz` shows which.
    ///
    /// # Errors
    /// [`DaemonError`] for problems that waiting does not solve. Nothing is lost: the next run
    /// resumes at the stored position.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), DaemonError> {
        let Self { settings, clock, commit, retrain } = self;
        telemetry::init_metrics().build(env!("CARGO_PKG_VERSION"), commit);
        let readiness = Arc::new(Readiness::default());
        readiness.set("model", Err("is being loaded".into()));
        let postgres =
            PostgresStore::connect(&settings.store)?.ignoring(&settings.alerting.ignore_authors);
        let limit = Duration::from_millis(settings.store.statement_timeout_ms) + ANSWER_GRACE;
        let store: Arc<dyn Store> = Arc::new(Bounded::new(postgres.clone(), limit));
        let linker = Linker::new(&settings)?;
        let dispatcher = Dispatcher::new(
            store.clone(),
            &settings.receivers,
            settings.delivery,
            linker.as_ref(),
            clock.clone(),
        )?;

        let heartbeat = Heartbeat::new(&settings.heartbeat)?;
        let brands = BrandMatcher::new(brand_rules(&settings))?;

        // The HTTP server stops after the other parts, so that it shows how they stop.
        let stop_server = CancellationToken::new();
        let models = serving::Models::new(&settings.model);
        let server = tokio::spawn(serve::serve(
            listener,
            serving::context(
                &settings,
                store.clone(),
                readiness.clone(),
                clock.clone(),
                &models,
                linker.map(|linker| linker.key()),
                commit,
            ),
            stop_server.clone(),
        ));
        let server_guard = stop_server.drop_guard();

        let loaded = tokio::select! {
            loaded = models::load_all(&settings.model) => loaded??,
            () = shutdown.cancelled() => return Ok(()),
        };
        let opened = loaded.main_id();
        let lineup = watch::Sender::new(loaded);
        let explaining = lineup.subscribe();
        models.open(&lineup);
        readiness.set("model", Ok(()));
        let _heartbeat = heartbeat.map(|heartbeat| {
            let beat = heartbeat.run(readiness.clone(), shutdown.child_token());
            AbortOnDropHandle::new(tokio::spawn(beat))
        });

        let retry_wait_max = Duration::from_millis(settings.store.retry_wait_ms_max);
        tokio::select! {
            migrated = migrate(&postgres, &opened, retry_wait_max) => {
                // Before the first batch: another model than that of the settings may be in force.
                let switches = migrated?;
                lineup.send_modify(|lineup| lineup.set_switches(switches));
            }
            () = shutdown.cancelled() => return Ok(()),
        }
        let follow = FollowSettings {
            model: settings.model.clone(),
            every: Duration::from_secs(settings.model.reload_s),
            topic: settings.kafka.topic.clone(),
            lateness: lateness(&settings),
            rows_per_s_max: settings.promotion.rows_per_s_max,
        };
        let follow = models::follow(follow, store.clone(), lineup.clone(), readiness.clone());
        let _follow = AbortOnDropHandle::new(tokio::spawn(follow));
        let record = recorded::record(store.clone(), settings.model.clone(), lineup.subscribe());
        let _record = AbortOnDropHandle::new(tokio::spawn(record));
        let weekly = Weekly::new(postgres.clone(), &settings, clock.clone());
        let _weekly = weekly.map(|weekly| AbortOnDropHandle::new(tokio::spawn(weekly.run())));
        let tidy = upkeep::tidy(postgres, Keep::from(&settings.store), clock.clone());
        let _tidy = AbortOnDropHandle::new(tokio::spawn(tidy));
        let drift = DriftWatch::new(store.clone(), lineup.subscribe(), &settings, clock.clone());
        let drifted = drift.drifted();
        let _drift = AbortOnDropHandle::new(tokio::spawn(drift.run()));
        let stop_retrainer = shutdown.child_token();
        let retrainer = retrain.map(|command| {
            let (store, clock) = (store.clone(), clock.clone());
            let retrainer = Retrainer::new(store, &settings, command, drifted, clock);
            tokio::spawn(retrainer.run(stop_retrainer.clone()))
        });
        let start_at = settings.kafka.start_at;
        let positions = Arc::new(StoredPositions::new(store.clone(), start_at));
        let source =
            KafkaSource::start(&settings.kafka, positions, readiness.clone(), clock.clone())?;
        let pipeline = Pipeline::new(
            Settings {
                batching: BatchPolicy {
                    rows_max: settings.batching.rows_max,
                    wait_max: Duration::from_millis(settings.batching.wait_ms_max),
                },
                limits: WireLimits::of(&settings.kafka),
                counting: counting(&settings.alerting, None),
                count_deleted: settings.store.count_deleted,
                retry_wait_max,
                drain_max: DRAIN_MAX,
            },
            store.clone(),
            lineup,
            brands,
            clock.clone(),
        )
        .reporting(readiness.clone());

        // Later parts stop after earlier ones: the last stored minutes are evaluated, and the
        // resulting notifications are sent if their receivers are available.
        let stop_evaluator = CancellationToken::new();
        let stop_dispatcher = CancellationToken::new();
        let evaluator = Evaluator::new(store, &settings, clock).explaining(explaining);
        let mut evaluator = tokio::spawn(evaluator.run(readiness.clone(), stop_evaluator.clone()));
        let mut dispatcher = tokio::spawn(dispatcher.run(stop_dispatcher.clone()));
        let stop_pipeline = shutdown.child_token();
        let pipeline = pipeline.run(source, stop_pipeline.clone().cancelled_owned());
        tokio::pin!(pipeline);
        // The evaluator and the dispatcher end only on request, or when they panic.
        let ended = tokio::select! {
            outcome = &mut pipeline => Ok(outcome),
            _ = &mut evaluator => Err("evaluating"),
            _ = &mut dispatcher => Err("sending notifications"),
        };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(part) => {
                stop_pipeline.cancel();
                if let Err(error) = pipeline.await {
                    tracing::warn!(%error, "the pipeline failed while stopping");
                }
                Err(PipelineError::Stage(part.into()))
            }
        };
        tracing::info!("stopping: rows in flight are stored now or read again by the next run");
        let retrainer = retrainer.map(|task| (stop_retrainer, task));
        let parts = [(stop_evaluator, evaluator), (stop_dispatcher, dispatcher)];
        for (token, task) in parts.into_iter().chain(retrainer) {
            token.cancel();
            if !task.is_finished() && tokio::time::timeout(DRAIN_MAX, task).await.is_err() {
                tracing::warn!("a part of the daemon did not stop in time");
            }
        }
        drop(server_guard);
        let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
        Ok(outcome?)
    }
}

/// How long tweets of a minute are waited for.
pub(super) fn lateness(settings: &config::Settings) -> TimeDelta {
    let seconds = settings.alerting.lateness_s;
    TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::MAX / 1000))
}

/// Waits for Postgres, then migrates the schema, and records the first model of the stream.
async fn migrate(
    store: &PostgresStore,
    model: &str,
    retry_wait_max: Duration,
) -> Result<Switches, StoreError> {
    let mut wait = Duration::from_millis(100);
    loop {
        let ready = async {
            store.migrate().await?;
            store.begin_with(model).await
        };
        match ready.await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, retry_ms = wait.as_millis(), "waiting for Postgres");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(retry_wait_max);
            }
            outcome => return outcome,
        }
    }
}

/// What is counted, from the settings; `voice` counts instead of that of the settings.
pub fn counting(settings: &config::Alerting, voice: Option<Voice>) -> Counting {
    Counting::new(voice.unwrap_or(settings.count), &settings.ignore_authors)
}

/// The rules that match tweets to brands, from the settings.
pub fn brand_rules(settings: &config::Settings) -> Vec<BrandRule> {
    settings
        .brands
        .iter()
        .map(|(name, brand)| BrandRule {
            name: name.clone(),
            keywords: brand.keywords.clone(),
            handles: brand.handles.clone(),
            hashtags: brand.hashtags.clone(),
            rule_tags: brand.rule_tags.clone(),
            plurals: brand.plurals,
        })
        .collect()
}
