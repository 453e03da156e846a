//! Real clients, from PyPI, against `monitor serve`. `$MONITOR_CLIENTS` is the Python that has them;
//! `scripts/test` fetches it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::Served;

fn python(arguments: &[&str]) -> Output {
    let python = std::env::var_os("MONITOR_CLIENTS").expect("MONITOR_CLIENTS names a Python");
    let mut command = Command::new(python);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    // The server is on this machine, and nobody else should be asked.
    command.env("NO_PROXY", "127.0.0.1").env("HF_HUB_OFFLINE", "0");
    command.output().unwrap()
}

#[test]
#[ignore = "needs clients"]
fn huggingface_hub_classifies_unmodified() {
    let served = Served::start(&["--model", "lstm"]);
    let output = python(&["tests/it/clients/hub.py", &served.url, "lstm"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for way in ["named", "main", "base_url"] {
        let labels = found[way].as_array().unwrap();
        assert_eq!(labels.len(), 3, "{way}: {found}");
        assert_eq!(labels[0]["label"], "POSITIVE", "{way}");
        let sum: f64 = labels.iter().map(|it| it["score"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{way}: {sum}");
    }
    let first = found["first"].as_array().unwrap();
    assert_eq!((first.len(), &first[0]["label"]), (1, &"NEGATIVE".into()));
    let (p, logit) = (&found["named"][0]["score"], &found["logits"][0]["score"]);
    assert!((p.as_f64().unwrap().ln() - logit.as_f64().unwrap()).abs() < 1e-4, "{found}");
    for (way, status, part) in [("empty", 400, "cannot be empty"), ("unknown", 404, "lstm@4")] {
        assert_eq!(found[way]["status"], status, "{found}");
        assert!(found[way]["message"].as_str().unwrap().contains(part), "{found}");
    }
}

/// Thousands of requests made from the API's own description, valid and not: no answer is an internal
/// error, and each is one that the description names.
#[test]
#[ignore = "needs clients"]
fn the_api_keeps_to_its_description() {
    let served = Served::start(&["--model", "logistic-tfidf"]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                  response_headers_conformance,response_schema_conformance,unsupported_method";
    let description = format!("{}/openapi.json", served.url);
    let output = python(&[
        "-m",
        "schemathesis.cli",
        "run",
        &description,
        "--checks",
        checks,
        "--mode",
        "all",
        "--max-examples",
        "50",
        "--seed",
        "1",
        "--no-color",
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // All operations were tried.
    assert!(text.contains("Tested: 15"), "{text}");
}
