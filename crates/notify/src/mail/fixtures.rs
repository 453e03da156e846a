//! Notifications for tests.

use chrono::{DateTime, TimeDelta, Utc};

use monitor_core::domain::{
    Cause, Counts, Evidence, Interval, LagEvidence, Minute, Phase, QuietEvidence, ResolveReason,
    ShareEvidence, VolumeEvidence,
};
use monitor_core::notification::{FirstAuthor, Repeater, SharedLink, Theme};
use monitor_core::quantify::{Estimate, Method};
use monitor_core::words::{WordWeight, word_weights};
use monitor_store::{Also, CurvePoint, Driver, Drivers, Example, Missed, Notification, OutboxRow};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A day of 15-minute points up to `end`; from `since` on with more tweets and a higher share.
fn curve(end: DateTime<Utc>, since: DateTime<Utc>) -> Vec<CurvePoint> {
    (0..96_u64)
        .map(|quarter| {
            let at = end - TimeDelta::minutes(15 * (96 - quarter as i64));
            let (mut total, mut percent) = (14 + quarter * 7 % 13, 48 + quarter * 5 % 17);
            if at >= since {
                (total, percent) = (total * 2, 74 + quarter % 9);
            }
            if quarter == 12 {
                total = 0;
            }
            CurvePoint { at, total, negative: total * percent / 100 }
        })
        .collect()
}

fn example(text: &str, created_at: &str, negative: f32) -> Example {
    Example {
        tweet_id: "569000000000000001".into(),
        text: text.into(),
        created_at: at(created_at),
        negative,
        author: None,
        reach: None,
        alike: 1,
        words: Vec::new(),
    }
}

/// A notification of a bad buzz about an airline, or of a problem with the stream.
pub(crate) fn notification(cause: Cause, transition: &str) -> Notification {
    let (since, opened_at) = (at("2015-02-23T13:20:00Z"), at("2015-02-23T14:05:00Z"));
    let at = match transition {
        "opened" => opened_at,
        "updated" => opened_at + TimeDelta::minutes(240),
        _ => opened_at + TimeDelta::minutes(280),
    };
    let over = transition == "resolved";
    let counts = |total, negative| Counts { total, negative };
    let (evidence, reason) = match cause {
        Cause::Share => (
            Evidence::Share(ShareEvidence {
                rule: "e-detector",
                since: Minute::of(since),
                window_minutes: 46,
                observed: if over { counts(1_241, 807) } else { counts(120, 94) },
                observed_interval: Interval { low: 0.70, high: 0.85 },
                recent_minutes: 15,
                recent: if over { counts(48, 27) } else { counts(44, 37) },
                baseline: counts(4_312, 2_371),
                expected_share: 0.55,
                expected_interval: Interval { low: 0.51, high: 0.59 },
                statistic: if over { 0.4 } else { 27.31 },
                threshold: 20.0,
                dispersion: 1.42,
            }),
            if over {
                "The share has been back near its usual level for 30 minutes."
            } else {
                "94 of 120 tweets are negative (78 %) where 66 would be usual; \
                 chance does not explain the rise."
            },
        ),
        Cause::NegativeVolume => (
            Evidence::NegativeVolume(VolumeEvidence {
                since: Minute::of(since),
                observed: if over { 530 } else { 98 },
                expected: if over { 400.0 } else { 19.6 },
                tweets: if over { counts(1_690, 530) } else { counts(310, 98) },
                usual_share: 0.31,
                statistic: if over { 0.0 } else { 17.5 },
                threshold: 9.1,
            }),
            if over {
                "united has its usual number of negative tweets again."
            } else {
                "98 negative tweets came where 20 would be usual."
            },
        ),
        Cause::Surge => (
            Evidence::Surge(VolumeEvidence {
                since: Minute::of(since),
                observed: if over { 690 } else { 131 },
                expected: if over { 512.0 } else { 32.2 },
                tweets: if over { counts(690, 210) } else { counts(131, 40) },
                usual_share: 0.3,
                statistic: if over { 0.0 } else { 31.5 },
                threshold: 12.0,
            }),
            if over {
                "The volume has been back near its usual level for 30 minutes."
            } else {
                "131 tweets came where 32 would be usual."
            },
        ),
        Cause::Quiet => (
            Evidence::Quiet(QuietEvidence {
                last: Some(since),
                minutes: 45,
                expected_tweets: 181.3,
                limit_minutes: 30,
            }),
            "No record has come for 45 minutes, in which 181 would be usual.",
        ),
        Cause::BrandQuiet => (
            Evidence::BrandQuiet(QuietEvidence {
                last: Some(since),
                minutes: 75,
                expected_tweets: 41.5,
                limit_minutes: 60,
            }),
            "No tweet about united has come for 75 minutes, in which 42 were expected.",
        ),
        Cause::Lag => (
            Evidence::Lag(LagEvidence { behind_minutes: 78, limit_minutes: 15 }),
            "The oldest record not yet read is 78 minutes old.",
        ),
    };
    let of_the_stream = matches!(cause, Cause::Quiet | Cause::Lag);
    let of_tweets = !of_the_stream && cause != Cause::BrandQuiet;
    let end = at + TimeDelta::minutes(1);
    Notification {
        incident_id: 7,
        transition: transition.into(),
        test: false,
        brand: if of_the_stream { "(stream)" } else { "united" }.into(),
        severity: if of_tweets { "critical" } else { "warning" }.into(),
        at,
        opened_at,
        reason: reason.into(),
        evidence,
        phases: Vec::new(),
        corrected: (cause == Cause::Share).then_some(Estimate {
            share: 0.71,
            interval: Interval { low: 0.62, high: 0.79 },
            method: Method::AdjustedCount,
        }),
        drivers: if cause == Cause::Share { drivers() } else { Drivers::default() },
        examples: if of_tweets { examples() } else { Vec::new() },
        curve: if of_tweets { curve(end, since) } else { Vec::new() },
        curve_minutes: 15,
        echoes: 0,
        also: Vec::new(),
        thread: "incident-7-opened-comms".into(),
        url: Some("https://monitor.example.com/#incident-7".into()),
        digest: None,
        missed: Vec::new(),
    }
}

/// A notification of an incident that began with the share, which came back once, and that the number of
/// negative tweets joined; it ends as a new normal.
pub(crate) fn crisis(transition: &str) -> Notification {
    let n = notification(Cause::Share, transition);
    let joined = notification(Cause::NegativeVolume, transition).evidence;
    let opened = Minute::of(n.opened_at);
    let ended = (transition == "resolved").then(|| Minute::of(n.at));
    let share = Phase { relapses: 1, ended, ..Phase::new(opened, n.evidence) };
    let negative = Phase { ended, ..Phase::new(opened.plus(15), joined) };
    let how = |reason| ended.map(|_| reason);
    let phases = vec![
        Phase { ended_as: how(ResolveReason::NewNormal), ..share },
        Phase { ended_as: how(ResolveReason::Calm), ..negative },
    ];
    Notification { phases, ..n }
}

/// A digest of two incidents that were over when they were found.
pub(crate) fn missed() -> Notification {
    let n = crisis("resolved");
    let opened = Minute::of(n.opened_at).plus(-3 * 1440);
    let shift = |phase: &Phase| Phase {
        began: Minute(phase.began.0 - 3 * 1440),
        ended: phase.ended.map(|at| at.plus(-3 * 1440)),
        peak_at: Minute(phase.peak_at.0 - 3 * 1440),
        ..*phase
    };
    let surge = notification(Cause::Surge, "opened");
    let of_surge = Phase::new(Minute::of(surge.opened_at).plus(-1440), surge.evidence);
    let entry = |brand: &str, severity: &str, opened: Minute, minutes, phases, tweets| Missed {
        incident_id: opened.0 % 100,
        brand: brand.into(),
        severity: severity.into(),
        opened_at: opened.start(),
        resolved_at: opened.plus(minutes).start(),
        phases,
        tweets,
    };
    let counts = |total, negative| Counts { total, negative };
    let crisis = n.phases.iter().map(shift).collect();
    let over = vec![Phase { ended: Some(of_surge.began.plus(95)), ..of_surge }];
    Notification {
        incident_id: 0,
        transition: "missed".into(),
        brand: "(all)".into(),
        reason: "2 alerts began and ended while Monitor was not reading, or before it was started."
            .into(),
        phases: Vec::new(),
        corrected: None,
        drivers: Drivers::default(),
        examples: Vec::new(),
        curve: Vec::new(),
        thread: "missed-8-24078425-comms".into(),
        url: Some("https://monitor.example.com".into()),
        missed: vec![
            entry("united", "critical", opened, 280, crisis, counts(2180, 1417)),
            entry("delta", "notice", of_surge.began, 95, over, counts(690, 210)),
        ],
        ..n
    }
}

fn drivers() -> Drivers {
    let term = |term: &str, kind: &str, tweets| Driver {
        term: term.into(),
        kind: kind.into(),
        tweets,
        baseline_tweets: tweets / 9,
        z: 3.0 + tweets as f64 / 9.0,
    };
    Drivers {
        terms: vec![
            term("lost bag", "phrase", 41),
            term("#neveragain", "hashtag", 29),
            term("on hold", "phrase", 22),
            term("news.example.com/united-luggage", "link", 17),
            term("tarmac", "word", 9),
        ],
        one_tweet_share: 0.31,
        tweets: 94,
        ..themes()
    }
}

/// Two themes, a link and an account that repeats itself; no terms.
fn themes() -> Drivers {
    let first = |author: &str, minute: &str, followers| FirstAuthor {
        author: author.into(),
        at: at(&format!("2015-02-23T{minute}:00Z")),
        followers,
        tweet_id: "569000000000000001".into(),
    };
    let theme = |terms: &[&str], tweets, first: Vec<FirstAuthor>| Theme {
        terms: terms.iter().map(|&term| term.into()).collect(),
        tweets,
        began: at("2015-02-23T13:24:00Z"),
        first,
        hours: vec![12, 31],
        tweet_id: "569000000000000001".into(),
    };
    let authors = vec![first("ann", "13:24", Some(1204)), first("bob_<b>", "13:31", None)];
    Drivers {
        themes: vec![
            theme(&["lost bag", "baggage claim"], 43, authors),
            theme(&["on hold"], 22, Vec::new()),
        ],
        shared_link: Some(SharedLink {
            link: "news.example.com/united-luggage".into(),
            tweets: 17,
        }),
        repeaters: vec![
            Repeater { author: "parody".into(), tweets: 9 },
            Repeater { author: "#9d77c3180ff81edf".into(), tweets: 6 },
        ],
        ..Drivers::default()
    }
}

const LOST: &str = "@united lost my bag AGAIN & nobody answers. <3 hours on hold.\nNever again!";

/// What a model might say of [`LOST`].
fn words() -> Vec<WordWeight> {
    let weights = [
        ("@united", 0.1),
        ("lost", 1.4),
        ("my", 0.05),
        ("bag", 0.9),
        ("AGAIN", 0.6),
        ("nobody", 0.5),
        ("answers", -0.1),
        ("<3", -1.1),
        ("hold", 0.2),
        ("Never", 0.8),
    ];
    let place = |word: &str| LOST.find(word).map(|at| at..at + word.len()).expect("a word of it");
    word_weights(LOST, weights.map(|(word, weight)| (place(word), weight)))
}

fn examples() -> Vec<Example> {
    vec![
        Example {
            author: Some("frequentflyer".into()),
            reach: Some(128_400),
            alike: 29,
            words: words(),
            ..example(LOST, "2015-02-23T13:58:12Z", 0.98)
        },
        example(
            "stuck on the tarmac for two hours, no water, no word",
            "2015-02-23T14:01:40Z",
            0.93,
        ),
    ]
}

/// Incidents of other brands at the same time.
pub(crate) fn also() -> Vec<Also> {
    vec![Also {
        incident_id: 8,
        transition: "opened".into(),
        brand: "delta".into(),
        severity: "warning".into(),
        at: at("2015-02-23T14:04:00Z"),
        reason: "51 of 90 tweets are negative (57 %) where 34 would be usual.".into(),
    }]
}

/// An outbox row of a share incident.
pub(crate) fn row(transition: &str) -> OutboxRow {
    let notification = notification(Cause::Share, transition);
    let step = match transition {
        "updated" => format!("updated-{}", notification.at.timestamp() / 60),
        step => step.to_owned(),
    };
    OutboxRow {
        id: 1,
        key: format!("incident-7-{step}-comms"),
        receiver: "comms".into(),
        notification,
        attempts: 1,
    }
}
