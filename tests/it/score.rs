//! `monitor score`, called with a text or in a pipe.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support;

fn monitor(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn feed(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = monitor(arguments).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn answers(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// libtorch's libraries read the environment before `main`, so the program starts itself once more.
#[test]
fn libraries_are_configured_unless_somebody_did_it() {
    const NAMES: [&str; 4] = [
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
        "LRU_CACHE_CAPACITY",
    ];
    let check = |name: &str, set: &[(&str, &str)], expected: [Option<&str>; 4]| {
        let mut command = monitor(&["score", "-", "--model", "logistic-tfidf"]);
        for name in NAMES {
            command.env_remove(name);
        }
        let mut child = command.envs(set.iter().copied()).spawn().unwrap();
        // It answers, so it has started for good.
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"we love you\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let environment = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap();
        drop(input);
        child.wait().unwrap();
        let environment = String::from_utf8_lossy(&environment);
        let found = NAMES.map(|name| {
            let mut variables = environment.split('\0').filter_map(|it| it.split_once('='));
            variables.find(|(it, _)| *it == name).map(|(_, value)| value)
        });
        assert_eq!(found, expected, "{name}");
    };
    let all = [Some("PASSIVE"), Some("20000"), Some("64"), Some("64")];
    check("nothing set", &[], all);
    let some = [("LRU_CACHE_CAPACITY", "9")];
    check("one set", &some, [all[0], all[1], all[2], Some("9")]);
    let chosen = [Some("ACTIVE"), None, all[2], all[3]];
    check("how threads wait is set", &[("OMP_WAIT_POLICY", "ACTIVE")], chosen);
}

#[test]
fn scores_one_text() {
    let check = |text: &str, model: &str, expected: &str| {
        let output = feed(&["score", text, "--model", model], b"");
        let text = String::from_utf8(output.stdout).unwrap();
        let (label, score) = text.trim_end().split_once(' ').unwrap();
        assert_eq!(label, expected, "{model}");
        assert!((0.3..=1.0).contains(&score.parse::<f32>().unwrap()), "{score}");
        assert_eq!(score.len(), 4, "two places: {score}");
    };
    for model in ["logistic-tfidf", "lstm", "lstm@4"] {
        check("we love you", model, "POSITIVE");
        check("worst airline ever, lost my bag", model, "NEGATIVE");
    }
}

#[test]
fn a_text_that_no_model_knows_is_not_judged() {
    let check = |text: &str, expected: &str| {
        let output = feed(&["score", text, "--model", "logistic-tfidf"], b"");
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{expected}\n"));
    };
    check("", "not judged: the text is empty");
    let french = "@AirFrance encore un vol annulé, c'est vraiment la honte";
    check(french, "not judged: French, and logistic-tfidf@4 knows English");
}

#[test]
fn scores_lines_as_json() {
    let input = b"we love you\n\nworst airline ever, lost my bag\r\nbad \xff bytes\n\"quoted\" \xf0\x9f\x98\xa1\nencore un vol annul\xc3\xa9, quelle honte\n";
    let found = answers(&feed(&["score", "-", "--model", "lstm"], input));
    let texts: Vec<&str> = found.iter().map(|a| a["text"].as_str().unwrap()).collect();
    let expected = [
        "we love you",
        "",
        "worst airline ever, lost my bag",
        "bad \u{FFFD} bytes",
        "\"quoted\" 😡",
        "encore un vol annulé, quelle honte",
    ];
    assert_eq!(texts, expected);
    assert_eq!((&found[0]["label"], &found[2]["label"]), (&"POSITIVE".into(), &"NEGATIVE".into()));
    assert_eq!((&found[2]["language"], &found[5]["language"]), (&"en".into(), &"fr".into()));
    for not_judged in [&found[1], &found[5]] {
        for key in ["label", "score", "negative", "neutral", "positive"] {
            assert!(not_judged[key].is_null(), "{not_judged}");
        }
    }
    for answer in [0, 2, 3, 4].map(|at| &found[at]) {
        let mut keys: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["label", "language", "model", "negative", "neutral", "positive", "score", "text",]
        );
        let (score, negative) =
            (answer["score"].as_f64().unwrap(), answer["negative"].as_f64().unwrap());
        let of_label = match answer["label"].as_str().unwrap() {
            "NEGATIVE" => negative,
            label => answer[label.to_lowercase()].as_f64().unwrap(),
        };
        let sum = ["negative", "neutral", "positive"].map(|class| answer[class].as_f64().unwrap());
        assert!((sum.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{answer}");
        assert!((score - of_label).abs() < 1e-6, "{answer}");
        assert_eq!(answer["model"], "lstm@4");
    }
    assert!(answers(&feed(&["score", "-"], b"")).is_empty(), "no line, no answer");
}

#[test]
fn answers_while_the_input_pauses() {
    let mut child = monitor(&["score", "-", "--model", "logistic-tfidf"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for text in ["first", "second"] {
        writeln!(input, "{text}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], text);
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn ends_quietly_when_the_reader_ends() {
    let mut child = monitor(&["score", "-", "--model", "logistic-tfidf"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    // The program may end before all is written.
    let _ = input.write_all("hello\n".repeat(20_000).as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn scores_a_line_of_more_than_a_megabyte() {
    let mut input = "sad ".repeat(500_000).into_bytes();
    input.extend(b"\nwe love you\n");
    let found = answers(&feed(&["score", "-", "--model", "logistic-tfidf"], &input));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["text"].as_str().unwrap().len(), 1 << 20);
    assert_eq!(found[1]["text"], "we love you");
}

#[test]
fn an_unknown_model_lists_the_known_ones() {
    let output = feed(&["score", "hello", "--model", "bert"], b"");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no model \"bert\"") && error.contains("lstm@4"), "{error}");
}

#[test]
fn retrains_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new("tests/fixtures");
    let data = fixtures.join("sentiment.csv");
    let output = folder.path().to_str().unwrap();
    let base = tempfile::tempdir().unwrap();
    support::tiny_distilbert(base.path());
    let arguments = [
        "retrain",
        "--base",
        base.path().to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--output",
        output,
        "--epochs",
        "2",
        "--rows",
        "300",
        "--test",
        "tests/fixtures/manual.csv",
    ];
    let found = feed(&arguments, b"");
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(
        ["logistic-hash", "logistic-tfidf", "dense", "lstm", "transformer"]
            .iter()
            .all(|name| text.contains(&format!("{name}@1: accuracy"))),
        "{text}"
    );
    let set = format!("model.directory={output}");
    let score = feed(&["score", "hello", "--model", "logistic-tfidf", "--set", &set], b"");
    assert!(score.status.success());
    let missing = feed(&["retrain", "lstm", "--data", "nowhere.csv"], b"");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot read nowhere.csv"));
}
