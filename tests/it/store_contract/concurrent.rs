//! Several daemons on one Postgres at the same time: random commits of the same tweets in opposite order, with echoes,
//! edits and deletions, claims, leases, decisions. `MONITOR_ROUNDS` sets how many steps each daemon takes (60 if it is not set), `MONITOR_SEED` repeats
//! what they try, if not the order in which Postgres gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Acknowledgement, IncidentId, Offset, Removed, StartAt, Transition};
use monitor_store::{
    Batch, Claim, DeadLetter, Decision, OutboxRow, OutboxState, PostgresStore, Removal,
    ScoredTweet, Store, StoreError,
};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fixtures::*;
use super::on_postgres;
use crate::support::{fresh_database, from_environment, seeded};

const DAEMONS: u64 = 4;
const PARTITIONS: i32 = 4;
const BRANDS: [&str; 3] = ["a", "b", "c"];
/// So short that rows are leased again while their first sender still works on them.
const LEASE: Duration = Duration::from_millis(5);

/// What all daemons did, together.
#[derive(Default)]
struct Done {
    ids: BTreeSet<String>,
    new: u64,
    not_judged: u64,
    echoes: u64,
    /// Edited or deleted.
    removed: u64,
    letters: BTreeSet<(i32, i64)>,
    commits: u64,
    fenced: u64,
    decided: BTreeMap<&'static str, u64>,
    overtaken: u64,
    steps: u64,
    /// Attempts by row of the outbox.
    leased: BTreeSet<(i64, u32)>,
    /// How attempts ended, by row: sent or dead.
    ended: BTreeMap<i64, Vec<(u32, &'static str)>>,
}

struct Daemon {
    store: PostgresStore,
    random: ChaCha8Rng,
    clock: SystemClock,
    done: Arc<Mutex<Done>>,
    /// Its positions; like a daemon's, they may be of the past.
    held: BTreeMap<i32, i64>,
}

impl Daemon {
    async fn step(&mut self) {
        match self.random.random_range(0..10) {
            0..4 => self.commit().await,
            4 => self.claim().await,
            5..7 => self.decide().await,
            7..9 => self.send().await,
            _ => self.look().await,
        }
    }

    fn some_partitions(&mut self) -> Vec<i32> {
        let mut all: Vec<i32> = (0..PARTITIONS).collect();
        all.shuffle(&mut self.random);
        all.truncate(self.random.random_range(1..=PARTITIONS as usize));
        all
    }

    /// Takes partitions from whoever has them.
    async fn claim(&mut self) {
        let claims: Vec<_> = self
            .some_partitions()
            .into_iter()
            .map(|n| Claim { seen: None, ..claim(n, 0, 1_000_000) })
            .collect();
        let resumed = self.store.claim(&claims, StartAt::Earliest).await.expect("claimed");
        for (claim, resume) in claims.iter().zip(resumed) {
            self.held.insert(claim.partition.partition, resume.position.0);
        }
    }

    /// A tweet of the number always has the same time, brands and score, so that all daemons' batches agree.
    fn tweet(n: u64) -> ScoredTweet {
        let has_voice = n.is_multiple_of(3);
        let back = if has_voice { n % 120 } else { n * 1231 % 40_000 };
        let time = at("2026-11-24T10:00:00Z") - TimeDelta::minutes(back as i64);
        let brands: &[&str] = [&["a"][..], &["a", "b"], &["b", "c"], &[]][n as usize % 4];
        let p = (n % 10) as f32 / 10.0;
        let mut tweet = scored(&format!("{}", n * 7919 % 100_003), "text", time, brands, p);
        if n.is_multiple_of(9) {
            (tweet.score, tweet.tweet.language) = (None, "fr".parse().ok());
        }
        tweet.heard = if has_voice { Heard::OnceAnHour(n % 2) } else { Heard::Always };
        tweet
    }

    /// Tweets of a range that all daemons choose from, upwards or downwards, and some dead letters.
    async fn commit(&mut self) {
        let partitions = self.some_partitions();
        if partitions.iter().any(|n| !self.held.contains_key(n)) {
            return self.claim().await;
        }
        let (mut advances, mut letters) = (Vec::new(), Vec::new());
        for &n in &partitions {
            let from = self.held[&n];
            let to = from + self.random.random_range(1..20);
            advances.push(advance(n, from, to));
            if self.random.random_ratio(1, 4) {
                letters.push(DeadLetter { offset: Offset(from), ..dead_letter(n, from, "bad") });
            }
        }
        let first = self.random.random_range(0..40) * 10;
        let mut tweets: Vec<_> = (first..first + 60).map(Self::tweet).collect();
        if self.random.random() {
            tweets.reverse();
        }
        let edit = tweets.choose(&mut self.random).expect("a tweet").clone();
        let tweet = edit.tweet.clone().with_edit_of(vec![edit.tweet.id.clone()]);
        tweets.push(ScoredTweet { tweet, ..edit });
        let others = [first + 60, first + 70, first + 80].map(|n| Removal {
            tweet_id: Self::tweet(n).tweet.id,
            why: Removed::Deleted,
            keeps_count: false,
        });
        let removals = others.into_iter().filter(|_| self.random.random_ratio(1, 9)).collect();
        let batch = Batch { scores: tweets, removals, dead_letters: letters, advances };
        let committed = self.store.commit(&batch).await;
        let mut done = self.done.lock().unwrap();
        match committed {
            Ok(committed) => {
                done.commits += 1;
                done.new += committed.new;
                done.not_judged += committed.not_judged;
                done.echoes += committed.echoes;
                done.removed += committed.removed;
                done.ids.extend(batch.scores.iter().map(|it| it.tweet.id.as_str().to_owned()));
                let places =
                    batch.dead_letters.iter().map(|it| (it.partition.partition, it.offset.0));
                done.letters.extend(places);
                for advance in &batch.advances {
                    self.held.insert(advance.partition.partition, advance.to.0);
                }
            }
            Err(StoreError::Fenced { partition, .. }) => {
                done.fenced += 1;
                self.held.remove(&partition.partition);
            }
            Err(error) => panic!("commit: {error}"),
        }
    }

    /// A decision on what is known now, which another daemon may overtake.
    async fn decide(&mut self) {
        use Transition::{Opened, Reopened, Resolved, Updated};
        let brand = *BRANDS.choose(&mut self.random).expect("a brand");
        let known = self.store.detector_state(brand, monitor_core::domain::Watch::Buzz);
        let known = known.await.expect("read");
        let before = known.as_ref().map(|it| it.evaluated.0 - minute(0).0);
        let possible: &[Transition] = match &known {
            Some(state) if state.open.is_some() => &[Updated, Resolved],
            Some(state) if state.last.is_some() => &[Opened, Reopened],
            _ => &[Opened],
        };
        let step =
            self.random.random::<bool>().then(|| *possible.choose(&mut self.random).unwrap());
        let next: Decision = decision(brand, before, before.unwrap_or(0) + 1, step);
        let decided = self.store.decide(&next).await;
        let mut done = self.done.lock().unwrap();
        match decided {
            Ok(_) => {
                *done.decided.entry(brand).or_default() += 1;
                done.steps += u64::from(step.is_some());
            }
            Err(StoreError::Overtaken { .. }) => done.overtaken += 1,
            Err(error) => panic!("decide {step:?}: {error}"),
        }
    }

    /// Leases notifications, and sends some, gives some up, fails with some, and dies with others.
    async fn send(&mut self) {
        let now = self.clock.now();
        let limit = self.random.random_range(1..9);
        let rows = self.store.outbox_lease(now, LEASE, limit, &[], &[]).await.expect("leased");
        self.note_leased(&rows);
        for row in rows {
            let (outcome, word) = match self.random.random_range(0..8) {
                0..3 => (OutboxState::Sent, Some("sent")),
                3 => (OutboxState::Dead { error: "gone".into() }, Some("dead")),
                4..6 => (OutboxState::Retry { at: now + LEASE, error: "busy".into() }, None),
                6 => {
                    tokio::time::sleep(2 * LEASE).await;
                    (OutboxState::Sent, Some("sent"))
                }
                _ => continue,
            };
            self.record(&row, now, &outcome, word).await;
        }
    }

    fn note_leased(&self, rows: &[OutboxRow]) {
        let mut done = self.done.lock().unwrap();
        for row in rows {
            assert!(done.leased.insert((row.id, row.attempts)), "{row:?} is leased twice");
        }
    }

    async fn record(
        &self,
        row: &OutboxRow,
        now: DateTime<Utc>,
        outcome: &OutboxState,
        word: Option<&'static str>,
    ) {
        self.store.outbox_record(row.id, row.attempts, now, outcome).await.expect("recorded");
        if let Some(word) = word {
            let mut done = self.done.lock().unwrap();
            done.ended.entry(row.id).or_default().push((row.attempts, word));
        }
    }

    /// What the page and people do meanwhile.
    async fn look(&mut self) {
        self.store.totals().await.expect("totals");
        let incidents = self.store.incidents(5).await.expect("incidents");
        let by = Acknowledgement { at: noon(), by: "ada".into(), note: String::new() };
        if let Some(incident) = incidents.choose(&mut self.random) {
            assert!(self.store.acknowledge(incident.id, &by).await.expect("acknowledged"));
        }
        let n = self.random.random_range(0..PARTITIONS);
        if let Some(&position) = self.held.get(&n) {
            let n = partition(n);
            let marked = self.store.mark_at_end(&n, Offset(position), true).await;
            assert!(matches!(marked, Ok(()) | Err(StoreError::Fenced { .. })), "{marked:?}");
        }
    }
}

/// Rows in which a table of counts differs from what it should be by `scores`.
async fn differing(store: &PostgresStore, table: &str, fold: &str, columns: &str) -> i64 {
    let total = if table == "minute_counts" { "total" } else { "tweets" };
    let sql = format!(
        "SELECT count(*) FROM (({fold} EXCEPT ALL SELECT {columns} FROM {table} WHERE {total} > 0)
         UNION ALL (SELECT {columns} FROM {table} WHERE {total} > 0 EXCEPT ALL {fold})) AS d"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(store.pool()).await.unwrap()
}

async fn assert_counts_are_folds(store: &PostgresStore) {
    let by = |what: &str| {
        format!(
            "SELECT brand, date_trunc('{what}', created_at, 'UTC'), coalesce(model, ''),
                    coalesce(language, ''), count(*),
                    coalesce(count(*) FILTER (WHERE label = 'NEGATIVE'), 0), count(*) FILTER (WHERE echo)
             FROM scores, unnest(brands) AS brand GROUP BY 1, 2, 3, 4"
        )
    };
    let of_minute = "SELECT brand, date_trunc('minute', created_at, 'UTC'), model, count(*),
                            count(*) FILTER (WHERE label = 'NEGATIVE'), count(*) FILTER (WHERE echo)
                     FROM scores, unnest(brands) AS brand WHERE label IS NOT NULL GROUP BY 1, 2, 3";
    let not_judged = "SELECT brand, date_trunc('minute', created_at, 'UTC'), language, count(*)
                      FROM scores, unnest(brands) AS brand WHERE label IS NULL GROUP BY 1, 2, 3";
    for (table, fold, columns) in [
        ("minute_counts", of_minute, "brand, minute, model, total, negative, echoes"),
        ("not_judged_counts", not_judged, "brand, minute, language, tweets"),
        ("hour_counts", &by("hour"), "brand, hour, model, language, tweets, negative, echoes"),
        ("day_counts", &by("day"), "brand, day, model, language, tweets, negative, echoes"),
    ] {
        assert_eq!(differing(store, table, fold, columns).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_at_the_same_time_lose_repeat_and_block_nothing() {
    let rounds = from_environment("MONITOR_ROUNDS").unwrap_or(60);
    let mut random = seeded();
    let url = fresh_database().await;
    let store = on_postgres(url.clone());
    store.migrate().await.unwrap();
    let done = Arc::new(Mutex::new(Done::default()));
    let mut daemons = tokio::task::JoinSet::new();
    for _ in 0..DAEMONS {
        let mut daemon = Daemon {
            store: on_postgres(url.clone()),
            random: ChaCha8Rng::seed_from_u64(random.random()),
            clock: SystemClock::new(),
            done: done.clone(),
            held: BTreeMap::new(),
        };
        daemons.spawn(async move {
            for _ in 0..rounds {
                daemon.step().await;
            }
            daemon
        });
    }
    let last = daemons.join_all().await.remove(0);
    // The rest of the outbox, whoever has leased it.
    loop {
        let far = at("2100-01-01T00:00:00Z");
        let rows = last.store.outbox_lease(far, LEASE, 1000, &[], &[]).await.expect("leased");
        if rows.is_empty() {
            break;
        }
        last.note_leased(&rows);
        for row in rows {
            last.record(&row, far, &OutboxState::Sent, Some("sent")).await;
        }
    }
    let done = std::mem::take(&mut *done.lock().unwrap());
    println!(
        "{} commits, {} fenced, {} echoes, {} removed; {:?} decisions, {} overtaken; {} leases of {} notifications",
        done.commits,
        done.fenced,
        done.echoes,
        done.removed,
        done.decided,
        done.overtaken,
        done.leased.len(),
        done.ended.len()
    );
    check(&store, &done).await;
}

async fn check(store: &PostgresStore, done: &Done) {
    let number = async |sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
    };
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(number(deadlocks).await, 0, "deadlocks");

    assert!(done.commits > 0 && done.new > 0, "they store something");
    assert!(done.echoes > 0 && done.removed > 0, "they repeat, edit and delete something");
    let stored: Vec<String> =
        sqlx::query_scalar(r#"SELECT tweet_id FROM scores ORDER BY tweet_id COLLATE "C""#)
            .fetch_all(store.pool())
            .await
            .unwrap();
    assert_eq!(stored, done.ids.iter().cloned().collect::<Vec<_>>(), "each tweet once");
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.scores, totals.not_judged), (done.new, done.not_judged), "totals");
    assert_eq!(done.new + done.not_judged, stored.len() as u64, "each is new to one daemon");
    assert_counts_are_folds(store).await;
    let letters: BTreeSet<(i32, i64)> =
        sqlx::query_as::<_, (i32, i64)>(r#"SELECT "partition", "offset" FROM dead_letters"#)
            .fetch_all(store.pool())
            .await
            .unwrap()
            .into_iter()
            .collect();
    assert_eq!(letters, done.letters, "dead letters");
    assert_eq!(totals.dead_letters, letters.len() as u64, "each dead letter once");

    for (brand, decisions) in &done.decided {
        let state = detector_state(store, brand).await;
        assert_eq!(state.evaluated, minute(*decisions as i64), "{brand}: one minute a decision");
    }
    let events = "SELECT count(*) FROM incident_events WHERE kind <> 'acknowledged'";
    assert_eq!(number(events).await, done.steps.cast_signed(), "an event for each step");
    assert_eq!(number("SELECT count(*) FROM outbox").await, 2 * done.steps.cast_signed());
    let rows: Vec<(i64, String, i32)> = sqlx::query_as("SELECT id, state, attempts FROM outbox")
        .fetch_all(store.pool())
        .await
        .unwrap();
    for (id, state, attempts) in rows {
        let ended = done.ended.get(&id).map(Vec::as_slice).unwrap_or_default();
        let last = (attempts.unsigned_abs(), state.as_str());
        let same = ended.iter().filter(|it| **it == last).count();
        assert_eq!(same, 1, "notification {id} is {last:?}, of the outcomes {ended:?}");
        let later = done.leased.range((id, last.0 + 1)..(id + 1, 0)).count();
        assert_eq!(later, 0, "notification {id} was leased after it was {state}");
    }
    let open = "SELECT count(*) FROM incidents WHERE resolved_at IS NULL";
    assert!(number(open).await <= BRANDS.len() as i64, "one open incident of a brand");
    assert!(store.incident(IncidentId(1)).await.unwrap().is_some() || done.steps == 0);
}
