//! `monitor backtest`: gives the daemon's alerts, for files of real tweets and for stored counts,
//! and names errors in its input.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use monitor::pipeline::{Evaluator, brand_rules, buzz_policy};
use monitor::settings;
use monitor_config::{self as config, Settings};
use monitor_core::alerting::{Counting, Heard, Stretch, backtest, backtest_switched};
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Counts, Evidence, Minute, Offset, Phase, Probabilities, Probability, Score, StartAt,
    TopicPartition, Tweet, TweetId,
};
use monitor_core::text::BrandMatcher;
use monitor_store::{
    Advance, Batch, Claim, MemoryStore, ModelScore, Pairs, PostgresStore, Rescored, ScoredTweet,
    Store,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::support::fresh_database;

const WEEK: &str = "tests/fixtures/airline-week.csv.xz";
const AIRLINES: &str = "tests/fixtures/airlines.toml";

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("backtest");
    command.args(["--config", AIRLINES]).args(arguments).output().unwrap()
}

fn out(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rule(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn scored(
    id: String,
    at: DateTime<Utc>,
    text: &str,
    brands: Vec<String>,
    negative: bool,
) -> ScoredTweet {
    let probability = |p| Probability::new(p).unwrap();
    ScoredTweet {
        tweet: Tweet::new(TweetId::new(id).unwrap(), text, at, Vec::new()).unwrap(),
        brands,
        score: Some(ModelScore::new(
            Score::new(
                Probabilities::two(probability(if negative { 0.9 } else { 0.1 })),
                Probability::HALF.into(),
            ),
            "test@1",
        )),
        heard: Heard::Always,
    }
}

async fn commit(store: &dyn Store, scores: Vec<ScoredTweet>, to: Offset) -> Offset {
    let next = Offset(to.0 + i64::try_from(scores.len()).unwrap());
    let advance = Advance {
        partition: TopicPartition::new("tweets", 0),
        from: to,
        to: next,
        event_time_max: scores.iter().map(|score| score.tweet.created_at).max(),
        record_time_max: None,
    };
    let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
    store.commit(&batch).await.unwrap();
    next
}

async fn claim(store: &dyn Store) {
    let partition = TopicPartition::new("tweets", 0);
    let claim = Claim { partition, seen: None, low: Offset(0), high: Offset(1 << 40) };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
}

const DAY: i64 = 1440;

/// Nine days of a brand, by minute: a rise of two hours, two hours without tweets, a share that
/// stays high, a surge, and one more rise.
fn nine_days() -> Vec<(Minute, Counts)> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let share = |minute: i64| match minute {
        m if (3 * DAY + 720..3 * DAY + 840).contains(&m) => 0.7,
        m if (8 * DAY + 300..8 * DAY + 400).contains(&m) => 0.95,
        m if m >= 5 * DAY + 400 => 0.55,
        _ => 0.2,
    };
    let first = Minute::of("2026-03-02T05:17:00Z".parse::<DateTime<Utc>>().unwrap());
    (0..9 * DAY)
        .filter(|minute| !(4 * DAY + 100..4 * DAY + 220).contains(minute))
        .map(|minute| {
            let more = if (7 * DAY..7 * DAY + 90).contains(&minute) { 12 } else { 1 };
            let total = more * random.random_range(1..5);
            let negative = (0..total).filter(|_| random.random::<f64>() < share(minute)).count();
            (first.plus(minute), Counts { total, negative: negative as u64 })
        })
        .collect()
}

/// The identity of an alert.
fn describe(
    opened: Minute,
    resolved: Option<Minute>,
    evidence: &Evidence,
    phases: &[Phase],
) -> String {
    let what = match evidence {
        Evidence::Share(e) => format!("{:?} since {:?}", e.observed, e.since),
        Evidence::NegativeVolume(e) | Evidence::Surge(e) => {
            format!("{} since {:?}", e.observed, e.since)
        }
        other => format!("{other:?}"),
    };
    // What changes between two steps is stored with the next one.
    let phases: Vec<_> = phases
        .iter()
        .map(|phase| (phase.cause().as_str(), phase.began, phase.ended, phase.relapses))
        .collect();
    format!("{opened:?} {resolved:?} {what} {phases:?}")
}

#[tokio::test]
async fn daemon_and_backtest_agree() {
    let mut settings = Settings::default();
    let brand = config::Brand { handles: vec!["acme".into()], ..config::Brand::default() };
    settings.brands.insert("acme".into(), brand);
    settings.alerting.surge = true;
    settings.alerting.negative_volume = true;
    let counts = nine_days();

    // At its first look a daemon notifies of the last two days only.
    for minutes_a_look in [433, 47 * 60] {
        let store = Arc::new(MemoryStore::new());
        claim(&*store).await;
        let clock = Arc::new(SimulatedClock::at(counts[counts.len() - 1].0.plus(60).start()));
        let judge = Evaluator::new(store.clone(), &settings, clock);
        let (mut at, mut closed, mut n) = (Offset(0), None, 0_u64);
        for part in counts.chunk_by(|a, b| a.0.0 / minutes_a_look == b.0.0 / minutes_a_look) {
            let mut scores = Vec::new();
            for (minute, counts) in part {
                for k in 0..counts.total {
                    n += 1;
                    let brands = vec!["acme".to_owned()];
                    let negative = k < counts.negative;
                    scores.push(scored(n.to_string(), minute.start(), "hm", brands, negative));
                }
            }
            at = commit(&*store, scores, at).await;
            closed = judge.evaluate().await.unwrap();
        }
        let incidents = store.incidents(1000).await.unwrap();
        let mut found: Vec<String> = incidents
            .iter()
            .filter(|incident| incident.brand == "acme")
            .map(|i| describe(i.opened, i.resolved, &i.evidence, &i.phases))
            .collect();
        found.sort();

        let policy = buzz_policy(&settings.alerting);
        let closed = closed.expect("minutes were closed");
        let outcome = backtest(&policy, &counts, counts[0].0, closed);
        let mut expected: Vec<String> = outcome
            .alerts
            .iter()
            .map(|a| describe(a.opened, a.resolved.map(|(at, _)| at), &a.opening, &a.phases))
            .collect();
        expected.sort();
        assert_eq!(found, expected, "a look every {minutes_a_look} minutes");
        let opened_again = outcome.alerts.iter().any(|alert| alert.spans.len() > 1);
        let joined = outcome.alerts.iter().any(|alert| alert.phases.len() > 1);
        assert!(found.len() >= 2 && opened_again && joined, "{found:#?}");
    }
}

/// What a second model says of a minute that the first one has counted.
fn by_another(counts: Counts) -> Counts {
    Counts { negative: counts.negative + (counts.total - counts.negative) / 3, ..counts }
}

#[tokio::test]
async fn daemon_and_backtest_agree_across_a_switch_of_the_model() {
    let mut settings = Settings::default();
    let brand = config::Brand { handles: vec!["acme".into()], ..config::Brand::default() };
    settings.brands.insert("acme".into(), brand);
    let counts = nine_days();
    let others: Vec<_> = counts.iter().map(|(minute, c)| (*minute, by_another(*c))).collect();
    settings.alerting.negative_volume = true;
    let policy = buzz_policy(&settings.alerting);
    let (first, last) = (counts[0].0, counts[counts.len() - 1].0);
    let alone = backtest(&policy, &counts, first, last).alerts;
    let open = alone.iter().find(|alert| alert.resolved.is_some()).expect("a resolved alert");
    let while_open = Minute(i64::midpoint(open.opened.0, open.resolved.expect("resolved").0.0));

    for switched_after in [while_open, Minute(i64::midpoint(first.0, last.0))] {
        let store = Arc::new(MemoryStore::new());
        claim(&*store).await;
        store.begin_with("test@1").await.unwrap();
        let judge = Evaluator::new(
            store.clone(),
            &settings,
            Arc::new(SimulatedClock::at(last.plus(60).start())),
        );
        let (mut at, mut closed, mut n) = (Offset(0), None, 0_u64);
        let mut fence = Minute(i64::MAX);
        for part in counts.chunk_by(|a, b| a.0.0 / 61 == b.0.0 / 61) {
            if fence.0 == i64::MAX && part[0].0 > switched_after {
                fence = store.switch_to("test@2", first).await.unwrap().newest().unwrap().from;
            }
            let (mut scores, mut again) = (Vec::new(), Vec::new());
            for (minute, of_first) in part {
                let (model, negative) = if *minute < fence {
                    let (instead_of, minute, brand) = ("test@1".into(), *minute, "acme".into());
                    let Counts { total, negative } = by_another(*of_first);
                    let gained = negative - of_first.negative;
                    let pairs = Pairs { total, negative, gained, ..Pairs::default() };
                    if total > 0 {
                        again.push(Rescored { brand, minute, instead_of, pairs });
                    }
                    ("test@1", of_first.negative)
                } else {
                    ("test@2", by_another(*of_first).negative)
                };
                for k in 0..of_first.total {
                    n += 1;
                    let brands = vec!["acme".to_owned()];
                    let row = scored(n.to_string(), minute.start(), "hm", brands, k < negative);
                    let score = row.score.map(|score| ModelScore { model: model.into(), ..score });
                    scores.push(ScoredTweet { score, ..row });
                }
            }
            at = commit(&*store, scores, at).await;
            store.put_rescored("test@2", &again).await.unwrap();
            closed = judge.evaluate().await.unwrap();
        }
        assert!(fence < last, "there was a switch");
        let incidents = store.incidents(1000).await.unwrap();
        let mut found: Vec<String> = incidents
            .iter()
            .map(|i| describe(i.opened, i.resolved, &i.evidence, &i.phases))
            .collect();
        found.sort();
        let stretches = [
            Stretch { from: Minute(i64::MIN), counts: &counts },
            Stretch { from: fence, counts: &others },
        ];
        let closed = closed.expect("minutes were closed");
        let outcome = backtest_switched(&policy, &stretches, first, closed);
        let mut expected: Vec<String> = outcome
            .alerts
            .iter()
            .map(|a| describe(a.opened, a.resolved.map(|(at, _)| at), &a.opening, &a.phases))
            .collect();
        expected.sort();
        assert_eq!(found, expected, "switched after {switched_after:?}");
        assert!(found.len() >= 2, "{found:#?}");
    }
}

#[test]
fn names_the_authors_that_a_file_cannot_leave_out() {
    let week = ["--file", WEEK, "--labels", "label", "--brand", "United"];
    let warned = |ignored: &str| {
        let set = format!("alerting.ignore_authors={ignored}");
        let output = run(&[&week[..], &["--set", &set]].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        error.lines().filter(|line| line.starts_with("warning")).map(str::to_owned).collect()
    };
    let none: Vec<String> = warned(r##"["ann"]"##);
    assert_eq!(none, [""; 0]);
    let two: Vec<String> = warned(r##"["#9d77c3180ff81edf", "ann", " #0000000000000001"]"##);
    assert!(two[0].contains("by #9d77c3180ff81edf, #0000000000000001: it has names"), "{two:?}");
}

/// The alerts of a week of tweets with human labels.
#[test]
fn backtests_the_airline_week_with_human_labels() {
    let folder = tempfile::tempdir().unwrap();
    let high = rule(
        folder.path(),
        "high.toml",
        "[alerting]\nrule = \"share-above\"\nshare_above = 0.8\nwindow_minutes = 120\n",
    );
    let often = rule(folder.path(), "often.toml", "[alerting]\nfalse_alarms_per_month = 30\n");
    let picture = folder.path().join("a.svg");
    let picture = picture.to_str().unwrap();
    let file = ["--file", WEEK, "--labels", "label"];
    let rules = ["--rule", &often, "--rule", &high, "--picture", picture];
    let found =
        out(&[&file[..], &rules[..]].concat()).replace(folder.path().to_str().unwrap(), "F");
    // The width of the first column depends on the folder's name.
    let heading = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let found: Vec<_> = found
        .lines()
        .map(|line| if line.starts_with("rule ") { heading(line) } else { line.to_owned() })
        .collect();
    let found = found.join("\n");
    insta::assert_snapshot!("airline_week_by_labels", found);
    let svg = fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("Virgin America, by"), "a picture");

    let only =
        out(&[&file[..], &["--brand", "United", "--from", "2015-02-20", "--to", "2015-02-22"]]
            .concat());
    assert!(only.contains("United") && !only.contains("JetBlue"), "{only}");
    let json = out(&[&file[..], &["--json", "--brand", "Southwest", "--rule", &often]].concat());
    serde_json::from_str::<Value>(&json).expect("JSON");
    let json = json.replace(folder.path().to_str().unwrap(), "F");
    insta::assert_snapshot!("airline_week_as_json", json);
}

/// The alerts of the same week, scored by the default model.
#[test]
fn backtests_the_airline_week_with_the_lstm() {
    let found = out(&["--file", WEEK, "--model", "lstm", "--json"]);
    let json: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(json["source"]["scored_by"], "lstm@4");
    let alerts: Vec<String> = json["trials"][0]["brands"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|brand| {
            let name = brand["brand"].as_str().unwrap();
            brand["alerts"].as_array().unwrap().iter().map(move |alert| {
                format!("{name} {} {} {}", alert["opened"], alert["resolved"], alert["severity"])
            })
        })
        .collect();
    insta::assert_snapshot!("airline_week_by_lstm", alerts.join("\n"));
}

#[tokio::test]
async fn stored_scores_give_the_same_alerts_as_the_file() {
    let url = fresh_database().await;
    let mut settings = settings::load(Some(Path::new(AIRLINES)), &[]).unwrap();
    settings.store.url.clone_from(&url);
    let store = PostgresStore::connect(&settings.store).unwrap();
    store.migrate().await.unwrap();
    claim(&store).await;
    let matcher = BrandMatcher::new(brand_rules(&settings)).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(WEEK);
    let file = liblzma::read::XzDecoder::new(fs::File::open(path).unwrap());
    let mut rows = csv::Reader::from_reader(file);
    let counting = Counting::new(settings.alerting.count, &[]);
    let tweets: Vec<ScoredTweet> = rows
        .deserialize()
        .map(|row| {
            let row: BTreeMap<String, String> = row.unwrap();
            let brands = matcher.matches(&row["text"], &[]);
            let at = row["created_at"].parse().unwrap();
            let row =
                scored(row["id"].clone(), at, &row["text"], brands, row["label"] == "negative");
            ScoredTweet { heard: counting.heard(&row.tweet, &row.brands), ..row }
        })
        .collect();
    let mut at = Offset(0);
    for tweets in tweets.chunks(2000) {
        at = commit(&store, tweets.to_vec(), at).await;
    }

    let folder = tempfile::tempdir().unwrap();
    let rule = rule(
        folder.path(),
        "rule.toml",
        "[alerting]\nrule = \"times-previous\"\ntimes_previous = 1.5\nsurge = true\n",
    );
    let set = format!("store.url={url}");
    for range in [&[][..], &["--from", "2015-02-20T12:00Z", "--to", "2015-02-23"]] {
        let common = [&["--json", "--rule", &rule], range].concat();
        let stored = [&common[..], &["--set", &set]].concat();
        let file = [&common[..], &["--file", WEEK, "--labels", "label"]].concat();
        let read = |arguments: &[&str]| -> Value { serde_json::from_str(&out(arguments)).unwrap() };
        let (stored, file) = (read(&stored), read(&file));
        assert_eq!(stored["trials"], file["trials"], "{range:?}");
        assert_eq!(stored["source"]["kind"], "store");
        let alerts = stored["trials"][0]["brands"].as_array().unwrap().iter();
        let alerts: usize = alerts.map(|brand| brand["alerts"].as_array().unwrap().len()).sum();
        assert!(alerts > 0, "there is something to compare");
    }
}

#[tokio::test]
async fn names_what_is_wrong_with_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let rule = |name: &str, content: &str| rule(folder.path(), name, content);
    let check = |name: &str, arguments: &[&str], parts: &[&str]| {
        let output = run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{name}");
        for part in parts {
            assert!(error.contains(part), "{name}: {part:?} should be in {error}");
        }
    };
    let week = |rest: &[&'static str]| [&["--file", WEEK, "--labels", "label"], rest].concat();
    check("no file", &["--file", "nowhere.csv", "--labels", "a"], &["cannot read nowhere.csv"]);
    let words = rule("words.csv", "to be or not\nto be\n");
    check("no tweets", &["--file", &words, "--labels", "a"], &["words.csv", "no column \"a\""]);
    check(
        "no such brand",
        &week(&["--brand", "Unite"]),
        &["no brand \"Unite\"", "\"JetBlue\", \"Southwest\""],
    );
    check("no such model", &["--file", WEEK, "--model", "bert"], &["no model \"bert\""]);
    check(
        "from after to",
        &week(&["--from", "2015-02-23", "--to", "2015-02-20"]),
        &["--from", "before --to"],
    );
    check("no time", &week(&["--from", "Monday"]), &["Monday", "give a time such as"]);
    check(
        "before the first tweet",
        &week(&["--to", "2015-01-01"]),
        &["no tweet about any brand", "before 2015-01-01 00:00"],
    );
    check(
        "after the last tweet",
        &week(&["--brand", "United", "--from", "2016-01-01"]),
        &["no tweet about United from 2016-01-01 00:00 on"],
    );
    check("a model and labels", &week(&["--model", "lstm"]), &["cannot be used with"]);
    check("a model for nothing", &["--model", "lstm"], &["--file"]);

    let with = |rule: &str| -> Vec<String> {
        week(&["--rule"]).into_iter().map(str::to_owned).chain([rule.to_owned()]).collect()
    };
    let check_rule = |name: &str, rule: &str, parts: &[&str]| {
        let arguments = with(rule);
        check(name, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), parts);
    };
    check_rule("no rule", "nowhere.toml", &["nowhere.toml", "cannot read the rule"]);
    check_rule(
        "an unknown key",
        &rule("key.toml", "[alerting]\nshare_over = 0.5\n"),
        &["key.toml", "share_over"],
    );
    check_rule(
        "another table",
        &rule("table.toml", "[alerting]\n[kafka]\ntopic = \"a\"\n"),
        &["table.toml", "\"kafka\" does not belong here"],
    );
    check_rule(
        "out of range",
        &rule("range.toml", "[alerting]\nrise_min = 2.0\n"),
        &["range.toml", "alerting.rise_min = 2", "choose a share"],
    );
    check_rule(
        "of the wrong type",
        &rule("type.toml", "[alerting]\ntweets_min = \"many\"\n"),
        &["type.toml", "tweets_min"],
    );
    check_rule("no TOML", &rule("no.toml", "[alerting\n"), &["no.toml", "not TOML"]);
    check_rule("no table", &rule("empty.toml", ""), &["empty.toml", "needs a table [alerting]"]);

    let away = "store.url=postgres://nobody@127.0.0.1:1/none";
    check("no Postgres", &["--set", away], &["127.0.0.1:1", "store.url", "--file"]);
    let empty = format!("store.url={}", fresh_database().await);
    check("no tables", &["--set", &empty], &["model_switches", "monitor migrate"]);
}
