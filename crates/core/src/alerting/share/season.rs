//! How the share usually differs by hour of the week.
//!
//! The season is an effect of the hour of the day, plus a further effect of the hour of the
//! week. Each effect is shrunk towards zero unless the brand's history supports it, so a brand
//! without weeks of history has no season.
//!
//! Source of the shrinkage: Bühlmann and Straub, "Glaubwürdigkeit für Schadensätze",
//! Mitteilungen der Vereinigung Schweizerischer Versicherungsmathematiker 70 (1970); in
//! English, Bühlmann and Gisler, "A Course in Credibility Theory and its Applications"
//! (2005), chapter 4.

use crate::domain::{Counts, HOURS_PER_WEEK, Minute, Zone};

const HOURS_PER_DAY: usize = 24;
/// Shares are kept this far from zero and one before their logit is taken.
const SHARE_MIN: f64 = 1e-3;

/// The offset of the share's logit in each hour of the local week; empty if unknown.
///
/// `hours` are a brand's hours outside incidents, each with its first minute.
pub fn offsets(hours: &[(Minute, Counts)], zone: Zone) -> Vec<f64> {
    let deviations = deviations(hours, zone);
    let Some(mean) = hours.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts).share()
    else {
        return Vec::new();
    };
    let day = credible(HOURS_PER_DAY, &deviations);
    let rest: Vec<_> = deviations
        .iter()
        .map(|d| Deviation { share: d.share - day[d.hour_of_week % HOURS_PER_DAY], ..*d })
        .collect();
    let week = credible(HOURS_PER_WEEK, &rest);
    if day.iter().chain(&week).all(|effect| *effect == 0.0) {
        return Vec::new();
    }
    (0..HOURS_PER_WEEK)
        .map(|h| logit(mean + day[h % HOURS_PER_DAY] + week[h]) - logit(mean))
        .collect()
}

/// ln(share / (1 - share)), finite.
pub fn logit(share: f64) -> f64 {
    let share = share.clamp(SHARE_MIN, 1.0 - SHARE_MIN);
    (share / (1.0 - share)).ln()
}

/// The difference between an hour's share and the mean of its week.
#[derive(Clone, Copy)]
struct Deviation {
    hour_of_week: usize,
    tweets: f64,
    share: f64,
}

/// The deviation of each hour. Weeks are counted back from the last hour, so all weeks except
/// the first are complete.
fn deviations(hours: &[(Minute, Counts)], zone: Zone) -> Vec<Deviation> {
    let Some(last) = hours.iter().map(|(minute, _)| minute.0).max() else { return Vec::new() };
    let week = |minute: Minute| (last - minute.0) / (60 * HOURS_PER_WEEK as i64);
    let mut weeks = std::collections::BTreeMap::<i64, Counts>::new();
    for (minute, counts) in hours {
        *weeks.entry(week(*minute)).or_default() += *counts;
    }
    hours
        .iter()
        .filter_map(|(minute, counts)| {
            Some(Deviation {
                hour_of_week: zone.hour_of_week(*minute),
                tweets: counts.total as f64,
                share: counts.share()? - weeks[&week(*minute)].share()?,
            })
        })
        .collect()
}

/// The effect of each of `cells` kinds of hour, times its credibility. All effects are zero if
/// hours of one kind differ as much as hours of different kinds, or if there are fewer than
/// three hours of a kind on average.
fn credible(cells: usize, deviations: &[Deviation]) -> Vec<f64> {
    let nothing = vec![0.0; cells];
    let (mut tweets, mut sum) = (nothing.clone(), nothing.clone());
    let mut seen = vec![0_usize; cells];
    for d in deviations {
        let cell = d.hour_of_week % cells;
        tweets[cell] += d.tweets;
        sum[cell] += d.tweets * d.share;
        seen[cell] += 1;
    }
    let means: Vec<_> =
        sum.iter().zip(&tweets).map(|(s, t)| if *t > 0.0 { s / t } else { 0.0 }).collect();
    let kinds = seen.iter().filter(|n| **n > 0).count();
    let freedom = deviations.len() - kinds;
    if kinds < 2 || freedom < 2 * kinds {
        return nothing;
    }
    let within = deviations
        .iter()
        .map(|d| d.tweets * (d.share - means[d.hour_of_week % cells]).powi(2))
        .sum::<f64>()
        / freedom as f64;
    let all: f64 = tweets.iter().sum();
    let mean = sum.iter().sum::<f64>() / all;
    let scatter: f64 = means.iter().zip(&tweets).map(|(m, t)| t * (m - mean).powi(2)).sum();
    let between = (scatter - (kinds - 1) as f64 * within)
        / (all - tweets.iter().map(|t| t * t).sum::<f64>() / all);
    if between <= 0.0 {
        return nothing;
    }
    means.iter().zip(&tweets).map(|(m, t)| (m - mean) * t / (t + within / between)).collect()
}
