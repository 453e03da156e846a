//! What is a bad buzz, and who hears of it; pure.
//!
//! Event time moves by the [`watermark`]; each minute behind it is judged once: a brand's share
//! of negative tweets by [`Policy::judge`] against the brand's own [`Baseline`], its volume by
//! [`VolumePolicy::judge`], and the stream itself, by the clock, by [`StreamPolicy`]. What is
//! told of an incident is [`drivers`] and [`severity`]; who is told is [`Audience`]'s.
//!
//! **Invariant.** A verdict on a brand depends on the counts, what was remembered and the minute
//! alone, never on the wall clock, so a replay at any speed alarms at the same minutes.
//! Deliberately absent: reading counts, writing incidents, wording of mails.

mod backtest;
mod drivers;
mod lifecycle;
mod routing;
mod series;
mod severity;
mod share;
mod stream;
mod volume;
mod watermark;

pub use backtest::{Alert, Backtest, Hour, backtest};
pub use drivers::{Drivers, Limits as DriverLimits, OneTweet, Term, TermKind, TweetView, drivers};
pub use lifecycle::Audience;
pub use routing::{NotTold, QuietHours, Recipient, Route, Silence, When, route, silenced};
pub use series::Series;
pub use severity::{Thresholds, severity};
pub use share::{
    Baseline, Calm, Open, Policy, QuietReason, ResolveReason, ShareRule, State, Verdict,
};
pub use stream::{
    StreamLook, StreamPolicy, StreamReason, StreamState, StreamVerdict, expected_tweets,
};
pub use volume::{VolumeEnd, VolumePolicy, VolumeReason, VolumeState, VolumeVerdict};
pub use watermark::{Progress, watermark};
