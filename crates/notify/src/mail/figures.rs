//! The figures of a mail: the numbers that the incident rests on.

use monitor_core::domain::{Evidence, LagEvidence, QuietEvidence, ShareEvidence};
use monitor_core::format::{percent, percent_interval, thousands};
use monitor_core::quantify::Estimate;
use monitor_store::Notification;

use super::super::phases::clock;
use super::super::words::moment;
use super::words::{count, last, sentence, times};
use super::{Figure, of_tweets};

/// Of fewer tweets than this no share is shown.
const FEW_TWEETS: u64 = 10;

pub(super) fn figures(n: &Notification) -> Vec<Figure> {
    let mut figures = of_evidence(n);
    if n.echoes > 0 {
        let detail = "repeats, accounts left out".into();
        let (title, number) = ("Not counted".into(), thousands(n.echoes));
        figures.push(Figure { title, number, detail, main: false });
    }
    figures
}

fn of_evidence(n: &Notification) -> Vec<Figure> {
    let over = n.transition == "resolved";
    let figure =
        |title: String, number, detail, main| Figure { title, number, detail, main: main && !over };
    match &n.evidence {
        Evidence::Share(ShareEvidence {
            since,
            observed,
            observed_interval,
            recent_minutes,
            recent,
            baseline,
            expected_share,
            expected_interval,
            ..
        }) => {
            let interval = percent_interval(observed_interval.low, observed_interval.high);
            let mut figures = vec![
                figure(
                    format!("Negative since {}", clock(since.start(), n.at)),
                    percent(observed.share().unwrap_or(0.0)),
                    format!("{}; likely {interval}", of_tweets(*observed)),
                    true,
                ),
                figure(
                    sentence(&last(*recent_minutes)),
                    // A share of few tweets says nothing.
                    match recent.total {
                        FEW_TWEETS.. => percent(recent.share().unwrap_or(0.0)),
                        few => format!("{} of {few}", recent.negative),
                    },
                    match recent.total {
                        FEW_TWEETS.. => of_tweets(*recent),
                        few => format!("{} negative", if few == 1 { "tweet" } else { "tweets" }),
                    },
                    true,
                ),
                figure(
                    "Expected".into(),
                    percent(*expected_share),
                    format!(
                        "likely {}; from {}",
                        percent_interval(expected_interval.low, expected_interval.high),
                        count(baseline.total, "tweet")
                    ),
                    false,
                ),
            ];
            figures.extend(n.corrected.map(|Estimate { share, interval, .. }| {
                let interval = percent_interval(interval.low, interval.high);
                let detail = format!("likely {interval}; what people would call negative");
                figure("Corrected".into(), percent(share), detail, false)
            }));
            figures
        }
        Evidence::NegativeVolume(e) | Evidence::Surge(e) => {
            let is_negative = matches!(n.evidence, Evidence::NegativeVolume(_));
            let what = if is_negative { "Negative tweets" } else { "Tweets" };
            let mut figures = vec![
                figure(
                    format!("{what} since {}", clock(e.since.start(), n.at)),
                    thousands(e.observed),
                    format!("{} as many as usual", times(e.times())),
                    true,
                ),
                figure(
                    "Expected".into(),
                    thousands(e.expected.round() as u64),
                    "in the same time".into(),
                    false,
                ),
            ];
            if is_negative {
                figures.push(figure(
                    "Share of negative tweets".into(),
                    percent(e.tweets.share().unwrap_or(0.0)),
                    format!("{}; usually {}", of_tweets(e.tweets), percent(e.usual_share)),
                    false,
                ));
            }
            figures
        }
        Evidence::Quiet(QuietEvidence { last, minutes, expected_tweets, limit_minutes })
        | Evidence::BrandQuiet(QuietEvidence { last, minutes, expected_tweets, limit_minutes }) => {
            vec![
                figure(
                    "Without a tweet".into(),
                    format!("{} min", thousands(u64::from(*minutes))),
                    last.map_or_else(
                        || "no tweet has arrived yet".into(),
                        |last| format!("the last one arrived on {}", moment(last)),
                    ),
                    true,
                ),
                figure(
                    "Expected in that time".into(),
                    thousands(expected_tweets.round() as u64),
                    format!("tweets; alert from {limit_minutes} min"),
                    false,
                ),
            ]
        }
        Evidence::Lag(LagEvidence { behind_minutes, limit_minutes }) => vec![figure(
            "Behind".into(),
            format!("{} min", thousands(u64::from(*behind_minutes))),
            format!("alert from {limit_minutes} min"),
            true,
        )],
    }
}
