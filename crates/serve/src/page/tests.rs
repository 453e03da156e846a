use super::*;
use crate::view::Hour;
use monitor_core::domain::{
    Acknowledgement, Counts, IncidentId, Interval, LagEvidence, QuietEvidence, Severity,
    ShareEvidence, VolumeEvidence,
};
use monitor_core::quantify::Method;
use monitor_core::words::word_weights;
use monitor_store::Totals;

const EVIL: &str = "<script>alert('a & \"b\"')</script>";
const START: Minute = Minute(23_735_520);

fn share() -> Evidence {
    Evidence::Share(ShareEvidence {
        rule: "e-detector",
        since: START.plus(600),
        observed: Counts { total: 1_120, negative: 874 },
        observed_interval: Interval { low: 0.7, high: 0.85 },
        recent_minutes: 15,
        window_minutes: 120,
        recent: Counts { total: 30, negative: 25 },
        baseline: Counts { total: 1_980, negative: 1_089 },
        expected_share: 0.55,
        expected_interval: Interval { low: 0.53, high: 0.57 },
        statistic: 90_000.0,
        threshold: 43_200.0,
        dispersion: 1.2,
    })
}

fn incident(id: i64, brand: &str, evidence: Evidence, resolved: Option<i64>) -> Incident {
    Incident {
        id: IncidentId(id),
        brand: brand.to_owned(),
        severity: Severity::Warning,
        opened: START.plus(660),
        resolved: resolved.map(|minutes| START.plus(minutes)),
        acknowledged: None,
        evidence,
        phases: Vec::new(),
        missed: false,
    }
}

/// Two days by the hour, with a gap and an hour between two gaps.
fn hours(count: i64) -> Vec<Hour> {
    (0..count)
        .map(|hour| {
            let tweets =
                if [4, 5, 6, 8, 9, 10].contains(&hour) { 0 } else { 8 + hour as u64 * 7 % 30 };
            let negative = tweets * (40 + hour as u64 * 3 % 50) / 100;
            let counts = Counts { total: tweets, negative };
            Hour { start: START.plus(hour * 60), counts }
        })
        .collect()
}

fn view() -> View {
    let mut taken = incident(5, EVIL, share(), None);
    let at = "2015-02-17T12:34:56Z".parse().expect("a time");
    taken.acknowledged = Some(Acknowledgement { at, by: EVIL.to_owned(), note: String::new() });
    let surge = VolumeEvidence {
        since: START.plus(600),
        observed: 1_234_567,
        expected: 512.4,
        tweets: Counts { total: 1_234_567, negative: 200_000 },
        usual_share: 0.2,
        statistic: 31.5,
        threshold: 12.0,
    };
    let quiet =
        QuietEvidence { last: None, minutes: 45, expected_tweets: 181.3, limit_minutes: 30 };
    let lag = LagEvidence { behind_minutes: 78, limit_minutes: 15 };
    let latest = vec![
        taken.clone(),
        incident(4, "(stream)", Evidence::Lag(lag), None),
        incident(3, "(stream)", Evidence::Quiet(quiet), Some(720)),
        incident(2, "united", Evidence::Surge(surge), Some(900)),
        incident(1, "united", share(), Some(900)),
    ];
    let brand = |name: &str, count: i64, incidents: Vec<Incident>| BrandView {
        name: name.to_owned(),
        hours: hours(count),
        day: hours(count.min(24)).iter().fold(Counts::default(), |sum, hour| sum + hour.counts),
        corrected: (count > 0).then_some(Estimate {
            share: 0.31,
            interval: Interval { low: 0.26, high: 0.37 },
            method: Method::AdjustedCount,
        }),
        not_judged: vec![
            ("fr".parse().expect("a code"), 1_200),
            ("es".parse().expect("a code"), 3),
        ],
        newest: (count > 0).then(|| START.plus(count * 60 - 1)),
        incidents,
    };
    View {
        totals: Totals {
            scores: 1_234_567,
            not_judged: 1_203,
            dead_letters: 12,
            outbox_pending: 3,
            outbox_dead: 1,
        },
        brands: vec![
            brand(EVIL, 30, vec![taken]),
            brand("united", 100, vec![latest[4].clone()]),
            brand("delta", 0, Vec::new()),
        ],
        latest,
        model: Some("lstm@4".into()),
        silences: 0,
        examples: [(5, vec![example(EVIL, 0..8), example("so late again", 3..7)])].into(),
    }
}

/// A tweet of which the words at `negative` are to be marked.
fn example(text: &str, negative: std::ops::Range<usize>) -> Example {
    Example {
        tweet_id: "1".into(),
        text: text.into(),
        created_at: START.start(),
        negative: 0.9,
        author: Some(EVIL.into()),
        reach: None,
        alike: 1_200,
        words: word_weights(text, [(negative, 1.0)]),
    }
}

fn page(view: Result<&View, &str>) -> String {
    let ready = Ready {
        ready: false,
        parts: [("kafka", format!("no answer: {EVIL}")), ("store", "ready".to_owned())].into(),
    };
    render(view, &ready, "2026-01-01T12:00:00Z".parse().expect("a time"))
}

#[test]
fn renders_brands_incidents_and_totals() {
    let page = page(Ok(&view()));
    assert_eq!(page.matches("<svg viewBox").count(), 2, "a chart per brand with tweets");
    assert_eq!(page.matches("class=\"alarm\"").count(), 2, "two open incidents");
    assert_eq!(page.matches("class=\"row\"").count(), 3, "three resolved incidents");
    assert_eq!(page.matches("class=\"row open\"").count(), 2, "two open incidents");
    for part in [
        "<title>(2) Monitor</title>",
        "Corrected for the model's errors: <b>31 %</b> (likely 26 to 37 %)",
        "Not judged, no model for it: 1,203 (1,200 French, 3 Spanish)",
        "<b>1,234,567</b>tweets scored",
        "<b>78 %</b> negative, expected 55 %",
        "<b>1,234,567</b> tweets, expected 512",
        "<b>no tweets</b> for 45 minutes",
        "<b>78 minutes</b> behind the stream",
        "aria-label=\"78 percent observed, 55 percent expected\"",
        "No tweet yet.",
        "still open",
        "ended 17 Feb 2015, 15:00",
        "<mark>&lt;script&gt;</mark>alert",
        "so <mark>late</mark> again",
        "posted 1,200 times",
        "Marked: ",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn escapes_brands_names_and_errors() {
    for page in [page(Ok(&view())), page(Err(EVIL))] {
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(page.contains("&lt;script&gt;alert"), "{page}");
    }
}

#[test]
fn tweets_without_words_have_no_marks() {
    let mut view = view();
    view.examples.values_mut().flatten().for_each(|example| example.words.clear());
    let page = page(Ok(&view));
    assert!(page.contains("so late again") && !page.contains("<mark>"), "{page}");
    assert!(!page.contains("Marked: "), "{page}");
}

/// The content security policy allows neither.
#[test]
fn has_no_script_or_style_of_its_own() {
    let page = page(Ok(&view()));
    for inline in ["<script>", "<style", " style=", "onclick"] {
        assert!(!page.contains(inline), "{inline}");
    }
    assert_eq!(page.matches("<script src=\"/assets/").count(), 3);
}

#[test]
fn says_that_nothing_is_configured() {
    let empty = View { brands: Vec::new(), latest: Vec::new(), ..view() };
    let page = page(Ok(&empty));
    for part in ["<title>Monitor</title>", "No brand is configured.", "None so far."] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
