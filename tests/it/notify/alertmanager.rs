//! A real Prometheus Alertmanager gets our alerts, and passes them on.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use monitor_config as config;
use monitor_core::clock::{SimulatedClock, SystemClock};
use monitor_core::domain::Severity;
use monitor_store::MemoryStore;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::deploy::{Ended, free_address, kept};

const RECEIVER: &str = "prometheus";

/// Alertmanager, which passes on to a web server what it gets.
struct Alertmanager {
    server: Option<Ended>,
    folder: TempDir,
    address: SocketAddr,
}

impl Alertmanager {
    async fn start(passes_on_to: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "route: {{receiver: all, group_by: [alertname], group_wait: 1s, group_interval: 1s}}\n\
             receivers:\n- name: all\n  webhook_configs: [{{url: '{passes_on_to}', send_resolved: true}}]\n"
        );
        fs::write(folder.path().join("alertmanager.yml"), settings).unwrap();
        let mut this = Self { server: None, folder, address: free_address() };
        this.run().await;
        this
    }

    fn command(&self) -> Command {
        let mut command = kept("alertmanager-0.28.1/bin", "alertmanager");
        command
            .arg("--config.file=alertmanager.yml")
            .arg("--storage.path=data")
            .arg("--cluster.listen-address=")
            .arg(format!("--web.listen-address={}", self.address))
            .current_dir(self.folder.path())
            .stderr(Stdio::null());
        command
    }

    /// Starts it, also again, and waits until it answers.
    async fn run(&mut self) {
        self.server = Some(Ended(self.command().spawn().unwrap()));
        let answers = async {
            while self.get("status").await.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answers).await.expect("it answers");
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}/api/v2/{path}", self.address);
        reqwest::get(url).await.ok()?.json().await.ok()
    }

    /// Brand and severity of the alerts that fire.
    async fn firing(&self) -> Vec<(String, String)> {
        let alerts = self.get("alerts").await.unwrap();
        let mut found: Vec<_> = alerts
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| {
                assert_eq!(alert["status"]["state"], "active", "{alert}");
                assert_eq!(alert["labels"]["alertname"], "BadBuzz", "{alert}");
                let label = |name: &str| alert["labels"][name].as_str().unwrap().to_owned();
                (label("brand"), label("severity"))
            })
            .collect();
        found.sort();
        found
    }

    async fn until_firing(&self, what: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(brand, severity)| (brand.to_string(), severity.to_string()))
            .collect();
        for _ in 0..300 {
            if self.firing().await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {expected:?} do not fire, but {:?}", self.firing().await);
    }
}

/// Waits until a message was passed on in which these brands and severities have this state.
async fn until_passed_on(receiver: &HttpReceiver, state: &str, alerts: &[(&str, &str)]) {
    let matches = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        let has = |(brand, severity): &(&str, &str)| {
            body["alerts"].as_array().unwrap().iter().any(|alert| {
                (&alert["labels"]["brand"], &alert["labels"]["severity"], &alert["status"])
                    == (&Value::from(*brand), &Value::from(*severity), &Value::from(state))
            })
        };
        alerts.iter().all(has)
    };
    eventually(&format!("{alerts:?} are passed on as {state} in one message"), || {
        receiver.requests().iter().any(|(_, body)| matches(body))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs alertmanager"]
async fn alertmanager_opens_updates_groups_and_resolves_over_a_restart() {
    rig::install_tls();
    // Alertmanager compares times with its own clock.
    let clock = SimulatedClock::at(SystemClock::new().now());
    let rig = Rig { store: std::sync::Arc::new(MemoryStore::new()), clock: clock.into() };
    let passed_on = HttpReceiver::start(Vec::new()).await;
    let mut alertmanager = Alertmanager::start(&format!("{}/hook", passed_on.url)).await;
    let endpoint = rig::endpoint(format!("http://{}", alertmanager.address));
    let settings = config::Alertmanager { endpoint, token: None, token_file: None };
    let receivers = [(RECEIVER.to_owned(), Receiver::Alertmanager(settings))];
    let running = rig.start(receivers.into());
    let step = async |brand: &str, transition, severity| {
        rig.step_as(brand, transition, severity, &[RECEIVER]).await;
    };
    let (warning, critical) = (Severity::Warning, Severity::Critical);

    for brand in ["delta", "jetblue", "united"] {
        step(brand, Transition::Opened, warning).await;
    }
    rig.settled(0, 0).await;
    let all = [("delta", "warning"), ("jetblue", "warning"), ("united", "warning")];
    alertmanager.until_firing("opened", &all).await;
    until_passed_on(&passed_on, "firing", &all).await;

    step("united", Transition::Updated, critical).await;
    rig.settled(0, 0).await;
    let worse = [("delta", "warning"), ("jetblue", "warning"), ("united", "critical")];
    alertmanager.until_firing("worse", &worse).await;
    until_passed_on(&passed_on, "firing", &worse).await;
    until_passed_on(&passed_on, "resolved", &[("united", "warning")]).await;

    // It forgets what was open, and what is sent meanwhile is tried again.
    alertmanager.server = None;
    step("delta", Transition::Updated, critical).await;
    assert_eq!(rig.store.totals().await.expect("totals").outbox_pending, 1, "it cannot be sent");
    alertmanager.run().await;
    for _ in 0..100 {
        if rig.store.totals().await.expect("totals").outbox_pending == 0 {
            break;
        }
        rig.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.settled(0, 0).await;
    alertmanager.until_firing("after the restart", &[("delta", "critical")]).await;
    step("jetblue", Transition::Updated, warning).await;
    rig.settled(0, 0).await;
    let known = [("delta", "critical"), ("jetblue", "warning")];
    alertmanager.until_firing("known again by its update", &known).await;

    step("united", Transition::Resolved, critical).await;
    step("delta", Transition::Resolved, critical).await;
    step("jetblue", Transition::Resolved, warning).await;
    rig.settled(0, 0).await;
    alertmanager.until_firing("resolved", &[]).await;
    until_passed_on(&passed_on, "resolved", &[("delta", "critical")]).await;
    until_passed_on(&passed_on, "resolved", &[("jetblue", "warning")]).await;
    running.stop().await;
}
