//! Holds the source to its map: who may import whom, and a few habits a lint cannot know.

use std::fs;
use std::path::{Path, PathBuf};

/// What each top-level module may import besides itself and [`COMMON`].
const ALLOWED: &[(&str, &[&str])] = &[
    ("alerting", &["text"]),
    ("batching", &[]),
    ("classifier", &["batching", "text", "config"]),
    ("clock", &[]),
    ("config", &[]),
    ("domain", &[]),
    ("embedded", &[]),
    ("hub", &[]),
    ("ingest", &["config"]),
    ("notify", &["store", "config"]),
    ("provider", &["config"]),
    ("serve", &["store", "config"]),
    ("store", &["config"]),
    ("telemetry", &["config"]),
    ("text", &[]),
    ("training", &["classifier", "text", "config"]),
];
/// Everything may import these, but they do not import one another; telemetry reads `[log]`.
const COMMON: &[&str] = &["clock", "domain", "telemetry"];
/// These introduce the others to one another.
const FREE: &[&str] = &["cli", "lib", "main", "pipeline"];

const LINES_MAX: usize = 500;

/// A line of code: its number, and what is left without comments and strings.
struct Line {
    number: usize,
    code: String,
    in_test: bool,
}

/// Splits source into lines, blanking comments, string and character literals, and marking
/// what belongs to an item under `#[cfg(test)]`.
fn lines(source: &str) -> Vec<Line> {
    let code = without_comments_and_strings(source);
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // The depth at which the item under test began, once its attribute was seen.
    let mut test_item: Option<usize> = None;
    let mut body_seen = false;
    for (index, code) in code.lines().enumerate() {
        if test_item.is_none() && code.contains("#[cfg(test)]") {
            test_item = Some(depth);
            body_seen = false;
        }
        found.push(Line { number: index + 1, code: code.into(), in_test: test_item.is_some() });
        for c in code.chars() {
            match c {
                '{' => {
                    depth += 1;
                    body_seen = true;
                }
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        // The item ends with its brace, or, like `mod tests;`, without one.
        let ended = body_seen || code.trim_end().ends_with(';');
        if ended && test_item.is_some_and(|start| depth <= start) {
            test_item = None;
        }
    }
    found
}

fn without_comments_and_strings(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 1;
                i += 2;
                while i < chars.len() && depth > 0 {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                }
            }
            ('r', '"' | '#')
                if !at(i.wrapping_sub(1)).is_alphanumeric() || at(i.wrapping_sub(1)) == 'b' =>
            {
                let hashes = (i + 1..).take_while(|j| at(*j) == '#').count();
                i += 1;
                if at(i + hashes) == '"' {
                    i += hashes + 1;
                    let closes = |i: usize| at(i) == '"' && (1..=hashes).all(|j| at(i + j) == '#');
                    while i < chars.len() && !closes(i) {
                        i += 1;
                    }
                    i += hashes + 1;
                }
            }
            ('"', _) => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            // A character, not a lifetime.
            ('\'', '\\') => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            (c, _) => {
                out.push(c);
                i += 1;
                continue;
            }
        }
        // Keep the line numbers.
        out.extend(chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n'));
        out.push(' ');
    }
    out
}

/// The top-level modules that a line of code names after `crate::`, groups included.
fn imports(code: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        // `$crate::` in a macro means the same; `my_crate::` is something else.
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code[start + "crate::".len()..].trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in group.split_inclusive([',', '{', '}']) {
                let name = word(part);
                if depth == 0 && !name.is_empty() {
                    found.push(name);
                }
                match part.chars().last() {
                    Some('{') => depth += 1,
                    Some('}') if depth == 0 => break,
                    Some('}') => depth -= 1,
                    _ => {}
                }
            }
        } else {
            found.push(word(rest));
        }
    }
    found
}

/// What is wrong with one file; `path` is relative to `src/`.
fn problems(path: &Path, source: &str) -> Vec<String> {
    let name = path.display().to_string();
    let first = path.components().next().expect("a relative path has a part");
    let module = Path::new(first.as_os_str()).with_extension("").display().to_string();
    let mut found = Vec::new();

    let allowed = ALLOWED.iter().find(|(m, _)| *m == module).map(|(_, allowed)| *allowed);
    let free = FREE.contains(&module.as_str());
    if allowed.is_none() && !free {
        found.push(format!("src/{name}: tests/layering.rs does not know the module {module}"));
    }
    let mut code = lines(source);
    // A file that `mod tests;` names has its attribute elsewhere.
    if path.iter().any(|part| part == "tests" || part == "tests.rs") {
        code.iter_mut().for_each(|line| line.in_test = true);
    }
    if code.len() > LINES_MAX {
        found.push(format!("src/{name}: {} lines, more than {LINES_MAX}", code.len()));
    }
    // A group may stretch over lines, so join each `use` up to its end.
    let mut statement = String::new();
    let mut statement_line = 0;
    for line in &code {
        let at = format!("src/{name}:{}", line.number);
        if statement.is_empty() {
            statement_line = line.number;
        }
        statement.push_str(&line.code);
        statement.push(' ');
        let open_group = statement.rfind("crate::").is_some_and(|start| {
            statement[start..].matches('{').count() > statement[start..].matches('}').count()
                && statement[start + "crate::".len()..].trim_start().starts_with('{')
        });
        if !open_group {
            for import in imports(&statement) {
                let fine = free
                    || import == module
                    || allowed.is_some_and(|allowed| allowed.contains(&import.as_str()))
                    || (COMMON.contains(&import.as_str()) && !COMMON.contains(&module.as_str()));
                if !fine {
                    found.push(format!(
                        "src/{name}:{statement_line}: {module} must not import {import}"
                    ));
                }
            }
            statement.clear();
        }

        if name != "clock.rs" {
            for call in ["Utc::now", "Instant::now", "SystemTime::now"] {
                if line.code.contains(call) {
                    found.push(format!("{at}: {call} belongs in src/clock.rs; take a Clock"));
                }
            }
        }
        if line.code.contains(".unwrap()") && !line.in_test {
            found.push(format!("{at}: .unwrap() outside tests; use ? or expect(\"why\")"));
        }
        if line.code.contains("anyhow") && module != "main" && module != "cli" {
            found.push(format!("{at}: anyhow outside main and cli; use an error of your own"));
        }
    }
    found
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_source_keeps_to_its_map() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files.sort();
    assert!(files.len() > 20, "the source is found");
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            problems(file.strip_prefix(&src).unwrap(), &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{} problems:\n{}", found.len(), found.join("\n"));
}

/// `expected` is part of the one problem found; empty where there is none.
fn check(name: &str, path: &str, source: &str, expected: &str) {
    let found = problems(Path::new(path), source);
    if expected.is_empty() {
        assert!(found.is_empty(), "{name}: {found:?}");
    } else {
        assert!(found.len() == 1 && found[0].contains(expected), "{name}: {found:?}");
    }
}

#[test]
fn the_scan_catches_what_it_should() {
    let table = [
        ("allowed", "notify/mod.rs", "use crate::store::Store;", ""),
        ("common", "alerting/mod.rs", "use crate::domain::Tweet;\nuse crate::clock::Clock;", ""),
        ("itself", "text/words.rs", "use crate::text::vocabulary;", ""),
        ("anything for pipeline", "pipeline/mod.rs", "use crate::{store, ingest::Source};", ""),
        (
            "a use",
            "ingest/kafka.rs",
            "\nuse crate::store::Store;",
            "src/ingest/kafka.rs:2: ingest must not import store",
        ),
        (
            "in a group",
            "store/mod.rs",
            "use crate::{domain::{Tweet, Score}, ingest};",
            "store must not import ingest",
        ),
        (
            "in a group over lines",
            "store/mod.rs",
            "use crate::{\n    domain::Tweet,\n    ingest::Source,\n};",
            "src/store/mod.rs:1: store must not import ingest",
        ),
        (
            "inline",
            "text/mod.rs",
            "fn f() { crate::config::load(None, &[]); }",
            "text must not import config",
        ),
        ("public", "serve/a.rs", "pub use crate::notify::X;", "serve must not import notify"),
        ("common to common", "domain/a.rs", "use crate::clock::X;", "domain must not import clock"),
        ("a comment", "text/mod.rs", "/// See [`crate::config::load`].\n/* crate::store */", ""),
        ("a string", "text/mod.rs", "const A: &str = \"crate::store // \\\" \";", ""),
        ("a raw string", "text/mod.rs", "const A: &str = r#\"crate::store \" \"#;", ""),
        ("after a character", "text/mod.rs", "let c = '\"'; use crate::store::A;", "import store"),
        (
            "after a lifetime",
            "text/mod.rs",
            "fn f<'a>(x: &'a str) { crate::store::g(x) }",
            "import store",
        ),
        ("a new folder", "extra/mod.rs", "", "does not know the module extra"),
        ("time", "store/mod.rs", "let t = Utc::now();", "src/store/mod.rs:1: Utc::now"),
        ("time in the clock", "clock.rs", "let t = Utc::now();", ""),
        ("unwrap", "store/mod.rs", "x.unwrap();", ".unwrap() outside tests"),
        ("unwrap or", "store/mod.rs", "x.unwrap_or(1);", ""),
        ("unwrap in tests", "store/mod.rs", "#[cfg(test)]\nmod tests {\n x.unwrap();\n}", ""),
        (
            "unwrap after tests",
            "store/mod.rs",
            "#[cfg(test)]\nmod tests {\n fn f() {}\n}\nfn g() { x.unwrap(); }",
            "src/store/mod.rs:5: .unwrap()",
        ),
        (
            "unwrap after a test module elsewhere",
            "store/mod.rs",
            "#[cfg(test)]\nmod tests;\nfn g() { x.unwrap(); }",
            "src/store/mod.rs:3: .unwrap()",
        ),
        ("unwrap in a test file", "store/tests.rs", "fn g() { x.unwrap(); }", ""),
        ("anyhow", "store/mod.rs", "use anyhow::Result;", "anyhow outside"),
        ("anyhow in cli", "cli/run.rs", "use anyhow::Result;", ""),
    ];
    for (name, path, source, expected) in table {
        check(name, path, source, expected);
    }
    check("long", "store/mod.rs", &"\n".repeat(LINES_MAX + 1), "501 lines");
}
