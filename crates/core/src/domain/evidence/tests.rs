use super::*;

fn share() -> ShareEvidence {
    ShareEvidence {
        rule: "e-detector",
        since: Minute::of("2015-02-23T13:20:00Z".parse().expect("a time")),
        window_minutes: 46,
        observed: Counts { total: 120, negative: 90 },
        observed_interval: Interval { low: 0.7, high: 0.85 },
        recent_minutes: 15,
        recent: Counts::default(),
        baseline: Counts { total: 4312, negative: 2156 },
        expected_share: 0.5,
        expected_interval: Interval { low: 0.5, high: 0.6 },
        statistic: 27.25,
        threshold: 20.0,
        dispersion: 1.5,
    }
}

fn one_of_each() -> [Evidence; 6] {
    let volume = VolumeEvidence {
        since: share().since,
        observed: 131,
        expected: 32.5,
        tweets: Counts { total: 400, negative: 131 },
        usual_share: 0.25,
        statistic: 31.5,
        threshold: 12.0,
    };
    [
        Evidence::Share(share()),
        Evidence::NegativeVolume(volume),
        Evidence::Surge(volume),
        Evidence::Quiet(QuietEvidence {
            last: Some(share().since.start()),
            minutes: 45,
            expected_tweets: 181.5,
            limit_minutes: 30,
        }),
        Evidence::BrandQuiet(QuietEvidence {
            last: Some(share().since.start()),
            minutes: 75,
            expected_tweets: 41.5,
            limit_minutes: 60,
        }),
        Evidence::Lag(LagEvidence { behind_minutes: 78, limit_minutes: 15 }),
    ]
}

/// Rows in Postgres and receivers of the webhook depend on every name and value format.
#[test]
fn json_is_pinned_for_each_kind() {
    for evidence in one_of_each() {
        let json = serde_json::to_string_pretty(&evidence).expect("JSON");
        insta::assert_snapshot!(evidence.cause().as_str(), json);
    }
}

#[test]
fn json_is_read_back_unchanged() {
    for evidence in one_of_each() {
        let json = serde_json::to_string(&evidence).expect("JSON");
        let back: Evidence = serde_json::from_str(&json).expect("evidence");
        assert_eq!(back, evidence, "{json}");
    }
}

#[test]
fn infinite_numbers_and_nan_are_written_as_finite_numbers() {
    let statistics =
        [(f64::NAN, 0.0), (f64::INFINITY, 1e300), (f64::NEG_INFINITY, -1e300), (2.0, 2.0)];
    for (statistic, expected) in statistics {
        let evidence = Evidence::Share(ShareEvidence { statistic, ..share() });
        let json = serde_json::to_value(evidence).expect("JSON");
        assert_eq!(json["statistic"], expected, "{statistic}");
        serde_json::from_value::<Evidence>(json).expect("the JSON is valid evidence");
    }
}

/// A row that the migration to version 2 wrote: a rule that no longer exists, integers where
/// there are floats now.
#[test]
fn a_migrated_row_is_read() {
    let row = r#"{"kind": "share", "rule": "z-test", "since": "2015-02-23T13:20:00+00:00",
        "window_minutes": 120, "observed": {"total": 40, "negative": 30, "share": 0.75},
        "observed_interval": {"low": 0, "high": 1}, "recent_minutes": 120,
        "recent": {"total": 40, "negative": 30, "share": 0.75},
        "baseline": {"total": 0, "negative": 0, "share": 0}, "expected_share": 0.5,
        "expected_interval": {"low": 0, "high": 1}, "statistic": 4, "threshold": 3,
        "dispersion": 1}"#;
    let Evidence::Share(found) = serde_json::from_str(row).expect("evidence") else {
        panic!("another kind")
    };
    assert_eq!((found.rule, found.since), ("another", share().since));
    assert_eq!((found.window_minutes, found.statistic), (120, 4.0));
    assert_eq!(found.observed, Counts { total: 40, negative: 30 });
}
