//! What is a bad buzz, and who hears of it; pure.
//!
//! Event time moves by the [`watermark`]; each minute behind it is evaluated once: a brand's share
//! of negative tweets by [`SharePolicy::evaluate`] against the brand's own [`Baseline`], its volume by
//! [`VolumePolicy::evaluate`], and the stream itself, by the clock, by [`StreamPolicy`]. What is
//! told of an incident is [`drivers`] and [`severity`]; who is told is [`Audience`]'s.
//!
//! **Invariant.** A verdict on a brand depends on the counts, what was remembered and the minute
//! alone, never on the wall clock, so a replay at any speed alarms at the same minutes.
//! Deliberately absent: reading counts, writing incidents, wording of mails.

mod backtest;
mod drivers;
mod lifecycle;
mod outbox;
mod routing;
mod series;
mod severity;
mod share;
mod stream;
mod suppression;
mod volume;
mod watermark;

pub use backtest::{Alert, Backtest, Hour, backtest};
pub use drivers::{DriverLimits, Drivers, OneTweet, Term, TermKind, TweetView, drivers};
pub use lifecycle::Audience;
pub use outbox::{
    ALSO_MAX, Delivery, OutboxPlan, OutboxWrite, PendingRow, Step, plan as plan_outbox,
};
pub use routing::{QuietHours, Recipient, Route, RouteMismatch, When, route};
pub use series::Series;
pub use severity::{Thresholds, severity};
pub use share::{
    Baseline, Calm, Open, QuietReason, ResolveReason, SharePolicy, ShareRule, ShareState,
    ShareVerdict,
};
pub use stream::{
    StreamPolicy, StreamReason, StreamSnapshot, StreamState, StreamVerdict, expected_tweets,
};
pub use suppression::{Occasion, SuppressReason, Suppressed};
pub use volume::{VolumeEnd, VolumePolicy, VolumeReason, VolumeState, VolumeVerdict};
pub use watermark::{Progress, watermark};
