//! Habits of the command line: versions, completions, manual pages, who acts, progress, a broker that
//! is away.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use monitor_embedded::MockBroker;

use crate::support::{fresh_database, monitor, printed};

const WEEK: &str = "tests/fixtures/airline-week.csv.xz";

#[test]
fn the_version_names_the_commit() {
    let version = printed(&["--version"]);
    let plain = format!("monitor {}", env!("CARGO_PKG_VERSION"));
    let rest = version.trim_end().strip_prefix(&plain).unwrap();
    if Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() {
        let commit = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')')).unwrap();
        assert_eq!(commit.len(), 12, "{version}");
        assert!(commit.chars().all(|c| c.is_ascii_hexdigit()), "{version}");
    }
    assert_eq!(printed(&["score", "--version"]).split(' ').nth(1), version.split(' ').nth(1));
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for word in ["check-config", "incidents"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(script.contains("config"), "{shell}");
    }
    assert!(!monitor(&["completions", "tcsh"]).status.success());
}

#[test]
fn each_command_has_a_manual_page() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH monitor 1") && page.contains("check\\-config"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("man1");
    let said = printed(&["man", "--output", man.to_str().unwrap()]);
    let names: Vec<String> = fs::read_dir(&man)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(said.starts_with(&format!("{} manual pages in ", names.len())), "{said}");
    for name in ["monitor.1", "monitor-run.1", "monitor-incidents.1", "monitor-incidents-ack.1"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    let ack = fs::read_to_string(man.join("monitor-incidents-ack.1")).unwrap();
    assert!(ack.contains(".TH monitor-incidents-ack 1"), "{ack}");
    assert!(ack.contains("monitor incidents ack"), "the usage has the whole command: {ack}");
}

/// Daemons, containers and cron have no `$USER`.
#[tokio::test]
async fn acts_without_a_user_in_the_environment() {
    let url = fresh_database().await;
    let run = move |arguments: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("USER").env_remove("LOGNAME");
        command.env("MONITOR_STORE__URL", &url).args(arguments).output().unwrap()
    };
    let outputs = tokio::task::spawn_blocking(move || {
        assert!(run(&["migrate"]).status.success());
        let silence = run(&["silence", "add", "--for", "30m", "--reason", "launch"]);
        let ack = run(&["incidents", "ack", "9"]);
        (silence, ack)
    });
    let (silence, ack) = outputs.await.unwrap();
    let said = String::from_utf8(silence.stdout).unwrap();
    let (_, by) = said.split_once(", by ").unwrap_or_else(|| panic!("{said}"));
    assert!(by.trim_end().ends_with(": launch") && !by.starts_with(':'), "{said}");
    let error = String::from_utf8(ack.stderr).unwrap();
    assert!(error.contains("there is no incident 9"), "{error}");
}

#[test]
fn replay_names_a_broker_that_is_away() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = monitor(&["replay", WEEK, "--set", &format!("kafka.brokers={free}")]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("no broker answers at {free} (kafka.brokers)")), "{error}");
}

#[test]
fn replay_writes_lines_where_it_is_no_terminal() {
    let broker = MockBroker::start("tweets", 1).unwrap();
    let brokers = format!("kafka.brokers={}", broker.brokers());
    let output = monitor(&["replay", WEEK, "--speed", "0", "--limit", "2000", "--set", &brokers]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains('\r') && !text.contains('\u{1b}'), "{text:?}");
    assert!(text.lines().last().unwrap().starts_with("2000 tweets sent in "), "{text}");
}
