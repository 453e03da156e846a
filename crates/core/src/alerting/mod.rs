//! Detects incidents, describes them and decides who is notified; pure.
//!
//! The [`watermark`] says how far event time has come. Each minute before it is evaluated once:
//! [`BuzzPolicy::evaluate`] compares a brand's share of negative tweets with the brand's
//! [`Baseline`] ([`SharePolicy`]) and its volumes with their forecast ([`VolumePolicy`]), and says which
//! of it is one incident. [`StreamPolicy`] checks the stream itself, by the wall clock. [`drivers`] and [`severity`] describe an incident;
//! [`Audience`] decides who is notified.
//!
//! **Invariant.** A verdict on a brand depends only on the counts, the detector state and the
//! minute, never on the wall clock, so a replay at any speed alarms at the same minutes.
//! Deliberately absent: reading counts, writing incidents, the texts of mails.

mod backtest;
mod buzz;
mod catch_up;
mod drivers;
mod lifecycle;
mod outbox;
mod routing;
mod series;
mod severity;
mod share;
mod stream;
mod suppression;
mod voices;
mod volume;
mod watermark;

pub use backtest::{Alert, Backtest, Hour, Stretch, backtest, backtest_switched, replay};
pub use buzz::{BuzzPolicy, BuzzState, BuzzVerdict, Course, News, Seen, ViewVerdict};
pub use catch_up::{Backlog, CatchUp};
pub use drivers::{
    DriverLimits, Drivers, Example, OneTweet, Term, TermKind, Theme, TweetView, drivers,
};
pub use lifecycle::Audience;
pub use outbox::{
    ALSO_MAX, Delivery, OutboxPlan, OutboxWrite, PendingRow, Step, plan as plan_outbox,
};
pub use routing::{QuietHours, Recipient, Route, RouteMismatch, When, route};
pub use series::Series;
pub use severity::{People, Thresholds, severity};
pub use share::{
    Baseline, OpenRise, QuietReason, ResolveReason, RiseStatus, SharePolicy, ShareRule, ShareState,
    ShareVerdict,
};
pub use stream::{
    StreamPolicy, StreamReason, StreamSnapshot, StreamState, StreamVerdict, expected_tweets,
};
pub use suppression::{Occasion, SuppressReason, Suppressed};
pub use voices::{Counting, Heard, Voice, Voices};
pub use volume::{Volume, VolumePolicy, VolumeReason, VolumeState, VolumeVerdict};
pub use watermark::{Progress, watermark};
