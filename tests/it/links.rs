//! Links with which people act, from the mail as a mail server received it to what Postgres then holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mail_parser::MessageParser;
use monitor::pipeline::policy;
use monitor_config::{self as config, Alerting, Receiver};
use monitor_core::Secret;
use monitor_core::clock::{Clock, SimulatedClock, SystemClock};
use monitor_core::domain::{Label, Offset, StartAt, TopicPartition, Transition};
use monitor_embedded::MailServer;
use monitor_notify::{Dispatcher, Linker};
use monitor_serve::{Access, Right, ServeContext, Token, serve};
use monitor_store::{Advance, Batch, Claim, PostgresStore, SampleRequest, Store};
use reqwest::{Client, Method, RequestBuilder};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::notify::rig;
use crate::store_contract::fixtures::{at, decision, minute, notifying, scored};
use crate::support::fresh_database;

const NASTY: &str = "<script>alert('tweet')</script> & not a compliment";
const COMMS: &str = "comms@example.com";
const BOSS: &str = "boss@example.com";

/// A store with an incident, a mail server, a dispatcher and the page behind tokens.
struct Desk {
    store: Arc<PostgresStore>,
    clock: Arc<SimulatedClock>,
    mails: MailServer,
    page: String,
    evaluated: Option<i64>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Desk {
    async fn new() -> Self {
        rig::install_tls();
        let url = fresh_database().await;
        let settings = config::Store { url, ..config::Store::default() };
        let store = Arc::new(PostgresStore::connect(&settings).unwrap());
        store.migrate().await.unwrap();
        let clock = Arc::new(SimulatedClock::at(SystemClock::new().now()));
        let mails = MailServer::start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let page = format!("http://{}", listener.local_addr().unwrap());

        let mut settings = config::Settings::default();
        settings.http.public_url = Some(format!("{page}/"));
        settings.links.key = Some(Secret::new("an example key of thirty-two byte"));
        let linker = Linker::new(&settings).unwrap().expect("links");
        let receivers = BTreeMap::from([("comms".into(), Receiver::Email(rig::email(&mails)))]);
        let dispatcher = Dispatcher::new(
            store.clone(),
            &receivers,
            rig::delivery(),
            Some(&linker),
            clock.clone(),
        );
        let sha256 = Sha256::digest("a-token").into();
        let token = Token { name: "anna".into(), sha256, right: Right::Act };
        let (brands, policy) = (vec!["united".into()], policy(&Alerting::default()));
        let context = ServeContext {
            access: Arc::new(Access::new(vec![token], Some(&page), clock.clone())),
            public_url: Some(page.clone()),
            links: Some(linker.key()),
            ..ServeContext::new(store.clone(), clock.clone(), brands, policy)
        };
        let dispatching = dispatcher.unwrap().run(CancellationToken::new());
        let serving = async {
            serve(listener, context, CancellationToken::new()).await.unwrap();
        };
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(dispatching)),
            AbortOnDropHandle::new(tokio::spawn(serving)),
        ];
        let desk = Self { store, clock, mails, page, evaluated: None, _tasks: tasks };
        desk.tweets().await;
        desk
    }

    /// Stores two tweets that incidents show.
    async fn tweets(&self) {
        let partition = TopicPartition::new("tweets", 0);
        let claim =
            Claim { partition: partition.clone(), seen: None, low: Offset(0), high: Offset(2) };
        self.store.claim(&[claim], StartAt::Earliest).await.unwrap();
        let row = |id, text| scored(id, text, minute(5).start(), &["united"], 0.9);
        let batch = Batch {
            scores: vec![row("t1", NASTY), row("t2", "what a day")],
            advances: vec![Advance {
                partition,
                from: Offset(0),
                to: Offset(2),
                event_time_max: None,
                record_time_max: None,
            }],
            ..Batch::default()
        };
        self.store.commit(&batch).await.unwrap();
    }

    /// Takes a step of the incident, and returns the links of its mails by recipient.
    async fn step(&mut self, transition: Transition) -> BTreeMap<String, Vec<String>> {
        let now = self.evaluated.map_or(60, |before| before + 30);
        let mut decision = decision("united", self.evaluated, now, Some(transition));
        let step = decision.step.as_mut().unwrap();
        let mut second = step.notification.examples[0].clone();
        (second.tweet_id, second.text) = ("t2".into(), "what a day".into());
        let first = &mut step.notification.examples[0];
        (first.tweet_id, first.text) = ("t1".into(), NASTY.into());
        step.notification.examples.push(second);
        let deliveries = vec![monitor_store::Delivery {
            receiver: "comms".into(),
            not_before: None,
            group: false,
        }];
        let decision = notifying(decision, deliveries);
        self.store.decide(&decision).await.unwrap();
        self.evaluated = Some(now);
        let before = self.mails.mails().len();
        let mut received = Vec::new();
        for _ in 0..1000 {
            received = self.mails.mails().split_off(before);
            if received.len() == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(received.len(), 2, "a mail for each of two");
        received.iter().map(|mail| (mail.to[0].clone(), self.links(&mail.raw))).collect()
    }

    /// The links that act, of a mail; its text and its HTML have the same ones.
    fn links(&self, raw: &[u8]) -> Vec<String> {
        let mail = MessageParser::default().parse(raw).expect("a mail");
        let start = format!("{}/act/", self.page);
        let of = |body: &str| {
            let found = body.match_indices(&start).map(|(at, _)| {
                let is_end = |c: char| c == '"' || c.is_whitespace();
                body[at..].split(is_end).next().unwrap().to_owned()
            });
            let mut found: Vec<String> = found.collect();
            found.sort();
            found
        };
        let in_text = of(&mail.body_text(0).expect("a text"));
        let html = mail.body_html(0).expect("HTML");
        assert_eq!(of(&html), in_text, "{html}");
        // In the order of the mail: tweets first.
        let mut ordered: Vec<String> = Vec::new();
        for part in html.split("href=\"").skip(1) {
            let url = part.split('"').next().unwrap();
            if url.starts_with(&start) {
                ordered.push(url.to_owned());
            }
        }
        ordered
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        Client::new().request(method, url)
    }

    /// Opens a link as a person does.
    async fn get(&self, url: &str) -> (u16, String) {
        answer(self.request(Method::GET, url)).await
    }

    /// Presses its button.
    async fn post(&self, url: &str) -> (u16, String) {
        answer(self.request(Method::POST, url)).await
    }

    /// Everything that links can change.
    async fn state(&self) -> String {
        let store = &self.store;
        let incidents: Vec<_> = store.incidents(9).await.unwrap();
        let mut events = Vec::new();
        for incident in &incidents {
            events.push(store.events(incident.id).await.unwrap());
        }
        let used: i64 = sqlx::query_scalar("SELECT count(*) FROM used_links")
            .fetch_one(store.pool())
            .await
            .unwrap();
        let silences = store.silences(at("2000-01-01T00:00:00Z")).await.unwrap();
        let corrections = store.corrections().await.unwrap();
        format!("{incidents:?} {events:?} {silences:?} {corrections:?} {used}")
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

/// To the microsecond, as Postgres stores it.
fn stored(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_that_opens_every_link_changes_nothing() {
    let mut desk = Desk::new().await;
    let links = desk.step(Transition::Opened).await;
    let before = desk.state().await;
    for link in links.values().flatten() {
        for method in [Method::HEAD, Method::GET, Method::OPTIONS, Method::PUT, Method::DELETE] {
            for _ in 0..2 {
                let request = desk.request(method.clone(), link);
                let answer = request.send().await.expect("an answer");
                let is_read = [Method::HEAD, Method::GET].contains(&method);
                assert_eq!(answer.status().as_u16(), if is_read { 200 } else { 405 }, "{method}");
                let header = |name: &str| answer.headers().get(name).map(|it| it.to_str().unwrap());
                assert_eq!(header("referrer-policy"), Some("no-referrer"));
                assert_eq!(header("set-cookie"), None);
                let policy = header("content-security-policy").expect("a policy");
                assert!(policy.starts_with("default-src 'none'"), "{policy}");
                if is_read {
                    assert_eq!(header("cache-control"), Some("no-store"));
                }
            }
        }
    }
    assert_eq!(desk.state().await, before);
    let people: Vec<_> = links.keys().map(String::as_str).collect();
    assert_eq!(people, [BOSS, COMMS]);
    for links in links.values() {
        assert_eq!(links.len(), 4, "two tweets, acknowledge and silence: {links:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_acknowledged_once_in_the_name_of_who_got_the_mail() {
    let mut desk = Desk::new().await;
    let links = desk.step(Transition::Opened).await;
    let (boss, comms) = (&links[BOSS][2], &links[COMMS][2]);
    let (status, page) = desk.get(boss).await;
    assert_eq!(status, 200);
    for part in ["Acknowledge this alert?", "united", "incident 1", "boss@example.com (link)"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("<button").count(), 1, "{page}");
    assert!(!page.contains("<script"), "{page}");
    let french =
        desk.request(Method::GET, boss).header("accept-language", "fr-FR,fr;q=0.9,en;q=0.8");
    let (_, french) = answer(french).await;
    assert!(french.contains("lang=\"fr\"") && french.contains("Prendre en charge"), "{french}");

    // No token, and a page that sends no referrer has the origin "null".
    let (status, page) = answer(desk.request(Method::POST, boss).header("origin", "null")).await;
    assert_eq!(status, 200, "{page}");
    let incident = desk.store.incidents(1).await.unwrap().remove(0);
    let acknowledged = incident.acknowledged.expect("acknowledged");
    assert_eq!(acknowledged.by, "boss@example.com (link)");
    assert_eq!(stored(acknowledged.at), stored(desk.now()));
    let before = desk.state().await;
    for link in [boss, comms] {
        for (name, (status, page)) in
            [("again", desk.post(link).await), ("asked", desk.get(link).await)]
        {
            assert_eq!(status, 409, "{name}");
            assert!(page.contains("This was done already."), "{name}: {page}");
            assert!(page.contains("By boss@example.com (link), "), "{name}: {page}");
            assert!(!page.contains("<button"), "{name}: {page}");
        }
    }
    assert_eq!(desk.state().await, before);

    // A later notification may be acknowledged too, as long as the incident lasts.
    let later = desk.step(Transition::Updated).await;
    let (_, page) = desk.get(&later[COMMS][2]).await;
    assert!(page.contains("Already acknowledged by boss@example.com (link)"), "{page}");
    let ended = desk.step(Transition::Resolved).await;
    assert_eq!(ended[COMMS].len(), 2, "only those of its tweets");
    for (status, page) in [desk.get(&later[COMMS][2]).await, desk.post(&later[COMMS][2]).await] {
        assert_eq!(status, 409);
        assert!(page.contains("This alert has ended already."), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_silence_at_the_same_time_one_does() {
    let mut desk = Desk::new().await;
    let links = desk.step(Transition::Opened).await;
    let (boss, comms) = (links[BOSS][3].clone(), links[COMMS][3].clone());
    let (_, page) = desk.get(&boss).await;
    assert!(page.contains("Silence united for 2 hours?"), "{page}");
    let posts: Vec<_> = [&boss, &comms, &boss, &comms, &boss, &comms]
        .map(|link| tokio::spawn(answer(desk.request(Method::POST, link))))
        .into();
    let mut statuses = Vec::new();
    for post in posts {
        statuses.push(post.await.unwrap().0);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
    let silences = desk.store.silences(desk.now()).await.unwrap();
    assert_eq!(silences.len(), 1);
    let silence = &silences[0];
    assert_eq!(silence.brand.as_deref(), Some("united"));
    assert_eq!(silence.ends_at - silence.starts_at, TimeDelta::hours(2));
    assert_eq!(stored(silence.starts_at), stored(desk.now()));
    assert!(silence.who.ends_with("@example.com (link)"), "{}", silence.who);
    assert_eq!(silence.reason, "by the link of incident 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_goes_to_the_corrections_and_no_sample() {
    let mut desk = Desk::new().await;
    let request = SampleRequest {
        brand: "united".into(),
        from: minute(0).start(),
        to: minute(60).start(),
        tweets: 9,
        seed: "a".into(),
        by: "anna".into(),
        at: desk.now(),
    };
    let sample = desk.store.draw_sample(&request).await.unwrap();
    let links = desk.step(Transition::Opened).await;
    let link = &links[COMMS][0];
    let (_, page) = desk.get(link).await;
    assert!(page.contains("&lt;script&gt;alert('tweet')&lt;/script&gt;"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("what a day"), "nothing of another tweet: {page}");
    let say = async |label: &'static str| {
        let form = desk.request(Method::POST, link).body(format!("label={label}"));
        answer(form.header("content-type", "application/x-www-form-urlencoded")).await.0
    };
    for (label, expected) in
        [("", 400), ("NEGATIVE", 400), ("good", 400), ("POSITIVE", 200), ("NEUTRAL", 409)]
    {
        assert_eq!(say(label).await, expected, "{label}");
    }
    let said = desk.store.corrections().await.unwrap();
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].tweet_id.as_str(), said[0].label), ("t1", Label::Positive));
    assert_eq!((said[0].by.as_str(), said[0].text.as_str()), ("comms@example.com (link)", NASTY));
    let sampled = desk.store.sampled_tweets(sample.id).await.unwrap();
    assert_eq!(sampled.len(), 2);
    assert!(sampled.iter().all(|it| it.label.is_none()), "{sampled:?}");

    // Somebody wants to be forgotten: the link has nothing left to show.
    sqlx::raw_sql("DELETE FROM tweet_ids; DELETE FROM scores")
        .execute(desk.store.pool())
        .await
        .unwrap();
    let (status, page) = desk.get(&links[COMMS][1]).await;
    assert_eq!(status, 404);
    assert!(page.contains("It is not stored any more."), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_a_right_to_nothing_else_and_ends() {
    let mut desk = Desk::new().await;
    let links = desk.step(Transition::Opened).await;
    let link = &links[BOSS][2];
    let text = link.rsplit('/').next().unwrap();
    for path in ["v1/incidents", "v1/brands", "metrics", "api/status"] {
        let request = desk.request(Method::GET, &format!("{}/{path}", desk.page)).bearer_auth(text);
        assert_eq!(answer(request).await.0, 401, "{path}");
    }
    let before = desk.state().await;
    let (content, signature) = text.split_once('.').unwrap();
    let other = links[COMMS][2].rsplit('/').next().unwrap().split_once('.').unwrap().0;
    for (name, link) in [
        ("cut off", link[..link.len() - 1].to_owned()),
        ("no signature", format!("{}/act/{content}", desk.page)),
        ("the content of another", format!("{}/act/{other}.{signature}", desk.page)),
    ] {
        for (status, page) in [desk.get(&link).await, desk.post(&link).await] {
            assert_eq!(status, 403, "{name}");
            assert!(page.contains("was cut off or changed"), "{name}: {page}");
        }
    }
    let long = desk.request(Method::POST, link).body("x".repeat(10_000));
    assert_eq!(answer(long).await.0, 413);
    desk.clock.advance(Duration::from_secs(72 * 3600));
    for (status, page) in [desk.get(link).await, desk.post(link).await] {
        assert_eq!(status, 410);
        assert!(page.contains("This link has expired."), "{page}");
    }
    assert_eq!(desk.state().await, before);
    // Whoever guesses is stopped like one who guesses tokens.
    let guess = format!("{}/act/{content}.AAAA", desk.page);
    let mut last = 0;
    for _ in 0..20 {
        last = desk.get(&guess).await.0;
    }
    assert_eq!(last, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn used_links_are_removed_a_month_after_they_expired() {
    let mut desk = Desk::new().await;
    let links = desk.step(Transition::Opened).await;
    assert_eq!(desk.post(&links[BOSS][2]).await.0, 200);
    let keep = monitor_store::Keep { tweets_days: 0, history_days: 0, dead_letters_days: 0 };
    let left = async |days: i64, dry_run| {
        let now = desk.now() + TimeDelta::days(days);
        desk.store.prune(&keep, now, dry_run, &|_| {}).await.unwrap();
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM used_links")
            .fetch_one(desk.store.pool())
            .await
            .unwrap();
        left
    };
    assert_eq!(left(32, false).await, 1);
    assert_eq!(left(34, true).await, 1, "a dry run removes nothing");
    assert_eq!(left(34, false).await, 0);
}
