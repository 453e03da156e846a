//! The severity of an incident, by its size and its reach.

use crate::domain::{Evidence, Severity};

/// The limits of the severities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Thresholds {
    /// Smallest rise of the share for a warning, in 0..1.
    pub warning_rise: f64,
    /// Smallest rise of the share for a critical incident, in 0..1.
    pub critical_rise: f64,
    /// Smallest reach that raises the severity by one step, in followers.
    pub reach_followers: u64,
    /// Smallest multiple of the usual volume that is a surge; twice this multiple is a
    /// warning.
    pub surge_times_min: f64,
    /// The same of negative tweets; four times this multiple is critical.
    pub negative_times_min: f64,
    /// Fewest people who are negative beyond the expected number, for a warning.
    pub warning_people: u64,
    /// The same, for a critical incident.
    pub critical_people: u64,
}

/// What is known of the people behind an incident's negative tweets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct People {
    /// The sum of the followers of the authors; `None` if the stream does not give them.
    pub reach: Option<u64>,
    /// Distinct authors for each negative tweet, in 0..=1; `None` if the stream gives no authors.
    pub voices: Option<f64>,
}

/// Much smaller than any difference between two shares, much larger than rounding errors.
const ROUNDING: f64 = 1e-9;

/// The severity of an incident by one of its views.
///
/// That of a share depends on its rise above the expected share, that of a volume on its multiple of
/// the expected tweets. A large rise among few people is milder: a warning, and more so a critical
/// incident, wants a number of people who are negative beyond the expected number. A negative tweet
/// counts as one person, or less if its author wrote several. If the negative tweets reach many followers,
/// the severity is one step higher. Praise can cause a surge, so a surge is never critical. A quiet
/// stream and lag are critical, because no alert is possible then.
pub fn severity(evidence: &Evidence, people: People, thresholds: &Thresholds) -> Severity {
    let (by_size, most) = match evidence {
        Evidence::Share(_) => {
            let rise = evidence.size() + ROUNDING;
            let limits = [thresholds.warning_rise, thresholds.critical_rise];
            (by_limits(rise, limits), Severity::Critical)
        }
        Evidence::NegativeVolume(_) => {
            let limits = [2.0, 4.0].map(|times| times * thresholds.negative_times_min);
            (by_limits(evidence.size(), limits), Severity::Critical)
        }
        Evidence::Surge(_) => {
            let limits = [2.0 * thresholds.surge_times_min, f64::INFINITY];
            (by_limits(evidence.size(), limits), Severity::Warning)
        }
        Evidence::Quiet(_) | Evidence::Lag(_) => return Severity::Critical,
        Evidence::BrandQuiet(_) => return Severity::Warning,
    };
    let excess = evidence.negative_excess().unwrap_or(0.0) + ROUNDING;
    let limits = [thresholds.warning_people, thresholds.critical_people].map(|n| n as f64);
    let by_people = by_limits(excess * people.voices.unwrap_or(1.0), limits);
    let severity = by_size.min(by_people);
    let severity = if reaches(people.reach, thresholds) { worse(severity) } else { severity };
    severity.min(most)
}

/// A notice, a warning from the first limit on, critical from the second.
fn by_limits(value: f64, [warning, critical]: [f64; 2]) -> Severity {
    if value >= critical {
        Severity::Critical
    } else if value >= warning {
        Severity::Warning
    } else {
        Severity::Notice
    }
}

fn reaches(reach: Option<u64>, thresholds: &Thresholds) -> bool {
    reach.is_some_and(|reach| reach >= thresholds.reach_followers)
}

fn worse(severity: Severity) -> Severity {
    match severity {
        Severity::Notice => Severity::Warning,
        Severity::Warning | Severity::Critical => Severity::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Counts, Interval, LagEvidence, Minute, QuietEvidence, ShareEvidence, VolumeEvidence,
    };

    const THRESHOLDS: Thresholds = Thresholds {
        warning_rise: 0.1,
        critical_rise: 0.25,
        reach_followers: 1_000_000,
        surge_times_min: 3.0,
        negative_times_min: 2.0,
        warning_people: 10,
        critical_people: 50,
    };

    /// `negative` of `total` tweets where a fifth is expected.
    fn share(negative: u64, total: u64) -> Evidence {
        Evidence::Share(ShareEvidence {
            rule: "e-detector",
            since: Minute(0),
            window_minutes: 60,
            observed: Counts { total, negative },
            observed_interval: Interval::default(),
            recent_minutes: 15,
            recent: Counts::default(),
            baseline: Counts { total: 1000, negative: 200 },
            expected_share: 0.2,
            expected_interval: Interval::default(),
            statistic: 9.0,
            threshold: 8.0,
            dispersion: 1.0,
        })
    }

    /// `observed` tweets, `negative` of them negative, where 100 and 25 are expected.
    fn volume(observed: u64, negative: u64) -> VolumeEvidence {
        VolumeEvidence {
            since: Minute(0),
            observed,
            expected: 100.0,
            tweets: Counts { total: observed, negative },
            usual_share: 0.25,
            statistic: 9.0,
            threshold: 8.0,
        }
    }

    #[test]
    fn depends_on_size_people_and_reach() {
        let check = |name: &str, evidence: Evidence, reach, voices, expected| {
            let people = People { reach, voices };
            assert_eq!(severity(&evidence, people, &THRESHOLDS), expected, "{name}");
        };
        use Severity::*;
        let many = Some(1_000_000);
        check("a small rise", share(290, 1000), None, None, Notice);
        check("just a warning", share(300, 1000), None, None, Warning);
        check("almost critical", share(440, 1000), None, None, Warning);
        check("just critical", share(450, 1000), None, None, Critical);
        check("a fall", share(0, 1000), None, None, Notice);
        check("a small rise with reach", share(290, 1000), many, None, Warning);
        check("almost enough reach", share(290, 1000), Some(999_999), None, Notice);
        check("a warning with reach", share(300, 1000), Some(2_000_000), None, Critical);
        check("never above critical", share(900, 1000), Some(u64::MAX), None, Critical);
        check("a large rise among few", share(14, 40), None, None, Notice);
        check("among a dozen", share(20, 40), None, None, Warning);
        check("among a hundred", share(200, 400), None, None, Critical);
        check("a hundred tweets of ten people", share(200, 400), None, Some(0.1), Warning);
        check("of three people", share(200, 400), None, Some(0.03), Notice);
        let negative = |observed| Evidence::NegativeVolume(volume(observed, observed));
        check("more negative tweets", negative(399), None, None, Notice);
        check("four times as many", negative(400), None, None, Warning);
        check("eight times", negative(800), None, None, Critical);
        check("eight times, by one robot", negative(800), None, Some(0.001), Notice);
        let surge = |observed| Evidence::Surge(volume(observed, observed / 4));
        check("a surge", surge(599), None, None, Notice);
        check("a surge, twice as large", surge(600), None, None, Warning);
        check("never critical", surge(60_000), Some(u64::MAX), None, Warning);
        check("praise", Evidence::Surge(volume(60_000, 20)), None, None, Notice);
        let quiet =
            QuietEvidence { last: None, minutes: 31, expected_tweets: 9.0, limit_minutes: 30 };
        check("quiet", Evidence::Quiet(quiet), None, None, Critical);
        check("a brand is quiet", Evidence::BrandQuiet(quiet), None, None, Warning);
        let lag = LagEvidence { behind_minutes: 16, limit_minutes: 15 };
        check("lag", Evidence::Lag(lag), None, None, Critical);
    }
}
