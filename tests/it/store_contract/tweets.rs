//! The stored fields of a tweet.

use monitor_core::domain::{Counts, Label, Reach, TweetId};
use monitor_store::{Committed, Correction, NewTweets, ScoredTweet, Store, TweetQuery};

use super::fixtures::*;

pub async fn keeps_whether_a_text_was_truncated(store: &dyn Store) {
    claim_empty(store, 1).await;
    let mut long = tweet("long", &["united"], 0.9);
    long.score.as_mut().expect("a score").truncated = true;
    let rows = vec![long, tweet("short", &["united"], 0.9)];
    store.commit(&batch(rows, vec![advance(0, 0, 2)])).await.expect("committed");
    let found = store.window_tweets("united", minute(0), minute(9), 9).await.expect("tweets");
    let found: Vec<_> = found.iter().map(|it| (it.tweet_id.as_str(), it.truncated)).collect();
    assert_eq!(found, [("long", true), ("short", false)]);
}

/// Tweets without a score are stored once, and counted by language and in no share.
pub async fn counts_tweets_without_a_score_apart(store: &dyn Store) {
    let without = |id: &str, brands: &[&str], language: &str| {
        let row = tweet(id, brands, 0.9);
        let tweet = row.tweet.with_language(Some(language.parse().expect("a code")));
        ScoredTweet { tweet, score: None, ..row }
    };
    claim_empty(store, 1).await;
    let rows = vec![
        without("1", &["united", "delta"], "fr"),
        without("2", &["united"], "es"),
        without("3", &["united"], "fr"),
        without("4", &[], "fr"),
        tweet("5", &["united"], 0.9),
    ];
    let committed = store.commit(&batch(rows, vec![advance(0, 0, 5)])).await.expect("committed");
    let told = |of: &NewTweets| {
        let code = of.language.map_or("-".to_owned(), |language| language.to_string());
        format!("{} {} {code} {}", of.brand, of.model.as_deref().unwrap_or("-"), of.tweets)
    };
    let by_brand: Vec<_> = committed.by_brand.iter().map(told).collect();
    assert_eq!(by_brand, ["delta - fr 1", "united - es 1", "united - fr 2", "united test@1 - 1"]);
    assert_eq!(sums(committed), Committed { new: 1, not_judged: 4, ..Committed::default() });
    let again = vec![without("1", &["united"], "fr"), tweet("2", &["united"], 0.9)];
    let committed = store.commit(&batch(again, vec![advance(0, 5, 7)])).await.expect("committed");
    assert_eq!(committed, Committed { duplicate: 2, ..Committed::default() });

    let languages = async |brand: &str, from, to| {
        let found = store.not_judged(brand, minute(from), minute(to)).await.expect("counts");
        let text = |(language, tweets)| format!("{language} {tweets}");
        found.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(languages("united", 0, 9).await, ["fr 2", "es 1"]);
    assert_eq!(languages("delta", 5, 5).await, ["fr 1"]);
    assert_eq!(languages("united", 6, 9).await, [""; 0]);
    let counts = store.minute_counts("united", minute(0), minute(9)).await.expect("counts");
    assert_eq!(counts, [(minute(5), Counts { total: 1, negative: 1 })]);
    assert_eq!(store.last_minute("delta").await.expect("an answer"), None);
    let shown = store.window_tweets("united", minute(0), minute(9), 9).await.expect("tweets");
    assert_eq!(shown.iter().map(|it| it.tweet_id.as_str()).collect::<Vec<_>>(), ["5"]);
    let totals = store.totals().await.expect("totals");
    assert_eq!((totals.scores, totals.not_judged), (1, 4));

    // Of united, the newest one has no score.
    let row = scored("9", "text", minute(8).start(), &["united"], 0.9);
    let language = Some("fr".parse().expect("a code"));
    let later = ScoredTweet { tweet: row.tweet.with_language(language), score: None, ..row };
    store.commit(&batch(vec![later], vec![advance(0, 7, 8)])).await.expect("committed");
    let newest = store.newest(&["delta".into(), "nobody".into(), "united".into()]).await;
    let expected = [("delta".to_owned(), minute(5)), ("united".to_owned(), minute(8))];
    assert_eq!(newest.expect("an answer"), expected);
}

pub async fn draws_random_tweets(store: &dyn Store) {
    claim_empty(store, 1).await;
    let row = |n: i64| {
        let brands: &[&str] = if n % 4 == 0 { &[] } else { &["united"] };
        scored(&format!("t{n}"), &n.to_string(), minute(n / 10).start(), brands, 0.9)
    };
    let mut rows: Vec<_> = (0..400).map(row).collect();
    let french = tweet("f", &["delta", "united"], 0.9);
    let language = Some("fr".parse().expect("a code"));
    rows.push(ScoredTweet { tweet: french.tweet.with_language(language), score: None, ..french });
    store.commit(&batch(rows, vec![advance(0, 0, 401)])).await.expect("committed");
    let draw = async |brand, to, tweets| {
        monitor_store::draw(store, brand, minute(0), minute(to), tweets).await.expect("tweets")
    };
    let all = draw(None, 40, 1000).await;
    assert_eq!(all.len(), 301, "tweets about no brand are left out");
    let some = draw(Some("united"), 40, 100).await;
    assert_eq!(some, draw(Some("united"), 40, 100).await, "the same at every call");
    assert_eq!(some[..], draw(Some("united"), 40, 1000).await[..100]);
    let numbers: Vec<i64> = some.iter().filter_map(|it| it.text.parse().ok()).collect();
    assert!(!numbers.is_sorted() && numbers.iter().all(|n| n % 4 != 0), "{numbers:?}");
    let late = numbers.iter().filter(|n| **n >= 200).count();
    assert!((30..=70).contains(&late), "from the whole time: {late}");
    assert_eq!(draw(Some("united"), 1, 1000).await.len(), 7, "the end is not in it");
    let found = draw(Some("delta"), 40, 9).await;
    let [french] = &found[..] else { panic!("{found:?}") };
    assert_eq!((french.language, french.negative, french.model.as_ref()), (language, None, None));
    let scored = all.iter().find(|it| it.text == "1").expect("the tweet");
    assert_eq!((scored.negative, scored.model.as_deref()), (Some(0.9), Some("test@1")));
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

pub async fn leaves_authors_out_of_a_window(store: &dyn Store) {
    claim_empty(store, 1).await;
    let by = |id: &str, author: Option<&str>| {
        let mut row = tweet(id, &["united"], 0.9);
        let author = author.map(str::to_owned);
        row.tweet = row.tweet.with_reach(Reach { author, ..Reach::default() });
        row
    };
    let rows = vec![
        by("a", Some("ann")),
        by("b", Some("deals_bot")),
        by("c", Some("@DEALS_BOT")),
        by("d", Some("Other")),
        by("e", Some("deals_bot2")),
        by("f", None),
    ];
    store.commit(&batch(rows, vec![advance(0, 0, 6)])).await.expect("committed");
    let window = async |limit| {
        let found = store.window_tweets("united", minute(0), minute(9), limit).await;
        found.expect("tweets").into_iter().map(|it| it.tweet_id).collect::<Vec<_>>()
    };
    assert_eq!(window(9).await, ["a", "e", "f"]);
    assert_eq!(window(3).await, ["a", "e", "f"], "they take no place of others");
    let query = TweetQuery {
        brand: "united".into(),
        from: minute(0),
        to: minute(9),
        label: None,
        text: None,
        after: None,
        limit: 9,
    };
    assert_eq!(store.search_tweets(&query).await.expect("tweets").len(), 6, "they are shown");
}

pub async fn finds_a_tweet_by_its_id(store: &dyn Store) {
    claim_empty(store, 1).await;
    let mut row = tweet("a'b", &["united"], 0.9);
    row.score.as_mut().expect("a score").model = "other@7".into();
    let rows = vec![row, tweet("second", &[], 0.2)];
    store.commit(&batch(rows, vec![advance(0, 0, 2)])).await.expect("committed");
    let found = store.tweet("a'b").await.expect("an answer").expect("the tweet");
    assert_eq!((found.tweet_id.as_str(), found.model.as_str()), ("a'b", "other@7"));
    assert_eq!((found.negative, found.is_negative), (0.9, true));
    let of_no_brand = store.tweet("second").await.expect("an answer").expect("the tweet");
    assert!(!of_no_brand.is_negative);
    assert_eq!(store.tweet("third").await.expect("an answer"), None);
}

pub async fn searches_tweets(store: &dyn Store) {
    claim_empty(store, 1).await;
    let row = |id: &str, text: &str, at: i64, brand: &str, p| {
        scored(id, text, minute(at).start(), &[brand], p)
    };
    let without = ScoredTweet { score: None, ..row("none", "late", 3, "united", 0.9) };
    let rows = vec![
        row("a", "Late AGAIN", 3, "united", 0.9),
        ScoredTweet {
            brands: vec!["delta".into(), "united".into()],
            ..row("b", "late, 100% late_", 3, "united", 0.9)
        },
        row("c", "on time", 4, "united", 0.1),
        row("d", "late", 5, "delta", 0.9),
        row("e", "late", 9, "united", 0.9),
        ScoredTweet {
            tweet: without.tweet.with_language(Some("fr".parse().expect("a code"))),
            ..without
        },
    ];
    store.commit(&batch(rows, vec![advance(0, 0, 6)])).await.expect("committed");
    let query = TweetQuery {
        brand: "united".into(),
        from: minute(3),
        to: minute(8),
        label: None,
        text: None,
        after: None,
        limit: 9,
    };
    let ids = async |query: TweetQuery| {
        let found = store.search_tweets(&query).await.expect("tweets");
        found.into_iter().map(|it| it.tweet.tweet_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(query.clone()).await, ["c", "b", "a"], "newest first, then by id");
    let negative = TweetQuery { label: Some(Label::Negative), ..query.clone() };
    assert_eq!(ids(negative).await, ["b", "a"]);
    let with = |text: &str| TweetQuery { text: Some(text.into()), ..query.clone() };
    assert_eq!(ids(with("LATE again")).await, ["a"], "in any case");
    assert_eq!(ids(with("100% late_")).await, ["b"], "no sign has a meaning");
    assert_eq!(ids(with("l%e")).await, [""; 0]);
    assert_eq!(ids(with("\0")).await, [""; 0]);
    let first = TweetQuery { limit: 2, ..query.clone() };
    assert_eq!(ids(first.clone()).await, ["c", "b"]);
    let after = Some((minute(3).start(), "b".to_owned()));
    assert_eq!(ids(TweetQuery { after, ..first }).await, ["a"]);

    let correction = Correction {
        tweet_id: "a".into(),
        label: Label::Neutral,
        by: "anna".into(),
        at: noon(),
        text: String::new(),
    };
    store.correct(&correction).await.expect("corrected");
    let found = store.search_tweets(&query).await.expect("tweets");
    assert_eq!(found[2].label, Label::Negative);
    assert_eq!(found[2].corrected, Some((Label::Neutral, "anna".into(), noon())));
    assert_eq!(found[1].corrected, None);
}
