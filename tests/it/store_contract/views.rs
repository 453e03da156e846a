//! The views: what may be read, by whom, and that no question reads all tweets.

use std::fs;

use chrono::{DateTime, Utc};
use monitor_core::domain::{Minute, Watch};
use monitor_store::{PostgresStore, Rows, SampleRequest, Store, TweetQuery};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::fixtures::at;
use super::on_postgres;
use crate::support::fresh_database;

/// Tweets in the filled database: so many that reading all of them is never the cheapest plan.
pub(crate) const TWEETS: i64 = 60_000;
pub(crate) const UNTIL: &str = "2026-11-27 12:00+00";

/// A migrated database with [`TWEETS`] tweets of 90 days about 20 brands.
pub(crate) async fn filled() -> (PostgresStore, String) {
    filled_with(TWEETS, 90, 20).await
}

async fn filled_with(tweets: i64, days: u32, brands: u32) -> (PostgresStore, String) {
    let url = fresh_database().await;
    let store = on_postgres(url.clone());
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let settings = format!(
        "SET timezone = 'UTC'; SET monitor.tweets = '{tweets}'; SET monitor.days = '{days}';
         SET monitor.brands = '{brands}'; SET monitor.until = '{UNTIL}';"
    );
    let sql = settings + include_str!("../../../benches/common/fill.sql");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    (store, url)
}

/// The SQL in the documentation.
fn documented() -> Vec<String> {
    let page = fs::read_to_string("docs/sql.md").unwrap();
    let blocks = page.split("```sql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().trim().to_owned()).collect()
}

/// Rows of `scores` that a plan has read.
pub(crate) fn rows_read(plan: &Value) -> f64 {
    let number = |key: &str| plan[key].as_f64().unwrap_or(0.0);
    let own = match plan["Relation Name"].as_str() {
        Some(name) if name.starts_with("scores") => {
            let rows = number("Actual Rows")
                + number("Rows Removed by Filter")
                + number("Rows Removed by Index Recheck");
            rows * number("Actual Loops")
        }
        _ => 0.0,
    };
    let below = plan["Plans"].as_array().into_iter().flatten().map(rows_read);
    own + below.sum::<f64>()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_documented_query_reads_all_tweets() {
    let (store, _) = filled().await;
    let mut connection = store.pool().acquire().await.unwrap();
    let mut seen = Vec::new();
    for query in documented() {
        if !query.starts_with("SELECT") {
            continue;
        }
        // As if it were asked at the end of the data.
        let query = query.replace("now()", &format!("timestamptz '{UNTIL}'"));
        let query = query.replace("'United'", "'brand 1'");
        let sql = format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}");
        let plan: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap_or_else(|error| panic!("{error}: {query}"));
        let read = rows_read(&plan[0]["Plan"]);
        assert!(read < TWEETS as f64 / 5.0, "{read} rows of scores read by: {query}");
        seen.push(query);
    }
    let all = seen.join("\n");
    let views: Vec<String> = sqlx::query_scalar(
        "SELECT viewname::text FROM pg_views WHERE schemaname = current_schema()",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for view in views.iter().filter(|view| *view != "model_counts") {
        assert!(all.contains(&format!("FROM {view}")), "docs/sql.md has no query of {view}");
    }
}

/// Waits until all sessions but this one have ended; then Postgres has their statistics.
async fn alone(connection: &mut PgConnection) {
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *connection).await.unwrap() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Rows of `scores` that were read since the statistics were reset.
async fn rows_read_so_far(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
         WHERE relname LIKE 'scores%'",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

/// Rows of `scores` that Postgres says it has read for a call.
async fn read_by<T>(url: &str, call: impl AsyncFnOnce(&PostgresStore) -> T) -> (i64, T) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    alone(&mut connection).await;
    sqlx::raw_sql("SELECT pg_stat_reset()").execute(&mut connection).await.unwrap();
    let store = on_postgres(url.to_owned());
    let answer = call(&store).await;
    store.pool().close().await;
    alone(&mut connection).await;
    let read = rows_read_so_far(&mut connection).await;
    connection.close().await.unwrap();
    (read, answer)
}

/// The calls of the page, the API, the evaluator and drift.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_of_the_page_or_of_an_alert_reads_all_tweets() {
    let (store, url) = filled().await;
    let brand = "brand 1";
    let until = Minute::of(at("2026-11-27T12:00:00Z"));
    let (day, three_days) = (until.plus(-1439), until.plus(-3 * 1440));
    let number = async |since: &str, condition: &str| -> i64 {
        let sql =
            format!("SELECT count(*) FROM scores WHERE created_at >= '{since}' AND {condition}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(store.pool()).await.unwrap()
    };
    let of_brand = "'brand 1' = ANY(brands)";
    let expected = number("2026-11-24 12:00+00", of_brand).await;
    let in_a_day = number("2026-11-26 12:01+00", of_brand).await;
    let of_any_in_a_day = number("2026-11-26 12:01+00", "true").await;
    // Of a part of which much is wanted Postgres reads all: a week has 4,667.
    let most = TWEETS / 10;
    // A tweet about several brands is looked at for each of them.
    let several = number("2026-09-08 12:00+00", "cardinality(brands) > 1").await;
    let newest = "SELECT max(created_at) FROM scores WHERE 'brand 1' = ANY(brands)";
    let newest: DateTime<Utc> = sqlx::query_scalar(newest).fetch_one(store.pool()).await.unwrap();
    store.pool().close().await;

    let (read, ()) = read_by(&url, async |store| {
        let from = until.plus(-8 * 1440);
        let hours = store.hour_counts(Some(brand), from, until).await.unwrap();
        assert!(hours.len() > 150, "{}", hours.len());
        let model = store.model_hour_counts("model@1", brand, from, until).await.unwrap();
        assert_eq!(model, hours, "one model has scored all");
        assert!(!store.minute_counts(brand, day, until).await.unwrap().is_empty());
        assert_eq!(store.totals().await.unwrap().scores, TWEETS.unsigned_abs());
        let since = store.incidents_since(brand, Watch::Buzz, from).await.unwrap();
        assert_eq!(since.len(), 1);
        store.notifications_of(since[0].id).await.unwrap();
        assert_eq!(store.last_minute(brand).await.unwrap(), Some(Minute::of(newest)));
        store.unscored("model@2", from, until).await.unwrap();
    })
    .await;
    assert_eq!(read, 0, "counts are enough");

    // An alert's reasons: all tweets of the brand, a sample, and a sample of some minutes.
    let (read, all) = read_by(&url, async |store| {
        store.window_tweets(brand, three_days, until, 4000).await.unwrap()
    })
    .await;
    assert_eq!(all.len() as i64, expected);
    assert!(read <= most, "{read} for {expected}");
    let (read, some) = read_by(&url, async |store| {
        store.window_tweets(brand, three_days, until, 100).await.unwrap()
    })
    .await;
    assert!(some.len() == 100 && some.iter().all(|tweet| all.contains(tweet)));
    assert!(read <= most, "{read} for {expected}");
    let (read, one) =
        read_by(&url, async |store| store.tweet(&all[7].tweet_id).await.unwrap()).await;
    assert_eq!((read, one.as_ref()), (1, Some(&all[7])));

    // The newest, those behind them, and a text that no tweet has.
    let query = TweetQuery {
        brand: brand.into(),
        from: until.plus(-80 * 1440),
        to: until,
        label: None,
        text: None,
        after: None,
        limit: 50,
    };
    let search = async |query: TweetQuery| {
        read_by(&url, async |store| store.search_tweets(&query).await.unwrap()).await
    };
    let (read, newest) = search(query.clone()).await;
    assert!(newest.len() == 50 && read <= 500 + several, "{read} for 50");
    let last = &newest[49].tweet;
    let after = Some((last.created_at, last.tweet_id.clone()));
    let (read, next) = search(TweetQuery { after, ..query.clone() }).await;
    assert!(next.len() == 50 && read <= 500 + several, "{read} for the next 50");
    assert!(next.iter().all(|found| !newest.contains(found)));
    let text = Some("no tweet says so".into());
    let (read, none) = search(TweetQuery { text, from: day, ..query }).await;
    assert!(none.is_empty() && read <= most, "{read} for {in_a_day}");

    // Drift, and samples to label.
    for (of, expected) in [(Some(brand), in_a_day), (None, of_any_in_a_day)] {
        let (read, drawn) = read_by(&url, async |store| {
            monitor_store::draw(store, of, day, until.plus(1), 5000).await.unwrap()
        })
        .await;
        assert_eq!(drawn.len() as i64, expected);
        assert!(read <= most, "{read} for {expected}");
    }
    let (read, sample) = read_by(&url, async |store| {
        let request = SampleRequest {
            brand: brand.into(),
            from: day.start(),
            to: until.plus(1).start(),
            tweets: 20,
            seed: "seed".into(),
            by: "ann".into(),
            at: until.start(),
        };
        store.draw_sample(&request).await.unwrap()
    })
    .await;
    assert_eq!((sample.population as i64, sample.tweets), (in_a_day, 20));
    assert!(read <= most, "{read} for {in_a_day}");
    let (read, tweets) =
        read_by(&url, async |store| store.sampled_tweets(sample.id).await.unwrap()).await;
    assert_eq!((read, tweets.len()), (20, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_busy_brand_some_minutes_are_read() {
    let (store, url) = filled_with(40_000, 3, 3).await;
    let until = Minute::of(at("2026-11-27T12:00:00Z"));
    let from = until.plus(-3 * 1440);
    let all = store.window_tweets("brand 1", from, until, 40_000).await.unwrap();
    assert!(all.len() > 12_000, "{}", all.len());
    store.pool().close().await;
    let (read, few) =
        read_by(&url, async |store| store.window_tweets("brand 1", from, until, 50).await.unwrap())
            .await;
    assert_eq!(few.len(), 50);
    assert!(few.iter().all(|tweet| all.contains(tweet)));
    assert!(read > 3000 && read < 12_000, "{read} rows of scores read for a sample of 5,000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_may_read_the_views_and_no_more() {
    let (store, _) = filled().await;
    let role = format!("reader \"{}\"", std::process::id());
    assert!(store.grant_reader(&role).await.unwrap(), "it is new");
    assert!(!store.grant_reader(&role).await.unwrap(), "it is there");
    let objects: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT relname::text, relkind::text, has_table_privilege($1, oid, 'SELECT') FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v')",
    )
    .bind(&role)
    .fetch_all(store.pool())
    .await
    .unwrap();
    let tables = [
        "incidents",
        "incident_events",
        "minute_counts",
        "models",
        "model_switches",
        "rescored_counts",
        "retrainings",
        "drift_days",
    ];
    let readable = |name: &str, kind: &str| kind == "v" || tables.contains(&name);
    for (name, kind, may) in &objects {
        let expected = readable(name, kind);
        assert_eq!(*may, expected, "{name}");
        if expected {
            let comment: Option<String> =
                sqlx::query_scalar("SELECT obj_description($1::regclass)")
                    .bind(name)
                    .fetch_one(store.pool())
                    .await
                    .unwrap();
            assert!(comment.is_some(), "{name} has no COMMENT");
        }
    }
    // As the reader itself: a view works only if its owner may read what is below it.
    let mut connection = store.pool().begin().await.unwrap();
    let become_reader = format!("SET ROLE \"{}\"", role.replace('"', "\"\""));
    sqlx::raw_sql(sqlx::AssertSqlSafe(become_reader)).execute(&mut *connection).await.unwrap();
    for (name, _, _) in objects.iter().filter(|(name, kind, _)| readable(name, kind)) {
        let sql = format!("SELECT * FROM {name} LIMIT 1");
        let read = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_optional(&mut *connection).await;
        read.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for sql in [
        "SELECT text FROM scores LIMIT 1",
        "SELECT key FROM author_key",
        "SELECT make_score_partitions(now(), now())",
        "DELETE FROM incidents",
    ] {
        sqlx::raw_sql("SAVEPOINT s").execute(&mut *connection).await.unwrap();
        let refused = sqlx::query(sql).execute(&mut *connection).await.expect_err(sql);
        assert!(refused.to_string().contains("permission denied"), "{sql}: {refused}");
        sqlx::raw_sql("ROLLBACK TO s").execute(&mut *connection).await.unwrap();
    }
    connection.rollback().await.unwrap();
    let name = role.replace('"', "\"\"");
    let drop = format!("DROP OWNED BY \"{name}\"; DROP ROLE \"{name}\"");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(store.pool()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn views_agree_with_the_tweets() {
    let (store, _) = filled().await;
    let pairs = [
        ("SELECT sum(tweets)::bigint FROM share_per_day", "SELECT count(*) FROM brand_tweets"),
        ("SELECT sum(negative)::bigint FROM share_per_hour", "SELECT count(*) FROM top_negative"),
        ("SELECT sum(tweets)::bigint FROM share_per_minute", "SELECT count(*) FROM brand_tweets"),
        ("SELECT sum(tweets)::bigint FROM volume_by_model", "SELECT count(*) FROM brand_tweets"),
        ("SELECT sum(tweets)::bigint FROM languages WHERE language = 'fr'",
         "SELECT count(*) FROM brand_tweets WHERE language = 'fr'"),
        ("SELECT sum(tweets)::bigint FROM authors WHERE brand = 'brand 20'",
         "SELECT count(*) FROM brand_tweets WHERE brand = 'brand 20'"),
        ("SELECT round(sum(share_of_voice))::bigint FROM share_of_voice",
         "SELECT count(DISTINCT day) FROM share_of_voice"),
        ("SELECT count(*) FROM incident_tweets WHERE incident_id = 2",
         "SELECT count(*) FROM brand_tweets AS t, incidents AS i WHERE i.id = 2 AND t.brand = i.brand
          AND created_at >= opened_at - interval '1 hour' AND created_at < resolved_at + interval '1 minute'"),
        ("SELECT count(*) FROM share_per_hour WHERE expected IS NOT NULL AND brand = 'brand 1'",
         "SELECT count(*) FROM share_per_hour AS h JOIN incidents AS i ON i.brand = h.brand
          AND i.opened_at < h.hour + interval '1 hour' AND i.resolved_at >= h.hour"),
    ];
    for (view, tweets) in pairs {
        let number = async |sql: &'static str| -> i64 {
            sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
        };
        let expected = number(tweets).await;
        assert!(expected > 0, "{tweets}");
        assert_eq!(number(view).await, expected, "{view}");
    }
    let corrected: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM share_per_day WHERE corrected BETWEEN corrected_low AND corrected_high",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert!(corrected > 1000, "{corrected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_what_was_asked_for() {
    let (store, _) = filled().await;
    let (from, to) = (at("2026-11-20T00:00:00Z"), at("2026-11-21T00:00:00Z"));
    let export = async |kind, brand: Option<&str>| -> Vec<csv::StringRecord> {
        let mut out = Vec::new();
        let rows = Rows { kind, from, to, brand: brand.map(str::to_owned) };
        let bytes = store.export(&rows, &mut out).await.unwrap();
        assert_eq!(bytes, out.len() as u64);
        csv::Reader::from_reader(&out[..]).records().map(Result::unwrap).collect()
    };
    let day = "FROM brand_tweets WHERE created_at >= '2026-11-20' AND created_at < '2026-11-21'";
    let count = |condition: &str| format!("SELECT count(*) {day} {condition}");
    let number = async |sql: String| -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(store.pool()).await.unwrap()
    };
    let of_brand = export("tweets", Some("brand 1")).await;
    assert_eq!(of_brand.len() as i64, number(count("AND brand = 'brand 1'")).await);
    assert!(of_brand.iter().all(|row| &row[0] == "brand 1" && row[1].starts_with("2026-11-20")));
    assert!(of_brand.is_sorted_by(|a, b| a[1] <= b[1]), "by time");
    let all = export("tweets", None).await;
    let tweets = number(count("").replace("count(*)", "count(DISTINCT tweet_id)")).await;
    assert_eq!(all.len() as i64, tweets);
    let hours = "SELECT count(*) FROM share_per_hour
                 WHERE brand = 'brand 2' AND hour >= '2026-11-20' AND hour < '2026-11-21'";
    let exported = export("share_per_hour", Some("brand 2")).await;
    assert_eq!(exported.len() as i64, number(hours.into()).await);
    assert_eq!(export("share_per_day", None).await.len(), 20);
    assert!(export("tweets", Some("'; DROP TABLE scores; --")).await.is_empty());
}
