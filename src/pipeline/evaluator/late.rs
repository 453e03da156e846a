//! Tweets that come after their minute was judged: counted, and judged again if they are many.
//!
//! **Invariant.** A minute is judged again from the state that the detectors had before it (or the oldest remembered), and only while no
//! incident is open: what the late tweets show opens one incident, now. Deliberately absent: memory across
//! restarts; minutes that another process judged are not judged again.

use std::collections::{BTreeMap, VecDeque};

use metrics::counter;

use super::Evaluator;
use super::brand::counts_of;
use monitor_core::alerting::{
    Baseline, BuzzPolicy, BuzzState, BuzzVerdict, Course, Seen, Series, Volume,
};
use monitor_core::domain::Minute;
use monitor_store::{DetectorState, StoreError};
use monitor_telemetry as telemetry;

/// How far back late tweets are counted, in minutes.
const COUNTED_MINUTES: i64 = 1440;
/// How far back minutes are judged again.
const JUDGED_MINUTES: i64 = 120;
/// Minutes between two states that are remembered. After minutes were judged again they are remembered anew, so that a
/// stream that is always late does not cost hours of evaluation every minute.
const EVERY_MINUTES: i64 = 15;
/// Fewest late tweets for minutes to be judged again, and their least part of what was counted in these minutes.
const TWEETS_MIN: u64 = 10;
const PART_MIN: f64 = 0.25;

/// What was known of a brand when its latest minutes were judged.
pub(super) struct Judged {
    /// The switch of the model that counted them.
    switch: Option<Minute>,
    /// The tweets that were counted then.
    tweets: BTreeMap<Minute, u64>,
    /// What the detectors remembered after some minutes without an open incident, oldest first.
    states: VecDeque<(Minute, BuzzState)>,
    late: Late,
}

/// What has come late since minutes were judged again.
#[derive(Default)]
struct Late {
    tweets: u64,
    /// What was counted in their minutes before.
    before: u64,
    /// The oldest of their minutes.
    oldest: Option<Minute>,
}

impl Late {
    fn is_much(&self) -> bool {
        self.tweets >= TWEETS_MIN && self.tweets as f64 >= PART_MIN * self.before as f64
    }
}

impl Evaluator {
    /// Counts the tweets that have come since their minutes were judged; `series` starts at `start`. If they are many,
    /// judges these minutes again and returns the state before `first`.
    pub(super) async fn rejudge(
        &self,
        (brand, policy): (&str, &BuzzPolicy),
        (switch, model): (Option<Minute>, Option<&str>),
        series: &Series,
        start: Minute,
        first: Minute,
        baseline: Option<&Baseline>,
    ) -> Result<Option<BuzzState>, StoreError> {
        let state = self.count_late(brand, switch, series, start, baseline.is_some());
        let Some((judged, mut buzz)) = state else { return Ok(None) };
        tracing::info!(brand, from = %judged.start(), "many tweets came late; their minutes are judged again");
        let (from, to) = (judged.plus(-policy.evaluation_minutes()), first.plus(-1));
        let counts = counts_of(&*self.store, model, brand, from, to).await?;
        let series = Series::new(from, to, &counts, &buzz.share.excluded());
        let all = match model {
            Some(_) if policy.volumes.iter().any(|v| v.counted == Volume::All) => {
                let counts = self.store.minute_counts(brand, from, to).await?;
                Some(Series::new(from, to, &counts, &[]))
            }
            _ => None,
        };
        for minute in (judged.0 + 1..first.0).map(Minute) {
            let seen = Seen { counts: &series, all: all.as_ref().unwrap_or(&series), baseline };
            (buzz, _, _) = policy.evaluate(seen, buzz, minute);
        }
        Ok(Some(buzz))
    }

    /// If the late tweets are many, the state from before their minutes, and its minute.
    fn count_late(
        &self,
        brand: &str,
        switch: Option<Minute>,
        series: &Series,
        start: Minute,
        can_judge: bool,
    ) -> Option<(Minute, BuzzState)> {
        let mut judged = self.judged.lock().expect("no holder of this lock panics");
        let known = judged.get_mut(brand).filter(|known| known.switch == switch)?;
        let mut came = 0;
        for (minute, tweets) in known.tweets.range(start..) {
            let late = series.sum(*minute, *minute).total.saturating_sub(*tweets);
            if late > 0 {
                came += late;
                known.late.tweets += late;
                known.late.before += tweets;
                known.late.oldest = known.late.oldest.min(Some(*minute)).or(Some(*minute));
            }
        }
        counter!(telemetry::LATE_TWEETS, "brand" => brand.to_owned()).increment(came);
        if !can_judge || !known.late.is_much() {
            return None;
        }
        let oldest = std::mem::take(&mut known.late).oldest?;
        let states = std::mem::take(&mut known.states);
        let place = states.partition_point(|(minute, _)| *minute < oldest).saturating_sub(1);
        states.into_iter().nth(place)
    }

    /// Remembers what is counted in the minutes that have been judged, and the state after them.
    pub(super) fn remember(
        &self,
        brand: &str,
        switch: Option<Minute>,
        series: &Series,
        start: Minute,
        evaluated: Minute,
        buzz: &BuzzState,
    ) {
        let mut judged = self.judged.lock().expect("no holder of this lock panics");
        let known = judged.remove(brand).filter(|known| known.switch == switch);
        let mut known = known.unwrap_or(Judged {
            switch,
            tweets: BTreeMap::new(),
            states: VecDeque::new(),
            late: Late::default(),
        });
        let oldest = evaluated.plus(-COUNTED_MINUTES);
        known.tweets = known.tweets.split_off(&oldest);
        let minutes = (oldest.max(start).0..=evaluated.0).map(Minute);
        known.tweets.extend(minutes.map(|minute| (minute, series.sum(minute, minute).total)));
        let is_open = buzz.course.as_ref().is_some_and(Course::is_open);
        known.states.retain(|(minute, _)| !is_open && evaluated.0 - minute.0 <= JUDGED_MINUTES);
        let newest = known.states.back();
        let is_due = newest.is_none_or(|(minute, _)| evaluated.0 - minute.0 >= EVERY_MINUTES);
        if !is_open && is_due {
            known.states.push_back((evaluated, buzz.clone()));
        }
        judged.insert(brand.to_owned(), known);
    }
}

/// The verdict on the first minute after those that were judged again, while no incident is stored as open: what began
/// in them opens now, and what is over already is not told.
pub(super) fn told(
    verdict: BuzzVerdict,
    buzz: &mut BuzzState,
    minute: Minute,
    stored: Option<&DetectorState>,
) -> BuzzVerdict {
    let last = stored.and_then(|stored| stored.last.as_ref());
    match (verdict, &mut buzz.course) {
        (BuzzVerdict::Firing(_), Some(course)) => {
            if last.is_some_and(|last| last.opened == course.opened) {
                return BuzzVerdict::Reopen;
            }
            course.opened = minute;
            BuzzVerdict::Open
        }
        (BuzzVerdict::Resolve(_), _) => {
            buzz.course = None;
            BuzzVerdict::Quiet
        }
        (verdict, _) => verdict,
    }
}
