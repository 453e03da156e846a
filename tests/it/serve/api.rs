//! The API `/v1`.

use chrono::TimeDelta;
use monitor_core::domain::{Counts, IncidentId, Minute};
use monitor_store::{MemoryStore, Store};
use reqwest::Client;
use serde_json::{Value, json};

use super::{BRANDS, NASTY, Site, drift, full_store, hostile, put, start_of_week};
use crate::store_contract::fixtures::scored;

async fn send(site: &Site, method: &str, path: &str, body: Value) -> (u16, Value) {
    let method = method.parse().expect("a method");
    let request = Client::new().request(method, format!("{}{path}", site.url)).json(&body);
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") })
}

#[tokio::test]
async fn brands_come_with_their_last_day() {
    let site = Site::start(full_store().await, BRANDS).await;
    let (status, answer) = site.json("/v1/brands").await;
    assert_eq!(status, 200);
    let brands = answer["brands"].as_array().expect("a list");
    assert_eq!(brands.len(), 5);
    assert_eq!(brands[0]["name"], NASTY, "the one with an open incident first");
    assert_eq!(brands[0]["open_incidents"], json!([3]));
    let united = brands.iter().find(|it| it["name"] == "united").expect("united");
    let newest = site.store.last_minute("united").await.expect("last").expect("a minute");
    let counts = site.store.minute_counts("united", newest.plus(-1439), newest).await;
    let day = counts.expect("counts").into_iter().fold(Counts::default(), |a, (_, c)| a + c);
    assert_eq!(
        (united["total"].as_u64(), united["negative"].as_u64()),
        (Some(day.total), Some(day.negative))
    );
    let expected = &united["expected"];
    let of = |key: &str| expected[key].as_f64().expect("a number");
    assert!(of("low") < of("share") && of("share") < of("high"), "{expected}");
    assert!((of("share") - 0.55).abs() < 0.1, "near what the week is made with: {expected}");
    let delta = brands.iter().find(|it| it["name"] == "delta").expect("delta");
    assert!(delta["share"].is_null() && delta["expected"].is_null(), "{delta}");
    assert_eq!(answer["you"], json!({"name": null, "may_act": true}));
    assert_eq!(answer["notifications_pending"], 5);
}

#[tokio::test]
async fn drift_is_that_of_the_newest_day() {
    let site = Site::start(MemoryStore::new(), BRANDS).await;
    assert_eq!(site.json("/v1/drift").await, (200, json!({"latest": null})));
    site.store.record_drift(&drift()).await.expect("stored");
    let (status, answer) = site.json("/v1/drift").await;
    assert_eq!(status, 200);
    let latest = &answer["latest"];
    assert_eq!(latest["day"], "2015-02-24T00:00:00Z");
    assert_eq!((&latest["tweets"], &latest["reference_days"]), (&json!(1985), &json!(7)));
    let first = json!({
        "measure": "languages", "verdict": "drifted", "value": 0.4, "limit": 0.1,
        "changes": [{"what": "fr", "before": 0.01, "now": 0.3}],
    });
    assert_eq!(latest["measures"][0], first);
    assert_eq!(latest["measures"][3]["verdict"], "no_vocabulary");
    assert!(latest["measures"][3]["value"].is_null());
}

#[tokio::test]
async fn shares_add_up_at_every_step() {
    let site = Site::start(full_store().await, BRANDS).await;
    let from = start_of_week() + TimeDelta::days(6);
    let to = from + TimeDelta::hours(12);
    let path = |step| {
        let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%dT%H:%M:%SZ");
        format!("/v1/brands/united/shares?from={}&to={}&step={step}", time(from), time(to))
    };
    let counts =
        site.store.minute_counts("united", Minute::of(from), Minute::of(to).plus(-1)).await;
    let all = counts.expect("counts").into_iter().fold(Counts::default(), |a, (_, c)| a + c);
    assert!(all.negative > 100, "{all:?}");
    for (step, points) in [("minute", 720), ("hour", 12), ("day", 1)] {
        let (status, answer) = site.json(&path(step)).await;
        assert_eq!(status, 200, "{answer}");
        let found = answer["points"].as_array().expect("a list");
        let sum =
            |key: &str| found.iter().map(|it| it[key].as_u64().expect("a count")).sum::<u64>();
        assert_eq!((sum("tweets"), sum("negative")), (all.total, all.negative), "{step}");
        assert_eq!(found.len(), points, "{step}: each has an expectation");
        for point in found.iter().filter(|it| it["tweets"] != 0) {
            let share =
                point["negative"].as_f64().expect("n") / point["tweets"].as_f64().expect("n");
            assert!((point["share"].as_f64().expect("a share") - share).abs() < 1e-9);
        }
        // The minutes of one hour have one expectation, and a second request the same.
        assert_eq!(site.json(&path(step)).await.1, answer);
    }
    // In the first two days too little was known.
    let early = "/v1/brands/united/shares?from=2015-02-17T00:00:00Z&to=2015-02-17T12:00:00Z";
    let (_, answer) = site.json(early).await;
    let first = &answer["points"][0];
    assert!(first["expected"].is_null() && first["tweets"].as_u64() > Some(0), "{first}");
    assert_eq!(answer["step"], "minute", "half a day is shown by the minute");
}

#[tokio::test]
async fn share_of_voice_is_of_the_time_asked_for() {
    let site = Site::start(full_store().await, BRANDS).await;
    let check = async |name: &str, query: &str, (from, to): (i64, i64)| {
        let (status, answer) = site.json(&format!("/v1/voice{query}")).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let mut expected = Vec::new();
        for brand in BRANDS {
            let minute = |hour| Minute::of(start_of_week() + TimeDelta::hours(hour));
            let counts = site.store.minute_counts(brand, minute(from), minute(to).plus(-1)).await;
            let tweets: u64 = counts.expect("counts").iter().map(|(_, it)| it.total).sum();
            expected.push((*brand, tweets));
        }
        expected.sort_by_key(|(_, tweets)| std::cmp::Reverse(*tweets));
        let all: u64 = expected.iter().map(|(_, tweets)| tweets).sum();
        let expected = expected.into_iter().map(|(brand, tweets)| {
            let share = (all > 0).then(|| tweets as f64 / all as f64);
            json!({"name": brand, "tweets": tweets, "share": share})
        });
        assert_eq!(answer["brands"], expected.collect::<Value>(), "{name}");
    };
    check("a day", "?from=2015-02-20T00:00:00Z&to=2015-02-21T00:00:00Z", (72, 96)).await;
    check("two hours", "?from=2015-02-20T00:00:00Z&to=2015-02-20T02:00:00Z", (72, 74)).await;
    check("before all", "?from=2010-02-20T00:00:00Z&to=2010-02-20T02:00:00Z", (-50_000, -49_000))
        .await;
    check("the last week", "", (24, 192)).await;
}

#[tokio::test]
async fn wrong_questions_are_told_what_is_wrong() {
    let site = Site::start(full_store().await, BRANDS).await;
    for (path, status, said) in [
        ("/v1/brands/nobody/shares", 404, "no brand \"nobody\""),
        ("/v1/brands/united/shares?step=year", 400, "step"),
        (
            "/v1/brands/united/shares?from=2015-02-18T00:00:00Z&to=2015-02-17T00:00:00Z",
            400,
            "before",
        ),
        ("/v1/brands/united/shares?from=2010-01-01T00:00:00Z&step=hour", 400, "3000 points"),
        ("/v1/brands/united/shares?frm=1", 400, "frm"),
        ("/v1/voice?from=2015-02-18T00:00:00Z&to=2015-02-17T00:00:00Z", 400, "before"),
        ("/v1/incidents/99", 404, "no incident 99"),
        ("/v1/incidents/abc", 400, "abc"),
        ("/v1/tweets?brand=nobody", 404, "nobody"),
        ("/v1/tweets?brand=united&label=BAD", 400, "NEGATIVE"),
        ("/v1/tweets?brand=united&cursor=x", 400, "cursor"),
        ("/v1/samples/9", 404, "no sample 9"),
        ("/v1/tweets/none/explain", 404, "no scored tweet"),
        ("/v1/tweets/united-50-0/explain", 409, "test@1 is not loaded"),
    ] {
        let (found, answer) = site.json(path).await;
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer["error"].as_str().expect("an error").contains(said), "{path}: {answer}");
    }
    for (method, path, body, status) in [
        ("POST", "/v1/incidents/99/acknowledge", json!({}), 404),
        ("POST", "/v1/incidents/99/resolve", json!({}), 404),
        ("POST", "/v1/incidents/2/resolve", json!({}), 409),
        ("POST", "/v1/silences", json!({"brand": "nobody", "minutes": 9, "reason": "x"}), 404),
        ("POST", "/v1/silences", json!({"minutes": 0, "reason": "x"}), 400),
        ("POST", "/v1/silences", json!({"minutes": 9, "reason": " "}), 400),
        ("POST", "/v1/silences", json!({"minutes": 9, "reason": "x", "until": 1}), 422),
        ("DELETE", "/v1/silences/9", Value::Null, 404),
        ("POST", "/v1/labels", json!({"tweet_id": "none", "label": "NEGATIVE"}), 404),
        ("POST", "/v1/labels", json!({"tweet_id": "\u{0}", "label": "NEGATIVE"}), 404),
        ("POST", "/v1/labels", json!({"tweet_id": "united-50-0", "label": "BAD"}), 400),
        ("POST", "/v1/samples/9/labels", json!({"labels": []}), 404),
    ] {
        assert_eq!(send(&site, method, path, body.clone()).await.0, status, "{path} {body}");
    }
}

#[tokio::test]
async fn an_incident_tells_who_was_told_and_who_was_not() {
    let site = Site::start(full_store().await, BRANDS).await;
    let (_, list) = site.json("/v1/incidents?open=true").await;
    assert_eq!(list["incidents"].as_array().expect("a list").len(), 1);
    let (_, list) = site.json("/v1/incidents?brand=jetblue").await;
    assert_eq!(list["incidents"][0]["id"], 1);
    let (status, whole) = site.json("/v1/incidents/1").await;
    assert_eq!(status, 200);
    assert_eq!(whole["incident"]["cause"], "share");
    assert_eq!(whole["history"][0]["kind"], "opened");
    assert_eq!(whole["history"][0]["notified"], json!(["comms"]));
    let not = json!([{"receiver": "desk", "reason": "quiet_hours", "detail": "route night"}]);
    assert_eq!(whole["history"][0]["not_notified"], not);
    assert_eq!(whole["deliveries"][0]["receiver"], "comms");
    assert_eq!(whole["deliveries"][0]["state"], "pending");
    assert_eq!(whole["drivers"]["terms"][0]["term"], "cancelled");
    assert_eq!(whole["examples"][0]["text"], hostile()[0], "as it was written");
    assert_eq!(whole["examples"][0]["marks"], json!([[0, 1]]));
}

#[tokio::test]
async fn people_take_on_silence_and_end() {
    let site = Site::start(full_store().await, BRANDS).await;
    let taken =
        send(&site, "POST", "/v1/incidents/3/acknowledge", json!({"by": "Anna", "note": "on it"}));
    assert_eq!(taken.await.0, 204);
    let (_, whole) = site.json("/v1/incidents/3").await;
    let expected = json!({"by": "Anna", "at": "2026-01-01T12:00:00Z", "note": "on it"});
    assert_eq!(whole["incident"]["acknowledged"], expected);

    let new = json!({"brand": NASTY, "minutes": 90, "reason": "strike", "by": "Anna"});
    let (status, silence) = send(&site, "POST", "/v1/silences", new).await;
    assert_eq!((status, &silence["ends_at"]), (201, &json!("2026-01-01T13:30:00Z")));
    let (_, list) = site.json("/v1/silences").await;
    assert_eq!(list["silences"], json!([silence]));
    let end = send(&site, "DELETE", &format!("/v1/silences/{}", silence["id"]), Value::Null).await;
    assert_eq!(end.0, 204);
    assert_eq!(site.json("/v1/silences").await.1["silences"], json!([]));

    let ended = json!({"by": "Anna", "note": "a joke"});
    assert_eq!(send(&site, "POST", "/v1/incidents/3/resolve", ended.clone()).await.0, 204);
    let (_, whole) = site.json("/v1/incidents/3").await;
    assert!(!whole["incident"]["resolved_at"].is_null(), "{whole}");
    let last = whole["history"].as_array().expect("a list").last().expect("a step");
    assert_eq!(last["kind"], "resolved");
    assert_eq!(last["note"], "Ended by Anna: a joke. If the rise goes on, another alert follows.");
    assert_eq!(last["notified"], json!(["comms"]), "who was told of it is told of its end");
    let transitions: Vec<_> = whole["deliveries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["transition"])
        .collect();
    assert_eq!(transitions, ["opened", "resolved"]);
    assert_eq!(send(&site, "POST", "/v1/incidents/3/resolve", ended).await.0, 409, "only once");
    assert!(
        site.store.incident(IncidentId(3)).await.expect("read").expect("one").resolved.is_some()
    );
}

/// A store with these tweets about united, a minute apart, each with its probability of negative.
async fn tweets(texts: &[(String, f32)]) -> MemoryStore {
    let store = MemoryStore::new();
    let rows = texts.iter().zip(0..).map(|((text, p), n)| {
        // Two tweets a minute, so that an id decides between equal times.
        let at = start_of_week() + TimeDelta::minutes(n / 2);
        scored(&format!("t{n:04}"), text, at, &["united"], *p)
    });
    put(&store, "tweets", rows.collect()).await;
    store
}

#[tokio::test]
async fn tweets_are_found_folded_and_paged() {
    let mut texts: Vec<(String, f32)> = (0..450)
        .map(|n| {
            (format!("tweet number{n} says thing{n} other{n}"), if n % 3 == 0 { 0.9 } else { 0.1 })
        })
        .collect();
    texts.push(("Flight CANCELLED and nobody answers the phone".into(), 0.9));
    texts
        .push(("RT @ann: flight cancelled and nobody answers the phone http://t.co/1".into(), 0.9));
    let site = Site::start(tweets(&texts).await, &["united"]).await;
    let read = async |more: &str| site.json(&format!("/v1/tweets?brand=united{more}")).await.1;
    let ids = |answer: &Value| -> Vec<String> {
        let list = answer["tweets"].as_array().expect("a list");
        list.iter().map(|it| it["tweet_id"].as_str().expect("an id").to_owned()).collect()
    };
    let found = read("&q=nobody%20ANSWERS").await;
    assert_eq!(ids(&found), ["t0451"], "near-duplicates are folded into the newest");
    assert_eq!(found["tweets"][0]["alike"], 2);
    assert_eq!(found["tweets"][0]["alike_ids"], json!(["t0450"]));
    assert_eq!(ids(&read("&q=no%20such").await), [""; 0]);
    assert_eq!(ids(&read("&label=NEGATIVE").await).len(), 151);

    let mut all = Vec::new();
    let mut cursor = String::new();
    let mut answers = 0;
    loop {
        let answer = read(&cursor).await;
        all.extend(ids(&answer));
        answers += 1;
        match answer["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((all.len(), answers), (451, 3));
    assert!(all.is_sorted_by(|a, b| a > b), "newest first, none twice");
}

#[tokio::test]
async fn people_say_what_a_tweet_is() {
    let texts: Vec<_> = hostile().into_iter().map(|text| (text, 0.9)).collect();
    let site = Site::start(tweets(&texts).await, &["united"]).await;
    let wrong = json!({"tweet_id": "t0002", "label": "POSITIVE", "by": "Anna"});
    assert_eq!(send(&site, "POST", "/v1/labels", wrong).await.0, 204);
    let (_, list) = site.json("/v1/labels").await;
    assert_eq!(list["labels"][0]["text"], texts[2].0);
    let (_, found) = site.json("/v1/tweets?brand=united&q=lost%20my%20bag").await;
    let corrected = json!({"label": "POSITIVE", "by": "Anna", "at": "2026-01-01T12:00:00Z"});
    assert_eq!(found["tweets"][0]["corrected"], corrected);
    assert_eq!(found["tweets"][0]["text"], texts[2].0, "as it was written");

    let new = json!({"brand": "united", "from": "2015-02-17T00:00:00Z", "to": "2015-02-18T00:00:00Z",
                     "tweets": 5, "by": "Anna"});
    let (status, sample) = send(&site, "POST", "/v1/samples", new).await;
    assert_eq!((status, &sample["population"], &sample["tweets"]), (201, &json!(20), &json!(5)));
    let (_, drawn) = site.json("/v1/samples/1").await;
    assert_eq!(drawn["tweets"].as_array().expect("a list").len(), 5);
    assert!(drawn["tweets"][0].get("called").is_none(), "nothing sways whoever labels");
    let labels = json!({"labels": [{"place": 2, "label": "NEUTRAL"}], "by": "Ben"});
    assert_eq!(send(&site, "POST", "/v1/samples/1/labels", labels).await.1, json!({"changed": 1}));
    assert_eq!(site.json("/v1/samples").await.1["samples"][0]["labelled"], 1);
    assert_eq!(site.json("/v1/samples/1").await.1["tweets"][1]["label"], "NEUTRAL");
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let site = Site::start(full_store().await, BRANDS).await;
    let url = format!("{}/v1/brands", site.url);
    let first = reqwest::get(&url).await.expect("an answer");
    let tag = first.headers()["etag"].clone();
    let plain = first.bytes().await.expect("a body");
    let again =
        Client::new().get(&url).header("if-none-match", &tag).send().await.expect("an answer");
    assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &tag));
    assert!(again.bytes().await.expect("a body").is_empty());
    assert_eq!(send(&site, "POST", "/v1/incidents/3/resolve", json!({})).await.0, 204);
    let changed =
        Client::new().get(&url).header("if-none-match", &tag).send().await.expect("an answer");
    assert_eq!(changed.status(), 200);

    let packed = Client::new().get(&url).header("accept-encoding", "gzip").send().await;
    let packed = packed.expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.expect("a body");
    assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());

    let page = site.get("/").await.1;
    let script = page.split('"').find(|part| part.ends_with("/app.js")).expect("the script");
    let asset = reqwest::get(format!("{}{script}", site.url)).await.expect("an answer");
    assert!(asset.headers()["cache-control"].to_str().expect("ASCII").contains("immutable"));
    let old = script.replace("/assets/", "/assets/x");
    assert_eq!(site.get(&old).await.0, 404, "a file of another version");
}

#[tokio::test]
async fn the_description_names_every_route() {
    let site = Site::start(MemoryStore::new(), BRANDS).await;
    let (status, api) = site.json("/openapi.json").await;
    assert_eq!(status, 200);
    let mut routes: Vec<String> = Vec::new();
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for (method, about) in methods.as_object().expect("methods") {
            assert!(about["summary"].as_str().is_some_and(|it| !it.is_empty()), "{method} {path}");
            routes.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes.sort();
    insta::assert_snapshot!(routes.join("\n"), @r"
    DELETE /v1/silences/{id}
    GET /v1/brands
    GET /v1/brands/{brand}/shares
    GET /v1/deliveries
    GET /v1/drift
    GET /v1/events
    GET /v1/incidents
    GET /v1/incidents/{id}
    GET /v1/labels
    GET /v1/models
    GET /v1/samples
    GET /v1/samples/{id}
    GET /v1/silences
    GET /v1/tweets
    GET /v1/tweets/{id}/explain
    GET /v1/voice
    POST /v1/incidents/{id}/acknowledge
    POST /v1/incidents/{id}/resolve
    POST /v1/labels
    POST /v1/samples
    POST /v1/samples/{id}/labels
    POST /v1/silences
    ");
    // Each of them is there: with ids of nothing none answers that the route is unknown.
    for route in &routes {
        let (method, path) = route.split_once(' ').expect("two words");
        let path = path.replace("{id}", "0").replace("{brand}", "nobody");
        let method: reqwest::Method = method.parse().expect("a method");
        let answer = Client::new().request(method, format!("{}{path}", site.url)).send().await;
        let answer = answer.expect("an answer");
        assert_ne!(answer.status(), 405, "{route}");
        let is_json = answer.headers()["content-type"] != "text/plain; charset=utf-8";
        assert!(answer.status() != 404 || is_json, "{route}");
    }
}
