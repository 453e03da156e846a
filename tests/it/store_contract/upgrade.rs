//! A database of an earlier version takes weeks, loses nothing, and may be interrupted.

use std::path::Path;
use std::time::Duration;

use monitor_core::domain::Minute;
use monitor_store::{PostgresStore, Store};
use sqlx::migrate::Migrator;

use super::fixtures::*;
use super::on_postgres;
use crate::support::fresh_database;

/// The last migration of the version before, and the one behind which writers wait.
const BEFORE: i64 = 10;
const WAITING: i64 = 11;

/// Tweets of that version: five months, two brands at times, some without a score.
const OLD_TWEETS: &str = "
    INSERT INTO checkpoints (topic, \"partition\", position, scores) VALUES ('tweets', 0, 41, 3000);
    INSERT INTO scores (tweet_id, created_at, brands, text, negative, neutral, label, model, language)
    SELECT n::text, '2026-06-01'::timestamptz + n * interval '70 minutes',
           CASE WHEN n % 10 = 0 THEN '{}' WHEN n % 4 = 0 THEN '{klm,united}' ELSE '{united}' END::text[],
           'text ' || n, CASE WHEN n % 7 > 0 THEN 0.8 END, CASE WHEN n % 7 > 0 THEN 0.1 END,
           CASE WHEN n % 7 = 0 THEN NULL WHEN n % 3 = 0 THEN 'NEGATIVE' ELSE 'NEUTRAL' END,
           CASE WHEN n % 7 > 0 THEN 'lstm@1' END, CASE WHEN n % 5 > 0 THEN 'en' END
    FROM generate_series(1, 3000) AS n;
    INSERT INTO minute_counts (brand, minute, model, total, negative)
    SELECT brand, date_trunc('minute', created_at), model, count(*), count(*) FILTER (WHERE label = 'NEGATIVE')
    FROM scores, unnest(brands) AS brand WHERE label IS NOT NULL GROUP BY 1, 2, 3;
    INSERT INTO dead_letters (topic, \"partition\", \"offset\", reason, payload, payload_bytes)
    SELECT 'tweets', 0, n, 'created_at \"' || n || '\" is not a time', '', 0 FROM generate_series(1, 9) AS n;";

async fn run(store: &PostgresStore, sql: &'static str) {
    sqlx::raw_sql(sql).execute(store.pool()).await.unwrap();
}

async fn number(store: &PostgresStore, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

async fn migrate_to(store: &PostgresStore, version: i64) {
    let migrator = Migrator::new(Path::new("migrations")).await.unwrap();
    migrator.run_to(version, store.pool()).await.unwrap();
}

async fn old_database() -> PostgresStore {
    let store = on_postgres(fresh_database().await);
    migrate_to(&store, BEFORE).await;
    run(&store, OLD_TWEETS).await;
    store
}

/// Nothing is lost, and what is new equals a fold over the tweets.
async fn check_upgraded(store: &PostgresStore) {
    assert_eq!(number(store, "SELECT count(*) FROM scores").await, 3000);
    assert_eq!(
        number(store, "SELECT sum(n::bigint)::bigint FROM (SELECT tweet_id FROM scores) AS s (n)")
            .await,
        4_501_500
    );
    assert_eq!(
        number(
            store,
            "SELECT count(*) FROM scores AS s JOIN tweet_ids AS i
                       ON i.tweet_id = s.tweet_id COLLATE \"C\" AND i.created_at = s.created_at"
        )
        .await,
        3000
    );
    assert_eq!(number(store, "SELECT count(*) FROM tweet_ids").await, 3000);
    let fold = "SELECT count(*) FROM (
            SELECT brand, date_trunc('hour', created_at, 'UTC'), coalesce(model, ''), coalesce(language, ''), count(*),
                   count(*) FILTER (WHERE label = 'NEGATIVE'), count(*) FILTER (WHERE label = 'NEUTRAL')
            FROM scores, unnest(brands) AS brand GROUP BY 1, 2, 3, 4
        ) AS expected FULL JOIN (
            SELECT brand, hour, model, language, tweets, negative, neutral FROM hour_counts
        ) AS t ON expected = t WHERE expected IS NULL OR t IS NULL";
    assert_eq!(number(store, fold).await, 0, "hours");
    let days = "SELECT count(*) FROM (
            SELECT brand, date_trunc('day', hour, 'UTC'), model, language, sum(tweets)::bigint, sum(negative)::bigint,
                   sum(neutral)::bigint FROM hour_counts GROUP BY 1, 2, 3, 4
        ) AS expected FULL JOIN (
            SELECT brand, day, model, language, tweets, negative, neutral FROM day_counts
        ) AS t ON expected = t WHERE expected IS NULL OR t IS NULL";
    assert_eq!(number(store, days).await, 0, "days");
    let letters =
        "SELECT records FROM dead_letters_by_reason WHERE reason = 'created_at … is not a time'";
    assert_eq!(number(store, letters).await, 9);
    let parts = "SELECT count(*) FROM score_partitions WHERE name = 'scores_before'";
    assert_eq!(number(store, parts).await, 1);
    // The old tweets are known, and found by brand; new ones go to weeks of their own.
    let (from, to) =
        (Minute::of(at("2026-07-01T00:00:00Z")), Minute::of(at("2026-07-08T00:00:00Z")));
    let tweets = store.window_tweets("united", from, to, 4000).await.unwrap();
    let expected = "SELECT count(*) FROM scores WHERE 'united' = ANY(brands) AND label IS NOT NULL
                    AND created_at >= '2026-07-01' AND created_at < '2026-07-08 00:01'";
    assert_eq!(tweets.len() as i64, number(store, expected).await);
    let known = scored("77", "again", at("2026-12-24T10:00:00Z"), &["klm"], 0.9);
    let new = scored("new", "text", at("2026-12-24T10:00:00Z"), &["klm"], 0.9);
    let stored = store.commit(&batch(vec![known, new], vec![advance(0, 41, 43)])).await.unwrap();
    assert_eq!((stored.new, stored.duplicate), (1, 1));
    assert_eq!(number(store, "SELECT count(*) FROM scores_2026_12_21").await, 1);
    assert_eq!(store.totals().await.unwrap().scores, 3001);
}

#[tokio::test(flavor = "multi_thread")]
async fn tweets_of_the_version_before_become_a_part() {
    let store = old_database().await;
    let told = std::sync::Mutex::new(Vec::new());
    store.migrate_telling(&|line| told.lock().unwrap().push(line.to_owned())).await.unwrap();
    let told = told.into_inner().unwrap().join("\n");
    assert!(told.contains("3000 tweet ids copied"), "{told}");
    assert!(told.contains("building the index scores_before_time"), "{told}");
    assert!(told.contains("counted by hour up to 2026-"), "{told}");
    check_upgraded(&store).await;
    store.migrate_telling(&|line| panic!("nothing is left to do: {line}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_steps_before_it_the_migration_does_them_all() {
    let store = old_database().await;
    Migrator::new(Path::new("migrations")).await.unwrap().run(store.pool()).await.unwrap();
    check_upgraded(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_the_version_before_wait_for_the_upgrade() {
    let store = old_database().await;
    migrate_to(&store, WAITING).await;
    let old = sqlx::query(
        "INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model)
                           VALUES ('9999', now(), '{}', 'text', 0.5, 'NEGATIVE', 'lstm@1')",
    );
    let error = monitor_store::StoreError::from(old.execute(store.pool()).await.unwrap_err());
    assert!(error.is_transient(), "a daemon tries again: {error}");
    assert!(error.to_string().contains("until `monitor migrate` is done"), "{error}");
    store.migrate().await.unwrap();
    check_upgraded(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_upgrade_goes_on_where_it_was() {
    let store = old_database().await;
    migrate_to(&store, WAITING).await;
    // As a run leaves it that was killed: an invalid index, some ids, some weeks.
    run(&store, "CREATE INDEX scores_before_time ON scores (created_at, (brands[1]));
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'scores_before_time'::regclass;
        INSERT INTO tweet_ids SELECT tweet_id, created_at FROM scores WHERE tweet_id <= '2';
        INSERT INTO upgrade_steps (step, up_to) SELECT 'ids', max(tweet_id) FROM tweet_ids;
        INSERT INTO hour_counts (brand, hour, model, language, tweets, negative, neutral)
        SELECT brand, date_trunc('hour', created_at, 'UTC'), coalesce(model, ''), coalesce(language, ''), count(*),
               count(*) FILTER (WHERE label = 'NEGATIVE'), count(*) FILTER (WHERE label = 'NEUTRAL')
        FROM scores, unnest(brands) AS brand WHERE created_at < '2026-06-15' GROUP BY 1, 2, 3, 4;
        INSERT INTO upgrade_steps (step, up_to) VALUES ('hours', '2026-06-15T00:00:00+00:00');").await;
    store.migrate().await.unwrap();
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'scores_before_time'::regclass AND indisvalid";
    assert_eq!(number(&store, valid).await, 1);
    check_upgraded(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_goes_away_meanwhile_is_no_reason_to_give_up() {
    let store = old_database().await;
    let mut other = store.pool().begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE scores IN ACCESS EXCLUSIVE MODE").execute(&mut *other).await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE application_name = 'monitor migrate' AND wait_event_type = 'Lock'
                 AND datname = current_database()";
    while number(&store, end).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = migrating.await.unwrap().expect_err("its connection has ended");
    assert!(error.is_transient(), "{error}");
    other.rollback().await.unwrap();
    store.migrate().await.unwrap();
    check_upgraded(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_upgrade_at_once_take_turns() {
    let store = old_database().await;
    let (one, two) = tokio::join!(store.migrate(), store.migrate());
    one.unwrap();
    two.unwrap();
    check_upgraded(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_might_use_the_old_tables_may_use_the_new_ones() {
    let store = old_database().await;
    let role = format!("writer_{}", std::process::id());
    let grant = format!(
        "CREATE ROLE {role}; GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(store.pool()).await.unwrap();
    store.migrate().await.unwrap();
    let may: bool = sqlx::query_scalar(
        "SELECT has_table_privilege($1, 'scores', 'INSERT') AND has_table_privilege($1, 'tweet_ids', 'INSERT')
            AND has_table_privilege($1, 'hour_counts', 'INSERT') AND has_table_privilege($1, 'author_key', 'SELECT')
            AND has_table_privilege($1, 'voices', 'DELETE') AND has_table_privilege($1, 'used_links', 'INSERT')
            AND has_table_privilege($1, 'scores', 'UPDATE')
            AND has_function_privilege($1, 'make_score_partitions(timestamptz, timestamptz)', 'EXECUTE')
            AND NOT has_function_privilege('public', 'drop_score_partition(text)', 'EXECUTE')",
    )
    .bind(&role)
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert!(may);
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(store.pool()).await.unwrap();
}
