//! Child processes end with their guard, and with their parent.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use monitor_embedded::Child;

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead; its parent has not yet read its exit status.
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_child_ends_when_its_guard_is_dropped() {
    let mut command = Command::new("sleep");
    command.arg("1000");
    let child = Child::spawn(command, libc::SIGTERM).unwrap();
    let pid = child.id();
    assert!(is_alive(pid));
    drop(child);
    assert!(!is_alive(pid));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    command.stdout(file.reopen().unwrap());
    let child = Child::spawn(command, libc::SIGTERM).unwrap();
    while fs::read_to_string(file.path()).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!child.stop(libc::SIGTERM, Duration::from_millis(300)), "it ignores SIGTERM");
    assert!(child.exit().is_some());
    assert!(!child.signal(libc::SIGTERM), "its id is given back");
}

#[test]
fn a_missing_program_is_an_error() {
    let error = Child::spawn(Command::new("/nonexistent"), libc::SIGTERM).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_child_ends_when_its_parent_is_killed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut helper = Command::new(env!("CARGO_BIN_EXE_hold-child"))
        .arg(file.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = loop {
        if let Ok(pid) = fs::read_to_string(file.path()).unwrap().parse() {
            break pid;
        }
        assert!(helper.try_wait().unwrap().is_none(), "the helper has ended without a child");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(is_alive(pid));
    helper.kill().unwrap();
    helper.wait().unwrap();
    for _ in 0..500 {
        if !is_alive(pid) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the child outlived its parent");
}
