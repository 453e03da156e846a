//! A small WebDriver client: drives Debian's Chromium through its chromedriver.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Client;
use serde_json::{Value, json};

/// How long a condition is waited for.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A browser with one window; closed when dropped.
pub struct Browser {
    client: Client,
    session: String,
    driver: Child,
    // Removed after the browser has ended.
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver's group, so that the browser ends with it.
        let group = -(self.driver.id() as i32);
        // SAFETY: kill has no memory effects.
        unsafe { libc::kill(group, libc::SIGKILL) };
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts a browser for readers of `language`.
    pub async fn start(language: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver starts");
        let profile = tempfile::tempdir().unwrap();
        let client = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let mut browser =
            Self { client, session: format!("http://127.0.0.1:{port}"), driver, _profile: profile };
        for _ in 0..100 {
            if browser.client.get(format!("{}/status", browser.session)).send().await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let folder = browser._profile.path().display();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &format!("--user-data-dir={folder}"),
            &format!("--lang={language}"),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": {"intl.accept_languages": language},
            },
        }}});
        let session = browser.call("POST", "/session", capabilities).await;
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}"));
        browser.session += &format!("/session/{id}");
        browser
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let request =
            self.client.request(method.parse().unwrap(), format!("{}{path}", self.session));
        let request = if method == "GET" { request } else { request.json(&body) };
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{path}: {value}");
        value
    }

    /// Calls a command of Chromium's DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({"cmd": command, "params": parameters});
        self.call("POST", "/goog/cdp/execute", body).await;
    }

    /// Sets the size of the page, in pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Chooses light or dark colours.
    pub async fn colors(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.call("POST", "/url", json!({ "url": url })).await;
    }

    /// Runs the body of a function and returns its result.
    pub async fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Runs the body of an asynchronous function and returns its result.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {script} }})().then(done, (error) => done(`failed: ${{error}}`));"
        );
        self.call("POST", "/execute/async", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true.
    pub async fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        let met = async {
            while self.run(&script).await != true {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(WAIT_MAX, met).await.is_err() {
            let text = self.run("return document.body.innerText.slice(0, 3000)").await;
            panic!("never true: {expression}\n{text}\n{:?}", self.complaints().await);
        }
    }

    /// Clicks, as a mouse does, on the middle of the first element that matches.
    pub async fn click(&self, selector: &str) {
        self.wait(&format!("document.querySelector({selector:?})")).await;
        let found = json!({"using": "css selector", "value": selector});
        let element = self.call("POST", "/element", found).await;
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.call("POST", &format!("/element/{id}/click"), json!({})).await;
    }

    /// Types into the first element that matches.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let found = json!({"using": "css selector", "value": selector});
        let element = self.call("POST", "/element", found).await;
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.call("POST", &format!("/element/{id}/value"), json!({ "text": text })).await;
    }

    /// Presses one key, such as `\u{e00c}` for Escape.
    pub async fn press(&self, key: &str) {
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": [
            {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key},
        ]}]});
        self.call("POST", "/actions", actions).await;
    }

    /// Presses the mouse at one place of an element and releases it at another, each a part of its
    /// width from the left.
    pub async fn drag(&self, selector: &str, from: f64, to: f64) {
        let script = format!(
            "const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const r = e.getBoundingClientRect(); return [r.left, r.top + r.height / 3, r.width]"
        );
        let place = self.run(&script).await;
        let number = |n: usize| place[n].as_f64().unwrap();
        let x = |part: f64| (number(0) + number(2) * part) as i64;
        let y = number(1) as i64;
        let moved = |to: i64| json!({"type": "pointerMove", "x": to, "y": y, "duration": 50});
        let actions = json!({"actions": [{"type": "pointer", "id": "mouse", "actions": [
            moved(x(from)), {"type": "pointerDown", "button": 0},
            moved((x(from) + x(to)) / 2), moved(x(to)), {"type": "pointerUp", "button": 0},
        ]}]});
        self.call("POST", "/actions", actions).await;
    }

    /// Saves what the page looks like.
    pub async fn picture(&self, file: &Path) {
        let png = self.call("GET", "/screenshot", Value::Null).await;
        std::fs::write(file, BASE64_STANDARD.decode(png.as_str().unwrap()).unwrap()).unwrap();
    }

    /// Errors and warnings in the console since the last call, such as refused scripts.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", json!({"type": "browser"})).await;
        let lines = log.as_array().unwrap().iter();
        lines.filter(|it| it["level"] == "SEVERE").map(|it| it["message"].to_string()).collect()
    }
}
