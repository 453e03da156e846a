//! Switches of the model, and the counts of tweets that another model scored again.

use std::collections::BTreeMap;

use super::Tables;
use crate::{Pairs, Rescored, StoreError, StoredText};
use monitor_core::domain::{Counts, Label, Minute, ModelSwitch, Switches};

impl Tables {
    /// Whether a switch names the model.
    fn is_main(&self, model: &str) -> bool {
        self.switches.as_slice().iter().any(|switch| switch.model == model)
    }

    pub(super) fn switches(&self) -> Result<Switches, StoreError> {
        Ok(self.switches.clone())
    }

    pub(super) fn begin_with(&mut self, model: &str) -> Result<Switches, StoreError> {
        if self.switches.newest().is_none() {
            let (from, gap_from) = (Minute(0), Minute(0));
            self.switches.switch_to(ModelSwitch { from, model: model.to_owned(), gap_from });
        }
        self.switches()
    }

    pub(super) fn switch_to(
        &mut self,
        model: &str,
        gap_from: Minute,
    ) -> Result<Switches, StoreError> {
        let newest = self.checkpoints.values().filter_map(|c| c.event_time_max).max();
        let from = self.switches.fence(newest.map(Minute::of));
        let (model, gap_from) = (model.to_owned(), gap_from.min(from));
        self.switches.switch_to(ModelSwitch { from, model, gap_from });
        self.switches()
    }

    pub(super) fn model_counts(
        &self,
        model: &str,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError> {
        let mut sums: BTreeMap<Minute, Counts> = BTreeMap::new();
        for ((of, minute, by), counts) in &self.minute_counts {
            let counted = by == model || !self.is_main(by);
            if of == brand && counted && (from..=to).contains(minute) {
                *sums.entry(*minute).or_default() += *counts;
            }
        }
        for ((by, of, minute, _), pairs) in &self.rescored {
            let counted = by == model && pairs.total > 0;
            if of == brand && counted && (from..=to).contains(minute) {
                let counts = Counts { total: pairs.total, negative: pairs.negative };
                *sums.entry(*minute).or_default() += counts;
            }
        }
        sums.retain(|_, counts| counts.total > 0);
        Ok(sums.into_iter().collect())
    }

    pub(super) fn model_hour_counts(
        &self,
        model: &str,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError> {
        let (from, to) = (from.hour_start(), to.hour_start().plus(59));
        let mut hours: BTreeMap<Minute, Counts> = BTreeMap::new();
        for (minute, counts) in self.model_counts(model, brand, from, to)? {
            *hours.entry(minute.hour_start()).or_default() += counts;
        }
        Ok(hours.into_iter().collect())
    }

    pub(super) fn unscored(
        &self,
        model: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, u64)>, StoreError> {
        let mut open: BTreeMap<Minute, BTreeMap<&str, u64>> = BTreeMap::new();
        for ((brand, minute, by), counts) in &self.minute_counts {
            if by != model && self.is_main(by) && (from..=to).contains(minute) {
                *open.entry(*minute).or_default().entry(brand).or_default() += counts.total;
            }
        }
        for ((brand, minute, by), gone) in &self.gone {
            if by != model
                && let Some(total) = open.get_mut(minute).and_then(|of| of.get_mut(brand.as_str()))
            {
                *total = total.saturating_sub(*gone);
            }
        }
        for ((by, brand, minute, _), pairs) in &self.rescored {
            if by == model
                && let Some(total) = open.get_mut(minute).and_then(|of| of.get_mut(brand.as_str()))
            {
                *total = total.saturating_sub(pairs.total + pairs.not_judged);
            }
        }
        let sums = open.into_iter().rev().map(|(minute, of)| (minute, of.values().sum()));
        Ok(sums.filter(|(_, rows)| *rows > 0).collect())
    }

    pub(super) fn texts_to_rescore(
        &self,
        model: &str,
        minutes: &[Minute],
        after: Option<&StoredText>,
        limit: u32,
    ) -> Result<Vec<StoredText>, StoreError> {
        let place = |text: &StoredText| (text.created_at, text.tweet_id.clone());
        let after = after.map(place);
        let mut found: Vec<_> = self
            .scores
            .values()
            .filter(|row| minutes.contains(&Minute::of(row.tweet.created_at)))
            .filter(|row| !self.echoes.contains(row.tweet.id.as_str()))
            .filter_map(|row| Some((row, row.score.as_ref()?)))
            .filter(|(row, score)| {
                score.model != model && self.is_main(&score.model) && !row.brands.is_empty()
            })
            .map(|(row, score)| StoredText {
                tweet_id: row.tweet.id.as_str().to_owned(),
                created_at: row.tweet.created_at,
                brands: row.brands.clone(),
                text: row.tweet.text.clone(),
                language: row.tweet.language,
                is_negative: score.score.label == Label::Negative,
                model: score.model.clone(),
            })
            .filter(|text| after.as_ref().is_none_or(|after| place(text) > *after))
            .collect();
        found.sort_by_key(place);
        found.truncate(limit as usize);
        Ok(found)
    }

    pub(super) fn put_rescored(
        &mut self,
        model: &str,
        rows: &[Rescored],
    ) -> Result<(), StoreError> {
        for Rescored { brand, minute, instead_of, pairs } in rows {
            let key = (model.to_owned(), brand.clone(), *minute, instead_of.clone());
            self.rescored.insert(key, *pairs);
        }
        Ok(())
    }

    pub(super) fn pairs(
        &self,
        model: &str,
        instead_of: &str,
        from: Minute,
    ) -> Result<Vec<(String, Pairs)>, StoreError> {
        let mut sums: BTreeMap<String, Pairs> = BTreeMap::new();
        for ((by, brand, minute, other), pairs) in &self.rescored {
            if by == model && other == instead_of && *minute >= from {
                let sum = sums.entry(brand.clone()).or_default();
                sum.total += pairs.total;
                sum.negative += pairs.negative;
                sum.gained += pairs.gained;
                sum.lost += pairs.lost;
                sum.not_judged += pairs.not_judged;
            }
        }
        Ok(sums.into_iter().collect())
    }
}
