//! Sets the path of libtorch for run time, and tells `main.rs` which file of Git names the
//! commit, so that a new commit recompiles only `main.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "crates/model/build.rs"]
mod libtorch;

fn main() {
    libtorch::main();
    let log = commit_log().unwrap_or_else(|| {
        let empty = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("no-commit");
        fs::write(&empty, "").expect("OUT_DIR can be written");
        empty
    });
    println!("cargo:rustc-env=MONITOR_COMMIT_LOG={}", log.display());
}

/// The file whose last line names the current commit; `None` outside a repository, or if Git
/// keeps no such log.
fn commit_log() -> Option<PathBuf> {
    let output =
        Command::new("git").args(["rev-parse", "--git-path", "logs/HEAD"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    let path = Path::new(path.trim()).canonicalize().ok()?;
    (output.status.success() && path.is_file()).then_some(path)
}
