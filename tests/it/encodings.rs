//! Files that spreadsheet programs write, read by every command that reads tweets.

use std::fs;

use serde_json::Value;

use crate::support::monitor;

/// What the program prints, and what it says beside; it must succeed.
fn said(arguments: &[&str]) -> (String, String) {
    let output = monitor(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, error) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{arguments:?}: {error}");
    (out, error)
}

/// A file in each encoding, and whether the program says which one it took.
fn encoded(content: &str) -> [(&'static str, Vec<u8>, bool); 5] {
    let windows = |c: char| match c {
        '’' => 0x92,
        other => u8::try_from(u32::from(other)).unwrap(),
    };
    let marked = || format!("\u{FEFF}{content}");
    [
        ("utf-8", content.as_bytes().to_vec(), false),
        ("windows-1252", content.chars().map(windows).collect(), true),
        ("utf-8-bom", marked().into_bytes(), false),
        ("utf-16-le", marked().encode_utf16().flat_map(u16::to_le_bytes).collect(), false),
        ("utf-16-be", marked().encode_utf16().flat_map(u16::to_be_bytes).collect(), false),
    ]
}

const TOLD: &str = "is not UTF-8: read as Windows-1252";

#[test]
fn backtest_finds_a_brand_with_an_accent() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("monitor.toml");
    fs::write(&settings, "[brands.cafe]\nkeywords = [\"café\"]\n").unwrap();
    let mut content = String::from("id,created_at,text,label\n");
    for n in 0..20 {
        content
            .push_str(&format!("{n},2015-02-24T19:{:02}:52Z,l’ami du café {n},negative\n", n + 10));
    }
    for (name, bytes, is_told) in encoded(&content) {
        let file = folder.path().join(format!("{name}.csv"));
        fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap();
        let config = settings.to_str().unwrap();
        let (out, error) =
            said(&["backtest", "-c", config, "--file", file, "--labels", "label", "--json"]);
        let found: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(found["source"]["tweets"], 20, "{name}: {found}");
        assert_eq!(found["source"]["bad_rows"], 0, "{name}");
        assert_eq!(error.matches(TOLD).count(), usize::from(is_told), "{name}: {error}");
        assert!(!is_told || error.contains(&format!("{file} {TOLD}")), "{name}: {error}");
    }
}

#[test]
fn training_and_evaluation_read_the_same_characters() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = String::from("label,text\r\n");
    for n in 0..600 {
        let (label, word) = [("negative", "très déçu"), ("positive", "l’été")][n % 2];
        content.push_str(&format!("{label},{n}a {word} {n}b {}c\r\n", n * 31 % 97));
    }
    let models = folder.path().join("models");
    let set = format!("model.directory={}", models.display());
    let mut rows = Vec::new();
    for (name, bytes, is_told) in encoded(&content) {
        let file = folder.path().join(format!("{name}.csv"));
        fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap();
        let (_, error) =
            said(&["retrain", "logistic-hash", "--name", name, "--data", file, "--set", &set]);
        assert_eq!(error.matches(TOLD).count(), usize::from(is_told), "{name}: {error}");
        let manifest = fs::read_to_string(models.join(name).join("1/manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        rows.push(manifest["rows_sha256"]["held out"].clone());
        let predictions = folder.path().join("predictions.csv");
        let predictions = predictions.to_str().unwrap();
        let (_, error) = said(&[
            "evaluate",
            "--model",
            name,
            "--data",
            file,
            "--set",
            &set,
            "--predictions",
            predictions,
        ]);
        assert_eq!(error.matches(TOLD).count(), usize::from(is_told), "{name}: {error}");
        let written = fs::read_to_string(predictions).unwrap();
        assert!(written.contains("très déçu") && written.contains("l’été"), "{name}: {written}");
    }
    assert!(rows.iter().all(|sha256| *sha256 == rows[0]), "the same rows: {rows:?}");
}
