//! The words this project is written in: tweet, score, checkpoint, counts, evidence, incident.
//!
//! **Invariant.** Plain data and arithmetic on it; std and chrono's time type only.
//! Constructors enforce ranges, so a value that exists is valid.
//! Deliberately absent: serialisation (each border has its own wire types) and I/O.

mod checkpoint;
mod counts;
mod evidence;
mod incident;
mod precision;
mod score;
mod tweet;

pub use checkpoint::{Offset, Resume, ResumeReason, StartAt, TopicPartition, resume_position};
pub use counts::{Counts, HOURS_PER_WEEK, Minute};
pub use evidence::{
    Cause, Evidence, Interval, LagEvidence, QuietEvidence, Severity, ShareEvidence, SurgeEvidence,
};
pub use incident::{Acknowledgement, Incident, IncidentId, Notified, STREAM, Transition};
pub use precision::Precision;
pub use score::{InvalidProbability, Label, Probability, Score};
pub use tweet::{InvalidTweet, Reach, TWEET_ID_CHARS_MAX, Tweet, TweetId};
