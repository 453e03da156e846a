mod made;

use crate::settings::{self, log_format};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use axum::body::Bytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mail_parser::MimeHeaders;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::made::{Database, Made, PARTITIONS, SERVER_MAX, create_topic};
use crate::pipeline::Daemon;
use crate::replay::{ReplayRequest, Sent, Times, replay};
use monitor_config::{Brand, Email, Endpoint, Receiver, Settings, SmtpTls, Webhook};
use monitor_core::Secret;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Incident;
use monitor_embedded::{Mail, MailServer, MockBroker};
use monitor_store::{PostgresStore, Store};
use monitor_telemetry as telemetry;

/// The variable that names brokers to use instead of the embedded one.
const BROKERS: &str = "MONITOR_KAFKA__BROKERS";
/// Secret of the demo's own webhook receiver.
const WEBHOOK_SECRET: &str = "whsec_YSBzZWNyZXQgdGhhdCBvbmx5IHRoZSBkZW1vIGtub3dz";
/// Tells a folder of the demo's from someone else's.
const MARKER: &str = ".monitor-demo";
/// Longest wait for the daemon to catch up once all tweets are sent.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// Longest wait for the daemon to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Run everything embedded on a week of real airline tweets
///
/// Starts a broker (librdkafka's in-process cluster), Postgres, a mail server and a webhook
/// receiver, runs the daemon on them, and replays 14,640 tweets that people wrote to six US
/// airlines from 17 to 24 February 2015, some thousand times as fast as they were written.
/// Shows progress, then the alerts that fired and the mails as files to open.
///
/// MONITOR_KAFKA__BROKERS and DATABASE_URL name a broker and a Postgres to use instead; the
/// demo makes a topic and a database of its own there, and removes them at its end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many times faster than the tweets were written
    #[arg(long, default_value_t = 8000.0, value_name = "FACTOR")]
    speed: f64,

    /// The tweets
    #[arg(long, default_value = "tests/fixtures/airline-week.csv.xz", value_name = "FILE")]
    tweets: PathBuf,

    /// Folder for the mails
    #[arg(long, default_value = "target/demo", value_name = "DIR")]
    output: PathBuf,

    /// When all is done, keep Postgres and the page up until Ctrl-C, and the database's
    /// folder (or, where they were given, database and topic) after that
    #[arg(long)]
    keep: bool,
}

pub fn run(args: Args, overrides: Vec<(String, String)>) -> anyhow::Result<()> {
    let mut settings = settings::load(None, &overrides)?;
    if !overrides.iter().any(|(key, _)| key == "log.filter") {
        settings.log.filter = "error".into();
    }
    telemetry::init_logging(&settings.log.filter, log_format(settings.log.format))
        .context("log.filter")?;
    ensure!(
        args.tweets.is_file(),
        "there is no file {}; start the demo by scripts/demo, or from the repository's folder",
        args.tweets.display()
    );
    prepare(&args.output)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(demo(args, settings));
    runtime.shutdown_timeout(STOP_MAX);
    outcome
}

async fn demo(args: Args, settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    super::signals::stop_on_signals(stop.clone())?;
    let mut made = Made::default();
    let played = play(&args, settings, &mut made, &stop).await;
    let unmade = made.unmake(args.keep).await;
    if let (Err(_), Err(error)) = (&played, &unmade) {
        eprintln!("could not clean up: {}", super::one_line(error));
    }
    played.and(unmade)
}

/// The demo itself; `made` tells what is to be cleaned up after it, however it ends.
async fn play(
    args: &Args,
    mut settings: Settings,
    made: &mut Made,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let clock = Arc::new(SystemClock::new());
    println!(
        "A week of tweets to six US airlines (17 to 24 February 2015), {} times as fast.\n",
        args.speed
    );

    settings.kafka.topic = format!("monitor-demo-{}", std::process::id());
    // On brokers that are not ours, a group of another name may be a real daemon's.
    settings.kafka.group.clone_from(&settings.kafka.topic);
    let kafka = &mut settings.kafka;
    if std::env::var_os(BROKERS).is_some() {
        create_topic(kafka).await?;
        made.topic = Some(kafka.clone());
        row("Kafka", &format!("{} (yours), topic {}", kafka.brokers, kafka.topic));
    } else {
        let broker = MockBroker::start(&kafka.topic, PARTITIONS.unsigned_abs())?;
        kafka.brokers = broker.brokers().to_owned();
        row("Kafka", &format!("{}, librdkafka's in-process cluster", broker.brokers()));
        made.broker = Some(broker);
    }
    let database = made.database.insert(Database::make().await?);
    settings.store.url.clone_from(&database.url);
    row("Postgres", &database.psql);
    let mail = MailServer::start()?;
    row("Mail", &format!("SMTP on {}", mail.address()));
    let hooks = Hooks::start().await?;
    row("Webhook", &hooks.url);

    settings.brands = airlines();
    settings.receivers = receivers(&mail, &hooks);
    settings.alerting.tick_ms = settings.alerting.tick_ms.min(200);
    settings.delivery.poll_ms = settings.delivery.poll_ms.min(200);
    let listener = match TcpListener::bind(&settings.http.listen).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind("127.0.0.1:0").await?,
    };
    let page = format!("http://{}/", listener.local_addr()?);
    settings.http.public_url = Some(page.clone());
    row("Page", &page);
    settings.validate(settings::OWNERS)?;

    let store = PostgresStore::connect(&settings.store)?;
    let stop_daemon = CancellationToken::new();
    let daemon = Daemon::new(settings.clone(), clock.clone());
    let mut daemon = tokio::spawn(daemon.run(listener, stop_daemon.clone()));

    // Not `stop` itself: a Ctrl-C while cleaning up would then count as the second.
    let stop_replay = stop.child_token();
    let outcome = tokio::select! {
        reported = async {
            let sent = watch(args, &settings, &store, &mail, &*clock, &stop_replay).await?;
            report(args, &store, &mail, &hooks, &sent, &*clock).await
        } => reported,
        () = stop.cancelled() => Err(anyhow!("interrupted")),
        ended = &mut daemon => Err(match ended {
            Ok(Ok(())) => anyhow!("the daemon stopped by itself"),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        }),
    };
    if outcome.is_ok() && args.keep {
        println!("\nStill up, until Ctrl-C: {page}\n  {}", database.psql);
        stop.cancelled().await;
    } else if outcome.is_ok() {
        println!("To look around in the database and at the page: scripts/demo --keep");
    }
    stop_replay.cancel();
    stop_daemon.cancel();
    let stopped = if daemon.is_finished() {
        Ok(())
    } else {
        match timeout(STOP_MAX, daemon).await {
            Ok(Ok(ended)) => ended.map_err(Into::into),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow!("the daemon did not stop in {} s", STOP_MAX.as_secs())),
        }
    };
    let _ = timeout(SERVER_MAX, store.pool().close()).await;
    outcome.and(stopped)
}

fn row(name: &str, what: &str) {
    println!("  {name:<9} {what}");
}

/// The six airlines of the data, by the handles people write to. (The data's "Delta"
/// column holds tweets to @JetBlue.)
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

fn receivers(mail: &MailServer, hooks: &Hooks) -> BTreeMap<String, Receiver> {
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
            url: Some(Secret::new(hooks.url.clone())),
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

/// Replays the tweets and shows how the daemon follows, until it has caught up.
async fn watch(
    args: &Args,
    settings: &Settings,
    store: &PostgresStore,
    mail: &MailServer,
    clock: &dyn Clock,
    stop: &CancellationToken,
) -> anyhow::Result<Sent> {
    let latest = Arc::new(Mutex::new(Sent::default()));
    let sending = {
        let (latest, stop, kafka) = (latest.clone(), stop.clone(), settings.kafka.clone());
        let replayed = ReplayRequest {
            file: args.tweets.clone(),
            speed: args.speed,
            times: Times::Keep,
            limit: None,
        };
        tokio::task::spawn_blocking(move || {
            replay(&replayed, &kafka, &stop, &mut |sent| {
                *latest.lock().expect("no holder of this lock panics") = *sent;
            })
        })
    };
    println!();
    let mut sending = Some(sending);
    let mut sent_all: Option<(Sent, Duration)> = None;
    let mut shown = 0;
    let mut line = ProgressLine::new();
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
        if let Some((_, since)) = &sent_all {
            ensure!(
                clock.elapsed().saturating_sub(*since) < SETTLE_MAX,
                "the daemon has not caught up {} s after the last tweet; run again with --set log.filter=info to see why",
                SETTLE_MAX.as_secs()
            );
        }
        // The daemon brings the schema; until then there is nothing to count.
        let Ok(totals) = store.totals().await else { continue };
        for mail in mail.mails().iter().skip(shown) {
            line.clear();
            println!("  mail: {}", subject(mail));
            shown += 1;
        }
        let at = sent.at.map_or(String::new(), |at| at.format("%a %d %b %H:%M").to_string());
        line.show(&format!(
            "  {at}  {} tweets sent, {} distinct stored, {} mails",
            sent.sent, totals.scores, shown
        ));
        if let Some((sent, _)) = &sent_all
            && settled(settings, store, sent).await?
        {
            line.clear();
            return Ok(*sent);
        }
    }
}

/// Whether every record is stored, every closed minute judged, every notification sent.
async fn settled(settings: &Settings, store: &PostgresStore, sent: &Sent) -> anyhow::Result<bool> {
    let progress = store.progress(&settings.kafka.topic).await?;
    let read: i64 = progress.iter().map(|p| p.position.0).sum();
    if read.unsigned_abs() < sent.sent || progress.iter().any(|p| !p.at_end) {
        return Ok(false);
    }
    let judged: Option<Option<chrono::DateTime<chrono::Utc>>> = sqlx::query_scalar(
        "SELECT min(judged) FROM watches WHERE cause = 'share' HAVING count(*) = $1",
    )
    .bind(i64::try_from(settings.brands.len())?)
    .fetch_optional(store.pool())
    .await?;
    let closed = progress.iter().filter_map(|p| p.event_time_max).max().map(|at| {
        at - chrono::TimeDelta::seconds(settings.alerting.lateness_s.cast_signed())
            - chrono::TimeDelta::minutes(2)
    });
    Ok(judged.flatten() >= closed && store.totals().await?.outbox_pending == 0)
}

/// One line that is written over, or a line every few seconds where nobody watches.
struct ProgressLine {
    terminal: bool,
    calls: u32,
}

impl ProgressLine {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), calls: 0 }
    }

    fn show(&mut self, text: &str) {
        use std::io::Write;
        if self.terminal {
            print!("\r{text}\x1b[K");
            let _ = std::io::stdout().flush();
        } else if self.calls.is_multiple_of(20) {
            println!("{text}");
        }
        self.calls += 1;
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

async fn report(
    args: &Args,
    store: &PostgresStore,
    mail: &MailServer,
    hooks: &Hooks,
    sent: &Sent,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let totals = store.totals().await?;
    println!(
        "  {} tweets sent, {} distinct stored, {} dead letters, in {:.0} s\n",
        sent.sent,
        totals.scores,
        totals.dead_letters,
        clock.elapsed().as_secs_f64()
    );
    let mut incidents = store.incidents(100).await?;
    incidents.reverse();
    println!("Alerts: {}", incidents.len());
    println!(
        "  {:<18} {:<15} {:>9} {:>9} {:>11}  resolved",
        "opened (UTC)", "brand", "negative", "expected", "tweets"
    );
    for incident in &incidents {
        println!("  {}", alert_line(incident));
    }
    let files = save(&args.output, &mail.mails(), &hooks.bodies())?;
    println!("\nMails, as files to open:");
    for (file, subject) in files {
        println!("  {}  {subject}", file.display());
    }
    println!(
        "Webhooks: {} received, as {}",
        hooks.bodies().len(),
        args.output.join("webhook-*.json").display()
    );
    Ok(())
}

fn alert_line(incident: &Incident) -> String {
    let time = |minute: monitor_core::domain::Minute| minute.start().format("%a %d %b %H:%M");
    let until = incident.resolved.map_or("still open".to_owned(), |m| time(m).to_string());
    let what = match incident.evidence.share() {
        Some(e) => format!(
            "{:>7.0} % {:>7.0} % {:>4} of {:>4}",
            e.observed_share() * 100.0,
            e.expected_share * 100.0,
            e.observed.negative,
            e.observed.total
        ),
        None => format!("{:>32}", incident.cause().as_str()),
    };
    format!("{:<18} {:<15} {what}  {until}", time(incident.opened).to_string(), incident.brand)
}

/// Empties the folder for the mails, which must be new, empty, or an earlier demo's.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    let doing = || format!("cannot write to --output {}", folder.display());
    std::fs::create_dir_all(folder).with_context(doing)?;
    let marker = folder.join(MARKER);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(doing)? {
        files.push(entry.with_context(doing)?.path());
    }
    ensure!(
        files.is_empty() || marker.exists(),
        "--output {} holds files that are not the demo's; name a new or empty folder",
        folder.display()
    );
    for file in files {
        std::fs::remove_file(file).with_context(doing)?;
    }
    std::fs::write(marker, "What the demo wrote; the next one removes it.\n").with_context(doing)
}

/// Writes each mail as it arrived, and its HTML for a browser.
fn save(folder: &Path, mails: &[Mail], hooks: &[Bytes]) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let doing = || format!("cannot write to {}", folder.display());
    let mut files = Vec::new();
    for (number, mail) in mails.iter().enumerate() {
        let name = folder.join(format!("mail-{:02}", number + 1));
        std::fs::write(name.with_extension("eml"), &mail.raw).with_context(doing)?;
        let parsed = mail_parser::MessageParser::default().parse(&mail.raw);
        let parsed = parsed.context("a mail cannot be read")?;
        let mut html = parsed.body_html(0).context("a mail has no HTML part")?.into_owned();
        // A browser does not know the parts of a mail, so the picture moves into the page.
        for part in &parsed.parts {
            if let Some(id) = part.content_id() {
                let picture = BASE64_STANDARD.encode(part.contents());
                let data = format!("data:image/png;base64,{picture}");
                html = html.replace(&format!("cid:{id}"), &data);
            }
        }
        let html_file = name.with_extension("html");
        std::fs::write(&html_file, html.as_bytes()).with_context(doing)?;
        files.push((html_file, subject(mail)));
    }
    for (number, body) in hooks.iter().enumerate() {
        let name = folder.join(format!("webhook-{:02}.json", number + 1));
        std::fs::write(name, body).with_context(doing)?;
    }
    Ok(files)
}

fn subject(mail: &Mail) -> String {
    mail_parser::MessageParser::default()
        .parse_headers(&mail.raw)
        .and_then(|m| m.subject().map(str::to_owned))
        .unwrap_or_default()
}

/// A receiver of webhooks that keeps what it got.
struct Hooks {
    url: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Hooks {
    async fn start() -> anyhow::Result<Self> {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let keep = bodies.clone();
        let take = axum::routing::post(async move |body: Bytes| {
            keep.lock().expect("no holder of this lock panics").push(body);
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let app = axum::Router::new().route("/hook", take);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url, bodies })
    }

    fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().expect("no holder of this lock panics").clone()
    }
}
