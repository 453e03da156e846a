//! Evidence in the words of `monitor incidents show`; pure.

use super::super::times::show as when;
use monitor_core::domain::{Evidence, Interval, Phase, ShareEvidence};
use monitor_core::format::{percent, percent_tenths};

/// A phase in one line.
pub fn phase(phase: &Phase) -> String {
    let end = match (phase.ended, phase.ended_as) {
        (None, _) => "lasts".to_owned(),
        (Some(at), Some(why)) => format!("ended {} ({})", when(at.start()), why.as_str()),
        (Some(at), None) => format!("ended {}", when(at.start())),
    };
    let relapses = match phase.relapses {
        0 => String::new(),
        n => format!(", came back {n} times"),
    };
    format!(
        "{} from {}: {}; peak {} at {}{relapses}; {end}",
        phase.cause().as_str(),
        when(phase.began.start()),
        size(&phase.opening),
        size(&phase.peak),
        when(phase.peak_at.start()),
    )
}

fn size(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Share(e) => {
            let (observed, expected) = (percent(e.observed_share()), percent(e.expected_share));
            format!("{observed} negative instead of {expected}")
        }
        Evidence::NegativeVolume(e) | Evidence::Surge(e) => {
            format!("{:.1} times as many", e.times())
        }
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => String::new(),
    }
}

/// The evidence, as names and texts.
pub fn lines(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let statistic =
        |statistic: f64, threshold: f64| format!("{statistic:.2}, alerts from {threshold:.2}");
    match evidence {
        Evidence::Share(e) => share(e),
        Evidence::NegativeVolume(e) => vec![
            ("observed", format!("{} negative tweets since {}", e.observed, when(e.since.start()))),
            ("expected", format!("{:.0} in the same time", e.expected)),
            ("all tweets", e.tweets.total.to_string()),
            ("statistic", statistic(e.statistic, e.threshold)),
        ],
        Evidence::Surge(e) => vec![
            ("observed", format!("{} tweets since {}", e.observed, when(e.since.start()))),
            ("expected", format!("{:.0} tweets in the same time", e.expected)),
            ("statistic", statistic(e.statistic, e.threshold)),
        ],
        Evidence::Quiet(e) | Evidence::BrandQuiet(e) => {
            let last = e.last.map_or("none before".into(), |at| format!("last one {}", when(at)));
            let tweets = e.expected_tweets;
            vec![
                ("observed", format!("no tweet in {} minutes, {last}", e.minutes)),
                ("expected", format!("{tweets:.0} tweets in that time")),
                ("alerts from", format!("{} minutes", e.limit_minutes)),
            ]
        }
        Evidence::Lag(e) => vec![
            ("observed", format!("{} minutes behind the stream", e.behind_minutes)),
            ("alerts from", format!("{} minutes", e.limit_minutes)),
        ],
    }
}

fn share(e: &ShareEvidence) -> Vec<(&'static str, String)> {
    let between =
        |i: Interval| format!("between {} and {}", percent_tenths(i.low), percent_tenths(i.high));
    let counts = |counts: monitor_core::domain::Counts| {
        let share = counts.share().map_or("-".into(), percent_tenths);
        format!("{share} negative: {} of {} tweets", counts.negative, counts.total)
    };
    vec![
        (
            "observed",
            format!(
                "{} since {}; {}",
                counts(e.observed),
                when(e.since.start()),
                between(e.observed_interval)
            ),
        ),
        ("recently", format!("{} of {} minutes", counts(e.recent), e.recent_minutes)),
        (
            "expected",
            format!(
                "{} negative; {}",
                percent_tenths(e.expected_share),
                between(e.expected_interval)
            ),
        ),
        ("baseline", counts(e.baseline)),
        (
            "statistic",
            format!(
                "{:.2}, alerts from {:.2} (rule {}, dispersion {:.2})",
                e.statistic, e.threshold, e.rule, e.dispersion
            ),
        ),
    ]
}
