//! Whether the words that an explanation names are the ones that the model went by.
//!
//! The words with the largest contributions are removed one after the other, and the drop of the
//! probability of negative is averaged over the number removed: the area over the perturbation
//! curve (AOPC; Samek et al. 2017), which DeYoung et al. 2020 call comprehensiveness. The same is
//! done with words in random order, on the same rows: an explanation that is no better than chance
//! has a difference of 0.
//!
//! **Invariant.** Only rows that the model calls negative are measured, whatever their label is:
//! an explanation is of the model's call, right or wrong. The rows and the random orders depend on
//! the texts and a seed alone. Deliberately absent: agreement with words that people mark, which
//! measures how plausible an explanation is, not how faithful.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use monitor_core::domain::{Interval, Label};
use monitor_core::format::thousands;
use monitor_core::text::{unit_interval, without};
use monitor_model::{ClassifyError, Method, Model};

use super::intervals::of_mean;
use crate::data::Row;
use crate::progress::Progress;

/// Words removed, at most; in a text with fewer, all of them.
const REMOVED_MAX: usize = 5;
/// Random orders of each text.
const RANDOM_ORDERS: u64 = 5;
/// Seed of the choice of rows and of the random orders.
const SEED: u64 = 140;
/// Rows scored at once, in the search for negative ones.
const BATCH_ROWS: usize = 256;

/// A mean over rows, and its 95 % interval (normal approximation).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its interval; absent with fewer than two rows.
    pub interval: Option<Interval>,
}

impl Mean {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mean, interval) = of_mean(values);
        Self { mean, interval }
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.mean)?;
        match self.interval {
            Some(Interval { low, high }) => write!(f, "  95 % {low:.3} to {high:.3}"),
            None => Ok(()),
        }
    }
}

/// How much more the words of explanations matter than others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Faithfulness {
    /// `name@version`
    pub model: String,
    /// Rows measured: those that the model calls negative and that have a word.
    pub rows: usize,
    /// Rows among them whose contributions are exact; the others are by occlusion.
    pub exact: usize,
    /// Mean number of words of these rows.
    pub words: f64,
    /// Drop of the probability of negative without the words of the largest contribution, mean
    /// over 1 to 5 words removed.
    pub explained: Mean,
    /// The same without words in random order.
    pub random: Mean,
    /// The difference, row by row.
    pub difference: Mean,
    /// Mean drop by number of words removed, from 1 on.
    pub explained_by_words: Vec<f64>,
    /// The same in random order.
    pub random_by_words: Vec<f64>,
}

/// The drops of one row by number of words removed, from 1 on.
struct Drops {
    explained: [f64; REMOVED_MAX],
    random: [f64; REMOVED_MAX],
    words: usize,
    exact: bool,
}

impl Drops {
    fn explained(&self) -> f64 {
        mean(&self.explained)
    }

    fn random(&self) -> f64 {
        mean(&self.random)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Measures `model` on at most `rows_max` of `rows`, chosen at random among those that it calls
/// negative. `None` if it calls none negative.
///
/// # Errors
/// The model failed on a row.
pub fn faithfulness(
    model: &mut Model,
    rows: &[&Row],
    rows_max: usize,
) -> Result<Option<Faithfulness>, ClassifyError> {
    let mut shuffled: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    shuffled.sort_by_cached_key(|text| ordered(unit_interval(SEED, text)));
    let mut progress = Progress::new(format!("{} explains", model.id), rows_max.min(rows.len()));
    let mut drops: Vec<Drops> = Vec::new();
    for chunk in shuffled.chunks(BATCH_ROWS) {
        let scores = model.score(chunk)?;
        for (text, score) in chunk.iter().zip(scores) {
            if drops.len() < rows_max && model.thresholds.label(score) == Label::Negative {
                drops.extend(drops_of(model, text, f64::from(score.negative().get()))?);
                progress.rows(drops.len(), None);
            }
        }
        if drops.len() >= rows_max {
            break;
        }
    }
    if drops.is_empty() {
        return Ok(None);
    }
    let by_words = |of: fn(&Drops) -> &[f64; REMOVED_MAX]| {
        let at = |removed: usize| mean(&drops.iter().map(|it| of(it)[removed]).collect::<Vec<_>>());
        (0..REMOVED_MAX).map(at).collect()
    };
    Ok(Some(Faithfulness {
        model: model.id.to_string(),
        rows: drops.len(),
        exact: drops.iter().filter(|it| it.exact).count(),
        words: mean(&drops.iter().map(|it| it.words as f64).collect::<Vec<_>>()),
        explained: Mean::of(drops.iter().map(Drops::explained)),
        random: Mean::of(drops.iter().map(Drops::random)),
        difference: Mean::of(drops.iter().map(|it| it.explained() - it.random())),
        explained_by_words: by_words(|it| &it.explained),
        random_by_words: by_words(|it| &it.random),
    }))
}

/// A number in 0..1 as a key to sort by.
fn ordered(number: f64) -> u64 {
    number.to_bits()
}

/// The drops of one text with this probability of negative; `None` if it has no word.
fn drops_of(model: &mut Model, text: &str, whole: f64) -> Result<Option<Drops>, ClassifyError> {
    let explanation = model.explain(text)?;
    let spans: Vec<Range<usize>> = explanation.spans.iter().map(|it| it.bytes.clone()).collect();
    if spans.is_empty() {
        return Ok(None);
    }
    let mut by_weight: Vec<usize> = (0..spans.len()).collect();
    let weight = |at: &usize| explanation.spans[*at].weight;
    by_weight.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    let random = (1..=RANDOM_ORDERS).map(|draw| {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        let key = |at: &usize| ordered(unit_interval(SEED + draw, &format!("{at} {text}")));
        order.sort_by_cached_key(key);
        order
    });
    let orders: Vec<Vec<usize>> = std::iter::once(by_weight).chain(random).collect();
    let texts: Vec<String> = (orders.iter())
        .flat_map(|order| (1..=REMOVED_MAX).map(move |count| (order, count)))
        .map(|(order, count)| {
            let mut removed: Vec<_> = order.iter().take(count).map(|at| &spans[*at]).collect();
            removed.sort_by_key(|span| span.start);
            without(text, removed)
        })
        .collect();
    let scores = model.score(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    let drops: Vec<f64> =
        scores.iter().map(|score| whole - f64::from(score.negative().get())).collect();
    let (explained, random) = drops.split_at(REMOVED_MAX);
    let at = |removed: usize| -> f64 {
        random.iter().skip(removed).step_by(REMOVED_MAX).sum::<f64>() / RANDOM_ORDERS as f64
    };
    Ok(Some(Drops {
        explained: std::array::from_fn(|removed| explained[removed]),
        random: std::array::from_fn(at),
        words: spans.len(),
        exact: explanation.method == Method::Exact,
    }))
}

impl fmt::Display for Faithfulness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |count: usize| thousands(count as u64);
        writeln!(
            f,
            "{}: {} rows that it calls negative, {:.1} words each; contributions of {} exact, of {} \
             by leaving each word out",
            self.model,
            rows(self.rows),
            self.words,
            rows(self.exact),
            rows(self.rows - self.exact),
        )?;
        writeln!(f, "\nmean drop of the probability of negative without 1 to {REMOVED_MAX} words")?;
        writeln!(f, "{:<28} {}", "largest contribution first", self.explained)?;
        writeln!(f, "{:<28} {}", "in random order", self.random)?;
        writeln!(f, "{:<28} {}", "difference", self.difference)?;
        write!(f, "\n{:<28}", "words removed")?;
        (1..=REMOVED_MAX).try_for_each(|count| write!(f, " {count:>6}"))?;
        for (name, drops) in [
            ("largest contribution first", &self.explained_by_words),
            ("in random order", &self.random_by_words),
        ] {
            write!(f, "\n{name:<28}")?;
            drops.iter().try_for_each(|drop| write!(f, " {drop:>6.3}"))?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use monitor_core::domain::{Classes, Probabilities, Probability};
    use monitor_core::logit::sigmoid_f32;
    use monitor_core::text::SourceText;
    use monitor_model::{Classifier, Encoder, Encoding};

    use super::*;

    /// Log-odds: 2 for each "bad", -2 for each "ok".
    struct Words;

    impl Encoder for Words {
        fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
            let count = |word| text.raw().split_whitespace().filter(|it| *it == word).count();
            Encoding::new(vec![count("bad") as u32, count("ok") as u32])
        }
    }

    impl Classifier for Words {
        fn classify(&mut self, rows: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
            let logit = |row: &&Encoding| 2.0 * (row.ids[0] as f32 - row.ids[1] as f32);
            let score = |row| Probability::new(sigmoid_f32(logit(row))).map(Probabilities::two);
            rows.iter().map(score).collect::<Result<_, _>>().map_err(|_| unreachable!())
        }
    }

    fn model() -> Model {
        Model {
            id: "words@1".parse().unwrap(),
            classes: Classes::Two,
            languages: Vec::new(),
            thresholds: Probability::new(0.6).unwrap().into(),
            encoder: Arc::new(Words),
            classifier: Box::new(Words),
        }
    }

    fn row(text: &str) -> Row {
        Row::new(Label::Positive, text)
    }

    #[test]
    fn drops_are_those_of_the_words_removed() {
        let rows = [row("bad a b c d e f g"), row("ok fine"), row("")];
        let rows: Vec<&Row> = rows.iter().collect();
        let found = faithfulness(&mut model(), &rows, 9).unwrap().unwrap();
        assert_eq!(
            (found.rows, found.exact, found.words),
            (1, 0, 8.0),
            "only what it calls negative"
        );
        // "bad" is removed first: the probability falls from that of log-odds 2 to one half.
        let drop = f64::from(sigmoid_f32(2.0)) - 0.5;
        assert!(found.explained_by_words.iter().all(|it| (it - drop).abs() < 1e-6), "{found:?}");
        assert!((found.explained.mean - drop).abs() < 1e-6);
        // By chance it is among the first k words k times in 8.
        assert!(found.random.mean < drop * 0.8, "{found:?}");
        assert!(found.random_by_words.is_sorted(), "{found:?}");
        assert_eq!(found.difference.interval, None, "one row");
    }

    #[test]
    fn rows_are_bounded_and_the_same_in_every_run() {
        let rows: Vec<Row> =
            (0..600).map(|n| row(&format!("bad bad {n} words of no weight here"))).collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let found = faithfulness(&mut model(), &rows, 300).unwrap().unwrap();
        assert_eq!(found.rows, 300);
        assert_eq!(found, faithfulness(&mut model(), &rows, 300).unwrap().unwrap());
        let Interval { low, high } = found.difference.interval.unwrap();
        assert!(0.0 < low && low < found.difference.mean && found.difference.mean < high);
        assert!(faithfulness(&mut model(), &[], 9).unwrap().is_none());
        let text = found.to_string();
        assert!(text.contains("300 rows that it calls negative, 8.0 words each"), "{text}");
    }

    #[test]
    fn the_shown_figures() {
        let mean = |mean: f64| Mean {
            mean,
            interval: Some(Interval { low: mean - 0.01, high: mean + 0.01 }),
        };
        let found = Faithfulness {
            model: "lstm@3".into(),
            rows: 1_000,
            exact: 400,
            words: 14.25,
            explained: mean(0.41),
            random: mean(0.12),
            difference: mean(0.29),
            explained_by_words: vec![0.2, 0.3, 0.4, 0.5, 0.65],
            random_by_words: vec![0.04, 0.08, 0.12, 0.16, 0.2],
        };
        insta::assert_snapshot!(found.to_string());
    }
}
