//! Is the share of negative tweets higher than the brand's own baseline explains?
//!
//! A minute alarms when the rolling window holds enough tweets, the baseline before it
//! does too, the share has risen by at least `rise_min`, and the rise is at least `z_min`
//! standard errors: one look a minute at overlapping windows asks far more often than a
//! single test, hence a bound far beyond the customary 1.64 (`scripts/bench false_alarms`
//! measures what it costs). The incident's baseline stays frozen until the share has been
//! calm for `resolve_minutes`.

use crate::domain::{Counts, Evidence, Minute};

use super::Series;

/// What counts as a bad buzz. `config/monitor.example.toml` explains each value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Rolling window, in minutes.
    pub window_minutes: u32,
    /// Baseline before the window, in minutes.
    pub baseline_minutes: u32,
    /// Fewest tweets in the window.
    pub window_tweets_min: u64,
    /// Fewest tweets in the baseline.
    pub baseline_tweets_min: u64,
    /// Least rise of the share, in 0..1.
    pub rise_min: f64,
    /// Least rise in standard errors.
    pub z_min: f64,
    /// How long the share must be calm for an incident to be resolved, in minutes.
    pub resolve_minutes: u32,
    /// How long an incident lasts at most, in minutes.
    pub incident_minutes_max: u32,
}

/// An incident that is open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Open {
    /// The minute it opened in.
    pub opened: Minute,
    /// What it opened on; its baseline is frozen.
    pub baseline: Counts,
}

/// What is remembered of a brand from minute to minute.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct State {
    /// The open incident.
    pub open: Option<Open>,
    /// Since when its share has been calm.
    pub calm_since: Option<Minute>,
}

/// Why a minute does not alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuietReason {
    /// Too few tweets in the window.
    WindowTooSmall,
    /// Too few tweets in the baseline.
    BaselineTooSmall,
    /// The share has not risen enough to matter.
    RiseTooSmall,
    /// Chance explains the rise.
    Chance,
}

/// Why an incident ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveReason {
    /// The share is back near its baseline.
    Calm,
    /// It stayed up for so long that it is the new baseline.
    NewNormal,
}

/// How an open incident's share looks in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calm {
    /// Still high.
    Not,
    /// Back near the baseline since this minute.
    Since(Minute),
}

/// What to do about a brand in a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Quiet(QuietReason),
    /// Open an incident.
    Open(Evidence),
    /// The open incident goes on.
    Firing(Calm),
    /// Close it.
    Resolve(Evidence, ResolveReason),
}

impl Rule {
    /// Minutes before a judged minute that a [`Series`] must cover.
    pub fn history_minutes(&self) -> i64 {
        i64::from(self.window_minutes) + i64::from(self.baseline_minutes)
    }

    /// The stretch that later baselines leave out because of a past incident, first and
    /// last minute: the incident itself, from the window it opened on; or, where it became
    /// the new normal, everything before it, for that is the old normal and would alarm
    /// again at once.
    pub fn left_out(&self, opened: Minute, resolved: Minute) -> (Minute, Minute) {
        let window = i64::from(self.window_minutes);
        if resolved.0 - opened.0 < i64::from(self.incident_minutes_max) {
            (opened.plus(1 - window), resolved)
        } else {
            (Minute(i64::MIN), opened.plus(-window))
        }
    }

    /// Judges the end of `minute`.
    pub fn judge(&self, series: &Series, state: &State, minute: Minute) -> Verdict {
        let window_first = minute.plus(1 - i64::from(self.window_minutes));
        let observed = series.sum(window_first, minute);
        let baseline = match state.open {
            Some(open) => open.baseline,
            None => series.calm_sum(
                window_first.plus(-i64::from(self.baseline_minutes)),
                window_first.plus(-1),
            ),
        };
        let evidence = Evidence {
            window_minutes: self.window_minutes,
            observed,
            baseline,
            expected_share: baseline.share().unwrap_or(0.0),
            z: z_of_rise(observed, baseline),
            z_min: self.z_min,
        };
        let rise = evidence.observed_share() - evidence.expected_share;
        match state.open {
            Some(open) => self.judge_open(&open, state.calm_since, &evidence, rise, minute),
            None if observed.total < self.window_tweets_min => {
                Verdict::Quiet(QuietReason::WindowTooSmall)
            }
            None if baseline.total < self.baseline_tweets_min => {
                Verdict::Quiet(QuietReason::BaselineTooSmall)
            }
            None if rise < self.rise_min => Verdict::Quiet(QuietReason::RiseTooSmall),
            None if evidence.z < self.z_min => Verdict::Quiet(QuietReason::Chance),
            None => Verdict::Open(evidence),
        }
    }

    fn judge_open(
        &self,
        open: &Open,
        calm_since: Option<Minute>,
        evidence: &Evidence,
        rise: f64,
        minute: Minute,
    ) -> Verdict {
        if minute.0 - open.opened.0 >= i64::from(self.incident_minutes_max) {
            return Verdict::Resolve(*evidence, ResolveReason::NewNormal);
        }
        // Half the rise that alarms: hysteresis, so that a share on the edge does not
        // open and close an incident minute by minute. A window that has emptied is calm.
        if rise >= self.rise_min / 2.0 {
            return Verdict::Firing(Calm::Not);
        }
        let since = calm_since.unwrap_or(minute);
        if minute.0 - since.0 >= i64::from(self.resolve_minutes) {
            Verdict::Resolve(*evidence, ResolveReason::Calm)
        } else {
            Verdict::Firing(Calm::Since(since))
        }
    }
}

impl State {
    /// The state after a verdict.
    pub fn after(&self, verdict: &Verdict, minute: Minute) -> Self {
        match verdict {
            Verdict::Quiet(_) => *self,
            Verdict::Open(evidence) => Self {
                open: Some(Open { opened: minute, baseline: evidence.baseline }),
                calm_since: None,
            },
            Verdict::Firing(Calm::Not) => Self { open: self.open, calm_since: None },
            Verdict::Firing(Calm::Since(since)) => {
                Self { open: self.open, calm_since: Some(*since) }
            }
            Verdict::Resolve(..) => Self::default(),
        }
    }
}

/// How many standard errors the share of `observed` lies above that of `baseline`: the
/// signed root of the likelihood-ratio statistic of the 2 x 2 table, `sqrt(G)` with
/// `G = 2 sum(O ln(O / E))`. Its tails stay close to the normal law for shares far from
/// one half, where the usual difference over its standard error alarms too often.
///
/// Source: Wilks, "The large-sample distribution of the likelihood ratio", Annals of
/// Mathematical Statistics 9 (1938); for the signed root, Agresti, "Categorical Data
/// Analysis", 3rd edition, sections 1.3 and 3.2. Zero where either sample is empty.
pub fn z_of_rise(observed: Counts, baseline: Counts) -> f64 {
    let pooled = observed + baseline;
    if observed.total == 0 || baseline.total == 0 {
        return 0.0;
    }
    let term = |count: u64, of: u64, of_all: u64| {
        if count == 0 {
            return 0.0;
        }
        let expected = of as f64 * of_all as f64 / pooled.total as f64;
        count as f64 * (count as f64 / expected).ln()
    };
    let sample = |counts: Counts| {
        term(counts.negative, counts.total, pooled.negative)
            + term(counts.total - counts.negative, counts.total, pooled.total - pooled.negative)
    };
    let g = 2.0 * (sample(observed) + sample(baseline)).max(0.0);
    let rise = observed.share().unwrap_or(0.0) - baseline.share().unwrap_or(0.0);
    g.sqrt().copysign(rise)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const RULE: Rule = Rule {
        window_minutes: 120,
        baseline_minutes: 2880,
        window_tweets_min: 30,
        baseline_tweets_min: 100,
        rise_min: 0.15,
        z_min: 4.5,
        resolve_minutes: 30,
        incident_minutes_max: 1440,
    };

    /// Counts for `minutes` minutes at a rate a minute, with a share that may change.
    fn stream(
        minutes: i64,
        a_minute: f64,
        share: impl Fn(i64) -> f64,
        seed: u64,
    ) -> Vec<(Minute, Counts)> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..minutes)
            .map(|m| {
                let total =
                    (0..(a_minute * 10.0) as u64).filter(|_| random.random_bool(0.1)).count();
                let negative = (0..total).filter(|_| random.random_bool(share(m))).count();
                (Minute(m), Counts { total: total as u64, negative: negative as u64 })
            })
            .collect()
    }

    /// Judges every minute, as the daemon does.
    fn run(rule: &Rule, counts: &[(Minute, Counts)]) -> Vec<(i64, &'static str)> {
        let last = counts.last().expect("a stream has minutes").0;
        let mut state = State::default();
        let mut steps = Vec::new();
        let mut incidents = Vec::new();
        let mut series = Series::new(Minute(0), last, counts, &[]);
        for m in 0..=last.0 {
            let minute = Minute(m);
            let verdict = rule.judge(&series, &state, minute);
            match verdict {
                Verdict::Open(_) => steps.push((m, "opened")),
                Verdict::Resolve(_, reason) => {
                    let open = state.open.expect("only an open incident is resolved");
                    incidents.push(rule.left_out(open.opened, minute));
                    series = Series::new(Minute(0), last, counts, &incidents);
                    steps.push((
                        m,
                        if reason == ResolveReason::Calm { "calm" } else { "new normal" },
                    ));
                }
                _ => {}
            }
            state = state.after(&verdict, minute);
        }
        steps
    }

    #[test]
    fn quiet_streams_stay_quiet() {
        // 300 days in all; `scripts/bench false_alarms` has more.
        for (a_minute, share) in [(0.5, 0.8), (2.0, 0.6), (20.0, 0.2)] {
            for seed in 0..10 {
                let found = run(&RULE, &stream(10 * 1440, a_minute, |_| share, seed));
                assert_eq!(found, [], "{a_minute} a minute, share {share}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_shift_opens_once_and_resolves_once() {
        for seed in 0..10 {
            let shifted = |m: i64| if (3000..3240).contains(&m) { 0.5 } else { 0.2 };
            let found = run(&RULE, &stream(4 * 1440, 5.0, shifted, seed));
            let [(opened, "opened"), (resolved, "calm")] = found[..] else {
                panic!("seed {seed}: {found:?}")
            };
            assert!((3000..3120).contains(&opened), "seed {seed}: opened at {opened}");
            assert!((3240..3420).contains(&resolved), "seed {seed}: resolved at {resolved}");
        }
    }

    #[test]
    fn a_share_that_stays_becomes_the_new_normal() {
        let found = run(&RULE, &stream(6 * 1440, 5.0, |m| if m < 3000 { 0.2 } else { 0.5 }, 1));
        let [(opened, "opened"), (ended, "new normal"), ..] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(ended - opened, 1440);
        assert_eq!(found.len(), 2, "and is not news a second time: {found:?}");
    }

    #[test]
    fn says_why_it_is_quiet() {
        let check =
            |name: &str, baseline: (u64, u64), window: (u64, u64), expected: QuietReason| {
                let counts = |(negative, total)| Counts { total, negative };
                let minutes = [(Minute(0), counts(baseline)), (Minute(1440), counts(window))];
                let series = Series::new(Minute(0), Minute(1440), &minutes, &[]);
                let found = RULE.judge(&series, &State::default(), Minute(1440));
                assert_eq!(found, Verdict::Quiet(expected), "{name}");
            };
        check("few tweets", (200, 1000), (29, 29), QuietReason::WindowTooSmall);
        check("no history", (20, 99), (100, 100), QuietReason::BaselineTooSmall);
        check(
            "a small rise on many",
            (20_000, 100_000),
            (3_400, 10_000),
            QuietReason::RiseTooSmall,
        );
        check("a large rise on few", (20, 100), (11, 31), QuietReason::Chance);
    }

    #[test]
    fn z_agrees_with_a_hand_computed_value() {
        // 2 (51 ln(51/35.5) + 49 ln(49/64.5) + 20 ln(20/35.5) + 80 ln(80/64.5)), its root
        let z = z_of_rise(Counts { total: 100, negative: 51 }, Counts { total: 100, negative: 20 });
        assert!((z - 4.639_492).abs() < 1e-6, "{z}");
        let fall =
            z_of_rise(Counts { total: 100, negative: 20 }, Counts { total: 100, negative: 51 });
        assert!((z + fall).abs() < 1e-12, "a fall is the same with the other sign");
        let all = z_of_rise(Counts { total: 30, negative: 30 }, Counts { total: 100, negative: 0 });
        assert!(all.is_finite() && all > 10.0, "{all}");
        assert!(z_of_rise(Counts::default(), Counts::default()).abs() < 1e-12);
    }
}
