//! The airline week with a change of the model in its middle. From the switch on the detector
//! decides as if the new model had scored all along: no incident that one model alone would not
//! have opened, and none later.

use std::collections::BTreeMap;
use std::path::Path;

use monitor::backtest::{Scorer, count};
use monitor::pipeline::policy;
use monitor_config::Settings;
use monitor_core::alerting::{
    Alert, BuzzPolicy, Counting, Stretch, Thresholds, Voice, backtest, backtest_switched,
};
use monitor_core::domain::{Counts, Minute};

type ByBrand = BTreeMap<String, Vec<(Minute, Counts)>>;

const WEEK: &str = "tests/fixtures/airline-week.csv.xz";
const AIRLINES: &str = "tests/fixtures/airlines.toml";
/// The week is switched at each of this many minutes, evenly apart.
const SWITCHES: i64 = 15;

fn counts_of(model: &str, settings: &Settings) -> ByBrand {
    let brands: Vec<String> = settings.brands.keys().cloned().collect();
    let scorer = Scorer::new(None, Some(model), settings).unwrap();
    count(
        Path::new(WEEK),
        scorer,
        settings,
        &brands,
        Counting::new(Voice::Tweet, &[]),
        (None, None),
    )
    .unwrap()
    .by_brand
}

/// Whether two alerts are open at the same time.
fn overlap(a: &Alert, b: &Alert) -> bool {
    let end = |alert: &Alert| alert.resolved.map_or(i64::MAX, |(minute, _)| minute.0);
    a.opened.0 <= end(b) && b.opened.0 <= end(a)
}

fn show(alert: &Alert) -> String {
    let at = |minute: Minute| minute.start().format("%d %H:%M").to_string();
    let resolved = alert.resolved.map_or("open".to_owned(), |(minute, _)| at(minute));
    format!("{} to {resolved}", at(alert.opened))
}

/// What switches of one brand did.
#[derive(Default, Debug, serde::Serialize)]
struct Outcome {
    /// Switched weeks.
    weeks: u32,
    /// Alerts that were opened after the switch.
    opened: u32,
    /// Of these, at the very minute at which the new model alone opens them.
    same_minute: u32,
    /// Of these, while neither model alone has an incident.
    unexplained: Vec<String>,
    /// Of these, more than a tenth of the delay later than the new model alone.
    late: Vec<String>,
    /// Alerts of the new model alone, after the switch, that are missing.
    missed: Vec<String>,
    /// Alerts of no model alone, if the counts of the old model stay the baseline.
    unexplained_without: u32,
}

fn check_brand(
    policy: &BuzzPolicy,
    [old, new]: [&[(Minute, Counts)]; 2],
    last: Minute,
    name: &str,
    outcome: &mut Outcome,
) {
    let first = old[0].0;
    let alone = |counts| backtest(policy, counts, first, last).alerts;
    let (by_old, by_new) = (alone(old), alone(new));
    let explained = |alert: &Alert| by_old.iter().chain(&by_new).any(|alone| overlap(alert, alone));
    for n in 1..=SWITCHES {
        let at = Minute(first.0 + (last.0 - first.0) * n / (SWITCHES + 1));
        let stretches =
            [Stretch { from: Minute(i64::MIN), counts: old }, Stretch { from: at, counts: new }];
        let found = backtest_switched(policy, &stretches, first, last).alerts;
        let (before, after): (Vec<_>, Vec<_>) = found.iter().partition(|a| a.opened < at);
        let expected: Vec<_> = by_old.iter().filter(|a| a.opened < at).collect();
        let opened = |alerts: &[&Alert]| alerts.iter().map(|a| a.opened).collect::<Vec<_>>();
        assert_eq!(opened(&before), opened(&expected), "{name}: the old model before the switch");
        outcome.weeks += 1;
        outcome.opened += after.len() as u32;
        let label = |alert: &Alert| {
            format!("{name}, switched at {}: {}", at.start().format("%d %H:%M"), show(alert))
        };
        for alert in &after {
            if !explained(alert) {
                outcome.unexplained.push(label(alert));
            }
            if by_new.iter().any(|alone| alone.opened == alert.opened) {
                outcome.same_minute += 1;
            }
        }
        for alone in by_new.iter().filter(|alone| alone.opened >= at) {
            let Some(alert) = found.iter().find(|alert| overlap(alert, alone)) else {
                let found: Vec<_> = found.iter().map(show).collect();
                let of_old: Vec<_> = by_old.iter().map(show).collect();
                let label = label(alone);
                outcome.missed.push(format!("{label}; switched {found:?}, old model {of_old:?}"));
                continue;
            };
            let delay = alone.opened.0 - alone.opening.share().unwrap().since.0;
            if alert.opened.0 - alone.opened.0 > (delay / 10).max(1) {
                outcome.late.push(format!("{}, alone {}", label(alert), show(alone)));
            }
        }
        let spliced: Vec<_> = old
            .iter()
            .filter(|(minute, _)| *minute < at)
            .chain(new.iter().filter(|(minute, _)| *minute >= at))
            .copied()
            .collect();
        let found = backtest(policy, &spliced, first, last).alerts;
        outcome.unexplained_without += found.iter().filter(|a| !explained(a)).count() as u32;
    }
}

/// `missed_max`: what a model's incidents keep out of the baseline, another's need not, so that a later rise of
/// the new model alone may be missed.
fn check(models: &[&str], missed_max: usize) {
    let settings = monitor::settings::load(Some(Path::new(AIRLINES)), &[]).unwrap();
    // Alone, and each rise an incident of its own.
    let share = policy(&settings.alerting);
    let thresholds = Thresholds::default();
    let policy = BuzzPolicy { share, volumes: Vec::new(), reopen_minutes: 0, thresholds };
    let counted: Vec<ByBrand> = models.iter().map(|model| counts_of(model, &settings)).collect();
    let last = counted[0].values().map(|counts| counts[counts.len() - 1].0).max().unwrap();
    let mut all = Outcome::default();
    for (old, before) in models.iter().zip(&counted) {
        for (new, after) in models.iter().zip(&counted).filter(|(new, _)| *new != old) {
            for (brand, counts) in before {
                let name = format!("{old} to {new}, {brand}");
                check_brand(&policy, [counts, &after[brand]], last, &name, &mut all);
            }
        }
    }
    if let Some(file) = std::env::var_os("MONITOR_SWITCH_JSON") {
        std::fs::write(file, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
    println!("{all:#?}");
    assert_eq!(all.unexplained, [""; 0], "an incident of no model alone");
    let missed = all.missed.len();
    assert!(missed <= missed_max, "incidents of the new model alone: {:?}", all.missed);
    assert_eq!(all.late, [""; 0], "later than the new model alone");
    assert!(all.opened > 0, "incidents after the switch");
    assert!(all.unexplained_without > 0, "without the new model's counts the share jumps");
}

#[test]
fn a_switch_opens_no_incident_of_its_own() {
    check(&["logistic-tfidf", "lstm"], 0);
}

/// Takes five minutes on two cores.
#[test]
#[ignore = "needs time"]
fn no_switch_between_shipped_models_opens_an_incident_of_its_own() {
    check(&["logistic-tfidf", "lstm", "cascade", "transformer"], 1);
}
