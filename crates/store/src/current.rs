//! Counts of a time in which the stream's model was switched, as one model would have them.

use std::collections::BTreeMap;

use monitor_core::domain::{Counts, Minute};

use crate::{Store, StoreError};

/// Counts of a brand's minutes, or of its hours: as `model`, which scores now, calls the tweets;
/// where it has not scored all of them, as the models of their time called them.
///
/// # Errors
/// The store cannot be read.
pub async fn current_counts(
    store: &dyn Store,
    model: Option<&str>,
    brand: &str,
    from: Minute,
    to: Minute,
    by_hour: bool,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    let stored = match by_hour {
        true => store.hour_counts(Some(brand), from, to).await?,
        false => store.minute_counts(brand, from, to).await?,
    };
    let Some(model) = model else { return Ok(stored) };
    let own = match by_hour {
        true => store.model_hour_counts(model, brand, from, to).await?,
        false => store.model_counts(model, brand, from, to).await?,
    };
    Ok(with_own(stored, &own))
}

/// `stored` counts, with a model's `own` where it has scored all tweets.
pub fn with_own(stored: Vec<(Minute, Counts)>, own: &[(Minute, Counts)]) -> Vec<(Minute, Counts)> {
    let mut counts: BTreeMap<_, _> = stored.into_iter().collect();
    for (minute, own) in own {
        let stored = counts.entry(*minute).or_default();
        if own.total >= stored.total {
            *stored = *own;
        }
    }
    counts.into_iter().collect()
}
