//! The documentation: its links, commands, queries, settings and JSON are real.
//!
//! **Invariant.** Each mistake names its file and line, and a check that finds nothing to check
//! fails. Deliberately absent: running the commands, and links to other sites.

mod commands;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{Connection, PgConnection};

use crate::support::fresh_database;
use commands::{Helps, check_command};

/// What a fenced block may be marked with; output and diagrams are `text`.
const LANGUAGES: [&str; 5] = ["sh", "sql", "toml", "json", "text"];
/// Without it a file in docs/measured must exist.
const TO_BE_MADE: &str = "to be made";

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// A stretch of a page: a fenced block, a line of text outside of blocks, or inline code.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// "README.md:12".
    place: String,
    /// The mark of a block, "line" or "inline".
    kind: String,
    text: String,
}

/// All pages, by path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let names = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"];
    let mut paths: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(root().join(path)).unwrap());
    paths.into_iter().map(read).collect()
}

fn parts(page: &Path, text: &str) -> Vec<Part> {
    let part = |number: usize, kind: &str, text: &str| Part {
        place: format!("{}:{number}", page.display()),
        kind: kind.to_owned(),
        text: text.to_owned(),
    };
    let (mut parts, mut block) = (Vec::new(), None::<Part>);
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), block.take()) {
            (Some(kind), None) => block = Some(part(number, kind.trim(), "")),
            (Some(_), Some(ended)) => parts.push(ended),
            (None, Some(mut open)) => {
                open.text.push_str(line);
                open.text.push('\n');
                block = Some(open);
            }
            (None, None) => {
                let pieces: Vec<&str> = line.split('`').collect();
                let code = pieces.iter().copied().skip(1).step_by(2);
                parts.extend(code.map(|code| part(number, "inline", code)));
                let plain: Vec<&str> = pieces.into_iter().step_by(2).collect();
                parts.push(part(number, "line", &plain.join("`")));
            }
        }
    }
    assert!(block.is_none(), "{}: a block is not closed", page.display());
    parts
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let headings = text.lines().filter(|line| {
        in_block ^= line.starts_with("```");
        !in_block && line.starts_with('#')
    });
    let slug = |line: &str| -> String {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// Targets of links and pictures in a line.
fn targets(line: &str) -> Vec<&str> {
    fn after<'a>(line: &'a str, start: &str, end: char) -> Vec<&'a str> {
        line.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
    }
    [after(line, "](", ')'), after(line, "src=\"", '"'), after(line, "href=\"", '"')].concat()
}

/// What is wrong with a link on `page`, if anything is.
fn check_link(page: &Path, target: &str) -> Result<(), String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = match path {
        "" => root().join(page),
        _ => root().join(page).parent().unwrap().join(path),
    };
    if !file.exists() {
        return Err(format!("links to {target}, and there is no {}", file.display()));
    }
    if !anchor.is_empty() {
        let text = fs::read_to_string(&file).map_err(|error| format!("{target}: {error}"))?;
        if !anchors(&text).contains(anchor) {
            return Err(format!("links to {target}, which has no heading #{anchor}"));
        }
    }
    Ok(())
}

/// All blocks of a kind.
fn blocks(kind: &str) -> Vec<Part> {
    let all = pages().into_iter().flat_map(|(page, text)| parts(&page, &text));
    let found: Vec<Part> = all.filter(|part| part.kind == kind).collect();
    assert!(!found.is_empty(), "no page has a block of {kind}");
    found
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "mistakes in the documentation:\n{}", wrong.join("\n"));
}

#[test]
fn tests_named_as_proof_exist() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let (mut wrong, mut names) = (Vec::new(), 0);
    // The second cell of a row is such as "`a.rs`: `test_1`, `test_2`; `b.rs`: `test_3`".
    let cells = page.lines().filter_map(|line| line.split('|').nth(2));
    for cell in cells.filter(|cell| cell.contains(".rs`: ")) {
        let (mut file, mut source) = ("", String::new());
        for code in cell.split('`').skip(1).step_by(2) {
            if code.ends_with(".rs") {
                file = code;
                source = fs::read_to_string(root().join("tests/it").join(file)).unwrap();
                continue;
            }
            names += 1;
            if !source.contains(&format!("fn {code}(")) {
                wrong.push(format!("docs/reliability.md: there is no test {code} in {file}"));
            }
        }
    }
    assert_none(&wrong);
    assert!(names > 15, "only {names} names were found");
}

#[test]
fn links_lead_somewhere() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for (page, text) in pages() {
        for part in parts(&page, &text).iter().filter(|part| part.kind == "line") {
            let near = targets(&part.text).into_iter().filter(|target| !target.contains(':'));
            for target in near {
                checked += 1;
                let error = check_link(&page, target).err();
                wrong.extend(error.map(|error| format!("{}: {error}", part.place)));
            }
        }
    }
    assert_none(&wrong);
    assert!(checked >= 40, "only {checked} links found");
}

#[test]
fn commands_are_the_programs_own() {
    let (mut checked, mut wrong, mut helps) = (0, Vec::new(), Helps::default());
    for (page, text) in pages() {
        for part in parts(&page, &text).iter().filter(|p| ["sh", "inline"].contains(&&*p.kind)) {
            for line in part.text.lines() {
                let Some(outcome) = check_command(&mut helps, line.trim()) else { continue };
                checked += 1;
                wrong.extend(outcome.err().map(|error| format!("{}: {line}: {error}", part.place)));
            }
        }
    }
    assert_none(&wrong);
    assert!(checked >= 60, "only {checked} commands found");
}

#[test]
fn every_block_says_what_it_is() {
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        // The map of the code is a drawing.
        let may_be_bare = page == Path::new("ARCHITECTURE.md");
        for Part { place, kind, .. } in parts(&page, &text) {
            let is_known = ["line", "inline"].iter().chain(&LANGUAGES).any(|known| *known == kind);
            if !(is_known || may_be_bare && kind.is_empty()) {
                wrong.push(format!("{place}: a block marked {kind:?}, not one of {LANGUAGES:?}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn json_is_json() {
    let mut wrong = Vec::new();
    for Part { place, text, .. } in blocks("json") {
        let values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
        wrong.extend(values.filter_map(|value| Some(format!("{place}: {}", value.err()?))));
    }
    assert_none(&wrong);
}

/// Each block is laid over the example's settings: a brand, receiver or route whole, others by key.
#[test]
fn settings_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(root().join("config/monitor.example.toml")).unwrap();
    let mut wrong = Vec::new();
    for Part { place, text, .. } in blocks("toml") {
        let mut settings: toml::Table = example.parse().unwrap();
        let block = text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{place}: {error}"));
        for (section, values) in block {
            let values = values.as_table().cloned().unwrap_or_else(|| panic!("{place}: {section}"));
            let below =
                settings.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            below.as_table_mut().expect("the example has tables").extend(values);
        }
        let file = folder.path().join("monitor.toml");
        fs::write(&file, toml::to_string(&settings).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
        command.current_dir(root()).args(["check-config", "--config"]).arg(file);
        let output = command.output().unwrap();
        if !output.status.success() {
            wrong.push(format!("{place}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert_none(&wrong);
}

#[tokio::test]
async fn queries_run_on_an_empty_database() {
    let url = fresh_database().await;
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_monitor"));
    let migrated = migrate.arg("migrate").env("MONITOR_STORE__URL", &url).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut wrong = Vec::new();
    for Part { place, text, .. } in blocks("sql") {
        for (sql, is_ours) in
            [("BEGIN".to_owned(), false), (text, true), ("ROLLBACK".into(), false)]
        {
            let outcome = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await;
            match outcome {
                Err(error) if is_ours => wrong.push(format!("{place}: {error}")),
                outcome => assert!(outcome.is_ok(), "{place}: {outcome:?}"),
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn measured_files_are_there_or_said_to_be_missing() {
    let folder = root().join("docs/measured");
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let (mut listed, mut wrong) = (BTreeSet::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.starts_with('|')) {
        for name in line.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".json")) {
            listed.insert(name.to_owned());
            if folder.join(name).exists() == line.contains(TO_BE_MADE) {
                let what = "is there or is marked as to be made: one of the two";
                wrong.push(format!("docs/measured/README.md:{number}: {name} {what}"));
            }
        }
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".json") && !listed.contains(&name) {
            wrong.push(format!("docs/measured/{name} is not listed in docs/measured/README.md"));
        }
    }
    assert_none(&wrong);
    assert!(listed.len() >= 8, "only {listed:?} listed");
}

#[test]
fn the_checks_notice_mistakes() {
    let mut helps = Helps::default();
    let mut fails = |line: &str, expected: &str| {
        let error = check_command(&mut helps, line).expect("one of ours").unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    };
    fails("monitor evaluat --data FILE", "evaluat");
    fails("monitor models list --no-such-flag", "--no-such-flag");
    fails("target/release/monitor run --data x", "--data");
    fails("scripts/no-such-script", "no-such-script");
    fails("scripts/bench no-such-bench", "no-such-bench");
    for line in ["monitor alert dead --limit 5 # a comment", "monitor score \"we love you\" | head"]
    {
        assert_eq!(check_command(&mut helps, line), Some(Ok(())), "{line}");
    }
    assert_eq!(check_command(&mut helps, "cp a b"), None);
    let readme = Path::new("README.md");
    for (target, good) in [
        ("docs/no.md", false),
        ("docs/sql.md#no", false),
        ("#no", false),
        ("docs/sql.md#tables", true),
    ] {
        assert_eq!(check_link(readme, target).is_ok(), good, "{target}");
    }
    assert_eq!(targets("[a](b) <img src=\"c\"> ![d](e#f)"), ["b", "e#f", "c"]);
}
