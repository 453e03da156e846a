//! The demo: a week of real tweets through the daemon, with everything it needs embedded.
//!
//! `resources.rs` creates the topic and the database and removes them, `webhooks.rs` receives
//! webhooks, `files.rs` writes what arrived.
//!
//! **Invariant.** Everything the demo created is removed when it ends, also after an error,
//! unless `keep` is set. It writes only to its own folder, topic and database. Deliberately
//! absent: printing; the caller prints each [`DemoEvent`].

mod files;
mod resources;
mod webhooks;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use monitor_config::{Brand, Email, Endpoint, Receiver, Settings, SmtpTls, Webhook};
use monitor_core::Secret;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Incident, StreamFormat};
use monitor_embedded::{MailServer, MockBroker};
use monitor_store::{PostgresStore, Store, Totals};
use monitor_train::data::TweetFile;

use self::resources::{Database, PARTITIONS, Resources, SERVER_MAX, create_topic};
use self::webhooks::WebhookReceiver;
use crate::pipeline::Daemon;
use crate::replay::{ReplayRequest, Sent, Times, replay};
use crate::settings;

/// The variable that names brokers to use instead of the embedded one.
const BROKERS: &str = "MONITOR_KAFKA__BROKERS";
/// Secret of the demo's own webhook receiver.
const WEBHOOK_SECRET: &str = "whsec_YSBzZWNyZXQgdGhhdCBvbmx5IHRoZSBkZW1vIGtub3dz";
/// The tweets of the airlines.
const WEEK: &str = "tests/fixtures/airline-week.csv.xz";
/// Longest wait for the daemon to catch up once all tweets are sent.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// Longest wait for the daemon to stop.
pub const STOP_MAX: Duration = Duration::from_secs(60);

/// Why the demo failed. The caller only prints it, so it has no kinds.
pub type DemoError = Box<dyn Error + Send + Sync>;

/// What to replay, and what to leave behind.
#[derive(Debug, Clone)]
pub struct DemoRequest {
    /// How many times faster than the tweets were written.
    pub speed: f64,
    /// The file of tweets, which are about the brands of the settings; without one, the week of the airlines.
    pub tweets: Option<PathBuf>,
    /// Folder for the mails: new, empty, or of an earlier demo.
    pub output: PathBuf,
    /// Whether Postgres and the page stay up until `stop`, and the data after that.
    pub keep: bool,
}

impl DemoRequest {
    fn file(&self) -> &Path {
        self.tweets.as_deref().unwrap_or(Path::new(WEEK))
    }
}

/// What happens during a demo, for printing.
#[derive(Debug)]
pub enum DemoEvent<'a> {
    /// A service is ready.
    Ready {
        /// The service.
        name: &'static str,
        /// Where it is, in words.
        place: &'a str,
    },
    /// The replay starts.
    ReplayStarts,
    /// A mail arrived.
    Mail {
        /// Its subject.
        subject: &'a str,
    },
    /// How far the replay and the daemon are; twice a second.
    Progress {
        /// The replay's progress.
        sent: &'a Sent,
        /// What the store holds.
        totals: &'a Totals,
        /// Mails that arrived so far.
        mails: usize,
    },
    /// The daemon has scored every tweet and sent every notification.
    CaughtUp {
        /// The replay's progress.
        sent: &'a Sent,
        /// What the store holds.
        totals: &'a Totals,
        /// Since the start of the demo.
        elapsed: Duration,
        /// All incidents, oldest first.
        incidents: &'a [Incident],
        /// Whether any tweet names its author.
        has_authors: bool,
    },
    /// The mails and webhooks are written.
    Saved {
        /// The folder.
        folder: &'a Path,
        /// For each mail its HTML file and its subject.
        mails: &'a [(PathBuf, String)],
        /// Number of webhooks.
        webhooks: usize,
    },
    /// `keep` is set: page and database stay up until `stop`.
    StillUp {
        /// The page's address.
        page: &'a str,
        /// How to open the database.
        database: &'a str,
    },
    /// `keep` is not set: the demo ends.
    Ends,
    /// The embedded Postgres is stopped, and its folder stays.
    FolderKept(&'a Path),
    /// Something could not be removed.
    CleanUpFailed {
        /// What stays.
        what: &'a str,
        /// The cause.
        error: DemoError,
    },
}

/// Receives the events of a demo.
pub type OnEvent<'a> = dyn FnMut(DemoEvent<'_>) + 'a;

/// An error with the operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
struct Failed {
    doing: String,
    source: DemoError,
}

/// Adds the operation to an error.
trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DemoError>;
}

impl<T, E: Into<DemoError>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DemoError> {
        self.map_err(|error| Failed { doing: what(), source: error.into() }.into())
    }
}

/// Runs the demo until the daemon has caught up or `stop` is cancelled, then cleans up.
///
/// # Errors
/// The output folder holds other files, a service does not start, the daemon stops or does not
/// catch up in time, `stop` is cancelled before that, or the database cannot be dropped.
pub async fn demo(
    request: &DemoRequest,
    mut settings: Settings,
    stop: &CancellationToken,
    on_event: &mut OnEvent<'_>,
) -> Result<(), DemoError> {
    let file = request.file();
    if !file.is_file() {
        let remedy = match request.tweets {
            Some(_) => "give its whole path",
            None => "start the demo with scripts/demo, or from the repository's folder",
        };
        return Err(format!("there is no file {}; {remedy}", file.display()).into());
    }
    if !TweetFile::open(file, None)?.is_json() {
        // A row of a CSV is sent as a flat record, whatever the stream's are.
        settings.kafka.format = StreamFormat::Auto;
    }
    files::prepare(&request.output)?;
    let mut resources = Resources::default();
    let played = play(request, settings, &mut resources, stop, on_event).await;
    let removed = resources.remove(request.keep, on_event).await;
    match (played, removed) {
        (Err(error), Err(clean_up)) => {
            on_event(DemoEvent::CleanUpFailed { what: "could not clean up", error: clean_up });
            Err(error)
        }
        (played, removed) => played.and(removed),
    }
}

/// The demo without its clean-up; `resources` receives what must be removed.
async fn play(
    request: &DemoRequest,
    mut settings: Settings,
    resources: &mut Resources,
    stop: &CancellationToken,
    on_event: &mut OnEvent<'_>,
) -> Result<(), DemoError> {
    let clock = Arc::new(SystemClock::new());
    let mut ready = |name, place: &str| on_event(DemoEvent::Ready { name, place });
    settings.kafka.topic = format!("monitor-demo-{}", std::process::id());
    // A consumer group under its usual name may belong to a real daemon on the same brokers.
    settings.kafka.group.clone_from(&settings.kafka.topic);
    let kafka = &mut settings.kafka;
    if std::env::var_os(BROKERS).is_some() {
        create_topic(kafka).await?;
        resources.topic = Some(kafka.clone());
        ready("Kafka", &format!("{} (yours), topic {}", kafka.brokers, kafka.topic));
    } else {
        let broker = MockBroker::start(&kafka.topic, PARTITIONS.unsigned_abs())?;
        kafka.brokers = broker.brokers().to_owned();
        ready("Kafka", &format!("{}, librdkafka's in-process cluster", broker.brokers()));
        resources.broker = Some(broker);
    }
    let database = resources.database.insert(Database::create().await?);
    settings.store.url.clone_from(&database.url);
    ready("Postgres", &database.psql);
    let mail = MailServer::start()?;
    ready("Mail", &format!("SMTP on {}", mail.address()));
    let webhooks = WebhookReceiver::start().await?;
    ready("Webhook", &webhooks.url);

    if request.tweets.is_none() {
        settings.brands = airlines();
    }
    settings.receivers = receivers(&mail, &webhooks);
    settings.alerting.tick_ms = settings.alerting.tick_ms.min(200);
    settings.delivery.poll_ms = settings.delivery.poll_ms.min(200);
    let listener = match TcpListener::bind(&settings.http.listen).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind("127.0.0.1:0").await?,
    };
    let page = format!("http://{}/", listener.local_addr()?);
    settings.http.public_url = Some(page.clone());
    ready("Page", &page);
    settings.validate(settings::OWNERS)?;

    let store = PostgresStore::connect(&settings.store)?;
    let stop_daemon = CancellationToken::new();
    let daemon = Daemon::new(settings.clone(), clock.clone());
    let mut daemon = tokio::spawn(daemon.run(listener, stop_daemon.clone()));

    // Not `stop` itself: a Ctrl-C during the clean-up would then count as the second.
    let stop_replay = stop.child_token();
    let outcome: Result<(), DemoError> = tokio::select! {
        reported = async {
            let sent =
                follow(request, &settings, &store, &mail, &*clock, &stop_replay, on_event).await?;
            report(request, &store, &mail, &webhooks, &sent, &*clock, on_event).await
        } => reported,
        () = stop.cancelled() => Err("interrupted".into()),
        ended = &mut daemon => Err(match ended {
            Ok(Ok(())) => "the daemon stopped by itself".into(),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        }),
    };
    if outcome.is_ok() && request.keep {
        on_event(DemoEvent::StillUp { page: &page, database: &database.psql });
        stop.cancelled().await;
    } else if outcome.is_ok() {
        on_event(DemoEvent::Ends);
    }
    stop_replay.cancel();
    stop_daemon.cancel();
    let stopped: Result<(), DemoError> = if daemon.is_finished() {
        Ok(())
    } else {
        match timeout(STOP_MAX, daemon).await {
            Ok(Ok(ended)) => ended.map_err(Into::into),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(format!("the daemon did not stop in {} s", STOP_MAX.as_secs()).into()),
        }
    };
    let _ = timeout(SERVER_MAX, store.pool().close()).await;
    outcome.and(stopped)
}

/// The six airlines of the data, by the handles people write to. (The "Delta"
/// column of the data holds tweets to @JetBlue.)
fn airlines() -> BTreeMap<String, Brand> {
    [
        ("American", "AmericanAir"),
        ("JetBlue", "JetBlue"),
        ("Southwest", "SouthwestAir"),
        ("US Airways", "USAirways"),
        ("United", "united"),
        ("Virgin America", "VirginAmerica"),
    ]
    .into_iter()
    .map(|(name, handle)| {
        (name.to_owned(), Brand { handles: vec![handle.to_owned()], ..Brand::default() })
    })
    .collect()
}

fn receivers(mail: &MailServer, webhooks: &WebhookReceiver) -> BTreeMap<String, Receiver> {
    let email = Email {
        host: mail.address().ip().to_string(),
        port: mail.address().port(),
        tls: SmtpTls::None,
        username: None,
        password: None,
        password_file: None,
        ca_file: None,
        from: "Monitor <monitor@airparadis.example>".into(),
        to: vec!["Communications <comms@airparadis.example>".into()],
    };
    let webhook = Webhook {
        endpoint: Endpoint {
            url: Some(Secret::new(webhooks.url.clone())),
            url_file: None,
            allow_private: true,
            ca_file: None,
        },
        secret: Some(Secret::new(WEBHOOK_SECRET)),
        secret_file: None,
        previous_secret: None,
        previous_secret_file: None,
    };
    BTreeMap::from([
        ("comms".to_owned(), Receiver::Email(email)),
        ("desk".to_owned(), Receiver::Webhook(webhook)),
    ])
}

/// Replays the tweets and reports the daemon's progress, until it has caught up.
async fn follow(
    request: &DemoRequest,
    settings: &Settings,
    store: &PostgresStore,
    mail: &MailServer,
    clock: &dyn Clock,
    stop: &CancellationToken,
    on_event: &mut OnEvent<'_>,
) -> Result<Sent, DemoError> {
    let latest = Arc::new(Mutex::new(Sent::default()));
    let sending = {
        let (latest, stop, kafka) = (latest.clone(), stop.clone(), settings.kafka.clone());
        let request = ReplayRequest {
            file: request.file().to_owned(),
            speed: request.speed,
            times: Times::Keep,
            limit: None,
        };
        tokio::task::spawn_blocking(move || {
            replay(&request, &kafka, &stop, &mut |sent| {
                *latest.lock().expect("no holder of this lock panics") = *sent;
            })
        })
    };
    on_event(DemoEvent::ReplayStarts);
    let mut sending = Some(sending);
    let mut sent_all: Option<(Sent, Duration)> = None;
    let mut mails = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if sending.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            && let Some(task) = sending.take()
        {
            sent_all = Some((task.await??, clock.elapsed()));
        }
        let sent = match &sent_all {
            Some((sent, _)) => *sent,
            None => *latest.lock().expect("no holder of this lock panics"),
        };
        if let Some((_, since)) = &sent_all
            && clock.elapsed().saturating_sub(*since) >= SETTLE_MAX
        {
            return Err(format!(
                "the daemon has not caught up {} s after the last tweet; run again with --set log.filter=info to see why",
                SETTLE_MAX.as_secs()
            )
            .into());
        }
        // The daemon creates the schema; until then there is nothing to count.
        let Ok(totals) = store.totals().await else { continue };
        for mail in mail.mails().iter().skip(mails) {
            on_event(DemoEvent::Mail { subject: &files::subject(mail) });
            mails += 1;
        }
        on_event(DemoEvent::Progress { sent: &sent, totals: &totals, mails });
        if let Some((sent, _)) = &sent_all
            && settled(request, settings, store, sent).await?
        {
            return Ok(*sent);
        }
    }
}

/// Whether every record is stored, every closed minute evaluated, every notification sent.
async fn settled(
    request: &DemoRequest,
    settings: &Settings,
    store: &PostgresStore,
    sent: &Sent,
) -> Result<bool, DemoError> {
    let progress = store.progress(&settings.kafka.topic).await?;
    let read: i64 = progress.iter().map(|p| p.position.0).sum();
    if read.unsigned_abs() < sent.sent || progress.iter().any(|p| !p.at_end) {
        return Ok(false);
    }
    let (brands, evaluated): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT count(*), CASE WHEN count(*) = count(judged) THEN min(judged) END
         FROM (SELECT DISTINCT brand FROM minute_counts) AS seen
         LEFT JOIN watches ON watches.brand = seen.brand AND cause = 'buzz'",
    )
    .fetch_one(store.pool())
    .await?;
    if let (0, Some(file)) = (brands, &request.tweets) {
        let totals = store.totals().await?;
        if totals.scores + totals.not_judged == 0 {
            let file = file.display();
            return Err(format!(
                "no record of {file} is a tweet (kafka.format = {:?}): monitor replay --check {file} says why",
                settings.kafka.format.as_str()
            )
            .into());
        }
        return Err(format!(
            "none of the tweets of {} is about a brand of the settings, in a language that the model knows: \
             correct [brands] in the settings file (-c)",
            file.display()
        )
        .into());
    }
    let closed = progress.iter().filter_map(|p| p.event_time_max).max().map(|at| {
        at - TimeDelta::seconds(settings.alerting.lateness_s.cast_signed()) - TimeDelta::minutes(2)
    });
    Ok(evaluated >= closed && store.totals().await?.outbox_pending == 0)
}

/// Reports the incidents, and writes the mails and webhooks.
async fn report(
    request: &DemoRequest,
    store: &PostgresStore,
    mail: &MailServer,
    webhooks: &WebhookReceiver,
    sent: &Sent,
    clock: &dyn Clock,
    on_event: &mut OnEvent<'_>,
) -> Result<(), DemoError> {
    let totals = store.totals().await?;
    let elapsed = clock.elapsed();
    let mut incidents = store.incidents(100).await?;
    incidents.reverse();
    let has_authors = "SELECT EXISTS (SELECT FROM scores WHERE author IS NOT NULL)";
    let has_authors = sqlx::query_scalar(has_authors).fetch_one(store.pool()).await?;
    let incidents = &incidents;
    on_event(DemoEvent::CaughtUp { sent, totals: &totals, elapsed, incidents, has_authors });
    let bodies = webhooks.bodies();
    let mails = files::save(&request.output, &mail.mails(), &bodies)?;
    on_event(DemoEvent::Saved { folder: &request.output, mails: &mails, webhooks: bodies.len() });
    Ok(())
}
