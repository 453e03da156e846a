//! Where each trial's hyperparameters come from: random search (Bergstra and Bengio 2012, "Random
//! search for hyper-parameter optimization").
//!
//! **Invariant.** A trial depends only on seed, family and number, and what is fixed changes no other
//! value. Values have few digits, so the command that prints them trains the same model. Deliberately
//! absent: a model of which values are good.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fit::{Family, Hyperparameters};
use crate::report::TrialSettings;

/// Weights of the rows of a further file against those of the first one.
const WEIGHTS: (f64, f64) = (0.01, 3.0);

/// What is given and so not searched.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixed<'a> {
    pub(super) hyper: Hyperparameters,
    /// Weight of each file after the first; `None` is searched.
    pub(super) weights: &'a [Option<f32>],
    /// Whether the preset is the study's.
    pub(super) study: bool,
}

/// The settings of a trial, from 0. The first one has the family's defaults.
pub(super) fn draw(family: Family, seed: u64, trial: usize, fixed: &Fixed<'_>) -> TrialSettings {
    let defaults = family.defaults(fixed.study);
    if trial == 0 {
        let weights = fixed.weights.iter().map(|weight| weight.unwrap_or(1.0)).collect();
        return TrialSettings { hyper: fixed.hyper.or(defaults), weights };
    }
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    random.0.set_stream(trial as u64);
    let drawn = drawn(family, &mut random);
    // The width of the study's LSTM is that of its word vectors.
    let hidden = drawn.hidden.filter(|_| defaults.hidden.is_some());
    let hyper = fixed.hyper.or(Hyperparameters { hidden, ..drawn }).or(defaults);
    let weights = (fixed.weights.iter())
        .map(|weight| (random.log(WEIGHTS.0, WEIGHTS.1) as f32, weight))
        .map(|(drawn, given)| given.unwrap_or(drawn))
        .collect();
    TrialSettings { hyper, weights }
}

/// The ranges of each family, around the defaults.
fn drawn(family: Family, random: &mut Random) -> Hyperparameters {
    let none = Hyperparameters::default();
    match family {
        Family::LogisticHash => Hyperparameters { l2: Some(random.log(0.02, 5.0)), ..none },
        Family::LogisticTfidf => Hyperparameters {
            l2: Some(random.log(0.05, 5.0)),
            word_ngrams: Some(random.one_of(&[1, 2, 3])),
            character_ngrams: Some(random.one_of(&[0, 4, 5, 6])),
            character_scale: Some(random.log(0.1, 1.0)),
            ..none
        },
        Family::Dense => Hyperparameters {
            epochs_max: Some(random.one_of(&[5, 8, 12, 16, 20])),
            hidden: Some(random.one_of(&[32, 64, 128, 256])),
            word_dropout: Some(random.linear(0.0, 0.3)),
            ..network(random, (5e-4, 1e-2), 0.7)
        },
        Family::Lstm => Hyperparameters {
            epochs_max: Some(random.one_of(&[3, 4, 6, 8, 10])),
            hidden: Some(random.one_of(&[64, 96, 128, 192, 256])),
            word_dropout: Some(random.linear(0.0, 0.3)),
            ..network(random, (5e-4, 1e-2), 0.7)
        },
        Family::Transformer => Hyperparameters {
            epochs_max: Some(random.one_of(&[2, 3, 4, 5])),
            batch_rows: Some(random.one_of(&[16, 32, 64])),
            ..network(random, (1e-5, 2e-4), 0.3)
        },
    }
}

/// What all networks have.
fn network(random: &mut Random, rates: (f64, f64), dropout_max: f64) -> Hyperparameters {
    Hyperparameters {
        batch_rows: Some(random.one_of(&[32, 64, 128, 256])),
        learning_rate: Some(random.log(rates.0, rates.1)),
        dropout: Some(random.linear(0.0, dropout_max)),
        weight_decay: Some(random.log(1e-4, 0.3)),
        ..Hyperparameters::default()
    }
}

struct Random(ChaCha8Rng);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Uniform on a logarithmic scale, to three digits.
    fn log(&mut self, low: f64, high: f64) -> f64 {
        let value = low * (high / low).powf(self.unit());
        format!("{value:.2e}").parse().expect("it was a number")
    }

    /// Uniform, to two decimals.
    fn linear(&mut self, low: f64, high: f64) -> f64 {
        ((low + (high - low) * self.unit()) * 1e2).round() / 1e2
    }

    fn one_of(&mut self, values: &[usize]) -> usize {
        values[(self.unit() * values.len() as f64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_random_and_the_same_each_time() {
        let fixed = Fixed::default();
        for family in Family::ALL {
            let first = draw(family, 7, 0, &fixed);
            assert_eq!(first.hyper, family.defaults(false), "{family:?}");
            let trials: Vec<TrialSettings> = (1..40).map(|n| draw(family, 7, n, &fixed)).collect();
            for (at, trial) in trials.iter().enumerate() {
                assert_eq!(*trial, draw(family, 7, at + 1, &fixed), "{family:?}");
                let flags = |it: &TrialSettings| it.hyper.given().into_iter().map(|it| it.0);
                assert!(flags(trial).eq(flags(&first)), "{family:?}: the same columns of a table");
                assert!(family.is_logistic() || !trials[..at].contains(trial), "{trial:?} twice");
                for (flag, value) in trial.hyper.given() {
                    assert!(Hyperparameters::applies(flag, family), "{family:?}: {flag} {value}");
                }
            }
            assert_ne!(trials[0], draw(family, 8, 1, &fixed), "{family:?}: of the seed");
        }
    }

    #[test]
    fn what_is_given_is_kept_and_changes_nothing_else() {
        let hyper = Hyperparameters { dropout: Some(0.25), ..Hyperparameters::default() };
        let (given, free) = ([Some(0.03), None], [None, None]);
        let fixed = Fixed { hyper, weights: &given, study: false };
        let open = Fixed { weights: &free, ..Fixed::default() };
        for trial in 0..20 {
            let (some, all) =
                (draw(Family::Lstm, 1, trial, &fixed), draw(Family::Lstm, 1, trial, &open));
            assert_eq!((some.hyper.dropout, some.weights[0]), (Some(0.25), 0.03));
            let same = Hyperparameters { dropout: some.hyper.dropout, ..all.hyper };
            assert_eq!((same, all.weights[1]), (some.hyper, some.weights[1]), "{trial}");
        }
    }

    #[test]
    fn values_keep_few_digits() {
        for trial in 1..50 {
            let settings = draw(Family::Lstm, 3, trial, &Fixed::default());
            for (flag, value) in settings.hyper.given() {
                let digits = value.trim_start_matches(['0', '.']).replace('.', "");
                assert!(digits.len() <= 3, "{flag} {value}");
                let again: f64 = value.parse().unwrap();
                assert_eq!(again.to_string(), value, "{flag}");
            }
        }
    }
}
