//! The corrected share of a brand: what the store knows, for `monitor_core::quantify`.
//!
//! **Invariant.** Labels count only for the model that called the same tweets, so the errors
//! corrected are those of the model whose counts are corrected. Deliberately absent: the methods.

use monitor_core::domain::{Counts, Label, Minute};
use monitor_core::quantify::{self, Estimate, LABELS_MIN, Labelled, Rates};

use crate::{Sample, SampledTweet, Store, StoreError};

/// Which error rates of a model may correct a share, if a brand has fewer than [`LABELS_MIN`]
/// labels of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherRates {
    /// Those on the rows that the model's training held out. On other streams the model may err
    /// more or less often, and then the corrected share is no better than the raw one.
    HeldOut,
    /// None: there is no corrected share.
    None,
}

/// The share of negative tweets of a brand in the minutes `from..=to`, corrected for the errors of
/// `model`, of whose calls `counts` are; see [`quantify::corrected`].
///
/// The rates are those on the brand's own random samples if at least [`LABELS_MIN`] of their tweets
/// have a label, else `others`.
///
/// # Errors
/// The store cannot be read.
pub async fn corrected_share(
    store: &dyn Store,
    (brand, model): (&str, &str),
    (from, to): (Minute, Minute),
    counts: Counts,
    design_effect: f64,
    others: OtherRates,
) -> Result<Option<Estimate>, StoreError> {
    let (rates, labelled) = rates_of(store, (brand, model), others).await?;
    let within: Vec<Labelled> = (labelled.into_iter())
        .filter(|(minute, _)| (from..=to).contains(minute))
        .map(|(_, row)| row)
        .collect();
    Ok(quantify::corrected(counts, rates.as_ref(), &within, design_effect))
}

/// The error rates by which a model's counts of a brand are corrected, as
/// [`corrected_share`] chooses them, and the brand's labelled tweets with their minutes.
///
/// # Errors
/// The store cannot be read.
pub async fn rates_of(
    store: &dyn Store,
    (brand, model): (&str, &str),
    others: OtherRates,
) -> Result<(Option<Rates>, Vec<(Minute, Labelled)>), StoreError> {
    let labelled = labelled(store, brand, model).await?;
    let all: Vec<Labelled> = labelled.iter().map(|(_, row)| *row).collect();
    let rates = match rates(&all) {
        Some(rates) if all.len() >= LABELS_MIN => Some(rates),
        _ if others == OtherRates::None => None,
        _ => {
            let models = store.models().await?;
            models.into_iter().find(|it| it.model == model).and_then(|it| it.rates)
        }
    };
    Ok((rates, labelled))
}

/// The labelled tweets of a brand's random samples that `model` has scored, each once, with their
/// minute.
pub async fn labelled(
    store: &dyn Store,
    brand: &str,
    model: &str,
) -> Result<Vec<(Minute, Labelled)>, StoreError> {
    let mut samples = store.samples().await?;
    samples.retain(|sample| sample.brand == brand);
    let mut found: Vec<SampledTweet> = Vec::new();
    // The newest first: its label is the one that counts.
    for sample in samples.iter().rev().filter(|sample| sample.labelled > 0) {
        let tweets = store.sampled_tweets(sample.id).await?;
        found.extend(tweets.into_iter().filter(|it| it.model == model && it.label.is_some()));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|tweet| seen.insert(tweet.tweet_id.clone()));
    Ok(found
        .into_iter()
        .map(|tweet| {
            let row = Labelled {
                called_negative: tweet.called == Label::Negative,
                negative: tweet.label == Some(Label::Negative),
                inclusion: inclusion(&samples, &tweet),
                stratum: 0,
            };
            (Minute::of(tweet.created_at), row)
        })
        .collect())
}

/// The probability that a tweet was drawn in at least one of the samples and has a label.
fn inclusion(samples: &[Sample], tweet: &SampledTweet) -> f64 {
    let missed: f64 = (samples.iter())
        .filter(|sample| (sample.from..sample.to).contains(&tweet.created_at))
        .map(|sample| 1.0 - sample.labelled as f64 / sample.population.max(1) as f64)
        .product();
    (1.0 - missed).clamp(f64::MIN_POSITIVE, 1.0)
}

/// The rates at which the model calls labelled rows negative; `None` if a class has no row.
pub fn rates(rows: &[Labelled]) -> Option<Rates> {
    let counts = |negative: bool| Counts {
        total: rows.iter().filter(|row| row.negative == negative).count() as u64,
        negative: (rows.iter())
            .filter(|row| row.negative == negative && row.called_negative)
            .count() as u64,
    };
    Rates::measured(counts(true), counts(false)).ok()
}
