//! The scorer of `benches/nab.rs` against cases computed by hand from the benchmark's rules.

#[path = "../../benches/nab/scoring.rs"]
mod scoring;

use scoring::{Labels, PROFILES, normalised, scaled_sigmoid};

/// 1000 rows, the first 150 without scoring (probation); windows of 101 and 11 rows.
fn labels() -> Labels {
    Labels { rows: 1000, windows: vec![(200, 300), (600, 610)] }
}

#[test]
fn the_sigmoid_matches_the_paper() {
    let check = |position: f64, expected: f64| {
        let found = scaled_sigmoid(position);
        assert!((found - expected).abs() < 1e-5, "at {position}: {found}");
    };
    check(-1.0, 0.986_61);
    check(-0.5, 0.848_28);
    check(0.0, 0.0);
    check(0.5, -0.848_28);
    check(1.0, -0.986_61);
    check(3.0, -1.0);
    check(100.0, -1.0);
}

#[test]
fn scores_alarms_by_the_rules() {
    // Index of the profile, the alarms; windows found, false alarms, score.
    let check = |name: &str, profile: usize, alarms: &[usize], expected: (usize, usize, f64)| {
        let tally = labels().tally(alarms, &PROFILES[profile]);
        assert_eq!((tally.found, tally.false_alarms), (expected.0, expected.1), "{name}");
        assert!((tally.score - expected.2).abs() < 1e-5, "{name}: {}", tally.score);
    };
    check("none", 0, &[], (0, 0, -2.0));
    check("none, where missing costs more", 2, &[], (0, 0, -4.0));
    check("the first rows", 0, &[200, 600], (2, 0, 2.0));
    check("in the probation, nothing counts", 0, &[0, 149], (0, 0, -2.0));
    check("before any window, the whole", 0, &[150], (0, 1, -2.0 - 0.11));
    check("where false alarms cost more", 1, &[150], (0, 1, -2.0 - 0.22));
    // Row 250: position -51/101, sigmoid 0.851718; by that of the first row, 0.986614.
    check("half way into the window", 0, &[250], (1, 0, 0.863_273 - 1.0));
    check("later alarms in a window add nothing", 0, &[200, 201, 300], (1, 0, 0.0));
    // Position -1/101: sigmoid 0.024747.
    check("its last row", 0, &[300], (1, 0, 0.025_083 - 1.0));
    // Position 1/100: sigmoid -0.024995.
    check("just after it", 0, &[301], (0, 1, -2.0 - 0.11 * 0.024_995));
    // Position 100/100 after the first, 10/10 after the second: sigmoid -0.986614.
    check("a width after it", 0, &[400, 620], (0, 2, -2.0 - 2.0 * 0.11 * 0.986_614));
    check("far after it", 0, &[599], (0, 1, -2.0 - 0.11 * 0.999_999_35));
    check("so far that it is the whole", 0, &[900], (0, 1, -2.0 - 0.11));
}

#[test]
fn no_alarm_scores_0_and_perfect_alarms_100() {
    let labels = [labels(), Labels { rows: 16_000, windows: vec![(800, 900), (5000, 5400)] }];
    assert_eq!((labels[0].probation(), labels[1].probation()), (150, 750));
    for profile in &PROFILES {
        let score = |alarms: [&[usize]; 2]| normalised(labels.iter().zip(alarms), profile);
        let (none, perfect) = (score([&[], &[]]), score([&[200, 600], &[800, 5000]]));
        assert!(none.abs() < 1e-9, "{}: {none}", profile.name);
        assert!((perfect - 100.0).abs() < 1e-9, "{}: {perfect}", profile.name);
    }
    // Three of four windows at their first row: 3 of 4 under the standard profile.
    let three = normalised(labels.iter().zip([&[200, 600][..], &[800][..]]), &PROFILES[0]);
    assert!((three - 75.0).abs() < 1e-9, "{three}");
}
