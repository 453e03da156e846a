//! Names under which files and flat records have the fields of a tweet, in lower case.
//!
//! **Invariant.** CSV headers and flat JSON share them, so a row means the same in both. Of several
//! names that a row has, the first one in the list is used. Deliberately absent: the names of X,
//! Bluesky, Mastodon and Reddit, whose formats define them.

/// The id.
pub const ID: [&str; 4] = ["id", "tweet_id", "id_str", "ids"];
/// The text.
pub const TEXT: [&str; 4] = ["text", "tweet", "full_text", "content"];
/// When it was written.
pub const TIME: [&str; 6] =
    ["created_at", "tweet_created", "timestamp", "datetime", "date", "time"];
/// The author's user name.
pub const AUTHOR: [&str; 3] = ["author", "username", "screen_name"];
/// How many followers the author has.
pub const FOLLOWERS: [&str; 3] = ["followers", "followers_count", "author_followers"];
/// How often it was repeated.
pub const RETWEETS: [&str; 2] = ["retweets", "retweet_count"];
/// The id of the tweet that it repeats.
pub const RETWEET_OF: [&str; 2] = ["retweet_of", "retweeted_status_id"];
