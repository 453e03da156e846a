//! Three daemons in one group, killed at random moments again and again, and Postgres and the broker with
//! them. `MONITOR_KILLS` sets how often (100 if it is not set), `MONITOR_SEED` repeats a run.

use super::*;

/// Share of the kills before which the daemons must have stored something.
const PROGRESS_EVERY: u32 = 4;
/// Seconds of the airline week.
const WEEK_S: f64 = 7.0 * 86_400.0;
/// How long a kill takes, roughly: the week is replayed for so long.
const KILL_S: f64 = 1.5;

/// What dies next.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Daemon,
    /// By SIGTERM.
    DaemonPolitely,
    Postgres,
    Broker,
}

impl Victim {
    fn any(random: &mut ChaCha8Rng) -> Self {
        match random.random_range(0..100) {
            0..75 => Self::Daemon,
            75..85 => Self::DaemonPolitely,
            85..95 => Self::Postgres,
            _ => Self::Broker,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn a_hundred_kills_lose_and_duplicate_nothing() {
    let kills = from_environment("MONITOR_KILLS").unwrap_or(100);
    println!("{kills} kills");
    let mut random = seeded();
    let setup = Setup { static_member: false, ..Setup::new(Storage::Disk) };
    let mut rig = Rig::start(setup).await;
    // Two keep their place in the group over a restart, the third one joins anew.
    let mut names = vec!["one", "two", ""];
    let run = |rig: &mut Rig, name: &str| match name {
        "" => rig.run(),
        name => rig.run_with(&["--set", &format!("kafka.properties.group.instance.id={name}")]),
    };
    for name in &names {
        run(&mut rig, name);
    }
    rig.until("they have all partitions", 2 * SOON, async || {
        rig.count("SELECT count(*) FROM checkpoints").await == 4
    })
    .await;
    let replay = rig.replay(WEEK_S / (KILL_S * kills as f64));
    let (mut done, mut ended, mut servers, mut brokers) = (0, 0, 0, 0);
    while done < kills {
        let pause = Duration::from_millis(random.random_range(0..1000));
        tokio::time::sleep(pause).await;
        if random.random_ratio(1, PROGRESS_EVERY) {
            let before = rig.read().await.max(0);
            rig.until("they store records", 2 * SOON, async || {
                rig.read().await > before || before == WEEK_ROWS as i64
            })
            .await;
        }
        let place = random.random_range(0..rig.daemons.len());
        match Victim::any(&mut random) {
            victim @ (Victim::Daemon | Victim::DaemonPolitely) => {
                rig.daemons.swap(0, place);
                names.swap(0, place);
                if matches!(victim, Victim::Daemon) {
                    rig.kill();
                    done += 1;
                } else {
                    let asked = SystemClock::new();
                    // A daemon that has just started may not yet listen for signals.
                    rig.terminate();
                    let took = asked.elapsed();
                    assert!(took < Duration::from_secs(10), "it ended {took:?} after SIGTERM");
                    ended += 1;
                }
                let name = names.remove(0);
                run(&mut rig, name);
                names.push(name);
            }
            Victim::Postgres => {
                rig.postgres.kill_server();
                tokio::time::sleep(pause).await;
                tokio::task::block_in_place(|| rig.postgres.start_server().unwrap());
                servers += 1;
            }
            Victim::Broker => {
                rig.broker.kill();
                tokio::time::sleep(pause).await;
                tokio::task::block_in_place(|| rig.broker.start_again());
                brokers += 1;
            }
        }
        if done % 50 == 0 {
            println!("{done} kills, {} records read", rig.read().await);
        }
    }
    println!(
        "{done} daemons killed, {ended} ended by SIGTERM; Postgres killed {servers} times, the broker \
         {brokers} times"
    );
    let sent = replay.await.unwrap();
    assert_eq!((sent.sent, sent.failed), (WEEK_ROWS, 0));
    rig.until("all tweets are stored", 5 * SOON, async || {
        rig.count("SELECT count(*) FROM scores").await == WEEK_TWEETS
    })
    .await;
    rig.assert_week_is_complete().await;
    rig.until("every notification is sent", 2 * SOON, async || {
        rig.count("SELECT count(*) FROM outbox WHERE state <> 'sent'").await == 0
    })
    .await;
    let notified: BTreeSet<String> = sqlx::query_scalar("SELECT key FROM outbox")
        .fetch_all(&rig.pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let received = rig.mail_keys();
    println!("mails: {received:?}");
    assert_eq!(received.into_keys().collect::<BTreeSet<_>>(), notified, "each under its key");
    while !rig.daemons.is_empty() {
        assert!(rig.terminate(), "exits with success on SIGTERM");
    }
}
