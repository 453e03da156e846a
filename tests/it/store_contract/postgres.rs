//! Features of the Postgres store alone: leader election, transactions, migrations.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use monitor::pipeline::Evaluator;
use monitor_config::{self as config, Settings};
use monitor_core::clock::{Clock, SimulatedClock, SystemClock};
use monitor_core::domain::{Cause, Evidence, IncidentId, Minute, Severity, Transition};
use monitor_store::{Advance, OutboxState, PostgresStore, Store};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, Row};

use super::fixtures::*;
use super::on_postgres;
use crate::support::fresh_database;

async fn fresh() -> PostgresStore {
    let store = on_postgres(fresh_database().await);
    store.migrate().await.unwrap();
    store
}

pub(super) async fn run(store: &PostgresStore, sql: &'static str) {
    sqlx::raw_sql(sql).execute(store.pool()).await.unwrap();
}

/// Ends the session of the leader of this database.
async fn end_leader(store: &PostgresStore) {
    let ended: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks AS l
         JOIN pg_database AS d ON d.oid = l.database
         WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    assert_eq!(ended, [true], "one leads");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_free_when_its_connection_ends() {
    let url = fresh_database().await;
    let (one, two) = (on_postgres(url.clone()), on_postgres(url));
    assert!(one.lead().await.unwrap(), "the first to ask");
    assert!(!two.lead().await.unwrap(), "one at a time");
    assert!(!two.lead().await.unwrap(), "asking again does not help");
    assert!(one.clone().lead().await.unwrap(), "a clone is the same holder");

    end_leader(&two).await;
    assert!(two.lead().await.unwrap(), "the lead is free");
    assert!(!one.lead().await.unwrap(), "the first has lost it");
    assert!(two.lead().await.unwrap(), "and the second stays");

    end_leader(&one).await;
    assert!(two.lead().await.unwrap(), "it reconnects and takes the free lead");
    // The server learns of a closed connection a moment later.
    drop(two);
    let taken = async {
        while !one.lead().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("taken over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_clock_is_ahead_takes_no_row_that_another_is_sending() {
    let url = fresh_database().await;
    let here = on_postgres(url.clone());
    here.migrate().await.unwrap();
    open(&here, "united", 10).await;
    let now = SystemClock::new().now();
    let lease = Duration::from_secs(30);
    let sending = here.outbox_lease(now, lease, 9, &[], &[]).await.unwrap();
    assert_eq!(sending.len(), 2);

    for minutes_ahead in [1, -1, 24 * 60] {
        let theirs = now + TimeDelta::minutes(minutes_ahead);
        let there = on_postgres(url.clone()).with_clock(Arc::new(SimulatedClock::at(theirs)));
        let taken = there.outbox_lease(theirs, lease, 9, &[], &[]).await.unwrap();
        assert_eq!(taken, [], "{minutes_ahead} minutes ahead");
        let off = there.time(theirs).await.unwrap() - now;
        assert!(off.abs() < TimeDelta::seconds(30), "{minutes_ahead} minutes ahead: {off}");
    }

    // A retry in a minute is due in a minute by every clock.
    let theirs = now + TimeDelta::hours(1);
    let there = on_postgres(url).with_clock(Arc::new(SimulatedClock::at(theirs)));
    let row = &sending[0];
    let retry = OutboxState::Retry { at: theirs + TimeDelta::minutes(1), error: "busy".into() };
    there.outbox_record(row.id, row.attempts, theirs, &retry).await.unwrap();
    let due = async |seconds| {
        let rows =
            here.outbox_lease(now + TimeDelta::seconds(seconds), lease, 9, &[], &[]).await.unwrap();
        rows.iter().filter(|leased| leased.id == row.id).count()
    };
    assert_eq!((due(50).await, due(70).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_ahead_judges_no_minute_to_come() {
    let now = SystemClock::new().now();
    let theirs = now + TimeDelta::minutes(20);
    let clock = Arc::new(SimulatedClock::at(theirs));
    let store = Arc::new(on_postgres(fresh_database().await).with_clock(clock.clone()));
    store.migrate().await.unwrap();
    claim_empty(&*store, 1).await;
    let tweet = scored("1", "united", theirs, &["united"], 0.9);
    let advances = vec![Advance { event_time_max: Some(theirs), ..advance(0, 0, 1) }];
    store.commit(&batch(vec![tweet], advances)).await.unwrap();
    let closed = Evaluator::new(store, &Settings::default(), clock).evaluate().await.unwrap();
    assert!(closed.is_some_and(|closed| closed < Minute::of(now)), "{closed:?} at {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_written_completely_or_not_at_all() {
    // Each table in turn refuses its row; earlier writes must be rolled back.
    let store = fresh().await;
    let id = open(&store, "united", 10).await;
    let before = detector_state(&store, "united").await;
    for table in ["incidents", "outbox", "incident_receivers", "incident_events"] {
        let sql = format!("ALTER TABLE {table} ADD CONSTRAINT no CHECK (false) NOT VALID");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(store.pool()).await.unwrap();
        for step in [Transition::Updated, Transition::Resolved] {
            let step = as_bad_as(decision("united", Some(10), 11, Some(step)), Severity::Critical);
            let error = store.decide(&step).await.expect_err("refused");
            assert!(error.is_about_the_rows(), "{table}: {error}");
        }
        let sql = format!("ALTER TABLE {table} DROP CONSTRAINT no");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(store.pool()).await.unwrap();
        assert_eq!(detector_state(&store, "united").await, before, "{table}");
        assert_eq!(store.events(id).await.unwrap().len(), 1, "{table}");
        assert_eq!(store.totals().await.unwrap().outbox_pending, 2, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joinable_notification_that_a_sender_locks_is_skipped() {
    let store = fresh().await;
    let host = monitor_store::Delivery { group: true, ..delivery("comms") };
    let opened =
        |brand| notifying(decision(brand, None, 10, Some(Transition::Opened)), vec![host.clone()]);
    decide(&store, opened("united")).await;
    let mut sender = store.pool().begin().await.unwrap();
    sqlx::query("SELECT 1 FROM outbox FOR UPDATE").execute(&mut *sender).await.unwrap();
    decide(&store, opened("delta")).await;
    sender.rollback().await.unwrap();
    assert_eq!(store.totals().await.unwrap().outbox_pending, 2, "a row of its own");
    decide(&store, opened("klm")).await;
    assert_eq!(store.totals().await.unwrap().outbox_pending, 2, "joins again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_given_up_leaves_no_answer_behind() {
    let url = fresh_database().await;
    let settings =
        config::Store { url: url.clone(), connections_max: 1, ..config::Store::default() };
    let store = PostgresStore::connect(&settings).unwrap();
    store.migrate().await.unwrap();
    claim_empty(&store, 1).await;
    let of =
        |id: &str, from| batch(vec![tweet(id, &["united"], 0.9)], vec![advance(0, from, from + 1)]);
    store.commit(&of("1", 0)).await.unwrap();

    // COPY waits in the middle of its rows.
    let mut other = PgConnection::connect(&url).await.unwrap();
    let week: String = sqlx::query_scalar("SELECT tableoid::regclass::text FROM scores")
        .fetch_one(&mut other)
        .await
        .unwrap();
    let mut lock = other.begin().await.unwrap();
    let sql = format!("LOCK TABLE {week} IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *lock).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_secs(1), store.commit(&of("2", 1))).await;
    assert!(given_up.is_err(), "{given_up:?}");
    lock.rollback().await.unwrap();

    for (id, from) in [("2", 1), ("3", 2)] {
        assert_eq!(store.commit(&of(id, from)).await.unwrap().new, 1, "{id}");
        assert_eq!(positions(&store).await, [from + 1], "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_notification_that_a_sender_locks_is_waited_for() {
    let store = fresh().await;
    let held = monitor_store::Delivery { not_before: Some(noon()), ..delivery("comms") };
    let opened = decision("united", None, 10, Some(Transition::Opened));
    decide(&store, notifying(opened, vec![held])).await;
    let mut sender = store.pool().begin().await.unwrap();
    sqlx::query("SELECT 1 FROM outbox FOR UPDATE").execute(&mut *sender).await.unwrap();
    let updated = decision("united", Some(10), 11, Some(Transition::Updated));
    let updated = notifying(updated, vec![delivery("comms")]);
    let deciding = decide(&store, updated);
    tokio::pin!(deciding);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut deciding).await;
    assert!(early.is_err(), "it waits for the sender");
    sender.rollback().await.unwrap();
    deciding.await;
    let before_noon = noon() - chrono::TimeDelta::hours(1);
    let due = store.outbox_lease(before_noon, Duration::from_secs(9), 9, &[], &[]).await.unwrap();
    assert_eq!(due.len(), 2, "the held opening is due at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_evidence_hides_no_incident() {
    let store = fresh().await;
    let id = open(&store, "united", 10).await;
    let table = [
        (
            "another cause's",
            r#"UPDATE incidents SET evidence = '{"kind": "lag", "behind_minutes": 1, "limit_minutes": 1}'"#,
        ),
        ("no object", "UPDATE incidents SET evidence = '[]'"),
        ("of no kind", r#"UPDATE incidents SET evidence = '{"kind": "tides"}'"#),
    ];
    for (name, sql) in table {
        run(&store, sql).await;
        let kept = store.incident(id).await.unwrap().expect(name);
        let Evidence::Share(evidence) = kept.evidence else { panic!("{name}: {kept:?}") };
        assert_eq!((evidence.rule, evidence.observed.total), ("unreadable", 0), "{name}");
        assert_eq!(store.incidents(9).await.unwrap(), std::slice::from_ref(&kept), "{name}");
        assert_eq!(detector_state(&store, "united").await.open, Some(kept), "{name}: still open");
    }
    assert_eq!(
        decide(&store, decision("united", Some(10), 11, Some(Transition::Resolved))).await,
        Some(id),
        "and can be resolved"
    );
    run(
        &store,
        r#"UPDATE incident_events SET suppressed = suppressed
           || '[{"receiver": "hook", "reason": "of a later version", "detail": ""}]'"#,
    )
    .await;
    let events = store.events(id).await.unwrap();
    assert_eq!(events[0].suppressed, [suppressed("desk")], "unknown reasons are left out");
    open(&store, "delta", 20).await;
    run(&store, "UPDATE incidents SET cause = 'tides' WHERE brand = 'united'").await;
    assert_eq!(store.incidents(9).await.unwrap().len(), 1, "a cause of another version");
    assert_eq!(store.incident(id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn infinite_and_nan_figures_are_stored_as_finite_ones() {
    let store = fresh().await;
    let mut opened = decision("united", None, 10, Some(Transition::Opened));
    let step = opened.step.as_mut().unwrap();
    if let Evidence::Share(evidence) = &mut step.evidence {
        (evidence.statistic, evidence.dispersion) = (f64::INFINITY, f64::NAN);
    }
    let id = decide(&store, opened).await.unwrap();
    let kept = store.incident(id).await.unwrap().unwrap();
    let evidence = kept.evidence.share().unwrap();
    assert_eq!((evidence.statistic, evidence.dispersion), (1e300, 0.0));
    assert_eq!(evidence.observed.total, 120, "the rest is unchanged");
}

/// Rows of a database of the first schema.
const OLD_ROWS: &str = r#"
INSERT INTO incidents (brand, opened_at, resolved_at, window_minutes, observed_total,
    observed_negative, baseline_total, baseline_negative, expected_share, z, z_min)
VALUES ('united', '2015-02-23T00:10Z', '2015-02-23T01:00Z', 120, 200, 120, 800, 320, 0.4, 5.5, 4.5),
       ('united', '2015-02-23T03:10Z', NULL, 120, 100, 60, 900, 360, 0.4, 4.75, 4.5),
       ('delta', '2015-02-23T02:00Z', NULL, 120, 0, 0, 0, 0, 0.5, 4.6, 4.5);
INSERT INTO brand_states (brand, judged, calm_since)
VALUES ('united', '2015-02-23T04:00Z', NULL), ('klm', '2015-02-23T03:59Z', NULL);
INSERT INTO outbox (key, receiver, notification, state, attempts, due_at, last_error, ended_at)
SELECT format('incident-%s-%s-%s', id, step, receiver), receiver,
       jsonb_build_object('incident_id', id, 'transition', step, 'brand', 'united',
           'at', '2015-02-23T03:10:00Z', 'opened_at', '2015-02-23T03:10:00Z',
           'window_minutes', 120,
           'observed', '{"total": 100, "negative": 60, "share": 0.6}'::jsonb,
           'baseline', '{"total": 900, "negative": 360, "share": 0.4}'::jsonb,
           'expected_share', 0.4, 'z', 4.75, 'z_min', 4.5, 'reason', 'too many',
           'examples', '[{"tweet_id": "1", "text": "late", "created_at": "2015-02-23T03:00:00Z",
                          "negative": 0.9},
                         {"tweet_id": "2", "text": "again", "created_at": "2015-02-23T03:01:00Z",
                          "negative": 0.8}]'::jsonb,
           'curve', '[{"at": "2015-02-23T02:00:00Z", "total": 10, "negative": 4}]'::jsonb),
       state, attempts, '-infinity', error, ended_at
FROM (VALUES
    (1, 'opened', 'comms', 'sent', 1, NULL, '2015-02-23T00:11Z'::timestamptz),
    (1, 'opened', 'hook', 'dead', 20, 'no such host', '2015-02-23T01:11Z'),
    (1, 'resolved', 'comms', 'sent', 2, NULL, '2015-02-23T01:01Z'),
    (2, 'opened', 'comms', 'sent', 1, NULL, '2015-02-23T03:11Z'),
    (2, 'opened', 'hook', 'pending', 3, 'busy', NULL))
    AS o (id, step, receiver, state, attempts, error, ended_at);
INSERT INTO checkpoints (topic, "partition", position) VALUES ('tweets', 0, 41);
INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model)
VALUES ('1', '2015-02-23T03:00Z', '{united}', 'late', 0.9, 'NEGATIVE', 'test@1');
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_schema_is_upgraded() {
    let store = on_postgres(fresh_database().await);
    let migrator = Migrator::new(Path::new("migrations")).await.unwrap();
    migrator.run_to(1, store.pool()).await.unwrap();
    run(&store, OLD_ROWS).await;
    store.migrate().await.unwrap();

    // Incidents stay; open ones are closed at the last evaluated minute of their brand.
    let incidents = store.incidents(9).await.unwrap();
    let found: Vec<_> = incidents
        .iter()
        .map(|i| (i.id.0, i.brand.as_str(), i.severity, i.resolved.map(|m| m.0 - minute(0).0)))
        .collect();
    let warning = Severity::Warning;
    assert_eq!(
        found,
        [
            (2, "united", warning, Some(240)),
            (3, "delta", warning, Some(120)),
            (1, "united", warning, Some(60)),
        ]
    );
    let evidence = *incidents[0].evidence.share().unwrap();
    assert_eq!((evidence.rule, evidence.since), ("another", minute(190 - 119)));
    assert_eq!((evidence.observed.total, evidence.observed.negative), (100, 60));
    assert_eq!((evidence.baseline.total, evidence.baseline.negative), (900, 360));
    assert_eq!((evidence.expected_share, evidence.statistic), (0.4, 4.75));
    let view = sqlx::query("SELECT * FROM share_incidents WHERE id = 2");
    let view = view.fetch_one(store.pool()).await.unwrap();
    assert_eq!(view.get::<i64, _>("observed_negative"), 60);
    assert_eq!(view.get::<i32, _>("window_minutes"), 120);

    let events = async |id| {
        let events = store.events(IncidentId(id)).await.unwrap();
        assert!(events.iter().all(|event| event.suppressed.is_empty()), "no reasons were stored");
        events.into_iter().map(|e| (e.kind, e.notified.join(" "))).collect::<Vec<_>>()
    };
    let event = |kind: &str, notified: &str| (kind.to_owned(), notified.to_owned());
    assert_eq!(events(1).await, [event("opened", "comms hook"), event("resolved", "comms")]);
    assert_eq!(events(2).await, [event("opened", "comms hook"), event("resolved", "comms hook")]);
    assert_eq!(events(3).await, [event("opened", ""), event("resolved", "")]);

    // Evaluation resumes where it stopped.
    let known = detector_state(&store, "united").await;
    assert_eq!((known.evaluated, known.open), (minute(240), None));
    assert_eq!(detector_state(&store, "klm").await.evaluated, minute(239));
    let next = open_after(&store).await;
    assert!(next.0 > 3);

    // Unsent notifications are sent, receivers that were notified of an open incident are
    // notified of its end, and dead notifications can be requeued.
    assert_eq!(store.dead_notifications(9).await.unwrap().len(), 1);
    assert_eq!(store.requeue(None, None).await.unwrap(), 1);
    let rows = send_all(&store).await;
    let found: Vec<_> =
        rows.iter().map(|r| (r.key.as_str(), r.notification.thread.as_str())).collect();
    assert_eq!(
        found[..4],
        [
            ("incident-1-opened-hook", "incident-1-opened-hook"),
            ("incident-2-opened-hook", "incident-2-opened-hook"),
            ("incident-2-resolved-comms", "incident-2-opened-comms"),
            ("incident-2-resolved-hook", "incident-2-opened-hook"),
        ]
    );
    let pending = &rows[1].notification;
    assert_eq!((pending.transition.as_str(), pending.reason.as_str()), ("opened", "too many"));
    assert_eq!((pending.test, pending.cause(), pending.curve.len()), (false, Cause::Share, 1));
    let texts: Vec<_> = pending.examples.iter().map(|e| (e.text.as_str(), e.alike)).collect();
    assert_eq!(texts, [("late", 1), ("again", 1)]);
    let closed = &rows[2].notification;
    assert_eq!((closed.transition.as_str(), closed.at), ("resolved", minute(240).start()));

    // What was counted before is the newest tweet's model's.
    let switches = store.switches().await.unwrap();
    assert_eq!(switches.as_slice().len(), 1);
    assert_eq!(switches.at(minute(0)).unwrap().model, "test@1");

    let progress = store.progress("tweets").await.unwrap();
    assert_eq!((progress[0].position.0, progress[0].record_time_max), (41, None));
    let tweets = store.window_tweets("united", minute(0), minute(600), 9).await.unwrap();
    assert_eq!((tweets.len(), tweets[0].author.as_ref(), tweets[0].truncated), (1, None, false));
}

async fn open_after(store: &PostgresStore) -> IncidentId {
    decide(store, decision("united", Some(240), 241, Some(Transition::Opened))).await.unwrap()
}

/// PgBouncer before the test server, ended when dropped.
struct PgBouncer(std::process::Child);

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pgbouncer"]
async fn a_connection_pooler_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let options: sqlx::postgres::PgConnectOptions = fresh_database().await.parse().unwrap();
    let (host, port) = (options.get_host(), options.get_port());
    let (user, database) = (options.get_username(), options.get_database().unwrap());
    for extra in ["", "ignore_startup_parameters = options"] {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={port} user={user}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {free}\nauth_type = any\n\
             unix_socket_dir =\npool_mode = transaction\nuser = nobody\n{extra}\n"
        );
        std::fs::write(&file, text).unwrap();
        // As root, it runs as another user.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let pooler = PgBouncer(std::process::Command::new("pgbouncer").arg(&file).spawn().unwrap());
        let store = on_postgres(format!("postgres://{user}@127.0.0.1:{free}/{database}"));
        let refused = async {
            loop {
                match store.migrate().await.expect_err("refused") {
                    error if error.is_transient() => {
                        tokio::time::sleep(Duration::from_millis(50)).await
                    }
                    error => return error.to_string(),
                }
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
        assert!(
            refused.contains("leads to a connection pooler at 127.0.0.1:"),
            "{extra}: {refused}"
        );
        drop(pooler);
    }
}
