//! Settings: the example file, invalid files, and the order of the layers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use monitor::settings::OWNERS;
use monitor_config::{Receiver, Route, Settings, load_from};
use serde_json::{Value, json};

use crate::support::tiny_model;

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn load(
    file: Option<&Path>,
    env: &[(&str, &str)],
    set: &[(&str, &str)],
) -> Result<Settings, String> {
    load_from(file, pairs(env), &pairs(set), OWNERS).map_err(|error| error.to_string())
}

fn example() -> PathBuf {
    root().join("config/monitor.example.toml")
}

#[test]
fn empty_settings_are_the_defaults_and_valid() {
    assert_eq!(load(None, &[], &[]).unwrap(), Settings::default());
}

#[test]
fn the_example_states_the_defaults() {
    let stated = load(Some(&example()), &[], &[]).unwrap();
    assert_eq!(stated.brands.len(), 1);
    assert_eq!(stated.receivers.len(), 5, "one of each kind");
    let office = stated.routes["office"].clone();
    assert_eq!(office.receivers.len(), 5);
    assert_eq!(Route { receivers: Vec::new(), ..office }, Route::default());
    let without = Settings {
        brands: BTreeMap::new(),
        receivers: BTreeMap::new(),
        routes: BTreeMap::new(),
        ..stated.clone()
    };
    assert_eq!(without, Settings::default());
    let Receiver::Email(email) = &stated.receivers["comms"] else {
        panic!("comms is not a mail receiver")
    };
    let plain = load(
        None,
        &[],
        &[
            ("receivers.x.kind", "email"),
            ("receivers.x.host", "h"),
            ("receivers.x.from", "a@example.com"),
            ("receivers.x.to", "[\"b@example.com\"]"),
        ],
    );
    let Receiver::Email(plain) = plain.unwrap().receivers["x"].clone() else { panic!() };
    assert_eq!((email.port, email.tls), (plain.port, plain.tls), "stated as defaults");
}

/// The keys of `table`, which the error about an unknown key lists.
fn keys_of(table: &str, kind: Option<&str>) -> Vec<String> {
    let unknown = if table.is_empty() { "xx".into() } else { format!("{table}.xx") };
    let mut set = vec![(unknown.as_str(), "1")];
    let kind_key = format!("{table}.kind");
    if let Some(kind) = kind {
        set.push((&kind_key, kind));
    }
    let message = load(None, &[], &set).unwrap_err();
    let (_, expected) = message.split_once("; there are ").unwrap();
    let keys: Vec<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(!keys.is_empty(), "{message}");
    keys
}

#[test]
fn the_example_has_every_key() {
    let text = fs::read_to_string(example()).unwrap();
    // The keys of each table header, including those that are commented out.
    let mut stated: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut table = "";
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = header;
            stated.entry(table).or_default();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            stated.entry(table).or_default().push(key);
        }
    }
    let has_table = |name: &str| {
        stated.keys().any(|table| *table == name || table.starts_with(&format!("{name}.")))
    };
    for table in keys_of("", None) {
        assert!(has_table(&table), "the example has no [{table}]");
        if ["brands", "receivers", "routes"].contains(&table.as_str()) {
            continue;
        }
        for key in keys_of(&table, None) {
            let exists = stated[table.as_str()].contains(&key.as_str());
            assert!(exists || has_table(&format!("{table}.{key}")), "no {table}.{key}");
        }
    }
    for key in keys_of("brands.x", None) {
        assert!(stated["brands.acme"].contains(&key.as_str()), "no brands.*.{key}");
    }
    for key in keys_of("routes.x", None) {
        assert!(stated["routes.office"].contains(&key.as_str()), "no routes.*.{key}");
    }
    for key in keys_of("receivers.x", Some("email")) {
        let exists = stated
            .iter()
            .any(|(table, keys)| table.starts_with("receivers.") && keys.contains(&key.as_str()));
        assert!(exists, "no receivers.*.{key}");
    }
}

#[test]
fn each_invalid_file_is_rejected_with_a_message() {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("tests/fixtures/config")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let message = match load(Some(&path), &[], &[]) {
            Ok(_) => panic!("{name}: was accepted"),
            Err(message) => message,
        };
        let lines = |prefix| text.lines().filter_map(move |line| line.strip_prefix(prefix));
        let expected: Vec<&str> = lines("# Expect: ").collect();
        assert!(!expected.is_empty(), "{name}: has no line \"# Expect: \"");
        for expected in expected {
            assert!(message.contains(expected), "{name}: no {expected:?} in {message:?}");
        }
        for hidden in lines("# Hide: ") {
            assert!(!message.contains(hidden), "{name}: {hidden:?} in {message:?}");
        }
        names.push(name);
    }
    assert!(names.len() > 30, "the files are found");
}

#[test]
fn later_layers_override_earlier_ones() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(&file, "[kafka]\ntopic = \"file\"\ngroup = \"file\"\nbrokers = \"file:1\"\n")
        .unwrap();
    let env = [("MONITOR_KAFKA__GROUP", "env"), ("MONITOR_KAFKA__BROKERS", "env:1")];
    let settings = load(Some(file.path()), &env, &[("kafka.brokers", "flag:1")]).unwrap();
    assert_eq!(settings.kafka.topic, "file");
    assert_eq!(settings.kafka.group, "env");
    assert_eq!(settings.kafka.brokers, "flag:1");
    assert_eq!(settings.kafka.record_bytes_max, 1 << 20, "the default");
}

#[test]
fn text_is_converted_to_the_type_of_the_setting() {
    let env = [
        ("MONITOR_MODEL__THREADS", "7"),
        ("MONITOR_ALERTING__RISE_MIN", "0.075"),
        ("MONITOR_KAFKA__ASSIGNMENT", "range"),
        ("MONITOR_KAFKA__TOPIC", "2024"),
        ("MONITOR_KAFKA__PROPERTIES__SASL__PASSWORD", "0123"),
        ("MONITOR_BRANDS__ACME__HANDLES", "[\"acme\", '@acmehelp']"),
        ("MONITOR_RECEIVERS__COMMS__KIND", "email"),
        ("MONITOR_RECEIVERS__COMMS__HOST", "smtp.example.com"),
        ("MONITOR_RECEIVERS__COMMS__PORT", "2525"),
        ("MONITOR_RECEIVERS__COMMS__USERNAME", "monitor"),
        ("MONITOR_RECEIVERS__COMMS__PASSWORD", "00123"),
        ("MONITOR_RECEIVERS__COMMS__FROM", "monitor@example.com"),
        ("MONITOR_RECEIVERS__COMMS__TO", "[\"comms@example.com\"]"),
    ];
    let set = [
        ("kafka.properties.security.protocol", "sasl_ssl"),
        ("batching.rows_max", "9"),
        ("model.tokens_max", "512"),
    ];
    let settings = load(None, &env, &set).unwrap();
    assert_eq!((settings.model.threads, settings.model.tokens_max), (7, Some(512)));
    assert!((settings.alerting.rise_min - 0.075).abs() < 1e-9);
    assert_eq!(settings.kafka.assignment.as_str(), "range");
    assert_eq!(settings.kafka.topic, "2024");
    assert_eq!(settings.kafka.properties["sasl.password"], "0123");
    assert_eq!(settings.kafka.properties["security.protocol"], "sasl_ssl");
    assert_eq!(settings.batching.rows_max, 9);
    assert_eq!(settings.brands["acme"].handles, ["acme", "@acmehelp"]);
    let Receiver::Email(email) = &settings.receivers["comms"] else {
        panic!("not a mail receiver")
    };
    assert_eq!(email.port, 2525);
    assert_eq!(email.password.as_ref().unwrap().expose(), "00123");
}

#[test]
fn only_names_with_two_underscores_are_settings() {
    let helpers = [
        ("MONITOR_CACHE", "/tmp"),
        ("MONITOR_CONFIG", "x.toml"),
        ("MONITOR_LOG", "1"),
        // Kubernetes sets such for a service of that name.
        ("MONITOR_STORE_SERVICE_HOST", "10.0.0.1"),
        ("OTHER__THING", "1"),
    ];
    assert_eq!(load(None, &helpers, &[]).unwrap(), Settings::default());
    for (name, meant) in [
        ("MONITOR_KAFKA_BROKERS", "MONITOR_KAFKA__BROKERS"),
        ("MONITOR_STORE_URL", "MONITOR_STORE__URL"),
        ("MONITOR_LOG_FILTER", "MONITOR_LOG__FILTER"),
        ("MONITOR_HTTP_TOKENS_COMMS_SHA256", "MONITOR_HTTP__TOKENS__COMMS__SHA256"),
    ] {
        let error = load(None, &[(name, "hunter2")], &[]).unwrap_err();
        assert!(error.contains(&format!("{name} = (hidden)")) && error.contains(meant), "{error}");
    }
    for (url, expected) in [
        (
            "postgres://monitor@h/m?sslmode=bogus",
            "store.url = (hidden): sslmode=bogus: choose one of",
        ),
        ("postgres://monitor:hunter#2@h/m", "percent-encoded: %23 for #"),
    ] {
        let error = load(None, &[], &[("store.url", url)]).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter"), "{error}");
    }
    let error = load(None, &[("MONITOR_KAFKA__TOPICS", "x")], &[]).unwrap_err();
    assert_eq!(
        error,
        "the environment variable MONITOR_KAFKA__TOPICS: there is no setting `kafka.topics`; did you \
         mean `kafka.topic`?"
    );
    let error = load(None, &[], &[("kafka.topics", "x")]).unwrap_err();
    assert_eq!(error, "--set: there is no setting `kafka.topics`; did you mean `kafka.topic`?");
    let error = load(None, &[("MONITOR_MODEL__THREADS", "many")], &[]).unwrap_err();
    assert!(error.contains("model.threads") && error.contains("environment"), "{error}");
}

#[test]
fn no_secret_is_printed() {
    let settings = load(
        None,
        &[],
        &[
            ("store.url", "postgres://monitor:hunter2@127.0.0.1/monitor"),
            ("kafka.properties.sasl.password", "hunter2"),
            ("receivers.a.kind", "email"),
            ("receivers.a.host", "smtp.example.com"),
            ("receivers.a.username", "monitor"),
            ("receivers.a.password", "hunter2"),
            ("receivers.a.from", "monitor@example.com"),
            ("receivers.a.to", "[\"comms@example.com\"]"),
            ("receivers.b.kind", "webhook"),
            ("receivers.b.url", "https://user:hunter2@chat.example.com:8443/hunter2"),
            ("receivers.b.secret", "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="),
            ("heartbeat.url", "https://hc.example.com/hunter2"),
        ],
    )
    .unwrap();
    let printed = format!("{settings:?} {settings:#?}");
    for secret in ["hunter2", "aHVudGVy"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("https://chat.example.com:8443"), "{printed}");
    assert!(printed.contains("sasl.password"), "the key itself is not secret: {printed}");
}

#[test]
fn errors_in_a_file_name_the_line() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let text =
        "[kafka]\ntopic = \"t\"\n\n[model]\nthreads = 0\n\n[kafak]\n[log]\nfitler = \"info\"\n";
    fs::write(&file, text).unwrap();
    let name = file.path().display();
    assert_eq!(
        load(Some(file.path()), &[], &[]).unwrap_err(),
        format!(
            "{name}, line 7: there is no setting `kafak`; did you mean `kafka`?\n{name}, line 9: there is \
             no setting `log.fitler`; did you mean `log.filter`?"
        ),
        "all of them"
    );
    fs::write(&file, &text[..text.find("[kafak]").unwrap()]).unwrap();
    let error = load(Some(file.path()), &[], &[]).unwrap_err();
    assert!(error.ends_with(&format!("choose between 1 and 256 ({name}, line 5)")), "{error}");
    let error = load(Some(file.path()), &[("MONITOR_MODEL__THREADS", "0")], &[]).unwrap_err();
    assert!(error.ends_with("choose between 1 and 256"), "not the file's value: {error}");
    fs::write(&file, "[model]\nthreads = \"many\"\n").unwrap();
    let error = load(Some(file.path()), &[], &[]).unwrap_err();
    assert!(error.starts_with(&format!("{name}, line 2: ")), "{error}");
}

fn check_config(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .arg("check-config")
        .args(args)
        .current_dir(root())
        // The environment of this test run may set these.
        .env("MONITOR_CACHE", "/tmp")
        .env_remove("MONITOR_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_config_prints_a_summary() {
    let (valid, out, _) = check_config(&["--config", "config/monitor.example.toml"]);
    assert!(valid);
    insta::assert_snapshot!(out, @r"
    settings are valid
    kafka: topic tweets at 127.0.0.1:9092, group monitor
    store: 127.0.0.1:5432/monitor
    model: lstm@4 from models, for tweets in English and unknown languages
    http: 127.0.0.1:8080
    brand acme: 2 keywords, 2 handles, 1 hashtag, 1 rule tag
    alerting: share (budget 1.00), negative-volume (budget 1.00), in false alarms a brand and month; originals are counted
    stream: quiet alarms from 30 minutes, lag alarms from 15 minutes, a quiet brand alarms from 60 minutes
    heartbeat: none, so nobody is notified when the daemon dies
    receiver chat: webhook at https://chat.example.com
    receiver comms: email to comms@example.com by smtp.example.com:587
    receiver prometheus: alertmanager at https://alertmanager.example.com
    receiver slack: slack at https://hooks.slack.example.com
    receiver teams: teams at https://teams.example.com
    route office: any cause of any brand and the stream, notice or worse, to comms, chat, slack, teams, prometheus
    ");

    let (valid, out, err) = check_config(&[
        "--set",
        "model.threads=0",
        "--set",
        "model.tokens_max=255",
        "--set",
        "http.listen=8080",
    ]);
    assert!(!valid);
    assert_eq!(out, "");
    insta::assert_snapshot!(err, @r#"
    error: 3 problems in the settings:
      model.threads = 0: choose between 1 and 256
      model.tokens_max = 255: choose between 256 and 4194304 tokens, or leave it to the device
      http.listen = "8080": give address and port, such as 127.0.0.1:8080
    "#);

    let (valid, _, err) = check_config(&["--config", "nonexistent.toml"]);
    assert!(!valid);
    insta::assert_snapshot!(err, @"error: cannot read the settings file nonexistent.toml: No such file or directory (os error 2)");
}

#[test]
fn check_config_prints_json() {
    let run = |args: &[&str]| {
        let (valid, out, err) = check_config(&[args, &["--json"]].concat());
        let found: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        (valid, found, err)
    };
    let example = ["--config", "config/monitor.example.toml"];
    let unheard = [
        &example[..],
        &["--set", "routes.office.receivers=[\"comms\"]"],
        &["--set", "receivers.comms.to=[\"zoé@example.com\"]"],
    ]
    .concat();
    let (valid, found, _) = run(&unheard);
    assert!(valid);
    let text = |key: &str, it: &Value| it[key].as_str().unwrap().to_owned();
    let lines = found.iter().map(|it| {
        let part = text("part", it);
        let part = if it["state"] == "warning" { "warning" } else { &part };
        format!("{part}: {}\n", text("found", it))
    });
    let lines: String = lines.collect();
    assert_eq!(format!("settings are valid\n{lines}"), check_config(&unheard).1);
    let warned = found.iter().filter(|it| it["state"] == "warning").map(|it| text("part", it));
    let warned: Vec<_> = warned.collect();
    assert_eq!(warned, ["routes", "routes", "routes", "routes", "receiver comms"]);

    let (valid, found, err) = run(&["--set", "model.threads=0", "--set", "http.listen=8080"]);
    assert!(!valid && err.starts_with("error: 2 problems in the settings"), "{err}");
    let expected = json!([
        {"part": "model.threads", "state": "problem", "found": "0", "remedy": "choose between 1 and 256"},
        {"part": "http.listen", "state": "problem", "found": "\"8080\"",
         "remedy": "give address and port, such as 127.0.0.1:8080"},
    ]);
    assert_eq!(json!(found), expected);
    for (set, part) in [("kafka.brokes=x", "kafka.brokes"), ("model.directory=/none", "settings")] {
        let (valid, found, err) = run(&[&example[..], &["--set", set]].concat());
        assert!(!valid && found.len() == 1, "{found:?}");
        assert_eq!((text("part", &found[0]), text("remedy", &found[0])), (part.into(), "".into()));
        assert!(err.contains(&text("found", &found[0])), "{err}");
    }
}

#[test]
fn check_config_opens_the_model() {
    let folder = tempfile::tempdir().unwrap();
    tiny_model(folder.path(), "m", &[], 0.0, &[]);
    let directory = format!("model.directory={}", folder.path().display());
    let example = ["--config", "config/monitor.example.toml", "--set"];
    let own = [&example[..], &[&directory, "--set", "model.name=m@1"]].concat();
    assert!(check_config(&own).0);
    fs::write(folder.path().join("m/1/weights.safetensors"), "half").unwrap();
    let (valid, _, err) = check_config(&own);
    assert!(!valid && err.contains("weights.safetensors was changed or truncated"), "{err}");
}

#[test]
fn check_config_rejects_what_run_rejects() {
    let refused = |set: &[&str], expected: &str| {
        let example = ["--config", "config/monitor.example.toml"];
        let set: Vec<_> = set.iter().flat_map(|&setting| ["--set", setting]).collect();
        let (valid, out, err) = check_config(&[&example[..], &set].concat());
        assert!(!valid && out.is_empty() && err.contains(expected), "{set:?}: {out}{err}");
    };
    let garbage = tempfile::NamedTempFile::new().unwrap();
    fs::write(&garbage, "garbage").unwrap();
    refused(
        &[
            "receivers.own.kind=webhook",
            "receivers.own.url=https://own.example.com",
            &format!("receivers.own.secret_file={}", garbage.path().display()),
        ],
        "receivers.own",
    );
    refused(&["receivers.own.kind=teams", "receivers.own.url_file=nonexistent"], "receivers.own");
}

#[test]
fn check_config_lists_receivers_and_incidents_without_a_route() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let text = fs::read_to_string(example()).unwrap();
    let (text, _) = text.split_once("[routes.office]").unwrap();
    let routes = r#"
        [routes.night]
        receivers = ["comms", "prometheus"]
        brands = ["acme"]
        causes = ["share"]
        severity_min = "warning"
        quiet_hours = "22:00-07:00"
        time_zone = "Europe/Paris"
        group_wait_s = 60
        [routes.stream]
        receivers = ["comms"]
        brands = ["(stream)"]
        causes = ["lag"]
        [receivers.pager]
        kind = "slack"
        url = "https://hooks.slack.example.com/services/hunter2"
        [receivers.desk]
        kind = "teams"
        url_file = "tests/fixtures/desk.url"
        [brands.globex]
        keywords = ["globex"]
    "#;
    fs::write(&file, format!("{text}{routes}")).unwrap();
    let set = ["--set", "alerting.surge=true", "--set", "stream.quiet_minutes_max=0"];
    let beat = ["--set", "heartbeat.url=https://hc.example.com/hunter2"];
    let data = "retrain.data=['tests/fixtures/sentiment.csv']";
    let train =
        ["--set", "retrain.on_drift=true", "--set", "retrain.schedule=0 3 * * 0", "--set", data];
    let named = ["--config", file.path().to_str().unwrap()];
    let (valid, out, err) = check_config(&[&named[..], &set, &beat, &train].concat());
    assert!(valid, "{err}");
    let (_, out) = out.split_once("rule tag\n").unwrap();
    insta::assert_snapshot!(out, @r#"
    brand globex: 1 keyword
    alerting: share (budget 0.67), negative-volume (budget 0.67), surge (budget 0.67), in false alarms a brand and month; originals are counted
    stream: quiet never alarms, lag alarms from 15 minutes, a quiet brand alarms from 60 minutes
    retrain: lstm from tests/fixtures/sentiment.csv, at "0 3 * * 0" UTC and on drift
    heartbeat: https://hc.example.com every 60 s
    receiver chat: webhook at https://chat.example.com
    receiver comms: email to comms@example.com by smtp.example.com:587
    receiver desk: teams at (the URL in tests/fixtures/desk.url)
    receiver pager: slack at https://hooks.slack.example.com
    receiver prometheus: alertmanager at https://alertmanager.example.com
    receiver slack: slack at https://hooks.slack.example.com
    receiver teams: teams at https://teams.example.com
    route night: share of acme, warning or worse, to comms; quiet from 22:00 to 07:00 Europe/Paris unless critical; brands grouped within 60 s
    route night: share of acme, warning or worse, to prometheus; quiet from 22:00 to 07:00 Europe/Paris unless critical
    route stream: lag of (stream), notice or worse, to comms
    warning: no route names receiver chat: it is never notified
    warning: no route names receiver desk: it is never notified
    warning: no route names receiver pager: it is never notified
    warning: no route names receiver slack: it is never notified
    warning: no route names receiver teams: it is never notified
    warning: no route tells anybody of share incidents of globex
    warning: no route tells anybody of negative-volume incidents of acme
    warning: no route tells anybody of negative-volume incidents of globex
    warning: no route tells anybody of surge incidents of acme
    warning: no route tells anybody of surge incidents of globex
    warning: no route tells anybody of brand-quiet incidents of acme
    warning: no route tells anybody of brand-quiet incidents of globex
    "#);
}
