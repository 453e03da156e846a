//! What is a bad buzz; pure.
//!
//! Event time moves by the [`watermark`]; each minute behind it is judged once by
//! [`Rule::judge`], which compares the rolling share of negative tweets with the brand's
//! own preceding baseline.
//!
//! **Invariant.** A verdict depends on the counts, the brand's state and the minute alone,
//! never on the wall clock, so a replay at any speed alarms at the same minutes.
//! Deliberately absent: reading counts, writing incidents, wording of mails.

mod detector;
mod series;
mod watermark;

pub use detector::{Calm, Open, QuietReason, ResolveReason, Rule, State, Verdict, z_of_rise};
pub use series::Series;
pub use watermark::{Progress, watermark};
