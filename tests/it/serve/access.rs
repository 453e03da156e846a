//! Who may do what, over a real socket.

use monitor_serve::{Right, Token};
use monitor_store::{MemoryStore, Store};
use reqwest::{Client, StatusCode, redirect};
use sha2::{Digest, Sha256};

use super::{BRANDS, NASTY, Site, full_store};

fn token(name: &str, secret: &str, right: Right) -> Token {
    Token { name: name.into(), sha256: Sha256::digest(secret).into(), right }
}

async fn locked() -> Site {
    let tokens = vec![
        token("comms", "acting-token", Right::Act),
        token("wall", "reading-token", Right::Read),
    ];
    Site::with_tokens(full_store().await, BRANDS, tokens).await
}

fn client() -> Client {
    Client::builder().redirect(redirect::Policy::none()).build().expect("a client")
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let site = locked().await;
    let data = [
        "/v1/brands",
        "/v1/incidents/3",
        "/v1/events",
        "/v1/openapi.json",
        "/api/status",
        "/metrics",
    ];
    for path in data {
        let answer = client().get(format!("{}{path}", site.url)).send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{path}");
    }
    let answer = client().get(&site.url).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    let page = answer.text().await.expect("a page");
    assert!(page.contains("name=\"token\"") && !page.contains("jetblue"), "{page}");
    assert_eq!(site.get("/healthz").await, (200, "ok".into()), "a probe needs no token");
    let (status, ready) = site.json("/readyz").await;
    assert_eq!((status, ready), (200, serde_json::json!({"ready": true, "parts": {}})));
    let read = client().get(format!("{}/readyz", site.url)).bearer_auth("reading-token");
    let read = read.send().await.expect("an answer").text().await.expect("a body");
    assert!(read.contains("\"store\":\"ready\""), "{read}");
}

#[tokio::test]
async fn a_token_reads_or_acts() {
    let site = locked().await;
    let send = async |token: &str, acts: bool| {
        let client = client();
        let url = format!("{}/v1/incidents/3", site.url);
        let request = match acts {
            true => client.post(format!("{url}/acknowledge")).json(&serde_json::json!({})),
            false => client.get(url),
        };
        request.bearer_auth(token).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(send("reading-token", false).await, 200);
    assert_eq!(send("reading-token", true).await, 403);
    assert_eq!(send("another-token", false).await, 401);
    assert_eq!(send("acting-token", true).await, 204);
    let incident = site.store.incidents(9).await.expect("incidents").remove(0);
    assert_eq!((incident.brand.as_str(), incident.id.0), (NASTY, 3));
    assert_eq!(incident.acknowledged.expect("acknowledged").by, "comms", "the token's name");
}

#[tokio::test]
async fn a_browser_signs_in_and_acts_from_its_own_page_only() {
    let site = locked().await;
    let login = |token: &'static str| {
        let form = format!("token={token}");
        client()
            .post(format!("{}/login", site.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
    };
    let wrong = login("guess").send().await.expect("an answer");
    assert_eq!(wrong.status(), 401);
    assert!(wrong.text().await.expect("a page").contains("This token is not known"));
    let evil = login("acting-token").header("sec-fetch-site", "cross-site");
    assert_eq!(evil.send().await.expect("an answer").status(), 403);
    let signed = login("acting-token").send().await.expect("an answer");
    assert_eq!(
        (signed.status(), &signed.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/".parse().expect("a value"))
    );
    let cookie = signed.headers()["set-cookie"].to_str().expect("ASCII").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let page = client().get(&site.url).header("cookie", &cookie).send().await.expect("an answer");
    assert!(page.text().await.expect("a page").contains("jetblue"));

    let acknowledge = |name: &'static str, value: String| {
        client()
            .post(format!("{}/v1/incidents/3/acknowledge", site.url))
            .header("cookie", &cookie)
            .header(name, value)
            .json(&serde_json::json!({"by": "Anna"}))
    };
    let status = async |request: reqwest::RequestBuilder| {
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(status(acknowledge("origin", "http://evil.example".into())).await, 403);
    assert_eq!(status(acknowledge("sec-fetch-site", "same-site".into())).await, 403);
    assert_eq!(status(acknowledge("origin", site.url.clone())).await, 204);
    let incident = site.store.incidents(9).await.expect("incidents").remove(0);
    assert_eq!(incident.acknowledged.expect("acknowledged").by, "Anna (comms)");
    // What a form of another site can send is no JSON.
    let form = client()
        .post(format!("{}/v1/silences", site.url))
        .header("cookie", &cookie)
        .header("content-type", "text/plain")
        .body(r#"{"minutes": 60, "reason": "x"}"#);
    assert_eq!(status(form).await, 415);

    let out = client().post(format!("{}/logout", site.url)).header("cookie", &cookie);
    let out = out.send().await.expect("an answer");
    assert!(out.headers()["set-cookie"].to_str().expect("ASCII").contains("Max-Age=0"));
}

#[tokio::test]
async fn another_name_for_this_machine_is_refused() {
    let site = Site::start(full_store().await, BRANDS).await;
    for (host, expected) in [("rebound.example:80", 421), ("localhost:80", 200)] {
        for path in ["/", "/v1/brands"] {
            let request = client().get(format!("{}{path}", site.url)).header("host", host);
            let status = request.send().await.expect("an answer").status();
            assert_eq!(status, expected, "{host}{path}");
        }
    }
}

#[tokio::test]
async fn bodies_and_rates_are_limited() {
    let site = Site::start(MemoryStore::new(), BRANDS).await;
    let long = serde_json::json!({"minutes": 60, "reason": "x".repeat(100_000)});
    let answer = client().post(format!("{}/v1/silences", site.url)).json(&long).send().await;
    assert_eq!(answer.expect("an answer").status(), 413);
    // The clock stands still, so the bucket does not fill up again.
    let client = client();
    let mut refused = None;
    for _ in 0..400 {
        let answer = client.get(format!("{}/v1/silences", site.url)).send().await;
        let answer = answer.expect("an answer");
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("refused after the burst");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.text().await.expect("a body").contains("too many requests"));
    site.clock.advance(std::time::Duration::from_secs(1));
    let answer = client.get(format!("{}/v1/silences", site.url)).send().await;
    assert_eq!(answer.expect("an answer").status(), 200, "after a moment");
}

#[tokio::test]
async fn every_answer_forbids_what_is_foreign() {
    let site = locked().await;
    for path in ["/", "/v1/brands", "/healthz", "/nothing"] {
        let answer = client().get(format!("{}{path}", site.url)).send().await.expect("an answer");
        let policy = answer.headers()["content-security-policy"].to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(
            !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
    }
}
