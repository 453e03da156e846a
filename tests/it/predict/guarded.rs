//! Who may ask the model, on the page's server and on that of `monitor serve`.

use std::collections::BTreeSet;

use monitor_serve::Right;
use monitor_store::MemoryStore;
use reqwest::Method;
use sha2::{Digest, Sha256};

use super::*;
use crate::serve::Site as Page;

const READER: &str = "reading-token";

fn tokens() -> Vec<Token> {
    let token = |name: &str, secret, right| {
        let sha256 = Sha256::digest(secret).into();
        Token { name: name.to_owned(), sha256, right }
    };
    vec![token("program", READER, Right::Read), token("comms", "acting-token", Right::Act)]
}

/// The page with a model.
async fn page(tokens: Vec<Token>) -> (Arc<Fake>, Page) {
    let (fake, inference) = inference();
    let store = Arc::new(MemoryStore::new());
    (fake, Page::answering(store, &["acme"], tokens, Some(inference)).await)
}

/// All methods and paths of a server's description, with names filled in.
async fn described(url: &str) -> Vec<(Method, String)> {
    let answer = Client::new().get(format!("{url}/openapi.json")).bearer_auth(READER).send().await;
    let description: Value = answer.unwrap().json().await.unwrap();
    let mut ids = BTreeSet::new();
    let mut found = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} names two operations");
            let filled =
                [("{name}", "fake"), ("{version}", "7"), ("{brand}", "acme"), ("{id}", "1")];
            let path = filled.iter().fold(path.clone(), |path, (name, it)| path.replace(name, it));
            found.push((method.to_uppercase().parse().unwrap(), path));
        }
    }
    found
}

#[tokio::test]
async fn every_route_of_the_description_needs_a_token() {
    let (alone, (_fake, page)) = (Site::with_tokens(tokens()).await, page(tokens()).await);
    let models = described(&alone.url).await;
    let all = described(&page.url).await;
    assert_eq!(models.len(), 15, "{models:?}");
    assert!(models.iter().all(|it| all.contains(it)), "one description of all: {all:?}");
    assert!(all.iter().any(|(_, path)| path == "/v1/brands"), "{all:?}");
    for (url, routes) in [(&alone.url, models), (&page.url, all)] {
        for (method, path) in routes {
            let ask = Client::new().request(method.clone(), format!("{url}{path}"));
            let status = ask.json(&json!({"inputs": "good"})).send().await.unwrap().status();
            assert_eq!(status, 401, "{method} {path}");
        }
    }
    assert_eq!(alone.get("/metrics").await.0, 401);
    assert_eq!(alone.get("/healthz").await.0, 200, "a probe needs no token");
    assert_eq!(alone.fake.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn who_may_read_may_ask() {
    let (alone, (_fake, page)) = (Site::with_tokens(tokens()).await, page(tokens()).await);
    let tensor = json!({"name": "t", "shape": [1], "datatype": "BYTES", "data": ["good"]});
    let infer = json!({ "inputs": [tensor] });
    let text = json!({"inputs": "good"});
    for (path, body) in [
        ("/predict", &text),
        ("/", &text),
        ("/models/fake", &text),
        ("/score", &json!("good")),
        ("/v2/models/fake/infer", &infer),
        ("/v2/models/fake/versions/7/infer", &infer),
    ] {
        for url in [&alone.url, &page.url] {
            let ask = Client::new().post(format!("{url}{path}")).json(body);
            let answer = ask.bearer_auth(READER).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{url}{path}");
            assert!(answer.headers().contains_key("content-security-policy"), "{url}{path}");
        }
    }
    let act = Client::new().post(format!("{}/v1/incidents/1/resolve", page.url)).json(&json!({}));
    let status = act.bearer_auth(READER).send().await.unwrap().status();
    assert_eq!(status, 403, "and do no more");
}

/// What a browser sends for a form or a script of another site, with the cookie of somebody who is
/// logged in, if there is one.
#[tokio::test]
async fn a_page_of_another_site_may_not_ask() {
    for tokens in [Vec::new(), tokens()] {
        let (fake, page) = page(tokens).await;
        let ask = async |headers: &[(&str, &str)]| {
            let mut request = Client::new().post(format!("{}/score", page.url)).body("good");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let cookie = format!("monitor_token={READER}");
            request.header("cookie", cookie).send().await.unwrap().status().as_u16()
        };
        assert_eq!(ask(&[("origin", "https://evil.example")]).await, 403);
        assert_eq!(ask(&[("origin", "null")]).await, 403);
        assert_eq!(ask(&[("sec-fetch-site", "cross-site")]).await, 403);
        assert_eq!(fake.calls.load(Ordering::SeqCst), 0, "the model was not asked");
        assert_eq!(
            ask(&[("origin", page.url.as_str()), ("sec-fetch-site", "same-origin")]).await,
            200
        );
        assert_eq!(ask(&[]).await, 200, "a program");
    }
    let (fake, page) = page(Vec::new()).await;
    let rebound = Client::new().post(format!("{}/score", page.url)).body("good");
    let status = rebound.header("host", "evil.example").send().await.unwrap().status();
    assert_eq!(status, 421, "a name of another site that leads to this machine");
    assert_eq!(fake.calls.load(Ordering::SeqCst), 0);
}

/// The page's clock stands still, so an address gets no further requests.
#[tokio::test]
async fn a_program_may_ask_as_often_as_there_is_room() {
    let (fake, page) = page(tokens()).await;
    let client = Client::new();
    let get = async |path: &str, token: &str| {
        let ask = client.get(format!("{}{path}", page.url)).bearer_auth(token);
        ask.send().await.unwrap().status().as_u16()
    };
    let mut asked = 0;
    while get("/v1/brands", READER).await == 200 {
        asked += 1;
        assert!(asked <= 300, "the page's own routes have a rate");
    }
    let ask = client.post(format!("{}/predict", page.url)).json(&json!({"inputs": "good"}));
    assert_eq!(ask.bearer_auth(READER).send().await.unwrap().status(), 200);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
    assert_eq!(get("/info", "guessed").await, 429, "but who guesses tokens may not");
}

#[test]
fn other_machines_need_a_token() {
    let exposed = ["--set", "http.listen=0.0.0.0:0"];
    let output = monitor(&[&["serve", "--model", "lstm"], &exposed[..]].concat());
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("other machines reach this address: set a token"), "{error}");

    let digest: String = Sha256::digest(READER).iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("http.tokens.program.sha256={digest}");
    let served = Served::start(&["--model", "lstm", "--set", &token]);
    let ask = ["score", "we love you", "--url", &served.url];
    let output = monitor(&ask);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("set MONITOR_TOKEN"), "{error}");
    let found = super::output(&[&ask[..], &["--token", READER]].concat(), "");
    assert!(found.starts_with("POSITIVE 0."), "{found}");
}
