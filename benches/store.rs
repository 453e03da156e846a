//! Does the store stay fast with months of tweets, and what does that cost when they are written?
//!
//! In one run, on one server: (1) the questions of docs/sql.md, the panels of grafana/, an alert's reasons, the totals and what
//! the page asks when it is opened, on a filled database, and the page in Chromium, if it is installed;
//! (2) writing batches, compared with the schema and the statements of the version before, and with COPY into a
//! table without an index; (3) the upgrade of a database of that version with as many tweets.
//!
//! `scripts/bench store [--tweets 1000000] [--days 90] [--brands 20] [--rounds 3] [--json FILE]`

#[path = "store/browser.rs"]
mod browser;
mod common;
#[path = "common/copy.rs"]
mod copy;
#[path = "../tests/it/grafana/expand.rs"]
mod expand;
#[path = "store/old.rs"]
mod old;
#[path = "store/page.rs"]
mod page;
#[path = "store/panels.rs"]
mod panels;

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use common::{Output, Report, spread};
use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Label, Minute, Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet,
    TweetId,
};
use monitor_embedded::{Postgres, PostgresOptions, with_database};
use monitor_store::{
    Advance, Batch, Claim, ModelScore, PostgresStore, ScoredTweet, Store, TweetQuery, draw,
};
use serde_json::json;
use sqlx::{Connection, PgConnection};

const FILL: &str = include_str!("common/fill.sql");
/// End of the stored tweets: a Friday.
const UNTIL: &str = "2026-11-27T12:00:00Z";
const BATCH_ROWS: usize = 500;
/// Tweets read for the reasons of an alert: src/pipeline/evaluator/report.rs.
const REASONS_TWEETS: u32 = 4000;
/// Tweets of one answer to the page: crates/serve/src/api/tweets.rs.
const PAGE_TWEETS: u32 = 200;
/// Until then a server has learned what is expected of the brands.
const LEARNED_AFTER: Duration = Duration::from_secs(20);
/// Tweets of a day that drift compares: `drift.tweets_per_day`.
const DRIFT_TWEETS: u32 = 1000;

/// Times questions, writing and the upgrade of the store
#[derive(Parser)]
struct Args {
    /// Stored tweets
    #[arg(long, default_value_t = 1_000_000)]
    tweets: u64,
    /// Days that they are spread over
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// Brands that they are about
    #[arg(long, default_value_t = 20)]
    brands: u32,
    /// Rounds of writing; the table has their median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tweets written in a round
    #[arg(long, default_value_t = 50_000)]
    rows: usize,
    /// How often each question is asked
    #[arg(long, default_value_t = 40)]
    times: usize,
    /// Ask the questions only
    #[arg(long)]
    questions_only: bool,
    /// Postgres waits for the disk; without it the server is as in the tests
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

struct Server {
    admin: String,
    clock: SystemClock,
}

impl Server {
    fn url(&self, name: &str) -> anyhow::Result<String> {
        with_database(&self.admin, name).context("the server has no valid URL")
    }

    async fn database(&self, name: &str) -> anyhow::Result<String> {
        let mut connection = PgConnection::connect(&self.admin).await?;
        let sql = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await?;
        self.url(name)
    }
}

fn store(url: &str) -> anyhow::Result<PostgresStore> {
    Ok(PostgresStore::connect(&config::Store { url: url.into(), ..config::Store::default() })?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = PostgresOptions { durable: args.durable, dir: None };
    let postgres = Postgres::start_with(&options)?;
    let server = Server { admin: postgres.url("postgres"), clock: SystemClock::new() };
    let mut report = Report::new(
        "store",
        json!({"tweets": args.tweets, "days": args.days, "brands": args.brands, "rows": args.rows,
               "times": args.times, "durable": args.durable}),
    );
    questions(&args, &server, &mut report).await?;
    if args.questions_only {
        return report.write(&args.output);
    }
    writing(&args, &server, &mut report).await?;
    upgrade(&server, &mut report).await?;
    report.write(&args.output)
}

/// The size of the filled database, as SQL settings.
fn settings(args: &Args) -> String {
    format!(
        "SET timezone = 'UTC'; SET monitor.tweets = '{}'; SET monitor.days = '{}'; SET monitor.brands = '{}';
         SET monitor.until = '{UNTIL}';",
        args.tweets, args.days, args.brands
    )
}

async fn run_sql(connection: &mut PgConnection, sql: String) -> anyhow::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Seconds of each call, sorted.
async fn timed(
    clock: &SystemClock,
    times: usize,
    mut call: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(times);
    for _ in 0..times {
        let started = clock.elapsed();
        call().await?;
        seconds.push((clock.elapsed() - started).as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

async fn questions(args: &Args, server: &Server, report: &mut Report) -> anyhow::Result<()> {
    let url = server.database("questions").await?;
    let store = store(&url)?;
    store.migrate().await?;
    let mut connection = PgConnection::connect(&url).await?;
    println!("filling a database with {} tweets of {} days", args.tweets, args.days);
    let (took, ()) = once(&server.clock, run_sql(&mut connection, settings(args) + FILL)).await?;
    println!("  {took:.0} s");
    run_sql(&mut connection, "SET jit = off".into()).await?;
    println!("{:44} {:>9} {:>9} {:>9}", "", "median", "p95", "longest");
    let page = std::fs::read_to_string("docs/sql.md").context("run it in the repository")?;
    for (number, block) in (1..).zip(page.split("```sql\n").skip(1)) {
        let query = block.split("```").next().unwrap_or_default().trim();
        if !query.starts_with("SELECT") {
            continue;
        }
        let query = query.replace("now()", &format!("timestamptz '{UNTIL}'"));
        let query = query.replace("'United'", "'brand 1'");
        let from = query.split("FROM ").nth(1).and_then(|it| it.split_whitespace().next());
        let name =
            format!("docs/sql.md {number}: {}", from.unwrap_or_default().trim_end_matches(';'));
        let times = timed(&server.clock, args.times, async || {
            sqlx::query(sqlx::AssertSqlSafe(query.clone())).fetch_all(&mut connection).await?;
            Ok(())
        });
        line(report, &name, &times.await?);
    }
    for (name, query) in panels::panels(UNTIL.parse()?, args.brands)? {
        let times = timed(&server.clock, args.times, async || {
            sqlx::query(sqlx::AssertSqlSafe(query.clone())).fetch_all(&mut connection).await?;
            Ok(())
        });
        line(report, &name, &times.await?);
    }
    connection.close().await?;
    let until = Minute::of(UNTIL.parse::<DateTime<Utc>>()?);
    let since = until.plus(-1440);
    let brands: Vec<String> = (1..=args.brands).map(|n| format!("brand {n}")).collect();
    let mut next = brands.iter().cycle();
    let reasons = timed(&server.clock, args.times, async || {
        let brand = next.next().context("there are brands")?;
        store.window_tweets(brand, since, until, REASONS_TWEETS).await?;
        store.window_tweets(brand, since.plus(-2880), since.plus(-1), REASONS_TWEETS).await?;
        Ok(())
    });
    line(report, "an alert's reasons: two windows of tweets", &reasons.await?);
    let newest = timed(&server.clock, args.times, async || {
        let query = TweetQuery {
            brand: next.next().context("there are brands")?.clone(),
            from: since,
            to: until,
            label: Some(Label::Negative),
            text: None,
            after: None,
            limit: PAGE_TWEETS,
        };
        store.search_tweets(&query).await?;
        Ok(())
    });
    line(report, "the page: a brand's newest negative tweets", &newest.await?);
    let drawn = timed(&server.clock, args.times, async || {
        let brand = next.next().context("there are brands")?;
        draw(&store, Some(brand), since, until, DRIFT_TWEETS).await?;
        Ok(())
    });
    line(report, "drift: a sample of a brand's day", &drawn.await?);
    let totals = timed(&server.clock, args.times, async || {
        store.totals().await?;
        Ok(())
    });
    line(report, "totals", &totals.await?);
    let hours = timed(&server.clock, args.times, async || {
        let brand = next.next().context("there are brands")?;
        store.model_hour_counts("model@1", brand, until.plus(-8 * 1440), until).await?;
        Ok(())
    });
    line(report, "a brand's hours of eight days", &hours.await?);
    let start =
        async |ahead| page::Page::start(store.clone(), brands.clone(), UNTIL.parse()?, ahead).await;
    let page = start(false).await?;
    let first = timed(&server.clock, 1, async || page.open().await);
    line(report, "the page, opened at once after a start", &first.await?);
    let page = start(true).await?;
    tokio::time::sleep(LEARNED_AFTER).await;
    let first = timed(&server.clock, 1, async || page.open().await);
    line(report, "the page, opened 20 s after a start", &first.await?);
    let mut opened = Vec::new();
    for _ in 0..args.times {
        // An address may ask 50 times a second in the long run.
        tokio::time::sleep(Duration::from_millis(500)).await;
        opened.extend(timed(&server.clock, 1, async || page.open().await).await?);
    }
    opened.sort_by(f64::total_cmp);
    line(report, "the page, opened", &opened);
    in_a_browser(args, &page, report).await
}

/// The page that has learned what is expected, as a person sees it.
async fn in_a_browser(args: &Args, page: &page::Page, report: &mut Report) -> anyhow::Result<()> {
    if !browser::is_installed() {
        println!("no Chromium with its driver here: the time in a browser is not measured");
        return Ok(());
    }
    let opened = browser::open(page, args.times + 1).await?;
    let (first, others) = opened.split_first().context("it was opened")?;
    let mut add = |when: &str, opened: &[browser::Opened]| {
        let sorted = |of: fn(&browser::Opened) -> f64| {
            let mut seconds: Vec<f64> = opened.iter().map(|it| of(it) / 1000.0).collect();
            seconds.sort_by(f64::total_cmp);
            seconds
        };
        line(report, &format!("{when}: charts in sight drawn"), &sorted(|it| it.drawn_ms));
        line(report, &format!("{when}: a click answered"), &sorted(|it| it.clicked_ms));
        line(report, &format!("{when}: a jump to the last brands"), &sorted(|it| it.jumped_ms));
    };
    add("in a browser, empty cache", &[*first]);
    add("in a browser, again", others);
    Ok(())
}

fn line(report: &mut Report, name: &str, sorted: &[f64]) {
    let ms = |q| 1000.0 * quantile(sorted, q);
    println!("{name:44} {:6.1} ms {:6.1} ms {:6.1} ms", ms(0.5), ms(0.95), ms(1.0));
    report.row(
        "questions",
        json!({"question": name, "median_ms": ms(0.5), "p95_ms": ms(0.95), "max_ms": ms(1.0)}),
    );
}

async fn once<T>(
    clock: &SystemClock,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(f64, T)> {
    let started = clock.elapsed();
    let done = work.await?;
    Ok(((clock.elapsed() - started).as_secs_f64(), done))
}

/// Batches of tweets, 50 a second from the end of the stored ones on.
fn batches(rows: usize, brands: u32, round: usize) -> anyhow::Result<Vec<Batch>> {
    let from: DateTime<Utc> = UNTIL.parse()?;
    let model = |p| -> anyhow::Result<_> {
        let score = Score::new(Probabilities::two(Probability::new(p)?), Probability::HALF.into());
        Ok(ModelScore::new(score, "model@1"))
    };
    let mut tweets = Vec::with_capacity(rows);
    for n in 0..rows {
        let place = (round * rows + n) as u64;
        let id = TweetId::new((2_000_000_000_000_000_000 + place * 4_194_304).to_string());
        let id = id.map_err(|error| anyhow::anyhow!("{error}"))?;
        let text = format!(
            "A tweet as long as tweets are, in its own words: number {n} says that the flight was late"
        );
        let time = from + TimeDelta::milliseconds(20 * place as i64);
        let tweet = Tweet::new(id, text, time, Vec::new());
        let mut tweet = tweet.map_err(|error| anyhow::anyhow!("{error}"))?;
        tweet.language = Some(
            if n % 10 == 0 { "fr" } else { "en" }
                .parse()
                .map_err(|_| anyhow::anyhow!("a language"))?,
        );
        tweet.reach.author = Some(format!("author {}", place * 7919 % 100_003));
        let brands = vec![format!("brand {}", 1 + place * 7919 % u64::from(brands))];
        let score = Some(model(if n % 3 == 0 { 0.9 } else { 0.1 })?);
        tweets.push(ScoredTweet { tweet, brands, score, heard: Heard::Always });
    }
    let mut position = (round * rows) as i64;
    let batch = |scores: &[ScoredTweet]| {
        let from = position;
        position += scores.len() as i64;
        let advance = Advance {
            partition: TopicPartition::new("tweets", 1),
            from: Offset(from),
            to: Offset(position),
            event_time_max: scores.last().map(|it| it.tweet.created_at),
            record_time_max: None,
        };
        Batch { scores: scores.to_vec(), advances: vec![advance], ..Batch::default() }
    };
    Ok(tweets.chunks(BATCH_ROWS).map(batch).collect())
}

/// Writes the same batches to both filled databases, in turns, and with COPY.
async fn writing(args: &Args, server: &Server, report: &mut Report) -> anyhow::Result<()> {
    let new = store(&server.url("questions")?)?;
    let claim = Claim {
        partition: TopicPartition::new("tweets", 1),
        seen: None,
        low: Offset(0),
        high: Offset(i64::MAX),
    };
    new.claim(&[claim], StartAt::Earliest).await?;
    println!("filling a database of the version before");
    let url = server.database("before").await?;
    let mut connection = PgConnection::connect(&url).await?;
    old::migrate(&mut connection).await?;
    run_sql(&mut connection, settings(args) + old::FILL).await?;
    run_sql(
        &mut connection,
        format!(
            "INSERT INTO checkpoints (topic, \"partition\", position) VALUES ('tweets', 1, 0); {}",
            copy::TABLE
        ),
    )
    .await?;
    let before = store(&url)?;
    let (mut of_new, mut of_old, mut of_copy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let batches = batches(args.rows, args.brands, round)?;
        let rate = |seconds: f64| args.rows as f64 / seconds;
        let (took, ()) = once(&server.clock, async {
            for batch in &batches {
                let stored = new.commit(batch).await?;
                ensure!(stored.new == batch.scores.len() as u64, "{stored:?}");
            }
            Ok(())
        })
        .await?;
        of_new.push(rate(took));
        let (took, ()) = once(&server.clock, async {
            for batch in &batches {
                old::commit(before.pool(), batch).await?;
            }
            Ok(())
        })
        .await?;
        of_old.push(rate(took));
        let (took, ()) = once(&server.clock, async {
            for batch in &batches {
                copy::copy(&mut connection, batch).await?;
            }
            Ok(())
        })
        .await?;
        of_copy.push(rate(took));
    }
    let median = |rounds: &[f64]| spread(rounds)["median"].as_f64().unwrap_or_default();
    println!(
        "writing batches of {BATCH_ROWS}, one writer: tweets a second, median of {} rounds",
        args.rounds
    );
    for (name, rounds) in
        [("this version", &of_new), ("the version before", &of_old), ("COPY, no index", &of_copy)]
    {
        println!(
            "  {name:20} {:8.0}   {:.2} of the version before",
            median(rounds),
            median(rounds) / median(&of_old)
        );
        report.row("writing", json!({"how": name, "tweets_a_second": spread(rounds)}));
    }
    before.pool().close().await;
    Ok(connection.close().await?)
}

/// Upgrades the database of the version before, and compares what is in it.
async fn upgrade(server: &Server, report: &mut Report) -> anyhow::Result<()> {
    type Content = (i64, i64, i64, i64);
    let url = server.url("before")?;
    let mut connection = PgConnection::connect(&url).await?;
    let before: Content = sqlx::query_as(old::CHECK).fetch_one(&mut connection).await?;
    let store = store(&url)?;
    let started = server.clock.elapsed();
    let tell = |line: &str| {
        let at = (server.clock.elapsed() - started).as_secs_f64();
        println!("  {at:6.1} s  {line}");
    };
    println!("upgrading the database of the version before");
    let (took, ()) = once(&server.clock, async { Ok(store.migrate_telling(&tell).await?) }).await?;
    let after: Content = sqlx::query_as(old::CHECK).fetch_one(&mut connection).await?;
    ensure!(before == after, "something is lost: {before:?}, {after:?}");
    let (ids, hours): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM tweet_ids), (SELECT sum(tweets)::bigint FROM hour_counts)",
    )
    .fetch_one(&mut connection)
    .await?;
    ensure!((ids, hours) == (before.0, before.3), "{ids} ids, {hours} counted: {before:?}");
    println!("  {took:6.1} s for {} tweets; nothing is lost", before.0);
    report.value("upgrade", json!({"tweets": before.0, "seconds": took}));
    Ok(connection.close().await?)
}
