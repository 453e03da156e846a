//! `monitor data profile`, as a user runs it.

use std::fs;
use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::shared;

/// Runs the command; returns whether it succeeded, standard output and standard error.
fn profile(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .args(["data", "profile"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

const ROWS: &str = "\"0\",\"1\",\"Mon Apr 06 22:19:45 PDT 2009\",\"NO_QUERY\",\"Ann\",\"so, \"\"sad\"\"\"\n\
                    \"4\",\"2\",\"Mon Apr 06 09:00:00 PDT 2009\",\"NO_QUERY\",\"ann\",\"glad\"\n\
                    \"4\",\"3\",\"\",\"NO_QUERY\",\"\",\"glad\"\n\
                    \"2\",\"4\",\"\",\"NO_QUERY\",\"bob\",\"a table\"\n";

#[test]
fn prints_json_and_text_and_draws_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let rows = ROWS.to_owned()
        + &"\"4\",\"5\",\"\",\"NO_QUERY\",\"\",\"glad\"\n".repeat(196)
        + "\"4\",\"short\"\n";
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(rows.as_bytes()).unwrap();
    let path = folder.path().join("tweets.csv.gz");
    fs::write(&path, packed.finish().unwrap()).unwrap();
    let (path, picture) = (path.to_str().unwrap(), folder.path().join("profile.svg"));

    let (succeeded, out, error) =
        profile(&[path, "--json", "--picture", picture.to_str().unwrap()]);
    assert!(succeeded, "{error}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let check = |pointer: &str, expected: Value| {
        assert_eq!(found.pointer(pointer), Some(&expected), "{pointer}");
    };
    check("/file", json!("tweets.csv.gz"));
    check("/layout", json!("sentiment140"));
    check("/rows_read", json!(201));
    let left_out = json!([{"reason": "wrong number of columns", "rows": 1, "first_lines": [201]}]);
    check("/left_out", left_out);
    check("/balance", json!({"negative": 1, "neutral": 1, "positive": 198}));
    check("/users/distinct", json!(2));
    check("/users/most_prolific/0", json!({"user": "ann", "rows": 2}));
    check("/duplicates/distinct_texts", json!(3));
    check("/duplicates/duplicate_rows", json!(197));
    check("/words", json!({"p50": 1, "p75": 1, "p90": 1, "p95": 1, "p99": 1, "max": 2}));
    check("/dates/from", json!("2009-04-06T16:00:00Z"));
    check("/dates/to", json!("2009-04-07T05:19:45Z"));
    check("/dates/days/2009-04-07", json!({"negative": 1, "neutral": 0, "positive": 0}));
    assert!(fs::read_to_string(&picture).unwrap().contains("95 % have 1 words or fewer"));

    let (_, out, error) = profile(&[path]);
    for part in [
        "wrong number of columns, lines 201",
        "positive                   198   99.0 %",
        "most prolific                2  ann",
        "2009-04-06 16:00:00 to 2009-04-07 05:19:45 UTC",
    ] {
        assert!(out.contains(part), "no {part:?} in\n{out}{error}");
    }
}

#[test]
fn names_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8], expected: &str| {
        let path = folder.path().join("bad.csv");
        fs::write(&path, content).unwrap();
        let picture = folder.path().join("picture.svg");
        let (succeeded, out, error) =
            profile(&[path.to_str().unwrap(), "--picture", picture.to_str().unwrap()]);
        assert!(!succeeded && out.is_empty(), "{name}: {out}");
        assert!(error.contains(expected) && error.contains("bad.csv"), "{name}: {error}");
        assert!(!picture.exists(), "{name}");
    };
    check("empty", b"", "is empty");
    check("five columns", b"\"0\",\"1\",\"d\",\"q\",\"u\"\n", "its first line has 5 columns");
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    (0..65).for_each(|_| bomb.write_all(&vec![0; 1 << 20]).unwrap());
    check("a bomb", &bomb.finish().unwrap(), "a decompression bomb?");
    let path = folder.path().join("good.csv");
    fs::write(&path, ROWS).unwrap();
    let (succeeded, _, error) =
        profile(&[path.to_str().unwrap(), "--picture", "/nowhere/at/all.svg"]);
    assert!(
        !succeeded && error.contains("cannot write the picture /nowhere/at/all.svg"),
        "{error}"
    );
}

#[test]
#[ignore = "needs ../shared"]
fn profiles_the_shared_files() {
    let check = |file: &str, layout: &str, rows: u64, balance: Value, left_out: u64| {
        let path = shared(file);
        let (succeeded, out, error) = profile(&[path.to_str().unwrap(), "--json"]);
        assert!(succeeded, "{error}");
        let found: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(found["layout"], layout, "{file}");
        assert_eq!(found["rows_read"], rows, "{file}");
        assert_eq!(found["balance"], balance, "{file}");
        let lines: u64 = found["left_out"]
            .as_array()
            .unwrap()
            .iter()
            .map(|left| left["rows"].as_u64().unwrap())
            .sum();
        assert_eq!(lines, left_out, "{file}");
    };
    let balance = |negative, neutral, positive| json!({"negative": negative, "neutral": neutral, "positive": positive});
    let manual = "sentiment140/testdata.manual.2009.06.14.csv";
    check(manual, "sentiment140", 498, balance(177, 139, 182), 0);
    let airline = "airline/Tweets.csv.xz";
    check(airline, "a CSV with a header", 14_640, balance(9_178, 3_099, 2_363), 0);
    let semeval = "semeval/semeval-2013-2016-taskA.tsv.xz";
    check(semeval, "SemEval", 50_330, balance(7_838, 22_588, 19_903), 1);
}
