//! Leaves out of a training what a model will be measured on, or nearly so.
//!
//! **Invariant.** A row is left out if it is the same tweet as one of the others
//! ([`identity_key`](monitor_core::text::identity_key)) or a near-duplicate of one
//! ([`NearTexts`]). Linear in the number of rows. Deliberately absent: near-duplicates within the
//! training set, which flatter no figure.

use std::collections::HashSet;

use monitor_core::text::{NearTexts, Shingles, content_words, identity_key, tokens};

use super::Row;

/// Number of tokens read per tweet; a tweet of 280 characters has fewer than 100.
const TOKENS_MAX: usize = 120;

/// Rows that a training must not learn from, not even nearly.
#[derive(Debug, Default)]
pub(crate) struct NearRows {
    keys: HashSet<u64>,
    texts: NearTexts,
}

impl NearRows {
    /// Adds rows.
    pub(crate) fn add<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>) {
        for row in rows {
            if self.keys.insert(identity_key(&row.text)) {
                self.texts.add(shingles(&row.text));
            }
        }
    }

    /// Leaves the rows out that are equal or near to one of these, and returns how many.
    pub(crate) fn leave_out_of(&self, rows: &mut Vec<&Row>) -> usize {
        let before = rows.len();
        rows.retain(|row| !self.contains(&row.text));
        before - rows.len()
    }

    fn contains(&self, text: &str) -> bool {
        self.keys.contains(&identity_key(text)) || self.texts.find(&shingles(text)).is_some()
    }
}

fn shingles(text: &str) -> Shingles {
    Shingles::of(&content_words(&tokens(text, TOKENS_MAX)))
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::Label;

    use super::*;

    #[test]
    fn leaves_out_equal_and_near_rows() {
        let row = |text: &str| Row::new(Label::Negative, text);
        let others =
            [row("@ann thanks!"), row("my flight to Denver was cancelled and nobody told us why")];
        let mut near = NearRows::default();
        near.add(&others);
        let rows = [
            row("@bob Thanks!"),
            row("thanks a lot"),
            row("RT @x: my flight to Denver was cancelled and nobody told us http://t.co/1"),
            row("my flight to Denver was on time and the crew was kind"),
        ];
        let mut kept: Vec<&Row> = rows.iter().collect();
        assert_eq!(near.leave_out_of(&mut kept), 2);
        assert_eq!(kept, [&rows[1], &rows[3]]);
        assert_eq!(NearRows::default().leave_out_of(&mut kept), 0);
    }
}
