//! Server-sent events.

use std::time::Duration;

use reqwest::{Client, Response};

use super::{BRANDS, Site, full_store};

/// So long an event is waited for before a test fails.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The next event of a stream, with its name, id and data.
async fn event(stream: &mut Response) -> (String, String, String) {
    let mut text = String::new();
    let read = async {
        loop {
            let chunk = stream.chunk().await.expect("the stream").expect("it goes on");
            text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            if text.contains("\n\n") && text.contains("data:") {
                break;
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, read).await.expect("an event in time");
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}: ")));
        line.unwrap_or_else(|| panic!("no {key} in {text:?}")).to_owned()
    };
    (of("event"), of("id"), of("data"))
}

async fn open(site: &Site, last: Option<&str>) -> Response {
    let mut request = Client::new().get(format!("{}/v1/events", site.url));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn a_page_is_told_of_changes_and_of_those_it_missed() {
    let site = Site::start(full_store().await, BRANDS).await;
    let mut stream = open(&site, None).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let (name, first, data) = event(&mut stream).await;
    assert_eq!(name, "change");
    let data: serde_json::Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!(data["open_incidents"], 1);

    // A client that has seen this state is told of the next one only.
    let mut again = open(&site, Some(&first)).await;
    let body = serde_json::json!({"brand": "united", "minutes": 60, "reason": "planned"});
    let silenced = Client::new().post(format!("{}/v1/silences", site.url)).json(&body).send().await;
    assert_eq!(silenced.expect("an answer").status(), 201);
    let (_, second, _) = event(&mut stream).await;
    assert_ne!(second, first);
    assert_eq!(event(&mut again).await.1, second);

    // One that was away meanwhile is told at once.
    let mut late = open(&site, Some(&first)).await;
    assert_eq!(event(&mut late).await.1, second);

    site.store.set_away(true);
    site.clock.advance(Duration::from_secs(3));
    let (name, _, data) = event(&mut stream).await;
    assert_eq!(name, "away");
    assert!(data.contains("Postgres is not available"), "{data}");
}

#[tokio::test]
async fn only_so_many_clients_wait() {
    let site = Site::start(full_store().await, BRANDS).await;
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let stream = open(&site, None).await;
        assert_eq!(stream.status(), 200);
        waiting.push(stream);
    }
    let refused = open(&site, None).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "31");
}

#[tokio::test]
async fn a_waiting_client_does_not_delay_the_end() {
    let site = Site::start(full_store().await, BRANDS).await;
    let mut stream = open(&site, None).await;
    event(&mut stream).await;
    site.shutdown.cancel();
    let stopped = tokio::time::timeout(WAIT_MAX, site.task).await;
    stopped.expect("in time").expect("no panic").expect("no error");
}
