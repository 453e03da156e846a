//! The weekly digest: its figures, its mail, and that it is sent once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mail_parser::{MessageParser, MimeHeaders};
use monitor::digest::gather;
use monitor::pipeline::Weekly;
use monitor_config::{self as config, Receiver};
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Acknowledgement, Label, Language, Minute, Offset, StartAt, TopicPartition, Transition,
};
use monitor_embedded::MailServer;
use monitor_notify::{Dispatcher, Mail, digest_page};
use monitor_store::{Advance, Batch, Claim, PostgresStore, SampleRequest, ScoredTweet, Store};
use tokio_util::sync::CancellationToken;

use crate::notify::rig;
use crate::store_contract::fixtures::{at, decision, minute, scored};
use crate::support::fresh_database;

const FROM: &str = "2026-03-23T00:00:00Z";
const TO: &str = "2026-03-30T00:00:00Z";
const DUE: &str = "2026-03-30T08:00:00Z";
const NASTY: &str = "<script>alert('digest')</script>\r\nBcc: all@example.com <img src=x>";

fn on(url: &str) -> PostgresStore {
    let settings = config::Store { url: url.into(), ..config::Store::default() };
    PostgresStore::connect(&settings).unwrap()
}

fn brands() -> Vec<String> {
    ["acme", "sleepy", "rival"].map(str::to_owned).into()
}

/// Tweets of two weeks. Acme has four an hour, of which in the first week one is negative and in the second two; its rival
/// has two an hour, then one, and none is negative.
async fn store_tweets(store: &PostgresStore) {
    store.begin_with("test@1").await.unwrap();
    let partition = TopicPartition::new("tweets", 0);
    let (low, high) = (Offset(0), Offset(9999));
    let claim = Claim { partition: partition.clone(), seen: None, low, high };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    let start = at(FROM) - TimeDelta::days(7);
    let mut scores: Vec<ScoredTweet> = Vec::new();
    for hour in 0..14 * 24 {
        let second = hour >= 7 * 24;
        let mut add = |brand: &str, n: i64, p: f32| {
            let created = start + TimeDelta::hours(hour) + TimeDelta::minutes(10 * n);
            let id = format!("{brand}-{hour}-{n}");
            scores.push(scored(&id, &format!("{id} is a text"), created, &[brand], p));
        };
        for n in 0..4 {
            let negative = n < if second { 2 } else { 1 };
            add("acme", n, if negative { 0.8 } else { 0.2 });
        }
        for n in 0..if second { 1 } else { 2 } {
            add("rival", n, 0.3);
        }
    }
    let middle = at("2026-03-26T12:00:00Z");
    // The surest ones, each with a copy; and one that no model knows.
    for (id, text, p) in [
        ("worst", NASTY, 0.99),
        (
            "copy",
            "RT <script>alert('digest')</script> BCC: all@example.com <img src=x> https://t.co/1",
            0.985,
        ),
        ("second", "lost my bag again", 0.97),
        ("best", "best crew ever", 0.01),
    ] {
        scores.push(scored(id, text, middle, &["acme"], p));
    }
    let mut french = scored("french", "quelle attente", middle, &["acme"], 0.5);
    french.score = None;
    french.tweet = french.tweet.with_language(Some("fr".parse::<Language>().unwrap()));
    scores.push(french);
    // One more of each neighbouring week, which do not count.
    scores.push(scored("too-late", "next week", at(TO), &["acme"], 0.999));
    let advance = Advance {
        partition,
        from: low,
        to: Offset(9),
        event_time_max: None,
        record_time_max: None,
    };
    let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
    store.commit(&batch).await.unwrap();
    let letters = "INSERT INTO dead_letter_counts (minute, reason, records, kept) VALUES
        ('2026-03-20 10:00+00', 'x', 2, 2), ('2026-03-24 10:00+00', 'x', 7, 7), ('2026-03-30 10:00+00', 'x', 9, 9)";
    sqlx::raw_sql(letters).execute(store.pool()).await.unwrap();
    sqlx::raw_sql("UPDATE scores SET author = 'ann' WHERE tweet_id = 'second'")
        .execute(store.pool())
        .await
        .unwrap();
}

/// An incident of acme that lasted three hours, and that Anna acknowledged.
async fn store_incident(store: &PostgresStore) {
    let of = |text: &str| Minute::of(at(text)).0 - minute(0).0;
    let (opened, resolved) = (of("2026-03-26T10:00:00Z"), of("2026-03-26T13:00:00Z"));
    let opening = decision("acme", None, opened, Some(Transition::Opened));
    let id = store.decide(&opening).await.unwrap().unwrap();
    let anna =
        Acknowledgement { at: at("2026-03-26T10:05:00Z"), by: "Anna".into(), note: String::new() };
    store.acknowledge(id, &anna).await.unwrap();
    let ending = decision("acme", Some(opened), resolved, Some(Transition::Resolved));
    store.decide(&ending).await.unwrap();
    sqlx::raw_sql("DELETE FROM outbox").execute(store.pool()).await.unwrap();
}

/// Labels as many tweets of acme's week as a corrected share needs: people call 1 of 10 negative calls not negative.
async fn store_labels(store: &PostgresStore) {
    let request = SampleRequest {
        brand: "acme".into(),
        from: at(FROM),
        to: at(TO),
        tweets: 400,
        seed: "a".into(),
        by: "anna".into(),
        at: at(TO),
    };
    let sample = store.draw_sample(&request).await.unwrap();
    let tweets = store.sampled_tweets(sample.id).await.unwrap();
    let labels: Vec<_> = tweets
        .iter()
        .map(|it| match it.called {
            Label::Negative if it.place % 10 == 0 => (it.place, Label::Neutral),
            called => (it.place, called),
        })
        .collect();
    store.record_labels(sample.id, &labels, "anna", at(TO)).await.unwrap();
}

async fn filled() -> (String, PostgresStore) {
    let url = fresh_database().await;
    let store = on(&url);
    store.migrate().await.unwrap();
    store_tweets(&store).await;
    store_incident(&store).await;
    (url, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_those_of_the_store() {
    let (_, store) = filled().await;
    let week = (at(FROM), at(TO));
    let (digest, _) = gather(&store, &brands(), week, None).await.unwrap();
    let names: Vec<_> = digest.brands.iter().map(|it| it.brand.as_str()).collect();
    assert_eq!(names, ["acme", "rival", "sleepy"], "most tweets first");
    let acme = &digest.brands[0];
    // Four an hour and four more, of which three are negative.
    assert_eq!((acme.week.total, acme.week.negative), (4 * 168 + 4, 2 * 168 + 3));
    assert_eq!((acme.before.total, acme.before.negative), (4 * 168, 168));
    assert_eq!(acme.curve.iter().map(|it| it.total).sum::<u64>(), acme.week.total);
    assert_eq!(acme.curve.len(), 168);
    assert_eq!(acme.not_judged, [("fr".parse::<Language>().unwrap(), 1)]);
    assert_eq!(acme.week.corrected, None, "no labels yet");
    let rival = &digest.brands[1];
    assert_eq!((rival.week.total, rival.before.total, rival.week.negative), (168, 336, 0));
    assert_eq!(digest.brands[2].week.total, 0);
    assert_eq!((digest.dead_letters, digest.dead_letters_before), (7, 2));
    let ids = |tweets: &[monitor_core::digest::WeekTweet]| {
        tweets.iter().map(|it| it.tweet_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&acme.negative)[..2], ["worst", "second"], "without the copy and next week's");
    assert_eq!(ids(&acme.positive)[0], "best");
    let without = store.clone().ignoring(&["ann".to_owned()]);
    let (without, _) = gather(&without, &brands(), week, None).await.unwrap();
    assert_eq!(ids(&without.brands[0].negative)[..2], ["worst", "acme-168-0"], "without ann's");

    // Other lengths, and bounds that are no whole hours, count the same tweets.
    let odd = (at("2026-03-25T18:30:00Z"), at("2026-03-26T18:30:00Z"));
    let (odd, _) = gather(&store, &brands(), odd, None).await.unwrap();
    assert_eq!((odd.brands[0].week.total, odd.brands[0].before.total), (24 * 4 + 4, 24 * 4));

    store_labels(&store).await;
    let (digest, tweets) = gather(&store, &brands(), week, None).await.unwrap();
    let corrected = digest.brands[0].week.corrected.expect("enough labels");
    assert!(corrected.share < 339.0 / 676.0, "people call fewer negative: {corrected:?}");
    insta::assert_snapshot!("digest_text", Mail::of_digest(&digest, &tweets).text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_self_contained_and_tweets_are_text() {
    let (url, store) = filled().await;
    let week = (at(FROM), at(TO));
    let (digest, tweets) = gather(&store, &brands(), week, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("digest.html");
    let run_without = |authors: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("MONITOR_STORE__URL", &url);
        for brand in ["acme", "rival", "sleepy"] {
            command.args(["--set", &format!("brands.{brand}.handles=[\"x\"]")]);
        }
        command.args(["--set", &format!("alerting.ignore_authors={authors}")]);
        command.args(["digest", "--from", FROM, "--to", TO]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let run = |arguments: &[&str]| run_without("[]", arguments);
    let mail = Mail::of_digest(&digest, &tweets);
    assert_eq!(run(&[]), mail.text);
    let told: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(told["digest"], serde_json::to_value(&digest).unwrap());
    assert_eq!(told["examples"].as_array().unwrap().len(), tweets.len());
    let without = run_without("[\"Ann\"]", &[]);
    assert!(mail.text.contains("lost my bag") && !without.contains("lost my bag"), "{without}");
    assert!(run(&["--output", file.to_str().unwrap()]).contains("digest.html"));
    let page = std::fs::read_to_string(&file).unwrap();
    assert_eq!(page, digest_page(&digest, &tweets));
    assert_eq!(page.matches("src=\"").count(), 2, "a picture for each brand with tweets");
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 2);
    assert!(!page.contains("http"), "nothing from elsewhere");
    for body in [&page, &mail.html] {
        assert!(!body.contains("<script") && !body.contains("<img src=x"), "{body}");
        assert!(body.contains("&lt;script&gt;alert('digest')&lt;/script&gt; Bcc:"), "{body}");
    }
    assert!(mail.text.lines().all(|line| !line.starts_with("Bcc")), "{}", mail.text);
    if let Some(path) = std::env::var_os("MONITOR_DIGEST_TO") {
        std::fs::write(Path::new(&path), page).unwrap();
    }
}

fn settings(mails: &MailServer) -> config::Settings {
    let mut settings = config::Settings::default();
    for brand in brands() {
        settings.brands.insert(brand, config::Brand::default());
    }
    settings.receivers.insert("comms".into(), Receiver::Email(rig::email(mails)));
    settings.digest.receivers = vec!["comms".into()];
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn is_sent_once_a_week_over_restarts_and_a_takeover() {
    rig::install_tls();
    let (url, store) = filled().await;
    let mails = MailServer::start().unwrap();
    let settings = settings(&mails);
    let clock = Arc::new(SimulatedClock::at(at(DUE) - TimeDelta::minutes(1)));
    let weekly = |store: &PostgresStore| {
        Weekly::new(store.clone(), &settings, clock.clone()).expect("a receiver")
    };
    let look = async |store: &PostgresStore| weekly(store).look(&mut None).await.unwrap();
    assert_eq!(look(&store).await, 0, "not yet");
    clock.advance(Duration::from_secs(60));
    assert_eq!(look(&store).await, 1);
    assert_eq!(look(&store).await, 0, "a restart");
    let other = on(&url);
    assert_eq!(look(&other).await, 0, "another daemon, which does not lead");
    drop(store);
    let mut leads = false;
    for _ in 0..500 {
        leads = other.lead().await.unwrap();
        if leads {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(leads, "it takes over");
    assert_eq!(look(&other).await, 0, "a takeover");
    let changed = config::Settings {
        digest: config::Digest { hour: 7, ..settings.digest.clone() },
        ..settings.clone()
    };
    let moved = Weekly::new(other.clone(), &changed, clock.clone()).unwrap();
    assert_eq!(moved.look(&mut None).await.unwrap(), 0, "another hour of the same day");

    // A tweet that is forgotten before the mail goes is not in it.
    assert_eq!(other.forget_author("ann").await.unwrap(), 1);
    let receivers = BTreeMap::from([("comms".into(), Receiver::Email(rig::email(&mails)))]);
    let dispatcher =
        Dispatcher::new(Arc::new(other.clone()), &receivers, rig::delivery(), None, clock.clone());
    let stop = CancellationToken::new();
    let sending = tokio::spawn(dispatcher.unwrap().run(stop.clone()));
    for _ in 0..500 {
        if other.totals().await.unwrap().outbox_pending == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    sending.await.unwrap();
    let received = mails.mails();
    assert_eq!(received.len(), 2, "one for each recipient");
    let mail = MessageParser::default().parse(&received[0].raw).unwrap();
    assert_eq!(mail.subject(), Some("Monitor: 23 Mar 2026 to 29 Mar 2026"));
    let html = mail.body_html(0).unwrap();
    let pictures: Vec<_> = mail.parts.iter().filter_map(|part| part.content_id()).collect();
    assert_eq!(pictures.len(), 2);
    for id in pictures {
        assert!(html.contains(&format!("src=\"cid:{id}\"")), "{id}");
    }
    assert!(html.contains("50&nbsp;%") && !html.contains("lost my bag"), "{html}");

    clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(look(&other).await, 0, "that day is over");
    clock.advance(Duration::from_secs(6 * 24 * 3600));
    assert_eq!(look(&other).await, 1, "the next week");
}

#[test]
fn nothing_is_sent_by_default() {
    let clock = Arc::new(SimulatedClock::at(at(DUE)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = on("postgres://nobody@127.0.0.1:1/none");
    assert!(Weekly::new(store, &config::Settings::default(), clock).is_none());
    let _: DateTime<Utc> = at(TO);
}
