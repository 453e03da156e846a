//! The files of `deploy/` with what reads them: Prometheus, systemd's protocol, a YAML reader.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use monitor::settings::OWNERS;
use monitor_config as config;
use monitor_store::MemoryStore;
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::serve::Site;

pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// A program in the folder of the cache where scripts/setup keeps it, else on the `PATH`.
pub(crate) fn kept(folder: &str, program: &str) -> Command {
    let cache = std::env::var_os("MONITOR_CACHE").map(PathBuf::from).unwrap_or_default();
    let kept = cache.join(folder).join(program);
    Command::new(if kept.is_file() { kept } else { program.into() })
}

fn prometheus(program: &str) -> Command {
    kept("prometheus/usr/bin", program)
}

fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Ended when dropped.
pub(crate) struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A real Prometheus.
pub(crate) struct Prometheus {
    // Ended before its folder is removed.
    _server: Ended,
    _folder: tempfile::TempDir,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Prometheus {
    /// It scrapes a page every second by the settings in `deploy/`, and evaluates the rules.
    pub(crate) fn scraping(page: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(deploy("prometheus/prometheus.yml")).unwrap();
        let text = text.replace("127.0.0.1:8080", page).replace("15s", "1s");
        fs::write(folder.path().join("prometheus.yml"), text).unwrap();
        fs::copy(deploy("prometheus/rules.yml"), folder.path().join("rules.yml")).unwrap();
        let address = free_address();
        let server = prometheus("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = reqwest::Client::new();
        Self { _server: Ended(server), _folder: folder, address, client }
    }

    /// The answer of its API, if it answers.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let mut url =
            reqwest::Url::parse(&format!("http://{}/api/v1/{path}", self.address)).unwrap();
        url.query_pairs_mut().extend_pairs(query);
        self.client.get(url).send().await.ok()?.json().await.ok()
    }

    /// Waits until an expression has a result.
    pub(crate) async fn until(&self, expression: &str) {
        let found = async {
            loop {
                let answer = self.get("query", &[("query", expression)]).await.unwrap_or_default();
                if answer["data"]["result"].as_array().is_some_and(|found| !found.is_empty()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.expect("scraped");
    }
}

/// The expressions of all rules.
fn expressions() -> Vec<String> {
    let text = fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    let rules = Yaml::load_from_str(&text).unwrap();
    let rules = rules[0]["groups"][0]["rules"].as_sequence().unwrap();
    rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rules_name_only_metrics_that_there_are() {
    let names = include_str!("../../crates/telemetry/src/lib.rs");
    let mut found = 0;
    for expression in expressions() {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        for word in expression.split(|c| !is_name(c)).filter(|it| it.starts_with("monitor_")) {
            let base = word.trim_end_matches("_bucket");
            assert!(names.contains(&format!("{base:?}")), "{word} in {expression}");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
#[ignore = "needs prometheus"]
fn rules_alarm_as_they_say() {
    let folder = deploy("prometheus");
    for file in ["prometheus.yml", "docker.yml"] {
        ran(prometheus("promtool").args(["check", "config", file]).current_dir(&folder));
    }
    let said =
        ran(prometheus("promtool").args(["test", "rules", "rules.test.yml"]).current_dir(&folder));
    assert!(said.contains("SUCCESS"), "{said}");
}

/// Prometheus scrapes the daemon's page and evaluates every rule on what it got.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn prometheus_scrapes_and_evaluates_the_rules() {
    // For reqwest; another test may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let site = Site::start(MemoryStore::new(), &["acme"]).await;
    let page = site.url.trim_start_matches("http://");
    let metrics =
        reqwest::get(format!("http://{page}/metrics")).await.unwrap().text().await.unwrap();
    for name in [
        "process_resident_memory_bytes",
        "monitor_outbox_pending 0",
        "monitor_open_incidents{brand=\"(stream)\"} 0",
        "monitor_ready{part=\"store\"} 1",
    ] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    let mut check = prometheus("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), metrics.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{problems}");

    let prometheus = Prometheus::scraping(page);
    prometheus.until(r#"monitor_ready{part="store"} == 1"#).await;
    for expression in expressions() {
        let answer = prometheus.get("query", &[("query", &expression)]).await.unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
}

#[test]
fn the_daemon_tells_systemd() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut daemon = Ended(
        Command::new(env!("CARGO_BIN_EXE_monitor"))
            .args(["run", "--set", "http.listen=127.0.0.1:0", "--set", "model.name=logistic-tfidf"])
            .args(["--set", "brands.acme.handles=[\"acme\"]"])
            .args(["--set", "store.url=postgres://monitor@127.0.0.1:1/monitor"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "400000")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let next = || {
        let mut message = [0; 256];
        let length = systemd.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    assert_eq!([next(), next(), next()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    // SAFETY: the child has not been waited for, so its id is still its own.
    unsafe { libc::kill(daemon.0.id().cast_signed(), libc::SIGTERM) };
    while next() != "STOPPING=1" {}
    assert!(daemon.0.wait().unwrap().success());
}

#[test]
fn the_unit_runs_a_command_that_there_is() {
    let text = fs::read_to_string(deploy("systemd/monitor.service")).unwrap();
    let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(&words[..2], ["/usr/local/bin/monitor", "run"]);
    let help = ran(Command::new(env!("CARGO_BIN_EXE_monitor")).args(["run", "--help"]));
    assert!(help.contains(words[2]), "{} is not in {help}", words[2]);
    for line in ["Type=notify", "WatchdogSec=60", "NoNewPrivileges=yes", "LimitCORE=0"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn the_manifests_have_valid_settings_and_probes() {
    let text = fs::read_to_string(deploy("kubernetes/monitor.yaml")).unwrap();
    let documents = Yaml::load_from_str(&text).unwrap();
    let of_kind = |kind: &str| {
        let found = documents.iter().find(|it| it["kind"].as_str() == Some(kind));
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    for document in &documents {
        assert_eq!(document["metadata"]["name"].as_str(), Some("monitor"));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("monitor.toml");
    fs::write(&file, of_kind("ConfigMap")["data"]["monitor.toml"].as_str().unwrap()).unwrap();
    let secrets = of_kind("Secret")["stringData"].as_mapping().unwrap();
    let variables: Vec<(String, String)> = secrets
        .iter()
        .map(|(key, value)| (key.as_str().unwrap().into(), value.as_str().unwrap().into()))
        .collect();
    let settings = config::load_from(Some(&file), variables.clone(), &[], OWNERS);
    let refused = settings.expect_err("its tokens have to be made first").to_string();
    assert!(refused.contains("http.tokens.comms.sha256"), "{refused}");
    let digest = "0".repeat(64);
    let variables = variables.into_iter().map(|(key, value)| match value.as_str() {
        "change-me" => (key, digest.clone()),
        _ => (key, value),
    });
    let settings = config::load_from(Some(&file), variables, &[], OWNERS).unwrap();
    let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = container["ports"][0]["containerPort"].as_integer().unwrap();
    assert_eq!(settings.http.listen, format!("0.0.0.0:{port}"));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"].as_str(), Some(path));
    }
    let args: Vec<&str> =
        container["args"].as_sequence().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(args, ["run", "--config", "/etc/monitor/monitor.toml"]);
    let mount = &container["volumeMounts"][0]["mountPath"];
    assert_eq!(mount.as_str(), Some("/etc/monitor"));
    let scaling = &of_kind("ScaledObject")["spec"]["triggers"][0]["metadata"];
    let kafka = &settings.kafka;
    for (key, setting) in [
        ("topic", &kafka.topic),
        ("consumerGroup", &kafka.group),
        ("bootstrapServers", &kafka.brokers),
    ] {
        assert_eq!(scaling[key].as_str(), Some(setting.as_str()), "{key}");
    }
    assert_eq!(of_kind("PodDisruptionBudget")["spec"]["minAvailable"].as_integer(), Some(1));
}
