//! The terms of this project: tweet, language, score, checkpoint, counts, evidence, incident, silence,
//! switches of the model.
//!
//! **Invariant.** Plain data and arithmetic on it. Constructors enforce ranges, so every value
//! is valid. Types whose JSON is stored or sent (evidence, counts) have one JSON form, and
//! snapshot tests pin it. Deliberately absent: I/O.

mod checkpoint;
mod counts;
mod evidence;
mod incident;
mod language;
mod phase;
mod precision;
mod removed;
mod score;
mod silence;
mod stream_format;
mod switches;
mod tweet;
mod zone;

pub use checkpoint::{Offset, Resume, ResumeReason, StartAt, TopicPartition, resume_position};
pub use counts::{Counts, HOURS_PER_WEEK, Minute};
pub use evidence::{
    Cause, Evidence, Interval, LagEvidence, QuietEvidence, Severity, ShareEvidence, VolumeEvidence,
    Watch, window_minutes,
};
pub use incident::{Acknowledgement, Incident, IncidentId, Notified, STREAM, Transition};
pub use language::{InvalidLanguage, Language};
pub use phase::{Phase, ResolveReason};
pub use precision::Precision;
pub use removed::Removed;
pub use score::{
    Classes, InvalidProbability, Label, LabelThresholds, Probabilities, Probability, Score,
};
pub use silence::{Silence, silenced};
pub use stream_format::StreamFormat;
pub use switches::{ModelSwitch, Switches};
pub use tweet::{InvalidTweet, Reach, TWEET_ID_CHARS_MAX, Tweet, TweetId};
pub use zone::Zone;
