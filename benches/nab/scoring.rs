//! The rules of the Numenta Anomaly Benchmark.
//!
//! Source: Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta
//! Anomaly Benchmark", ICMLA 2015, sections II.B to II.D; details that the
//! paper does not define follow the benchmark's own scorer: the first row of a window has
//! position -1, the last one `-1 / width`, a row after it `distance / (width - 1)`, and a found
//! window scores relative to an alarm in its first row.

/// The weights of an application profile.
pub struct Profile {
    pub name: &'static str,
    pub true_positive: f64,
    pub false_positive: f64,
    pub false_negative: f64,
}

/// The benchmark's three application profiles.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", true_positive: 1.0, false_positive: 0.11, false_negative: 1.0 },
    Profile { name: "few false", true_positive: 1.0, false_positive: 0.22, false_negative: 1.0 },
    Profile { name: "few missed", true_positive: 1.0, false_positive: 0.11, false_negative: 2.0 },
];

/// A series' length and its anomalies: first and last row, ascending, not overlapping.
pub struct Labels {
    pub rows: usize,
    pub windows: Vec<(usize, usize)>,
}

/// The result of a detector's alarms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Windows with an alarm.
    pub found: usize,
    /// Alarms outside windows.
    pub false_alarms: usize,
    /// The score before it is normalised.
    pub score: f64,
}

/// The scaled sigmoid: near 1 at the left edge of a window (-1), 0 at the right edge, near
/// -1 from there on.
pub fn scaled_sigmoid(position: f64) -> f64 {
    if position >= 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

impl Labels {
    /// Rows at the beginning that do not count: 15 %, at most 750.
    pub fn probation(&self) -> usize {
        (self.rows * 15 / 100).min(750)
    }

    /// The result of alarms in these rows.
    pub fn tally(&self, alarms: &[usize], profile: &Profile) -> Tally {
        let alarms = || alarms.iter().copied().filter(|row| *row >= self.probation());
        let mut tally = Tally::default();
        for &(first, last) in self.counted() {
            let width = (last - first + 1) as f64;
            match alarms().find(|row| (first..=last).contains(row)) {
                Some(row) => {
                    let position = -((last - row + 1) as f64) / width;
                    let worth = scaled_sigmoid(position) / scaled_sigmoid(-1.0);
                    tally.found += 1;
                    tally.score += profile.true_positive * worth;
                }
                None => tally.score -= profile.false_negative,
            }
        }
        for row in alarms() {
            let before = self.windows.iter().rfind(|(first, _)| *first <= row);
            let position = match before {
                Some((_, last)) if row <= *last => continue,
                Some((first, last)) => (row - last) as f64 / (last - first) as f64,
                None => 3.0,
            };
            tally.false_alarms += 1;
            tally.score += profile.false_positive * scaled_sigmoid(position);
        }
        tally
    }

    /// The windows outside the probation.
    pub fn counted(&self) -> impl Iterator<Item = &(usize, usize)> {
        self.windows.iter().filter(|(_, last)| *last >= self.probation())
    }
}

/// The score over all series with a detector's alarms: 0 for no alarms, 100 for exactly the
/// first row of each window.
pub fn normalised<'a>(
    series: impl IntoIterator<Item = (&'a Labels, &'a [usize])>,
    profile: &Profile,
) -> f64 {
    let (mut score, mut windows) = (0.0, 0.0);
    for (labels, alarms) in series {
        score += labels.tally(alarms, profile).score;
        windows += labels.counted().count() as f64;
    }
    let null = -profile.false_negative * windows;
    let perfect = profile.true_positive * windows;
    100.0 * (score - null) / (perfect - null)
}
