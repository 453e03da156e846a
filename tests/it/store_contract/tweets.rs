//! The stored fields of a tweet.

use monitor_core::domain::{Reach, TweetId};
use monitor_store::{ScoredTweet, Store};

use super::fixtures::*;

pub async fn keeps_whether_a_text_was_truncated(store: &dyn Store) {
    claim_empty(store, 1).await;
    let long = ScoredTweet { truncated: true, ..tweet("long", &["united"], 0.9) };
    let rows = vec![long, tweet("short", &["united"], 0.9)];
    store.commit(&batch(rows, vec![advance(0, 0, 2)])).await.expect("committed");
    let found = store.window_tweets("united", minute(0), minute(9), 9).await.expect("tweets");
    let found: Vec<_> = found.iter().map(|it| (it.tweet_id.as_str(), it.truncated)).collect();
    assert_eq!(found, [("long", true), ("short", false)]);
}

pub async fn stores_reach(store: &dyn Store) {
    let with = |id: &str, reach: Reach| {
        let mut row = tweet(id, &["united"], 0.9);
        row.tweet = row.tweet.with_reach(reach);
        row
    };
    let whole = Reach {
        author: Some("ann".into()),
        followers: Some(12),
        retweets: Some(0),
        retweet_of: Some(TweetId::new("a").expect("an id")),
    };
    let vast = Reach { followers: Some(u64::MAX), ..Reach::default() };
    claim_empty(store, 1).await;
    let rows = vec![with("none", Reach::default()), with("vast", vast), with("whole", whole)];
    store.commit(&batch(rows, vec![advance(0, 0, 3)])).await.expect("committed");
    let again = with("none", Reach { followers: Some(7), ..Reach::default() });
    store.commit(&batch(vec![again], vec![advance(0, 3, 4)])).await.expect("committed");

    let found = store.window_tweets("united", minute(0), minute(9), 9).await.expect("tweets");
    let check = |at: usize, id: &str, expected| {
        let tweet = &found[at];
        assert_eq!(tweet.tweet_id, id);
        let (author, retweet_of) = (tweet.author.as_deref(), tweet.retweet_of.as_deref());
        assert_eq!((author, tweet.followers, tweet.retweets, retweet_of), expected, "{id}");
    };
    check(0, "none", (None, None, None, None));
    check(1, "vast", (None, Some(i64::MAX.unsigned_abs()), None, None));
    check(2, "whole", (Some("ann"), Some(12), Some(0), Some("a")));
    assert_eq!(found.len(), 3);
}

pub async fn finds_a_tweet_by_its_id(store: &dyn Store) {
    claim_empty(store, 1).await;
    let row = ScoredTweet { model: "other@7".into(), ..tweet("a'b", &["united"], 0.9) };
    let rows = vec![row, tweet("second", &[], 0.2)];
    store.commit(&batch(rows, vec![advance(0, 0, 2)])).await.expect("committed");
    let found = store.tweet("a'b").await.expect("an answer").expect("the tweet");
    assert_eq!((found.tweet_id.as_str(), found.model.as_str()), ("a'b", "other@7"));
    assert_eq!((found.negative, found.is_negative), (0.9, true));
    let of_no_brand = store.tweet("second").await.expect("an answer").expect("the tweet");
    assert!(!of_no_brand.is_negative);
    assert_eq!(store.tweet("third").await.expect("an answer"), None);
}
