//! Secrets of the settings appear nowhere: neither in logs and errors, nor on the pages, nor where other
//! users of the machine may look.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use monitor_embedded::Postgres;

/// Planted wherever a secret may stand. Other places encode it, so look for these forms too.
const SECRET: &str = "planted+s3cret";
const FORMS: [&str; 4] = [SECRET, "planted%2Bs3cret", "cGxhbnRlZCtzM2NyZXQ", "planted%2bs3cret"];

/// The settings, as variables; nothing but Postgres answers.
fn variables(postgres: &str) -> Vec<(&'static str, String)> {
    let planted = |text: &str| text.replace('*', SECRET);
    vec![
        ("MONITOR_STORE__URL", postgres.to_owned()),
        ("MONITOR_KAFKA__BROKERS", "127.0.0.1:1".into()),
        ("MONITOR_KAFKA__PROPERTIES__SECURITY__PROTOCOL", "sasl_plaintext".into()),
        ("MONITOR_KAFKA__PROPERTIES__SASL__MECHANISM", "PLAIN".into()),
        ("MONITOR_KAFKA__PROPERTIES__SASL__USERNAME", "monitor".into()),
        ("MONITOR_KAFKA__PROPERTIES__SASL__PASSWORD", SECRET.into()),
        ("MONITOR_HEARTBEAT__URL", planted("http://127.0.0.1:1/*")),
        ("MONITOR_HEARTBEAT__EVERY_S", "10".into()),
        ("MONITOR_HTTP__PUBLIC_URL", "https://monitor.example.com".into()),
        ("MONITOR_LINKS__KEY", planted("*-*-*")),
        ("MONITOR_HTTP__LISTEN", "127.0.0.1:0".into()),
        ("MONITOR_LOG__FILTER", "trace".into()),
        ("MONITOR_BRANDS__ACME__HANDLES", r#"["acme"]"#.into()),
        ("MONITOR_MODEL__NAME", "logistic-tfidf".into()),
        ("MONITOR_RECEIVERS__MAIL__KIND", "email".into()),
        ("MONITOR_RECEIVERS__MAIL__HOST", "127.0.0.1".into()),
        ("MONITOR_RECEIVERS__MAIL__PORT", "1".into()),
        ("MONITOR_RECEIVERS__MAIL__USERNAME", "monitor".into()),
        ("MONITOR_RECEIVERS__MAIL__PASSWORD", SECRET.into()),
        ("MONITOR_RECEIVERS__MAIL__FROM", "monitor@example.com".into()),
        ("MONITOR_RECEIVERS__MAIL__TO", r#"["comms@example.com"]"#.into()),
        ("MONITOR_RECEIVERS__HOOK__KIND", "webhook".into()),
        ("MONITOR_RECEIVERS__HOOK__URL", planted("http://*:*@127.0.0.1:1/*?token=*")),
        ("MONITOR_RECEIVERS__HOOK__ALLOW_PRIVATE", "true".into()),
        (
            "MONITOR_RECEIVERS__HOOK__SECRET",
            planted("whsec_cGxhbnRlZCtzM2NyZXRwbGFudGVkK3MzY3JldA=="),
        ),
        ("MONITOR_RECEIVERS__SLACK__KIND", "slack".into()),
        ("MONITOR_RECEIVERS__SLACK__URL", planted("http://127.0.0.1:1/services/*")),
        ("MONITOR_RECEIVERS__SLACK__ALLOW_PRIVATE", "true".into()),
    ]
}

fn monitor(postgres: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("OMP_WAIT_POLICY", "PASSIVE").envs(variables(postgres));
    command
}

fn assert_hidden(place: &str, text: &str, secrets: &[&str]) {
    for secret in FORMS.iter().chain(secrets) {
        let at = text.find(secret);
        let around = at.map(|at| &text[at.saturating_sub(200)..(at + 200).min(text.len())]);
        assert!(around.is_none(), "{place} shows {secret:?}: ...{around:?}...");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs initdb"]
async fn are_in_no_log_error_or_page() {
    // For reqwest; another test may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(None).unwrap()).await.unwrap();
    let url = postgres.create_database("monitor").await.unwrap();
    let (_, after) = url.split_once("://").unwrap();
    let password = after.split_once('@').and_then(|(user, _)| user.split_once(':')).unwrap().1;

    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let file = File::create(&log).unwrap();
    let mut daemon = monitor(&url, &["run"])
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap();
    let page = loop {
        if let Some((_, rest)) = read().split_once("answering HTTP")
            && let Some(at) = rest.find("127.0.0.1:")
        {
            let address =
                rest[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c));
            break address.collect::<String>();
        }
        assert!(daemon.try_wait().unwrap().is_none(), "it ended: {}", read());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // The broker's and the heartbeat's failures have been logged.
    let failures = async {
        while !(read().contains("AllBrokersDown") && read().contains("the heartbeat failed")) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), failures).await.unwrap_or_else(|_| {
        panic!("not all failures were logged: {}", read());
    });
    for path in ["", "api/status", "metrics", "healthz", "readyz"] {
        let answer = reqwest::get(format!("http://{page}/{path}")).await.unwrap();
        assert_hidden(path, &answer.text().await.unwrap(), &[password]);
    }
    let process = format!("/proc/{}", daemon.id());
    let listed = std::fs::read(format!("{process}/cmdline")).unwrap();
    assert_hidden("ps", &String::from_utf8_lossy(&listed), &[password]);
    // A core dump would have them; Linux writes none of a process whose files belong to root alone.
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        assert!(std::fs::read(format!("{process}/environ")).is_err(), "it may be dumped");
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_hidden("the log", &read(), &[password]);

    let wrong = url.replace(password, SECRET);
    for (case, url, arguments) in [
        ("check-config", &url, &["check-config"][..]),
        ("a test mail", &url, &["alert", "test", "--receiver", "mail"]),
        ("a test webhook", &url, &["alert", "test", "--receiver", "hook"]),
        ("a test message", &url, &["alert", "test", "--receiver", "slack"]),
        ("a wrong password", &wrong, &["migrate"]),
        ("no URL", &format!("postgres//{SECRET}"), &["migrate"]),
    ] {
        let output = monitor(url, arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.success(), case == "check-config", "{case}");
        let said = [output.stdout, output.stderr].concat();
        assert_hidden(case, &String::from_utf8_lossy(&said), &[password]);
    }
}
