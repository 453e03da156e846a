//! A bad network between the daemon and Postgres, the broker, the mail server and a webhook: each behind a proxy that is
//! slow, stalls and cuts at random. `MONITOR_FAULTS` sets how often (15 if it is not set), `MONITOR_SEED` repeats a run.

use monitor_embedded::{Kafka, KafkaOptions};
use rand::seq::IndexedRandom;

use super::*;
use crate::notify::rig::{HttpReceiver, SECRET, header};
use crate::support::proxy::{Line, Proxy};

/// Seconds of the airline week.
const WEEK_S: f64 = 7.0 * 86_400.0;
/// How long a fault and the time after it take, roughly.
const FAULT_S: f64 = 3.0;

/// The port at the end of `host:port` or of a URL without a path.
fn port(address: &str) -> u16 {
    let end = address.rsplit(':').next().unwrap();
    end.parse().unwrap_or_else(|_| panic!("no port in {address}"))
}

async fn kafka_behind(proxy: &Proxy) -> Broker {
    // A broker tells its clients where it is: there is the proxy.
    let advertised = format!(
        "advertised.listeners=CLIENTS://127.0.0.1:{},INTERNAL://127.0.0.1:{{internal}}",
        proxy.port()
    );
    let options = KafkaOptions { properties: vec![advertised], ..KafkaOptions::default() };
    let started = tokio::task::spawn_blocking(move || Kafka::start_with(&options).unwrap());
    let kafka = started.await.unwrap();
    proxy.lead_to(port(&kafka.brokers()));
    Broker::Kafka(kafka)
}

/// The brands of incidents and their causes. What a stalled partition delays is judged late, so that what was usual then,
/// and a minute at times, may differ.
fn causes(incidents: &[(String, String, Value)]) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    for (brand, _, phases) in incidents {
        let phases = phases.as_array().unwrap().iter();
        let kinds = phases.map(|phase| phase["opening"]["kind"].as_str().unwrap()).collect();
        found.push((brand.as_str(), kinds));
    }
    found.sort();
    found
}

async fn until_ready(rig: &Rig) {
    let ready = async || rig.ready().await.is_some_and(|(ready, _)| ready);
    rig.until("it is ready", 2 * SOON, ready).await;
}

/// Waits until the daemon says that this part is away.
async fn until_away(rig: &Rig, part: &str) {
    rig.until(&format!("it reports that {part} is away"), 2 * SOON, async || {
        rig.ready().await.is_some_and(|(ready, text)| !ready && text.contains(part))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn a_bad_network_loses_and_doubles_nothing() {
    let faults = from_environment("MONITOR_FAULTS").unwrap_or(15);
    let mut random = seeded();
    let kafka = Proxy::start().await;
    let broker = kafka_behind(&kafka).await;
    let direct = port(&broker.brokers());
    // Kafka takes a static member that joins again, because the answer was cut off, for another daemon, and fences it.
    let setup = Setup { static_member: false, ..Setup::new(Storage::Disk) };
    let mut rig = Rig::start_on(broker, setup).await;
    let receiver = HttpReceiver::start(Vec::new()).await;
    let postgres = Proxy::before(rig.postgres.port()).await;
    let mail = Proxy::before(rig.mail.address().port()).await;
    let hook = Proxy::before(port(&receiver.url)).await;
    let at = |port: u16| format!("127.0.0.1:{port}");
    let mail_port = |port: u16| format!("port = {port}\n");
    rig.change_settings(&[
        (&at(direct), &at(kafka.port())),
        (&at(rig.postgres.port()), &at(postgres.port())),
        (&mail_port(rig.mail.address().port()), &mail_port(mail.port())),
        (
            "[brands]",
            &format!(
                "[receivers.hook]\nkind = \"webhook\"\nurl = \"http://{}/hook\"\nallow_private = true\n\
                 secret = \"whsec_{SECRET}\"\n[brands]",
                at(hook.port())
            ),
        ),
    ]);
    // The rests of the circuit breaker would only make the test longer.
    rig.run_with(&[
        "--set",
        "delivery.retry_wait_ms=200",
        "--set",
        "delivery.retry_wait_ms_max=1000",
        "--set",
        "delivery.attempts_max=1000",
        "--set",
        "delivery.circuit_failures=1000",
    ]);
    until_ready(&rig).await;
    let replay = rig.replay(WEEK_S / (FAULT_S * faults as f64));
    rig.until("it reads", SOON, async || rig.read().await > 100).await;
    let proxies = [("Postgres", &postgres), ("Kafka", &kafka), ("mail", &mail), ("webhook", &hook)];
    for _ in 0..faults {
        let mut bad = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let (name, proxy) = *proxies.choose(&mut random).unwrap();
            let line = *[Line::Slow, Line::Stalled, Line::Cut].choose(&mut random).unwrap();
            proxy.set(line);
            bad.push((proxy, format!("{name} {line:?}")));
        }
        let lasts = Duration::from_millis(random.random_range(100..4000));
        tokio::time::sleep(lasts).await;
        let what: Vec<_> = bad.iter().map(|(_, what)| what).collect();
        println!("{what:?} for {lasts:?}; {} records read", rig.read().await);
        if random.random() {
            // Nobody learns whether what was on its way has arrived.
            bad.iter().for_each(|(proxy, _)| proxy.set(Line::Cut));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bad.iter().for_each(|(proxy, _)| proxy.set(Line::Good));
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await;
    }
    for (name, line, proxy) in [
        ("store", Line::Stalled, &postgres),
        ("broker", Line::Cut, &kafka),
        ("store", Line::Cut, &postgres),
    ] {
        until_ready(&rig).await;
        proxy.set(line);
        until_away(&rig, name).await;
        proxy.set(Line::Good);
    }
    until_ready(&rig).await;

    let sent = replay.await.unwrap();
    assert_eq!((sent.sent, sent.failed), (WEEK_ROWS, 0));
    rig.until("all records are read", 3 * SOON, async || rig.read().await == WEEK_ROWS as i64)
        .await;
    rig.assert_week_is_complete().await;
    rig.until("every minute is evaluated", 2 * SOON, async || {
        rig.count(
            "SELECT count(*) FROM watches WHERE cause = 'buzz' AND judged >= (
                 SELECT max(event_time_max) - interval '3 minutes' FROM checkpoints)",
        )
        .await
            == 6
    })
    .await;
    rig.until("every notification is sent", 2 * SOON, async || {
        rig.count("SELECT count(*) FROM outbox WHERE state <> 'sent'").await == 0
    })
    .await;
    let of = async |receiver: &str| -> BTreeSet<String> {
        let keys = sqlx::query_scalar("SELECT key FROM outbox WHERE receiver = $1").bind(receiver);
        keys.fetch_all(&rig.pool).await.unwrap().into_iter().collect()
    };
    let (mails, posts) = (rig.mail_keys(), receiver.requests());
    let posted: BTreeSet<_> =
        posts.iter().map(|(headers, _)| header(headers, "webhook-id").to_owned()).collect();
    println!(
        "{} mails of {} keys, {} posts of {} keys",
        mails.values().sum::<usize>(),
        mails.len(),
        posts.len(),
        posted.len()
    );
    assert!(!mails.is_empty(), "the week has incidents");
    assert_eq!(mails.into_keys().collect::<BTreeSet<_>>(), of("comms").await, "each under its key");
    assert_eq!(posted, of("hook").await, "each under its key");
    let (found, expected) = (rig.incidents().await, rig.incidents_of_one_evaluator().await);
    assert_eq!(causes(&found), causes(&expected), "the same incidents");
    assert!(rig.terminate(), "exits with success on SIGTERM");
}
