use chrono::{DateTime, Utc};

/// A period in which no notifications about a brand's incidents are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Its number, assigned by the store.
    pub id: i64,
    /// The brand; `None` covers all brands and the stream.
    pub brand: Option<String>,
    /// Start, in wall-clock time.
    pub starts_at: DateTime<Utc>,
    /// End, exclusive, in wall-clock time.
    pub ends_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub who: String,
}

/// The first of `silences` that covers `brand` at `now`.
pub fn silenced<'a>(
    silences: &'a [Silence],
    brand: &str,
    now: DateTime<Utc>,
) -> Option<&'a Silence> {
    silences.iter().find(|silence| {
        silence.brand.as_deref().is_none_or(|silenced| silenced == brand)
            && (silence.starts_at..silence.ends_at).contains(&now)
    })
}
