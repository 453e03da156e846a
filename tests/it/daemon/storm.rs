//! A storm of rebalances: other members join the group and leave it again and again while tweets come.
//! `MONITOR_STORM_S` sets for how long (20 seconds if it is not set), `MONITOR_SEED` repeats a run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::*;

/// Members that come and go, each in its own time.
const GUESTS: u64 = 2;
/// Seconds of the airline week.
const WEEK_S: f64 = 7.0 * 86_400.0;

/// Joins the group and leaves it until `stop`; counts each time in `visits`, and in `turns` where it was given
/// partitions. It stores nothing of what it reads.
fn come_and_go(
    brokers: &str,
    mut random: ChaCha8Rng,
    stop: &AtomicBool,
    visits: &[AtomicUsize; 2],
) {
    while !stop.load(Ordering::Relaxed) {
        let guest: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "monitor")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "300")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .create()
            .unwrap();
        guest.subscribe(&[TOPIC]).unwrap();
        visits[0].fetch_add(1, Ordering::Relaxed);
        let mut was_given = false;
        for _ in 0..random.random_range(2..60) {
            drop(guest.poll(Duration::from_millis(50)));
            was_given |= guest.assignment().unwrap().count() > 0;
        }
        visits[1].fetch_add(usize::from(was_given), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn a_storm_of_rebalances_loses_and_doubles_nothing() {
    let storm_s = from_environment("MONITOR_STORM_S").unwrap_or(20);
    let mut random = seeded();
    let mut rig = Rig::start(Setup { static_member: false, ..Setup::new(Storage::Memory) }).await;
    // Members hear of a rebalance with their next heartbeat.
    let session = r#""session.timeout.ms" = "6000""#;
    rig.change_settings(&[(session, &format!(r#"{session}, "heartbeat.interval.ms" = "300""#))]);
    for _ in 0..2 {
        rig.run();
    }
    rig.until("all partitions are read", SOON, async || {
        rig.count("SELECT count(*) FROM checkpoints").await == 4
    })
    .await;
    let before_mb = rig.memory_mb();
    let replay = rig.replay(WEEK_S / storm_s as f64);
    let (stop, visits) =
        (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicUsize::new(0) }; 2]));
    let guests: Vec<_> = (0..GUESTS)
        .map(|_| {
            let (brokers, stop, visits) = (rig.broker.internal(), stop.clone(), visits.clone());
            let random = ChaCha8Rng::seed_from_u64(random.random());
            tokio::task::spawn_blocking(move || come_and_go(&brokers, random, &stop, &visits))
        })
        .collect();
    let (mut answers, mut ready, mut most_mb) = (0, 0, 0);
    // On a busy machine it lasts until another member was given partitions once.
    let given = || visits[1].load(Ordering::Relaxed);
    while answers < storm_s * 2 || (given() == 0 && answers < storm_s * 8) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = rig.ready().await.expect("it says whether it is ready, all the time");
        answers += 1;
        ready += usize::from(answer.0);
        most_mb = most_mb.max(rig.memory_mb());
    }
    stop.store(true, Ordering::Relaxed);
    for guest in guests {
        guest.await.unwrap();
    }
    let (given, visits) = (given(), visits[0].load(Ordering::Relaxed));
    println!(
        "{visits} visits of other members, {given} of them given partitions; ready in {ready} of {answers} answers; \
         memory: {before_mb} MB before, {most_mb} MB at most"
    );
    assert!(visits as u64 >= storm_s / 2, "{visits} visits in {storm_s} s are no storm");
    assert!(given > 0, "the others took partitions away");
    assert!(most_mb < before_mb + 250, "{before_mb} MB before, {most_mb} MB during the storm");
    assert_eq!(replay.await.unwrap().sent, WEEK_ROWS);
    rig.until("all records are read", 3 * SOON, async || {
        rig.read().await == WEEK_ROWS.cast_signed()
    })
    .await;
    rig.until("it is ready again", SOON, async || rig.ready().await.is_some_and(|it| it.0)).await;
    rig.assert_week_is_complete().await;
    for _ in 0..2 {
        assert!(rig.terminate(), "exits with success on SIGTERM");
    }
}
