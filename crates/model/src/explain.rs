//! Which words of a text made a model call it negative.
//!
//! The unit is log-odds of negative: +0.7 doubles the odds, -0.7 halves them. With three classes
//! they are the odds of negative against the other two together.
//!
//! | model | method |
//! | --- | --- |
//! | logistic, with the tweet preset | exact: the log-odds are the bias plus a sum over n-grams; each n-gram's part (weight times value) is shared equally by its words |
//! | all others | occlusion: the log-odds of the text minus those of the text without the word (Zeiler and Fergus 2014; "leave one out" in Li, Monroe and Jurafsky 2016) |
//! | cascade | that of its model which answered for this text |
//!
//! **Invariant.** Spans ascend, do not overlap and are bytes of the text as given. Exact
//! contributions and the bias add up to the log-odds. One text costs at most [`SPANS_MAX`] further
//! rows: in a longer text, neighbouring words share a span. Deliberately absent: attention weights,
//! which have no sign, and methods that need gradients, because models compute without them.

use std::collections::BTreeMap;
use std::ops::Range;

use monitor_core::logit::logit_f32;
use monitor_core::text::{PlacedWord, visible_words, without};

use super::{Classifier, ClassifyError, Encoder, Encoding, Model, ModelId, classify_all};

/// Largest number of spans of one text. A text with more words gets spans of several words.
pub const SPANS_MAX: usize = 64;

/// How contributions were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The model is a sum: contributions and bias add up to its log-odds.
    Exact,
    /// Each span was left out in turn; contributions do not add up to the log-odds.
    Occlusion,
}

impl Method {
    /// The method's name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Occlusion => "occlusion",
        }
    }
}

/// A word, or several in a row, and its contribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Bytes of the text as given.
    pub bytes: Range<usize>,
    /// What it adds to the log-odds of negative; above 0 if it makes the text more negative.
    pub weight: f64,
}

/// Why a model called a text what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The model that answered: of a cascade, one of its two.
    pub model: ModelId,
    /// How the contributions were computed.
    pub method: Method,
    /// Log-odds of negative.
    pub log_odds: f64,
    /// The part of the log-odds that no word has: the bias. `None` with occlusion.
    pub bias: Option<f64>,
    /// The words in their order.
    pub spans: Vec<Span>,
    /// Words of each span; above 1 only in a text of more than [`SPANS_MAX`] words.
    pub words_per_span: usize,
}

/// Log-odds as a sum over the ids of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// The log-odds of a row without ids.
    pub bias: f64,
    /// The part of each id; an id occurs once.
    pub terms: Vec<(u32, f64)>,
}

impl Linear {
    /// The sum at this temperature.
    pub(super) fn divided_by(mut self, temperature: f64) -> Self {
        self.bias /= temperature;
        self.terms.iter_mut().for_each(|(_, part)| *part /= temperature);
        self
    }
}

/// Where the ids of a text come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    words: Vec<PlacedWord>,
    /// Each occurrence of an id: the id, the index of its first word, its number of words.
    ids: Vec<(u32, usize, usize)>,
}

impl Trace {
    /// The trace of a text with these words. `for_each` visits the ids of the words: each
    /// occurrence, with the index of its first word and its number of words.
    pub(super) fn new(
        words: Vec<PlacedWord>,
        for_each: impl FnOnce(&[String], &mut dyn FnMut(u32, usize, usize)),
    ) -> Self {
        let texts: Vec<String> = words.iter().map(|placed| placed.word.clone()).collect();
        let mut ids = Vec::new();
        for_each(&texts, &mut |id, first, count| ids.push((id, first, count)));
        Self { words, ids }
    }
}

impl Model {
    /// What each word of `text` adds to the log-odds of negative, on this thread.
    ///
    /// # Errors
    /// [`ClassifyError`] if a pass could not be computed.
    pub fn explain(&mut self, text: &str) -> Result<Explanation, ClassifyError> {
        explain(&self.id, self.encoder.as_ref(), self.classifier.as_mut(), text)
    }
}

/// As [`Model::explain`], for a model in parts.
pub(super) fn explain(
    id: &ModelId,
    encoder: &dyn Encoder,
    classifier: &mut dyn Classifier,
    text: &str,
) -> Result<Explanation, ClassifyError> {
    if let Some((member, shift)) = classifier.member(text)? {
        let found = member.explain(text)?;
        let bias = found.bias.map(|bias| bias + shift);
        return Ok(Explanation { log_odds: found.log_odds + shift, bias, ..found });
    }
    let (spans, words_per_span) = spans_of(text);
    let found = match exact(encoder, classifier, text, &spans) {
        Some(found) => found,
        None => occlusion(encoder, classifier, text, &spans)?,
    };
    let Found { method, log_odds, bias, weights } = found;
    let spans = spans.into_iter().zip(weights).map(|(bytes, weight)| Span { bytes, weight });
    Ok(Explanation {
        model: id.clone(),
        method,
        log_odds,
        bias,
        spans: spans.collect(),
        words_per_span,
    })
}

/// The spans of a text, at most [`SPANS_MAX`], and the words of each.
fn spans_of(text: &str) -> (Vec<Range<usize>>, usize) {
    let words = visible_words(text, usize::MAX);
    let words_per_span = words.len().div_ceil(SPANS_MAX).max(1);
    let span = |words: &[Range<usize>]| words[0].start..words[words.len() - 1].end;
    (words.chunks(words_per_span).map(span).collect(), words_per_span)
}

struct Found {
    method: Method,
    log_odds: f64,
    bias: Option<f64>,
    /// One for each span.
    weights: Vec<f64>,
}

/// `None` if the model is not a sum, or the places of its words are not known.
fn exact(
    encoder: &dyn Encoder,
    classifier: &dyn Classifier,
    text: &str,
    spans: &[Range<usize>],
) -> Option<Found> {
    let row = encoder.encode(text);
    let Linear { mut bias, terms } = classifier.linear(&row)?;
    let trace = encoder.trace(text)?;
    let span_of_word: Vec<usize> = (trace.words.iter())
        .map(|word| spans.partition_point(|span| span.end <= word.bytes.start))
        .collect();
    let mut places: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
    for (id, first, count) in trace.ids {
        places.entry(id).or_default().push((first, count));
    }
    let mut weights = vec![0.0; spans.len()];
    let log_odds = bias + terms.iter().map(|(_, part)| part).sum::<f64>();
    for (id, part) in terms {
        // The id of a text without known n-grams has no place.
        let Some(places) = places.get(&id) else {
            bias += part;
            continue;
        };
        for (first, count) in places {
            let share = part / (places.len() * count) as f64;
            for word in *first..first + count {
                weights[span_of_word[word]] += share;
            }
        }
    }
    Some(Found { method: Method::Exact, log_odds, bias: Some(bias), weights })
}

/// The log-odds of the text minus those of the text without each span. A span that the model does
/// not read costs no row.
fn occlusion(
    encoder: &dyn Encoder,
    classifier: &mut dyn Classifier,
    text: &str,
    spans: &[Range<usize>],
) -> Result<Found, ClassifyError> {
    let whole = encoder.encode(text);
    let left: Vec<Encoding> =
        spans.iter().map(|span| encoder.encode(&without(text, [span]))).collect();
    let differs = |row: &&Encoding| row.ids != whole.ids;
    let rows: Vec<&Encoding> = std::iter::once(&whole).chain(left.iter().filter(differs)).collect();
    let mut scores = classify_all(classifier, &rows)?.into_iter();
    let mut next = || scores.next().map_or(0.0, |score| logit_f32(score.negative().get()));
    let log_odds = next();
    let weights = left.iter().map(|row| if differs(&row) { log_odds - next() } else { 0.0 });
    Ok(Found { weights: weights.collect(), method: Method::Occlusion, log_odds, bias: None })
}

#[cfg(test)]
mod tests;
