//! How long does the leader take for a minute of many brands?
//!
//! Fills a database with the counts of some days, lets the detectors catch up on them, and then
//! evaluates minute after minute as the daemon does. Prints the seconds a minute takes, of which this
//! process used the processor, and, of one run, how often such minutes fit into one.
//!
//! `scripts/bench judge [--brands 1000] [--rate 10] [--days 3] [--minutes 10] [--json FILE]`

mod common;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Parser;
use common::{Output, Report, spread};
use monitor::pipeline::Evaluator;
use monitor_config as config;
use monitor_core::clock::{Clock, SimulatedClock, SystemClock};
use monitor_embedded::Postgres;
use monitor_store::PostgresStore;
use serde_json::json;
use sqlx::{Connection, PgConnection};

/// End of the stored counts.
const UNTIL: &str = "2026-11-27T12:00:00Z";
/// Counts of every brand and minute before $1, of $2 days and $3 minutes after it: as many tweets as
/// $5 on average for each of $4 brands, half more or less, of which three in ten are negative.
const FILL: [&str; 4] = [
    "INSERT INTO models (model, classes, languages, negative_from, positive_from)
     VALUES ('model@1', 3, '{en}', 0.5, 0.5)",
    "INSERT INTO model_switches (minute, model, gap_from)
     VALUES ('1970-01-01 00:00+00', 'model@1', '1970-01-01 00:00+00')",
    "INSERT INTO minute_counts (brand, minute, model, total, negative)
     SELECT 'brand ' || brand, minute, 'model@1', total,
            greatest(0, least(total, round(0.3 * total + (random() + random() - 1) * sqrt(total))))
     FROM generate_series(1, $4::bigint) AS brand,
          generate_series($1::timestamptz - $2::bigint * interval '1 day',
                          $1::timestamptz + $3::bigint * interval '1 minute', interval '1 minute') AS minute,
          LATERAL (SELECT greatest(1, round($5::bigint * (0.5 + random()))) AS total
                   WHERE brand > 0 AND minute IS NOT NULL) AS drawn",
    "INSERT INTO hour_counts (brand, hour, model, language, tweets, negative, neutral)
     SELECT brand, date_trunc('hour', minute, 'UTC'), model, 'en', sum(total), sum(negative), 0
     FROM minute_counts GROUP BY 1, 2, 3",
];

/// Times the evaluation of a minute of many brands
#[derive(Parser)]
struct Args {
    /// Brands
    #[arg(long, default_value_t = 1000)]
    brands: u32,
    /// Tweets a minute of each brand
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// Days of counts before the minutes
    #[arg(long, default_value_t = 3)]
    days: u32,
    /// Minutes to evaluate
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut report = Report::new(
        "judge",
        json!({"brands": args.brands, "rate": args.rate, "days": args.days, "minutes": args.minutes}),
    );
    let postgres = Postgres::start(None)?;
    let url = postgres.url("postgres");
    let settings_of = config::Store { url: url.clone(), ..config::Store::default() };
    let store = Arc::new(PostgresStore::connect(&settings_of)?);
    store.migrate().await?;
    let until: DateTime<Utc> = UNTIL.parse()?;
    let mut connection = PgConnection::connect(&url).await?;
    println!("filling {} days of {} brands", args.days, args.brands);
    fill(&mut connection, until, &args).await?;

    let mut settings = config::Settings::default();
    for brand in 1..=args.brands {
        let keywords = vec![format!("brand {brand}")];
        settings.brands.insert(
            format!("brand {brand}"),
            config::Brand { keywords, ..config::Brand::default() },
        );
    }
    // The stream itself is not what is measured.
    (settings.stream.quiet_minutes_max, settings.stream.lag_minutes_max) = (0, 0);
    let clock = Arc::new(SimulatedClock::at(until));
    let evaluator = Evaluator::new(store.clone(), &settings, clock.clone());
    let watch = SystemClock::new();

    let mut timed = Vec::new();
    for minute in 0..=args.minutes {
        let newest = until + chrono::TimeDelta::minutes(i64::from(minute));
        sqlx::query(
            "INSERT INTO checkpoints (topic, \"partition\", position, event_time_max, scores)
             VALUES ($1, 0, 1, $2, 1)
             ON CONFLICT (topic, \"partition\") DO UPDATE SET event_time_max = excluded.event_time_max",
        )
        .bind(&settings.kafka.topic)
        .bind(newest)
        .execute(&mut connection)
        .await?;
        let before = (watch.elapsed(), processor_time()?);
        evaluator.evaluate().await?.context("no minute was closed")?;
        let took = (watch.elapsed() - before.0).as_secs_f64();
        let own = (processor_time()? - before.1).as_secs_f64();
        if minute == 0 {
            println!("caught up on {} days in {took:.1} s, processor {own:.1} s", args.days);
            report.value("catching_up_seconds", json!(took));
        } else {
            timed.push((took, own));
        }
        clock.advance(Duration::from_secs(60));
    }
    let of = |pick: fn(&(f64, f64)) -> f64| spread(&timed.iter().map(pick).collect::<Vec<_>>());
    let (took, own) = (of(|it| it.0), of(|it| it.1));
    println!(
        "a minute of {} brands at {} tweets: {:.2} s, at most {:.2} s; processor {:.2} s without Postgres",
        args.brands,
        args.rate,
        took["median"].as_f64().unwrap_or_default(),
        took["maximum"].as_f64().unwrap_or_default(),
        own["median"].as_f64().unwrap_or_default(),
    );
    println!("{:.0} such minutes fit into one", 60.0 / took["median"].as_f64().unwrap_or(60.0));
    report.value("seconds", took);
    report.value("processor_seconds", own);
    report.write(&args.output)
}

async fn fill(
    connection: &mut PgConnection,
    until: DateTime<Utc>,
    args: &Args,
) -> anyhow::Result<()> {
    for sql in FILL {
        let mut query = sqlx::query(sql);
        if sql.contains("$1") {
            query = query
                .bind(until)
                .bind(i64::from(args.days))
                .bind(i64::from(args.minutes))
                .bind(i64::from(args.brands))
                .bind(i64::from(args.rate));
        }
        query.execute(&mut *connection).await?;
    }
    sqlx::query("ANALYZE").execute(connection).await?;
    Ok(())
}

/// The processor time that this process has used.
fn processor_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(')').context("/proc/self/stat has no name")?.1;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || ticks.next().context("/proc/self/stat is too short");
    // Linux counts 100 ticks a second for every program.
    Ok(Duration::from_millis(10 * (next()?? + next()??)))
}
