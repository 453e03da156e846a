//! Callers of the API and the stream share one model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use monitor_embedded::Storage;
use serde_json::{Value, json};

use super::{Rig, Setup, WEEK_ROWS};

/// Callers at once, each with full requests.
const CALLERS: usize = 6;

/// What the callers saw.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    refused: AtomicU64,
    /// The stream is stored as a whole.
    complete: AtomicBool,
}

/// Sends full requests one after the other, until the stream is complete.
async fn call(url: String, seen: Arc<Seen>) {
    let client = reqwest::Client::new();
    let texts: Vec<[String; 1]> =
        (0..32).map(|n| [format!("flight {n} was cancelled, nobody answers")]).collect();
    let body = json!({ "inputs": texts });
    while !seen.complete.load(Ordering::SeqCst) {
        let answer = client.post(&url).json(&body).send().await.unwrap();
        match answer.status().as_u16() {
            200 => {
                let found: Vec<Vec<Value>> = answer.json().await.unwrap();
                assert_eq!(found.len(), texts.len());
                assert!(found.iter().all(|labels| labels.len() == 3), "{found:?}");
                seen.answered.fetch_add(1, Ordering::SeqCst);
            }
            429 => {
                let seconds: u64 =
                    answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=30).contains(&seconds));
                assert_eq!(answer.json::<Value>().await.unwrap()["error_type"], "Overloaded");
                seen.refused.fetch_add(1, Ordering::SeqCst);
            }
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }
}

/// More callers than are let in, and a week of tweets at once: callers are answered while the stream is
/// behind, the stream catches up although they never stop, and nothing is lost or counted twice.
#[tokio::test]
#[ignore = "needs broker"]
async fn callers_and_the_stream_share_the_model() {
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    rig.run_with(&["--set", "serve.rows_waiting_max=64"]);
    let a_minute = Duration::from_secs(60);
    rig.until("the daemon listens", a_minute, async || rig.page().is_some()).await;
    let url = format!("http://{}/predict", rig.page().unwrap());
    let loaded = async || {
        let request = reqwest::Client::new().post(&url).json(&json!({"inputs": "we love you"}));
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    };
    rig.until("the model answers", a_minute, loaded).await;
    let seen = Arc::new(Seen::default());
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(call(url.clone(), seen.clone()))).collect();
    let answered = || seen.answered.load(Ordering::SeqCst);
    rig.until("callers are answered", a_minute, async || answered() > 0).await;
    let replay = rig.replay(0.0);
    let before = answered();
    let while_behind = AtomicU64::new(0);
    let complete = async || {
        let read = rig.read().await;
        if read < WEEK_ROWS.cast_signed() {
            while_behind.store(answered(), Ordering::SeqCst);
        }
        read == WEEK_ROWS.cast_signed()
    };
    rig.until("the stream catches up", 3 * a_minute, complete).await;
    let sent = replay.await.unwrap();
    assert_eq!((sent.sent, sent.failed), (WEEK_ROWS, 0));
    assert!(while_behind.into_inner() > before, "callers waited for the whole stream");
    seen.complete.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(seen.refused.load(Ordering::SeqCst) > 0, "more came than were let in");
    rig.assert_week_is_complete().await;
    rig.assert_metrics(&["monitor_answers_refused_total", "monitor_answered_rows_total"]).await;
    assert!(rig.terminate());
}
