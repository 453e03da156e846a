//! `monitor evaluate --provider azure` against a local server over real sockets. Tests
//! wait only when the server requests it, for one second.

mod service;

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use monitor_core::Secret;
use monitor_core::backoff::BackoffPolicy;
use monitor_core::clock::SimulatedClock;
use monitor_train::provider::{
    Azure, Batch, Limits, ProviderError, Reply, Retry, Sentiment, Usage,
};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::shared;
use service::{KEY, MODEL, Play, Request, Service, raw};

fn limits() -> Limits {
    let retry = Retry {
        attempts_max: 3,
        backoff: BackoffPolicy {
            wait: Duration::from_millis(1),
            wait_max: Duration::from_millis(1),
        },
        asked_max: Duration::from_secs(2),
    };
    Limits { records_max: 100, timeout: Duration::from_secs(20), retry }
}

fn client(url: &str, limits: Limits) -> Azure {
    let clock = SimulatedClock::at("2026-01-01T12:00:00Z".parse().unwrap());
    Azure::new(url, Secret::new(KEY), limits, Arc::new(clock)).unwrap()
}

/// Sends one batch, and asserts that no error shows key or endpoint.
async fn ask(azure: &mut Azure, texts: &[&str]) -> Result<Batch, ProviderError> {
    let found = azure.ask(texts).await;
    if let Err(error) = &found {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(KEY) && !shown.contains("127.0.0.1"), "{shown}");
    }
    found
}

/// One word per reply.
fn words(batch: &Batch) -> String {
    let word = |reply: &Reply| match reply {
        Reply::Scored { sentiment: Sentiment::Positive, .. } => "positive".to_owned(),
        Reply::Scored { sentiment: Sentiment::Negative, .. } => "negative".to_owned(),
        Reply::Scored { sentiment: Sentiment::Neutral, .. } => "neutral".to_owned(),
        Reply::Scored { sentiment: Sentiment::Mixed, .. } => "mixed".to_owned(),
        Reply::Refused { code, message } => format!("{code}({message})"),
    };
    batch.replies.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Sends three texts. `expected` are the replies, or a part of the error; `counted` are the
/// requests and the text records that may be charged for.
async fn check(name: &str, plays: Vec<Play>, expected: Result<&str, &str>, counted: (u64, u64)) {
    let service = Service::start(plays).await;
    let mut azure = client(&service.url, limits());
    let found = ask(&mut azure, &["I love it", "I hate it", "I love and hate it"]).await;
    match (&found, expected) {
        (Ok(batch), Ok(expected)) => assert_eq!(words(batch), expected, "{name}"),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
        _ => panic!("{name}: {found:?}"),
    }
    let Usage { requests, repeated, records, .. } = azure.usage();
    assert_eq!((requests, records), counted, "{name}");
    assert_eq!(repeated, requests - 1, "{name}");
    assert_eq!(service.requests().len() as u64, requests, "{name}: all are counted");
}

const RIGHT: Result<&str, &str> = Ok("positive negative mixed");

#[tokio::test]
async fn accepts_valid_and_rejects_invalid_answers() {
    use Play::{Backwards, Changed, Good, Status};
    let error = Play::error;
    check("good", vec![Good], RIGHT, (1, 3)).await;
    check("in another order", vec![Backwards], RIGHT, (1, 3)).await;

    let busy = || Play::busy("0");
    check("too many, then good", vec![busy(), Good], RIGHT, (2, 3)).await;
    check("too many for ever", vec![busy(); 9], Err("3 times, the last time so: 429"), (3, 0))
        .await;
    let quota = Play::busy("1296000");
    check("the month's quota", vec![quota], Err("asks to wait 1296000 s"), (1, 0)).await;
    let broken = || error(500, "Internal Server Error");
    check("broken, then good", vec![broken(), Good], RIGHT, (2, 6)).await;
    check("no JSON behind it", vec![Status(502, "<html>".into(), None), Good], RIGHT, (2, 6)).await;
    let away = vec![error(503, "Service Unavailable"); 9];
    check("away for ever", away, Err("503 Service Unavailable: 503: Service"), (3, 9)).await;

    let denied = "Access denied due to invalid subscription key or wrong API endpoint.";
    let hint = "401 Unauthorized: 401: Access denied due to invalid subscription key or wrong API \
                endpoint.); check that the key";
    check("no such key", vec![error(401, denied)], Err(hint), (1, 0)).await;
    let volume = "Out of call volume quota for TextAnalytics F0 pricing tier. Please retry after 15 \
                  days.";
    check("out of quota", vec![error(403, volume)], Err("Out of call volume quota"), (1, 0)).await;
    let gone = error(404, "Resource not found");
    check("no such resource", vec![gone], Err("the resource's own, without a path"), (1, 0)).await;
    let many = json!({"error": {
        "code": "InvalidRequest", "message": "Invalid document in request.",
        "innererror": {"code": "InvalidDocumentBatch", "message": "Max 5 records are permitted."},
    }});
    let many = Status(400, many.to_string(), None);
    check("a bad batch", vec![many], Err("InvalidDocumentBatch: Max 5 records"), (1, 3)).await;
    let echo = error(401, &format!("no subscription has the key {KEY}"));
    check("the key comes back", vec![echo], Err("has the key ***"), (1, 0)).await;

    let page = Status(200, "<!DOCTYPE html><title>Log in</title>".into(), None);
    check("a page", vec![page], Err("it is a web page"), (1, 3)).await;
    let half = Status(200, r#"{"documents":[{"id":"0""#.into(), None);
    check("half an answer", vec![half], Err("answer is invalid: EOF"), (1, 3)).await;
    let missing = Changed(|answer| drop(answer["documents"].as_array_mut().unwrap().pop()));
    check("one is missing", vec![missing], Err("document 2 of 3 is not answered"), (1, 3)).await;
    let twice = Changed(|answer| answer["documents"][2]["id"] = json!("1"));
    check("one twice", vec![twice], Err("document 1 is answered twice"), (1, 3)).await;
    let strange = Changed(|answer| answer["documents"][2]["id"] = json!("41"));
    check("one never sent", vec![strange], Err("nobody sent document \"41\""), (1, 3)).await;
    let sure = Changed(|answer| answer["documents"][0]["confidenceScores"]["positive"] = json!(7));
    check("too sure", vec![sure], Err("are not probabilities"), (1, 3)).await;
    let class = Changed(|answer| answer["documents"][0]["sentiment"] = json!("ecstatic"));
    check("a class of its own", vec![class], Err("unknown variant `ecstatic`"), (1, 3)).await;
}

#[tokio::test]
async fn waits_as_long_as_the_service_requests() {
    let check = async |name, header: &str| {
        let service = Service::start(vec![Play::busy(header)]).await;
        let mut azure = client(&service.url, limits());
        assert_eq!(words(&ask(&mut azure, &["love"]).await.unwrap()), "positive", "{name}");
        assert_eq!(azure.usage().waited, Duration::from_secs(1), "{name}");
    };
    check("seconds", "1").await;
    check("a date", "Thu, 01 Jan 2026 12:00:01 GMT").await;
}

#[tokio::test]
async fn a_rejected_document_does_not_affect_the_others() {
    let service = Service::start(Vec::new()).await;
    let mut azure = client(&service.url, limits());
    let found = ask(&mut azure, &["love", " ", "hate", "a table"]).await.unwrap();
    let expected = "positive InvalidDocument(Document text is empty.) negative neutral";
    assert_eq!((words(&found).as_str(), found.model_version.as_str()), (expected, MODEL));

    let found = ask(&mut azure, &["love"; 11]).await.unwrap_err();
    assert!(found.to_string().contains("11 documents in one request"), "{found}");
    assert_eq!(service.requests().len(), 1);
}

#[tokio::test]
async fn sends_the_documented_request() {
    let service = Service::start(Vec::new()).await;
    let mut azure = client(&format!("{}/", service.url), limits());
    ask(&mut azure, &["love", "hate"]).await.unwrap();
    let Request { uri, headers, body } = &service.requests()[0];
    assert_eq!(uri.to_string(), "/text/analytics/v3.1/sentiment?loggingOptOut=true");
    assert_eq!(headers["ocp-apim-subscription-key"], KEY);
    assert_eq!(headers["content-type"], "application/json");
    let document = |id, text| json!({"id": id, "language": "en", "text": text});
    assert_eq!(*body, json!({"documents": [document("0", "love"), document("1", "hate")]}));
}

#[tokio::test]
async fn does_not_follow_redirects() {
    let elsewhere = Service::start(Vec::new()).await;
    for status in [301, 302, 307, 308] {
        let moved = Play::Status(status, String::new(), Some(("location", elsewhere.url.clone())));
        check("moved", vec![moved], Err("redirects are not followed"), (1, 0)).await;
    }
    assert_eq!(elsewhere.requests().len(), 0, "neither text nor key was sent on");
}

#[tokio::test]
async fn retries_broken_connections() {
    let short = Limits { timeout: Duration::from_millis(200), ..limits() };
    let service = Service::start(vec![Play::Late, Play::Late, Play::Late]).await;
    let mut azure = client(&service.url, short);
    let error = ask(&mut azure, &["love"]).await.unwrap_err();
    assert!(error.to_string().contains("failed 3 times"), "too slow: {error}");
    assert_eq!(azure.usage().records, 3, "too slow: each may be charged for");

    // Nothing listens on port 1, which is reserved.
    let mut azure = client("http://127.0.0.1:1", limits());
    let error = ask(&mut azure, &["love"]).await.unwrap_err();
    assert!(error.to_string().contains("failed 3 times"), "nobody there: {error}");
    assert_eq!(azure.usage().records, 0, "nobody there, nobody charges");

    let check = async |name, head| {
        let (url, _task) = raw(head, false).await;
        let mut azure = client(&url, limits());
        let error = ask(&mut azure, &["love"]).await.unwrap_err();
        assert!(error.to_string().contains("failed 3 times"), "{name}: {error}");
        assert_eq!(azure.usage().records, 3, "{name}: each may be charged for");
    };
    check("hangs up", "").await;
    check("hangs up halfway", "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{").await;
}

#[tokio::test]
async fn rejects_an_endless_answer() {
    let (url, task) = raw("HTTP/1.1 200 OK\r\n\r\n", true).await;
    let error = ask(&mut client(&url, limits()), &["love"]).await.unwrap_err();
    assert!(error.to_string().contains("more than 4 MiB"), "{error}");
    task.await.unwrap();
}

#[tokio::test]
async fn never_exceeds_the_limit() {
    let service = Service::start(vec![Play::error(500, "oops")]).await;
    let mut azure = client(&service.url, Limits { records_max: 3, ..limits() });
    let error = ask(&mut azure, &["love", "hate"]).await.unwrap_err();
    let expected = "2 text records, 2 may have been charged for, and no more than 3 are allowed; it \
                    would be a repeat, after 500 Internal Server Error";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(service.requests().len(), 1);
    ask(&mut azure, &["love"]).await.unwrap();
    ask(&mut azure, &["love"]).await.unwrap_err();
    assert_eq!(service.requests().len(), 2);
}

#[tokio::test]
async fn the_key_is_in_no_log() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(Arc::new(file.reopen().unwrap()))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let echo = Play::error(500, &format!("no subscription has the key {KEY}"));
    let service = Service::start(vec![echo]).await;
    ask(&mut client(&service.url, limits()), &["love"]).await.unwrap();
    let log = std::fs::read_to_string(file.path()).unwrap();
    assert!(log.contains("asking again") && log.contains("the key ***"), "{log}");
    assert!(!log.contains(KEY), "{log}");
}

/// A folder with labelled tweets.
struct Desk {
    folder: TempDir,
    service: Service,
}

impl Desk {
    /// 30 negative tweets, of which the service scores every third as neutral, and 40 positive.
    async fn with(plays: Vec<Play>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = String::new();
        for n in 0..30 {
            let feeling = if n % 3 == 0 { "know" } else { "hate" };
            rows.push_str(&format!("\"0\",\"{n}\",\"d\",\"q\",\"ann{n}\",\"I {feeling} {n}\"\n"));
        }
        for n in 30..70 {
            rows.push_str(&format!("\"4\",\"{n}\",\"d\",\"q\",\"bob{n}\",\"I love {n}\"\n"));
        }
        std::fs::write(folder.path().join("tweets.csv"), rows).unwrap();
        Self { folder, service: Service::start(plays).await }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with a key and the tweets, without a terminal.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
        command.args(["evaluate", "--provider", "azure"]).args(arguments);
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command.env("AZURE_LANGUAGE_KEY", KEY).env("AZURE_LANGUAGE_ENDPOINT", &self.service.url);
        // Unencrypted requests to this machine must not go through a proxy.
        command.env("HTTP_PROXY", "http://127.0.0.1:1").env("http_proxy", "http://127.0.0.1:1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().await.unwrap())
    }

    /// Number of answers in a file.
    fn kept(&self, name: &str) -> usize {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        assert!(!text.contains(KEY));
        text.lines().count()
    }
}

struct Ran {
    good: bool,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
        let ran = Self { good: output.status.success(), out: out.unwrap(), err: err.unwrap() };
        assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY), "{}{}", ran.out, ran.err);
        ran
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

const ASK: &[&str] = &["--data", "tweets.csv", "--documents", "40", "--yes"];

#[tokio::test]
async fn evaluates_saves_and_sends_each_tweet_once() {
    let desk = Desk::with(vec![Play::error(500, "oops"), Play::Backwards]).await;
    let saved = [ASK, &["--save", "answers.jsonl", "--json"]].concat();
    let ran = desk.run(&saved).await;
    assert!(ran.good, "{}", ran.err);
    let cost = "40 tweets (20 negative, 20 positive), 3";
    assert!(
        ran.err.contains(cost) && ran.err.contains("40 text records, 0.036 EUR"),
        "{}",
        ran.err
    );
    let requests = desk.service.requests();
    assert_eq!(requests.len(), 5, "four batches, one of them twice");
    assert!(requests.iter().all(|request| request.texts().len() == 10));
    let report = ran.json();
    let (without, with) = (&report["without_neutral"], &report["with_neutral"]);
    let neither = with["confusion"][0][1].as_u64().unwrap();
    assert!((1..20).contains(&neither), "some of the drawn ones are neither: {neither}");
    assert_eq!(with["confusion"], json!([[20 - neither, neither, 0], [0, 0, 0], [0, 0, 20]]));
    assert_eq!(without["confusion"], json!([[20 - neither, neither], [0, 20]]));
    assert_eq!(without["accuracy"], 1.0 - neither as f64 / 40.0);
    assert_eq!((&report["ties"], &report["model_versions"]), (&json!(neither), &json!([MODEL])));
    assert_eq!(report["roc_auc"], 1.0, "neither is more negative than love");
    let effort = &report["effort"];
    assert_eq!((&effort["requests"], &effort["repeated"]), (&json!(5), &json!(1)));
    assert_eq!((&effort["text_records_max"], &effort["cost_eur_max"]), (&json!(50), &json!(0.045)));
    assert_eq!(desk.kept("answers.jsonl"), 40);

    let again = desk.run(&saved).await;
    let read_back = desk.run(&["--answers", "answers.jsonl", "--json"]).await;
    for ran in [again, read_back] {
        let found = ran.json();
        assert_eq!((&found["with_neutral"], &found["without_neutral"]), (with, without));
        assert_eq!(found["effort"], Value::Null);
    }
    assert_eq!(desk.service.requests().len(), 5, "nothing was asked twice");

    let text = desk.run(&["--answers", "answers.jsonl"]).await.out;
    for part in ["With neutral", "Without neutral", "weighted avg", "ROC AUC 1.0000"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn neutral_tweets_are_in_one_report_only() {
    let desk = Desk::with(Vec::new()).await;
    let rows = ["negative,I hate it", "neutral,a table", "neutral,a chair", "positive,I love it"];
    std::fs::write(desk.path("three.csv"), format!("label,text\n{}\n", rows.join("\n"))).unwrap();
    let ran = desk.run(&["--data", "three.csv", "--yes", "--json"]).await;
    assert!(ran.err.contains("Only 1 tweets of each label"), "{}", ran.err);
    let report = ran.json();
    assert_eq!(report["with_neutral"]["confusion"], json!([[1, 0, 0], [0, 1, 0], [0, 0, 1]]));
    assert_eq!(report["without_neutral"]["confusion"], json!([[1, 0], [0, 1]]));
}

#[tokio::test]
async fn rejects_invalid_options_before_sending() {
    let desk = Desk::with(Vec::new()).await;
    let check = async |name: &str, arguments: &[&str], gone: &str, expected: &str| {
        let output = desk.command(arguments).env_remove(gone).output().await.unwrap();
        let ran = Ran::of(output);
        assert!(!ran.good && ran.err.contains(expected), "{name}: {}{}", ran.out, ran.err);
        assert_eq!(desk.service.requests().len(), 0, "{name}");
        assert!(ran.out.is_empty(), "{name}: {}", ran.out);
    };
    let with = |more: &[&'static str]| [ASK, more].concat();
    check("no terminal", &ASK[..4], "", "add --yes to spend the money").await;
    let many = with(&["--documents-max", "39"]);
    check("too many", &many, "", "40 tweets are more than --documents-max 39").await;
    let dear = with(&["--cost-eur-max", "0.035"]);
    check("too dear", &dear, "", "0.036 EUR are more than --cost-eur-max 0.035").await;
    let dear = with(&["--price-eur-per-1000", "900"]);
    check("too dear by its price", &dear, "", "36.000 EUR are more than").await;
    check("no key", ASK, "AZURE_LANGUAGE_KEY", "no key: set AZURE_LANGUAGE_KEY").await;
    let nowhere = "AZURE_LANGUAGE_ENDPOINT";
    check("no endpoint", ASK, nowhere, "no endpoint: set AZURE_LANGUAGE_ENDPOINT").await;
    let clear = with(&["--endpoint", "http://example.com"]);
    check("in the clear", &clear, "", "must begin with https://").await;
    let file = with(&["--key-file", "none.txt"]);
    check("no key file", &file, "", "cannot read the key from none.txt").await;
    std::fs::write(desk.path("short.txt"), "too short\n").unwrap();
    let file = with(&["--key-file", "short.txt"]);
    check("no key in the file", &file, "", "does not look like one").await;
    let nowhere = with(&["--save", "none/answers.jsonl"]);
    check("nowhere to keep them", &nowhere, "", "cannot write to none/answers.jsonl").await;
    std::fs::write(desk.path("half.jsonl"), "{\"text\":").unwrap();
    let half = with(&["--save", "half.jsonl"]);
    check("half a line", &half, "", "half.jsonl, line 1: not an answer").await;
    std::fs::write(desk.path("empty.jsonl"), "").unwrap();
    check("no answers", &["--answers", "empty.jsonl"], "", "holds no answer").await;
    check("no data", &["--yes"], "", "--data <FILE>").await;
    check("and a model", &with(&["--model", "lstm"]), "", "cannot be used with").await;
    check("no amount", &with(&["--cost-eur-max", "NaN"]), "", "is not an amount in EUR").await;
}

#[tokio::test]
async fn the_endpoint_of_the_key_file_takes_precedence() {
    let desk = Desk::with(Vec::new()).await;
    let file_key = "f11ef11ef11ef11ef11ef11ef11ef11e";
    std::fs::write(desk.path("key.txt"), format!("{file_key}\n{}\n", desk.service.url)).unwrap();
    let arguments = [ASK, &["--key-file", "key.txt"]].concat();
    let mut command = desk.command(&arguments);
    let output = command.env("AZURE_LANGUAGE_ENDPOINT", "http://127.0.0.1:1").output().await;
    let ran = Ran::of(output.unwrap());
    assert!(ran.good && !ran.err.contains(file_key), "{}", ran.err);
    let requests = desk.service.requests();
    assert!(requests.iter().all(|r| r.headers["ocp-apim-subscription-key"] == file_key));
}

#[tokio::test]
async fn keeps_answers_received_before_an_error() {
    let denied = Play::error(401, &format!("Access denied to {KEY}"));
    let desk = Desk::with(vec![Play::Good, Play::Good, denied]).await;
    let arguments = [ASK, &["--save", "answers.jsonl", "--json"]].concat();
    let ran = desk.run(&arguments).await;
    assert!(!ran.good);
    let expected = "stopped after 20 of 40 tweets and 0.018 EUR at most (answers are in";
    assert!(ran.err.contains(expected) && ran.err.contains("check that the key"), "{}", ran.err);
    let report = ran.json();
    assert_eq!((&report["answered"], desk.kept("answers.jsonl")), (&json!(20), 20));
    let support = |class: usize| &report["without_neutral"]["classes"][class]["support"];
    assert_eq!((support(0), support(1)), (&json!(10), &json!(10)), "balanced all the same");

    let ran = desk.run(&arguments).await;
    assert!(ran.good && ran.err.contains("20 more are answered in the file"), "{}", ran.err);
    assert_eq!((ran.json()["answered"].clone(), desk.kept("answers.jsonl")), (json!(40), 40));
    assert_eq!(desk.service.requests().len(), 5, "the first two batches were not asked again");
}

#[tokio::test]
async fn an_interrupt_keeps_the_answers() {
    let desk = Desk::with(vec![Play::Good, Play::Good, Play::Late]).await;
    let arguments = [ASK, &["--save", "answers.jsonl", "--json"]].concat();
    let child = desk.command(&arguments).spawn().unwrap();
    eventually("the third request", || desk.service.requests().len() == 3).await;
    interrupt(&child);
    let ran = Ran::of(child.wait_with_output().await.unwrap());
    assert!(!ran.good && ran.err.contains("interrupted"), "{}", ran.err);
    assert!(ran.err.contains("after 20 of 40 tweets and 0.027 EUR at most"), "{}", ran.err);
    assert_eq!((&ran.json()["answered"], desk.kept("answers.jsonl")), (&json!(20), 20));
}

#[tokio::test]
async fn asks_for_consent_on_a_terminal() {
    let desk = Desk::with(Vec::new()).await;
    let check = async |answer: &str, good: bool, requests: usize| {
        let (ours, theirs) = terminal();
        let mut command = desk.command(&ASK[..4]);
        let child = command.stdin(theirs).spawn().unwrap();
        drop(command);
        File::from(ours.try_clone().unwrap()).write_all(answer.as_bytes()).unwrap();
        let ran = Ran::of(child.wait_with_output().await.unwrap());
        assert!(ran.err.contains("Go on? [y/N]"), "{answer:?}: {}", ran.err);
        assert_eq!(ran.good, good, "{answer:?}: {}", ran.err);
        assert_eq!(desk.service.requests().len(), requests, "{answer:?}");
    };
    check("\n", false, 0).await;
    check("no\n", false, 0).await;
    check("y\n", true, 4).await;
}

/// A pseudo-terminal: our end, and the end for the program.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let (name, form, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: both variables outlive the call, and null means default settings.
    let outcome = unsafe { libc::openpty(&mut ours, &mut theirs, name, form, size) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call has just opened both, and nothing else owns them.
    unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

fn interrupt(child: &Child) {
    let id = child.id().unwrap().cast_signed();
    // SAFETY: the child has not been waited for, so its process id is still valid.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
}

/// Waits for a condition, 60 seconds at most.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came about: {what}");
}

#[tokio::test]
#[ignore = "needs ../shared"]
async fn reads_real_tweets() {
    let tweets = shared("sentiment140/training.249010.processed.noemoticon.csv.xz");
    let desk = Desk::with(Vec::new()).await;
    let ran = desk.run(&["--data", tweets.to_str().unwrap(), "--yes", "--json"]).await;
    assert!(ran.err.contains("500 tweets (250 negative, 250 positive)"), "{}", ran.err);
    assert_eq!(ran.json()["effort"]["cost_eur_max"], 0.45);
}

/// A server whose certificate is for another name.
#[tokio::test]
async fn a_wrong_certificate_fails_at_once_without_showing_the_endpoint() {
    let desk = Desk::with(vec![]).await;
    let (cert, key) = crate::embedded::certificate();
    std::fs::write(desk.path("cert.pem"), &cert).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&cert).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&key).unwrap()).unwrap();
    let acceptor = acceptor.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = acceptor.accept(stream.unwrap());
        }
    });
    let mut command = desk.command(ASK);
    command.env("AZURE_LANGUAGE_ENDPOINT", url).env("SSL_CERT_FILE", desk.path("cert.pem"));
    let ran = Ran::of(command.output().await.unwrap());
    assert!(!ran.good);
    assert!(ran.err.contains("not valid for name \"***\""), "{}", ran.err);
    assert!(ran.err.contains("check the endpoint"), "{}", ran.err);
    assert!(!ran.err.contains("127.0.0.1"), "{}", ran.err);
    assert!(!ran.err.contains("asking again"), "{}", ran.err);
    assert!(ran.err.contains("and 0.000 EUR at most"), "{}", ran.err);
}
