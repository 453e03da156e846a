//! The workspace matches ARCHITECTURE.md, and keeps rules that no lint checks.
//!
//! ARCHITECTURE.md contains a table with one row for each crate:
//!
//! ```text
//! | crate | holds | may depend on |
//! | --- | --- | --- |
//! | `monitor-core` | pure code | |
//! | `monitor-store` | rows and counts | core, config |
//! ```
//!
//! The last column names the other workspace crates without `monitor-`. Clippy
//! checks the rest: `clippy.toml` bans reading the time, the workspace lints ban `unwrap`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const HEADER: &str = "| crate | holds | may depend on |";
const LINES_MAX: usize = 500;

/// The workspace crates that each workspace crate depends on, by name without `monitor-`.
type Map = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What cargo prints.
fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(arguments)
        .args(["--locked", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of `cargo metadata` for this machine: those of other systems need not have been fetched.
fn packages(arguments: &[&str]) -> Vec<Value> {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = ["metadata", "--format-version", "1", "--filter-platform", host];
    let text = cargo(&[&metadata[..], arguments].concat());
    let metadata: Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn short(name: &str) -> String {
    name.trim_matches('`').trim_start_matches("monitor-").to_owned()
}

/// Reads the table; panics if it is missing or a row is malformed.
fn map(architecture: &str) -> Map {
    let rows = architecture.lines().skip_while(|line| *line != HEADER).skip(2);
    let mut map = Map::new();
    for row in rows.take_while(|row| row.starts_with('|')) {
        let cells: Vec<&str> =
            row.strip_suffix('|').unwrap_or(row).split('|').skip(1).map(str::trim).collect();
        assert_eq!(cells.len(), 3, "the row has three cells: {row}");
        let names = cells[2].split(',').map(|name| short(name.trim()));
        map.insert(short(cells[0]), names.filter(|name| !name.is_empty()).collect());
    }
    assert!(!map.is_empty(), "ARCHITECTURE.md has no table {HEADER}");
    map
}

#[test]
fn the_map_equals_the_dependencies() {
    let depends = |package: &Value| -> BTreeSet<String> {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let ours = dependencies
            .filter(|d| d["kind"].is_null() && d["name"].as_str().unwrap().starts_with("monitor-"));
        ours.map(|d| short(d["name"].as_str().unwrap())).collect()
    };
    let packages = packages(&["--no-deps"]);
    let found: Map =
        packages.iter().map(|p| (short(p["name"].as_str().unwrap()), depends(p))).collect();
    let written = map(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    for (name, depends) in &found {
        assert_eq!(written.get(name), Some(depends), "{name}: ARCHITECTURE.md, then Cargo.toml");
    }
    assert_eq!(written.len(), found.len(), "ARCHITECTURE.md names a crate that does not exist");
}

#[test]
fn reads_the_table() {
    let check = |name: &str, rows: &str, expected: &[(&str, &[&str])]| {
        let owned = |names: &[&str]| {
            names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<String>>()
        };
        let expected: Map = expected.iter().map(|(k, v)| ((*k).to_owned(), owned(v))).collect();
        let text = format!("text\n{HEADER}\n| --- | --- | --- |\n{rows}");
        assert_eq!(map(&text), expected, "{name}");
    };
    check("none", "| `monitor-core` | pure | |", &[("core", &[])]);
    check("two", "| `monitor-a` | x | b, c |\n\n| d | e | f |", &[("a", &["b", "c"])]);
}

#[test]
fn core_links_no_native_library() {
    let arguments = ["tree", "-p", "monitor-core", "-e", "normal", "--prefix", "none"];
    let tree = cargo(&arguments);
    let used: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(used.contains("serde"), "{tree}");
    for package in packages(&[]) {
        let name = package["name"].as_str().unwrap();
        assert!(package["links"].is_null() || !used.contains(name), "monitor-core links {name}");
    }
}

#[test]
fn only_the_root_package_uses_anyhow_and_all_packages_share_the_lints() {
    for package in packages(&["--no-deps"]) {
        let name = package["name"].as_str().unwrap();
        let dependencies = package["dependencies"].as_array().unwrap();
        let anyhow = dependencies.iter().any(|d| d["name"] == "anyhow");
        assert!(!anyhow || name == "monitor", "{name}: use an error type of its own");
        let manifest = fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}: lints are missing");
    }
}

/// The Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn only_main_and_the_command_line_use_anyhow() {
    let src = root().join("src");
    for path in sources("src") {
        let allowed = path.starts_with(src.join("cli")) || path == src.join("main.rs");
        let text = fs::read_to_string(&path).unwrap();
        assert!(allowed || !text.contains("anyhow"), "{}: use an error type", path.display());
    }
}

#[test]
fn files_are_short() {
    for path in ["src", "crates", "benches"].into_iter().flat_map(sources) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
    }
}
