//! The severity of an incident, by its size and its reach.

use crate::domain::{Evidence, Severity};

/// The limits of the severities.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

/// Much smaller than any difference between two shares, much larger than rounding errors.
const ROUNDING: f64 = 1e-9;

/// The severity of an incident. The severity of a share incident depends on its rise above
/// the expected share, that of negative volume on its multiple of the expected tweets; both are one
/// step higher if the negative tweets reach many people. `reach`
/// is the sum of their authors' followers; `None` if the stream has no such data. A surge is
/// never critical, because praise can cause one too. A quiet stream and lag are critical,
/// because no alert is possible then.
pub fn severity(evidence: &Evidence, reach: Option<u64>, thresholds: &Thresholds) -> Severity {
    match evidence {
        Evidence::Share(share) => {
            let rise = share.observed_share() - share.expected_share + ROUNDING;
            let by_rise = if rise >= thresholds.critical_rise {
                Severity::Critical
            } else if rise >= thresholds.warning_rise {
                Severity::Warning
            } else {
                Severity::Notice
            };
            if reaches(reach, thresholds) { worse(by_rise) } else { by_rise }
        }
        Evidence::NegativeVolume(volume) => {
            let by_times = match volume.times() / thresholds.negative_times_min {
                times if times >= 4.0 => Severity::Critical,
                times if times >= 2.0 => Severity::Warning,
                _ => Severity::Notice,
            };
            if reaches(reach, thresholds) { worse(by_times) } else { by_times }
        }
        Evidence::Surge(surge) => {
            let warning = 2.0 * thresholds.surge_times_min * surge.expected;
            if surge.observed as f64 >= warning { Severity::Warning } else { Severity::Notice }
        }
        Evidence::Quiet(_) | Evidence::Lag(_) => Severity::Critical,
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
    };

    /// `negative` of 100 tweets where 20 are expected.
    fn share(negative: u64) -> Evidence {
        Evidence::Share(ShareEvidence {
            rule: "e-detector",
            since: Minute(0),
            window_minutes: 60,
            observed: Counts { total: 100, negative },
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

    fn surge(observed: u64) -> Evidence {
        Evidence::Surge(VolumeEvidence {
            since: Minute(0),
            observed,
            expected: 100.0,
            tweets: Counts { total: observed, negative: observed / 4 },
            usual_share: 0.25,
            statistic: 9.0,
            threshold: 8.0,
        })
    }

    #[test]
    fn depends_on_size_and_reach() {
        let check = |name: &str, evidence: Evidence, reach, expected| {
            assert_eq!(severity(&evidence, reach, &THRESHOLDS), expected, "{name}");
        };
        use Severity::*;
        check("a small rise", share(29), None, Notice);
        check("just a warning", share(30), None, Warning);
        check("almost critical", share(44), None, Warning);
        check("just critical", share(45), None, Critical);
        check("a fall", share(0), None, Notice);
        check("a small rise with reach", share(29), Some(1_000_000), Warning);
        check("almost enough reach", share(29), Some(999_999), Notice);
        check("a warning with reach", share(30), Some(2_000_000), Critical);
        check("never above critical", share(90), Some(u64::MAX), Critical);
        check("a surge", surge(599), None, Notice);
        check("a surge, twice as large", surge(600), None, Warning);
        check("its reach does not count", surge(599), Some(u64::MAX), Notice);
        let quiet =
            QuietEvidence { last: None, minutes: 31, expected_tweets: 9.0, limit_minutes: 30 };
        check("quiet", Evidence::Quiet(quiet), None, Critical);
        let lag = LagEvidence { behind_minutes: 16, limit_minutes: 15 };
        check("lag", Evidence::Lag(lag), None, Critical);
    }
}
