//! Which model scores the stream, and since which minute of event time. Tweets of languages that
//! have models of their own are not meant.

use super::Minute;

/// A switch takes effect this many minutes after the newest stored one: the daemons have time to
/// load the model.
const LEAD_MINUTES: i64 = 2;

/// One switch of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSwitch {
    /// The first minute that the model scores.
    pub from: Minute,
    /// `name@version`.
    pub model: String,
    /// Minutes from here to `from` may still wait to be scored again by the model.
    pub gap_from: Minute,
}

/// All switches of a stream, ascending. Empty before the first daemon has started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Switches(Vec<ModelSwitch>);

impl Switches {
    /// Sorts the switches.
    pub fn new(mut switches: Vec<ModelSwitch>) -> Self {
        switches.sort_by_key(|switch| switch.from);
        Self(switches)
    }

    /// All of them, ascending.
    pub fn as_slice(&self) -> &[ModelSwitch] {
        &self.0
    }

    /// The switch in force in `minute`; minutes before the first switch belong to it.
    pub fn at(&self, minute: Minute) -> Option<&ModelSwitch> {
        self.0.iter().rev().find(|switch| switch.from <= minute).or(self.0.first())
    }

    /// The newest switch; it may lie ahead.
    pub fn newest(&self) -> Option<&ModelSwitch> {
        self.0.last()
    }

    /// The first switch after `minute`.
    pub fn after(&self, minute: Minute) -> Option<&ModelSwitch> {
        self.0.iter().find(|switch| switch.from > minute)
    }

    /// Whether a tweet of `minute` may be stored with the score of `model`: the model in force
    /// then, or one of later. A tweet that arrives late is thus scored by the model of today, but
    /// never by one whose time is over. Not to be asked of models of single languages.
    pub fn allow(&self, model: &str, minute: Minute) -> bool {
        let in_force = self.at(minute).is_none_or(|current| current.model == model);
        in_force || self.0.iter().any(|s| s.from > minute && s.model == model)
    }

    /// The first minute of a switch that is made now; `newest` is the newest minute that has a
    /// tweet, if any has. A switch that is still ahead is replaced at its minute, because its
    /// model may be one that cannot be loaded.
    pub fn fence(&self, newest: Option<Minute>) -> Minute {
        let Some(newest) = newest else { return Minute(0) };
        let usual = newest.plus(LEAD_MINUTES);
        self.after(newest).map_or(usual, |ahead| usual.min(ahead.from))
    }

    /// Adds a switch. Switches at or after its minute have had no tweet yet and are dropped; a
    /// switch to the model that is in force anyway changes nothing more.
    pub fn switch_to(&mut self, switch: ModelSwitch) {
        self.0.retain(|known| known.from < switch.from);
        if self.0.last().is_none_or(|last| last.model != switch.model) {
            self.0.push(switch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(list: &[(i64, &str)]) -> Switches {
        let mut switches = Switches::default();
        for (from, model) in list {
            let (from, gap_from) = (Minute(*from), Minute(0));
            switches.switch_to(ModelSwitch { from, model: (*model).into(), gap_from });
        }
        switches
    }

    #[test]
    fn a_minute_belongs_to_the_last_switch_before_it() {
        let list = switches(&[(0, "a@1"), (100, "b@1"), (200, "a@1")]);
        for (minute, model) in [(-5, "a@1"), (0, "a@1"), (99, "a@1"), (100, "b@1"), (200, "a@1")] {
            assert_eq!(list.at(Minute(minute)).unwrap().model, model, "{minute}");
        }
        assert_eq!(list.after(Minute(99)).unwrap().from, Minute(100));
        assert_eq!(list.after(Minute(100)).unwrap().from, Minute(200));
        assert_eq!(list.after(Minute(200)), None);
        assert_eq!(Switches::default().at(Minute(1)), None);
    }

    #[test]
    fn only_models_of_before_are_refused() {
        let list = switches(&[(0, "a@1"), (100, "b@1")]);
        for (case, model, minute, allowed) in [
            ("the model in force", "a@1", 99, true),
            ("late, by the model of today", "b@1", 99, true),
            ("from the fence on", "b@1", 100, true),
            ("by a daemon that is behind", "a@1", 100, false),
            ("by a model that nobody switched to", "c@1", 99, false),
        ] {
            assert_eq!(list.allow(model, Minute(minute)), allowed, "{case}");
        }
        assert!(Switches::default().allow("c@1", Minute(0)), "before the first daemon");
    }

    #[test]
    fn a_switch_replaces_those_that_were_still_ahead() {
        assert_eq!(switches(&[(0, "a@1"), (100, "b@1"), (90, "a@1")]), switches(&[(0, "a@1")]));
        assert_eq!(switches(&[(0, "a@1"), (100, "b@1"), (90, "c@1")]).0.len(), 2);
        let list = switches(&[(0, "a@1"), (100, "b@1")]);
        for (newest, fence) in [(50, 52), (98, 100), (99, 100), (100, 102), (150, 152)] {
            assert_eq!(list.fence(Some(Minute(newest))), Minute(fence), "{newest}");
        }
        assert_eq!(list.fence(None), Minute(0));
    }
}
