use super::*;

const POLICY: StreamPolicy =
    StreamPolicy { quiet_minutes_max: 30, lag_minutes_max: 15, lag_for_minutes: 10 };

/// A time, in minutes since the start of a Monday.
fn at(minutes: i64) -> DateTime<Utc> {
    Minute(28_401_120 + minutes).start()
}

fn text<E>(verdict: &StreamVerdict<E>) -> String {
    match verdict {
        StreamVerdict::Healthy(reason) => format!("{reason:?}"),
        StreamVerdict::Open(_) => "open".into(),
        StreamVerdict::Firing(_) => "firing".into(),
        StreamVerdict::Resolve(_) => "resolve".into(),
    }
}

#[test]
fn alarms_when_the_stream_goes_quiet() {
    // Minute, minute of the last record, whether at the end, tweets expected per minute, and
    // the expected verdict.
    type Snapshot = (i64, Option<i64>, bool, Option<f64>, &'static str);
    let check = |name: &str, snapshots: &[Snapshot]| {
        let mut state = StreamState::default();
        for (now, last, at_end, a_minute, expected) in snapshots {
            let gap = now - last.unwrap_or(0);
            let snapshot = StreamSnapshot {
                now: at(*now),
                last_record_at: last.map(at),
                at_end: *at_end,
                oldest_unread_at: None,
                expected: a_minute.map(|rate| rate * gap as f64),
            };
            let verdict;
            (state, verdict) = POLICY.evaluate_quiet(&snapshot, state);
            assert_eq!(text(&verdict), *expected, "{name}, minute {now}");
        }
    };
    let (busy, night) = (Some(2.0), Some(0.1));
    check("records arrive", &[(0, Some(0), true, busy, "Flowing")]);
    check(
        "a busy stream stops, and comes back",
        &[
            (29, Some(0), true, busy, "Flowing"),
            (30, Some(0), true, busy, "NotForLong"),
            (33, Some(0), true, busy, "open"),
            (34, Some(0), true, busy, "firing"),
            (40, Some(39), true, busy, "firing"),
            (69, Some(68), true, busy, "firing"),
            (70, Some(69), true, busy, "resolve"),
            (71, Some(71), true, busy, "Flowing"),
        ],
    );
    check(
        "a single record does not resolve it",
        &[
            (30, Some(0), true, busy, "NotForLong"),
            (33, Some(0), true, busy, "open"),
            (40, Some(40), true, busy, "firing"),
            (69, Some(40), true, busy, "firing"),
            (70, Some(40), true, busy, "firing"),
            (80, Some(79), true, busy, "firing"),
            (109, Some(108), true, busy, "firing"),
            (110, Some(108), true, busy, "resolve"),
        ],
    );
    check(
        "a small brand's night",
        &[(30, Some(0), true, night, "Chance"), (200, Some(0), true, night, "Chance")],
    );
    check(
        "a small brand's day without a record",
        &[(1440, Some(0), true, night, "NotForLong"), (1443, Some(0), true, night, "open")],
    );
    check(
        "the start of the night does not resolve it",
        &[
            (30, Some(0), true, busy, "NotForLong"),
            (33, Some(0), true, busy, "open"),
            (200, Some(0), true, night, "firing"),
        ],
    );
    check(
        "no alarm while there are unread records",
        &[
            (60, Some(0), false, busy, "Unread"),
            (61, Some(0), true, busy, "NotForLong"),
            (64, Some(0), true, busy, "open"),
        ],
    );
    check(
        "without history: an alarm after a day",
        &[
            (31, Some(0), true, None, "PastUnknown"),
            (1439, Some(0), true, None, "PastUnknown"),
            (1440, Some(0), true, None, "NotForLong"),
            (1443, Some(0), true, None, "open"),
        ],
    );
    check(
        "never a record: the gap starts at the first snapshot",
        &[
            (0, None, true, None, "Flowing"),
            (60, None, true, None, "PastUnknown"),
            (1440, None, true, None, "NotForLong"),
            (1443, None, true, None, "open"),
        ],
    );
    check(
        "a restart: the previous daemon was at the end",
        &[
            (60, Some(0), true, busy, "NotForLong"),
            (61, Some(0), false, busy, "Unread"),
            (65, Some(64), false, busy, "Flowing"),
            (70, Some(70), true, busy, "Flowing"),
        ],
    );
    check("a clock that is behind", &[(0, Some(5), true, busy, "Flowing")]);
}

#[test]
fn evidence_contains_the_figures_behind_the_verdict() {
    let snapshot = StreamSnapshot {
        now: at(45),
        last_record_at: Some(at(0)),
        at_end: true,
        oldest_unread_at: None,
        expected: Some(90.0),
    };
    let before = StreamState { turned: Some(at(42)), ..StreamState::default() };
    let (state, verdict) = POLICY.evaluate_quiet(&snapshot, before);
    let evidence =
        QuietEvidence { last: Some(at(0)), minutes: 45, expected_tweets: 90.0, limit_minutes: 30 };
    assert_eq!(verdict, StreamVerdict::Open(evidence));
    let stored = serde_json::to_string(&state).expect("the state can be serialized");
    let loaded: StreamState = serde_json::from_str(&stored).expect("it can be deserialized");
    assert_eq!(loaded, state);
}

#[test]
fn chance_can_explain_up_to_about_21_missing_tweets() {
    let limit = 30.0 / MINUTES_PER_MONTH;
    for (expected, explained) in [(0.0, true), (1.0, true), (20.5, true), (20.8, false)] {
        assert_eq!(chance_of_none(expected) >= limit, explained, "{expected} expected");
    }
}

#[test]
fn alarms_when_a_lag_lasts() {
    // Minute, minute of the oldest unread record, whether at the end, and the expected
    // verdict.
    let check = |name: &str, snapshots: &[(i64, Option<i64>, bool, &str)]| {
        let mut state = StreamState::default();
        for (now, oldest, at_end, expected) in snapshots {
            let snapshot = StreamSnapshot {
                now: at(*now),
                last_record_at: None,
                at_end: *at_end,
                oldest_unread_at: oldest.map(at),
                expected: None,
            };
            let verdict;
            (state, verdict) = POLICY.evaluate_lag(&snapshot, state);
            assert_eq!(text(&verdict), *expected, "{name}, minute {now}");
        }
    };
    check("all read", &[(0, None, true, "AtEnd")]);
    check("old records are no lag after they are read", &[(900, Some(0), true, "AtEnd")]);
    check("a short wait", &[(14, Some(0), false, "WithinLimit")]);
    check(
        "a replay at full speed",
        &[
            (0, Some(-9000), false, "NotForLong"),
            (9, Some(-300), false, "NotForLong"),
            (10, Some(9), false, "WithinLimit"),
            (11, Some(-9000), false, "NotForLong"),
            (20, Some(-9000), false, "NotForLong"),
            (21, Some(20), true, "AtEnd"),
        ],
    );
    check(
        "no daemon reads, and then one does",
        &[
            (15, Some(0), false, "NotForLong"),
            (24, Some(0), false, "NotForLong"),
            (25, Some(0), false, "open"),
            (26, Some(0), false, "firing"),
            (30, Some(20), false, "firing"),
            (31, Some(24), false, "firing"),
            (34, Some(24), false, "firing"),
            (35, Some(28), false, "firing"),
            (36, Some(28), false, "firing"),
            (39, Some(39), true, "firing"),
            (48, Some(40), true, "firing"),
            (49, Some(40), true, "resolve"),
            (50, Some(50), true, "AtEnd"),
        ],
    );
}

#[test]
fn expects_the_tweets_of_the_same_hours() {
    // Three weeks from a Monday on: 60 tweets an hour by day, 6 by night, and a third of that
    // on Sundays. The stream was down on one Tuesday.
    let monday = Minute::of(at(0)).hour();
    let hourly: Vec<_> = (0..21 * 24)
        .filter(|hour| hour / 24 != 8)
        .map(|hour| {
            let a_day = if hour / 24 % 7 == 6 { 3 } else { 1 };
            let tweets = if hour % 24 < 8 { 6 } else { 60 };
            (Minute((monday + hour) * 60), tweets / a_day)
        })
        .collect();
    let check = |name: &str, known: usize, from: i64, to: i64, expected: Option<f64>| {
        let found = expected_tweets(&hourly[..known], at(from), at(to));
        match (found, expected) {
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() < 1e-9, "{name}: {found}");
            }
            _ => assert_eq!(found, expected, "{name}"),
        }
    };
    let day = 1440;
    check("no history", 0, day, day + 60, None);
    check("an incomplete day", 24, day - 60, day, None);
    check("one day of history: the night", 24, day, day + 60, Some(6.0));
    check("one day of history: the day", 24, day + 600, day + 630, Some(30.0));
    check("from the night into the day", 24, day + 450, day + 540, Some(3.0 + 60.0));
    check("a whole day", 24, day, 2 * day, Some(8.0 * 6.0 + 16.0 * 60.0));
    let all = hourly.len();
    check("after three weeks", all, 21 * day + 600, 21 * day + 660, Some(60.0));
    check("a Tuesday, after one that was down", all, 22 * day + 600, 22 * day + 660, Some(60.0));
    check("a Sunday", 20 * 24 - 24, 20 * day + 600, 20 * day + 660, Some(20.0));
    check("an end before the start", all, 21 * day + 600, 21 * day + 540, Some(0.0));
    check(
        "at most a week",
        all,
        21 * day,
        400 * day,
        expected_tweets(&hourly, at(21 * day), at(28 * day)),
    );
}
