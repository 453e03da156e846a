use std::collections::HashSet;
use std::fs::File;

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

/// A negative tweet without known reach, written `second` seconds after 1970.
fn view<'a>(id: &'a str, second: usize, text: &'a str) -> TweetView<'a> {
    TweetView {
        id,
        created_at: DateTime::from_timestamp(second as i64, 0).expect("a valid time"),
        text,
        negative: 0.9,
        is_negative: true,
        author: None,
        followers: None,
        retweets: None,
        retweet_of: None,
    }
}

fn views<'a>(ids: &'a [String], texts: &'a [String]) -> Vec<TweetView<'a>> {
    ids.iter().zip(texts).enumerate().map(|(at, (id, text))| view(id, at, text)).collect()
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|id| id.to_string()).collect()
}

/// `count` different texts: the pattern's `*` is replaced by words that are in no other text, and
/// in no text of a pattern of another length.
fn unlike(pattern: &str, count: usize) -> Vec<String> {
    let filler = |n: usize| {
        "abcde".chars().map(|c| format!("{c}{}x{n} ", pattern.len())).collect::<String>()
    };
    (0..count).map(|n| pattern.replace('*', filler(n).trim_end())).collect()
}

/// The kinds and texts of the found terms, heaviest first.
fn found(incident: &[String], baseline: &[String], own: &[&str]) -> Vec<String> {
    let own: Vec<String> = own.iter().map(|&own| own.into()).collect();
    let ids = ids(incident.len().max(baseline.len()));
    let found =
        drivers(&views(&ids, incident), &views(&ids, baseline), &own, &DriverLimits::default());
    found.terms.into_iter().map(|term| format!("{} {}", term.kind.as_str(), term.text)).collect()
}

#[test]
fn finds_the_terms_typical_of_the_incident() {
    let before = unlike("@air the flight was * ok", 200);
    let check = |name: &str, pattern: &str, expected: &[&str]| {
        assert_eq!(found(&unlike(pattern, 30), &before, &["@Air"]), expected, "{name}");
    };
    check("as frequent as before", "@air the flight was * ok", &[]);
    check("a word", "@air refund * the flight was ok", &["word refund"]);
    check("function words alone", "@air why would they * the flight was ok", &[]);
    check("a phrase instead of its words", "* flight cancelled", &["phrase flight cancelled"]);
    check("three words", "* crew timed out", &["phrase crew timed"]);
    check("with a function word inside", "* stuck in denver", &["phrase stuck in denver"]);
    check("a negation before its word", "* no response", &["phrase no response"]);
    check("no phrase across a full stop", "* refund. baggage", &["word baggage", "word refund"]);
    check("hashtag", "* #FlyAway", &["hashtag #flyaway"]);
    check("somebody's handle", "* @Boss", &["mention @boss"]);
    check("the brand's handle and name", "@AIR #air * air", &[]);
    check("a link", "* https://www.Bbc.com/News?utm_source=x", &["link bbc.com/News"]);
    check("a number with a word", "* terminal 5", &["phrase terminal 5"]);
    check("Chinese", "* 航班取消", &["phrase 航班取消"]);
    check("Hebrew", "* הטיסה בוטלה", &["phrase הטיסה בוטלה"]);
    check("zero-width characters", "* re\u{200B}fund", &["word refund"]);
}

#[test]
fn needs_enough_distinct_tweets() {
    let before = unlike("* ok", 200);
    let check = |name: &str, incident: Vec<String>, expected: &[&str]| {
        let mut incident = incident;
        incident.extend(unlike("* fine", 5));
        assert_eq!(found(&incident, &before, &[]), expected, "{name}");
    };
    let fine = "word fine";
    check("three", unlike("refund *", 3), &[fine, "word refund"]);
    check("two", unlike("refund *", 2), &[fine]);
    check("one bot", vec!["give me my refund now you thieves".into(); 100], &[fine]);
    let numbered = |n| format!("give me my refund now you thieves, hear me, thieves: claim {n}");
    check("a bot that counts", (0..100).map(numbered).collect(), &[fine]);
    let linked = |n| format!("RT @a{n}: Refund NOW https://t.co/{n}");
    check("a bot with links", (0..100).map(linked).collect(), &[fine]);
}

#[test]
fn compares_with_negative_tweets_and_uses_the_others_as_prior() {
    // Negative and other tweets of the baseline: how many, and how many say "delay".
    let check = |name: &str, negative: (usize, usize), other: (usize, usize), expected: bool| {
        let ids = ids(500);
        let mut incident = unlike("delay *", 40);
        incident.extend(unlike("*", 40));
        let mut texts = unlike("delay *", negative.1 + other.1);
        texts.extend(unlike("*", negative.0 - negative.1 + other.0 - other.1));
        let mut before = views(&ids, &texts);
        for (at, tweet) in before.iter_mut().enumerate() {
            let rest = at.checked_sub(negative.1 + other.1);
            tweet.is_negative = rest.map_or(at < negative.1, |at| at < negative.0 - negative.1);
        }
        let found = drivers(&views(&ids, &incident), &before, &[], &DriverLimits::default());
        assert_eq!(found.baseline_distinct as usize, negative.0, "{name}");
        assert_eq!(!found.terms.is_empty(), expected, "{name}: {found:?}");
    };
    check("as many complaints before", (100, 50), (100, 0), false);
    check("mentions before, but no complaints", (100, 0), (100, 50), true);
    check("no complaints before, but as many mentions", (0, 0), (200, 100), false);
    check("no complaints before, nor mentions", (0, 0), (200, 0), true);
    check("no tweets before", (0, 0), (0, 0), false);
}

#[test]
fn agrees_with_a_value_computed_by_hand() {
    // 30 of 60 now; before, 10 of 100 negative and 20 of 200 in all: prior 50 * 50 / 260.
    let mut incident = unlike("refund *", 30);
    incident.extend(unlike("*", 30));
    let mut before = unlike("refund *", 20);
    before.extend(unlike("*", 180));
    let ids = ids(200);
    let mut before = views(&ids, &before);
    before.iter_mut().enumerate().for_each(|(at, tweet)| tweet.is_negative = at % 2 == 0);
    let found = drivers(&views(&ids, &incident), &before, &[], &DriverLimits::default());
    let [term] = &found.terms[..] else { panic!("{found:?}") };
    assert_eq!((&*term.text, term.incident, term.baseline), ("refund", 30, 10));
    let prior: f64 = 2500.0 / 260.0;
    let now = ((30.0 + prior) / (30.0 + 50.0 - prior)).ln();
    let then = ((10.0 + prior) / (90.0 + 50.0 - prior)).ln();
    let expected = (now - then) / (1.0 / (30.0 + prior) + 1.0 / (10.0 + prior)).sqrt();
    assert!((term.z - expected).abs() < 1e-9, "{} {expected}", term.z);
}

#[test]
fn groups_near_duplicates() {
    let long = "they lost my bag in boston on monday and nobody at the desk will talk to me";
    let check = |name: &str, a: &str, b: &str, same: bool| {
        let tweets = [view("a", 0, a), view("b", 1, b)];
        let found = drivers(&tweets, &[], &[], &DriverLimits::default());
        assert_eq!(found.incident_distinct, if same { 1 } else { 2 }, "{name}");
    };
    check("the same", long, long, true);
    check("case, mention, link", "lost MY bag", "@air lost my bag http://t.co/x", true);
    check("retweeted by hand", "lost my bag", "RT @you: lost my bag", true);
    check("cut short", long, &format!("RT @you: {}…", &long[..65]), true);
    check("zero-width padding", "lost my bag", "lost\u{200B} my bag", true);
    check("one word of many changed", long, &long.replace("monday", "friday"), true);
    check("one word of few changed", "lost my bag", "lost my phone", false);
    check("the same topic", long, "my bag is lost and nobody in boston will talk to me", false);
    check("different links alone", "http://t.co/x", "http://t.co/y", false);
    check("different emoji alone", "😡", "😭", false);

    let original = view("a", 0, long);
    let retweet = TweetView { retweet_of: Some("a"), ..view("b", 1, "RT @you: they…") };
    let other = TweetView { retweet_of: Some("a"), ..view("c", 2, "quite another text") };
    for tweets in [[original, retweet, other], [other, original, retweet]] {
        let found = drivers(&tweets, &[], &[], &DriverLimits::default());
        assert_eq!(found.incident_distinct, 1, "a retweet is in the group of its original");
    }
}

#[test]
fn reports_one_viral_tweet() {
    let mut texts = unlike("@air * late", 6);
    texts.extend(vec!["they broke my guitar".to_owned(); 4]);
    let ids = ids(10);
    let mut tweets = views(&ids, &texts);
    (tweets[7].followers, tweets[7].retweets) = (Some(1000), Some(3));
    (tweets[8].followers, tweets[8].retweets) = (Some(500), Some(4));
    (tweets[9].followers, tweets[9].retweets) = (Some(490), Some(4));
    (tweets[8].author, tweets[9].author) = (Some("bot"), Some("bot"));
    let found = drivers(&tweets, &[], &[], &DriverLimits::default());
    assert_eq!((found.incident_tweets, found.incident_distinct), (10, 7));
    let one = found.one_tweet.expect("one tweet is there four times");
    assert!((one.share - 0.4).abs() < 1e-12);
    assert_eq!((&*one.example.id, one.example.tweets), ("7", 4), "the one with the most reach");
    assert_eq!(
        one.example.retweets,
        Some(4),
        "the largest, not the sum: each retweet has the same number"
    );
    assert_eq!(one.example.reach, Some(1504), "an author counts once");
    assert_eq!(found.examples[0].id, "7", "it is also the first example");
    assert_eq!(found.examples.len(), 5);

    tweets[0].followers = Some(10);
    let found = drivers(&tweets, &[], &[], &DriverLimits::default());
    assert_eq!(found.followers, Some(1510), "of all tweets, an author once");

    tweets[0].followers = None;
    let lone = drivers(&tweets[..6], &[], &[], &DriverLimits::default());
    assert_eq!((lone.one_tweet, lone.followers), (None, None));
    assert_eq!(lone.examples[0].reach, None, "unknown is not zero");
}

#[test]
fn examples_are_typical_and_differ() {
    let mut texts = unlike("refund please *", 8);
    texts.extend(unlike("guitar broken *", 6));
    texts.extend(unlike("*", 10));
    let (ids, before) = (ids(200), unlike("ok *", 200));
    let limits = DriverLimits { examples_max: 2, ..DriverLimits::default() };
    let found = drivers(&views(&ids, &texts), &views(&ids, &before), &[], &limits);
    let shown: Vec<_> = found.examples.iter().map(|example| &example.text[..6]).collect();
    assert_eq!(shown, ["refund", "guitar"]);
    assert!(found.examples[0].typicality > found.examples[1].typicality);
}

#[test]
fn themes_are_groups_of_tweets_with_words_in_common() {
    let mut texts = unlike("refund please * money", 8);
    texts.extend(unlike("my guitar is broken *", 12));
    texts.extend(unlike("broken guitar, *", 6));
    texts.extend(unlike("*", 20));
    texts.extend(vec!["refund please, now, you thieves".to_owned(); 3]);
    let (ids, before) = (ids(200), unlike("ok *", 200));
    let mut tweets = views(&ids, &texts);
    for (at, tweet) in tweets.iter_mut().enumerate() {
        tweet.created_at += chrono::TimeDelta::minutes(20 * at as i64);
    }
    (tweets[0].author, tweets[0].followers) = (Some("ann"), Some(7));
    (tweets[1].author, tweets[3].author) = (Some("ann"), Some("bob"));
    tweets[9].author = Some("cy");
    let found = drivers(&tweets, &views(&ids, &before), &[], &DriverLimits::default());
    let shown: Vec<_> = found.themes.iter().map(|it| (it.terms.join(", "), it.tweets)).collect();
    let expected = [("broken, guitar".to_owned(), 18), ("refund, money".to_owned(), 11)];
    assert_eq!(shown, expected, "near-duplicates count");
    let [guitar, refund] = &found.themes[..] else { panic!("{found:?}") };
    assert_eq!(guitar.began, tweets[8].created_at);
    let first: Vec<_> =
        refund.first.iter().map(|it| (&*it.author, &*it.id, it.followers)).collect();
    assert_eq!(first, [("ann", "0", Some(7)), ("bob", "3", None)], "each author once");
    assert_eq!(refund.hours.iter().sum::<u32>(), 11);
    assert_eq!(refund.hours[..4], [3, 3, 2, 0], "by clock hour, gaps included");
    for (theme, example) in found.themes.iter().zip(&found.examples) {
        assert_eq!(theme.tweet_id, example.id, "a typical tweet is among the examples");
        assert!(example.text.contains(&theme.terms[0]), "{theme:?} {example:?}");
    }
}

#[test]
fn a_theme_is_named_by_what_most_of_its_tweets_say() {
    // Most tweets with "cancelled" are in the first theme; the others are no theme of that name.
    let mut texts = unlike("hold flight *", 8);
    texts.extend(unlike("hold queue *", 8));
    texts.extend(unlike("flight cancelled *", 6));
    texts.extend(unlike("hold cancelled *", 3));
    texts.extend(unlike("cancelled * voucher", 5));
    texts.extend(unlike("*", 20));
    let (ids, before) = (ids(200), unlike("ok *", 200));
    let found = drivers(&views(&ids, &texts), &views(&ids, &before), &[], &DriverLimits::default());
    let shown: Vec<_> = found.themes.iter().map(|it| (it.terms.join(", "), it.tweets)).collect();
    let expected = [("hold, flight, cancelled".to_owned(), 25), ("voucher".to_owned(), 5)];
    assert_eq!(shown, expected);
}

#[test]
fn names_the_link_that_is_shared_and_accounts_that_repeat_themselves() {
    let mut texts = unlike("look http://t.co/a?utm_source=b *", 4);
    texts.extend(unlike("http://t.co/z *", 2));
    texts.extend((0..6).map(|n| format!("@friend{n} they broke my guitar http://t.co/z{n}")));
    let ids = ids(12);
    let mut tweets = views(&ids, &texts);
    tweets[6..].iter_mut().for_each(|tweet| tweet.author = Some("bot"));
    tweets[..6].iter_mut().for_each(|tweet| tweet.author = Some("ann"));
    let found = drivers(&tweets, &[], &[], &DriverLimits::default());
    assert_eq!(found.link, Some(("t.co/a".to_owned(), 4)));
    assert_eq!(found.repeaters, [("bot".to_owned(), 6)], "ann writes much, and something new");
    let found = drivers(&tweets[4..10], &[], &[], &DriverLimits::default());
    assert_eq!((found.link, found.repeaters), (None, Vec::new()), "too few");
}

#[test]
fn examples_are_as_written() {
    let check = |name, text, expected| {
        let found = drivers(&[view("a", 0, text)], &[], &[], &DriverLimits::default());
        assert_eq!(found.examples[0].text, expected, "{name}");
    };
    check("escaped by X", "worst &gt; ever &amp; rude", "worst > ever & rude");
    check("escaped twice: only one layer is decoded", "say &amp;lt;b&gt;", "say &lt;b>");
    check("not escaped", "this & that", "this & that");
}

#[test]
fn no_tweets_give_no_drivers() {
    assert_eq!(drivers(&[], &[], &[], &DriverLimits::default()), Drivers::default());
    let positive = TweetView { is_negative: false, ..view("a", 0, "lovely") };
    let found = drivers(&[positive], &[positive], &[], &DriverLimits::default());
    assert_eq!(found, Drivers::default(), "an incident without negative tweets");
}

#[test]
fn reads_the_latest_tweets_of_too_many() {
    let mut texts = unlike("former *", 50);
    texts.extend(unlike("latter *", 50));
    let ids = ids(100);
    let limits = DriverLimits { tweets_max: 50, ..DriverLimits::default() };
    let before = unlike("some *", 50);
    let found = drivers(&views(&ids, &texts), &views(&ids, &before), &[], &limits);
    assert_eq!(found.incident_tweets, 50);
    assert_eq!(found.terms.iter().map(|term| &*term.text).collect::<Vec<_>>(), ["latter"]);
}

/// A tweet of random words, out of forty.
fn chatter() -> impl Strategy<Value = String> {
    prop::collection::vec(0..40_u8, 6..20)
        .prop_map(|words| words.iter().map(|word| format!("w{word} ")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_planted_phrase_comes_first(
        mut incident in prop::collection::vec(chatter(), 60..120),
        baseline in prop::collection::vec(chatter(), 60..300),
        seed in 0..1000_usize,
    ) {
        for (at, text) in incident.iter_mut().enumerate() {
            if (at + seed) % 3 == 0 {
                text.push_str("guitar smashed");
            }
        }
        let terms = found(&incident, &baseline, &[]);
        prop_assert_eq!(terms.first().map(String::as_str), Some("phrase guitar smashed"));
        prop_assert!(!terms[1..].iter().any(|term| term.contains("guitar") || term.contains("smashed")), "{:?}", terms);
    }

    #[test]
    fn the_order_of_the_tweets_does_not_matter(
        texts in prop::collection::vec(".{0,80}", 0..20), turn in 0..20_usize,
    ) {
        let ids = ids(texts.len());
        let mut tweets = views(&ids, &texts);
        let limits = DriverLimits { z_min: f64::MIN, tweets_min: 1, ..DriverLimits::default() };
        let found = drivers(&tweets, &[], &[], &limits);
        let groups: u32 = found.incident_distinct;
        prop_assert!(groups as usize <= texts.len());
        prop_assert!(found.examples.iter().all(|e| (0.0..=1.0 + 1e-9).contains(&e.typicality)));
        let in_themes: u32 = found.themes.iter().map(|theme| theme.tweets).sum();
        prop_assert!(in_themes <= found.incident_tweets, "a tweet is in one theme at most");
        let length = tweets.len().max(1);
        tweets.rotate_left(turn % length);
        prop_assert_eq!(drivers(&tweets, &[], &[], &limits), found);
    }
}

/// The drivers of the tweets to `handle` in `from..to` of the airline week, compared with the two
/// days before. The labels are human.
fn airline(handle: &str, from: &str, to: &str) -> Drivers {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/airline-week.csv.xz");
    let file = lzma_rust2::XzReader::new(File::open(path).expect("the fixture"), true);
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(file).records().map(|row| row.expect("a row")).collect();
    let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
    let (from, to) = (at(from), at(to));
    let mut seen = HashSet::new();
    let tweets: Vec<TweetView<'_>> = rows
        .iter()
        .filter(|row| seen.insert(row[0].to_owned()))
        .filter(|row| row[2].to_lowercase().contains(handle))
        .map(|row| TweetView {
            id: &row[0],
            created_at: at(&row[1]),
            is_negative: &row[3] == "negative",
            ..view("", 0, &row[2])
        })
        .collect();
    let between = |from, to| {
        tweets.iter().filter(|t| (from..to).contains(&t.created_at)).copied().collect::<Vec<_>>()
    };
    let before = between(from - chrono::TimeDelta::days(2), from);
    drivers(&between(from, to), &before, &[handle.into()], &DriverLimits::default())
}

#[test]
fn finds_the_known_topics_of_the_airline_week() {
    let check = |handle: &str, days: (&str, &str), first: &[&str]| {
        let at = |day: &str| format!("{day}T00:00:00Z");
        let found = airline(handle, &at(days.0), &at(days.1));
        let terms: Vec<&str> = found.terms.iter().map(|term| &*term.text).collect();
        assert!(terms.starts_with(first), "{handle}: {terms:?}");
        assert_eq!(terms.is_empty(), first.is_empty(), "{handle}: {terms:?}");
    };
    let check_themes = |handle: &str, days: (&str, &str), expected: &[(&str, u32)]| {
        let at = |day: &str| format!("{day}T00:00:00Z");
        let found = airline(handle, &at(days.0), &at(days.1)).themes;
        let found: Vec<_> = found.iter().map(|it| (it.terms.join(", "), it.tweets)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(terms, n)| ((*terms).to_owned(), *n)).collect();
        assert_eq!(found, expected, "{handle}");
    };
    let southwest = [("flight, cancelled, help", 165), ("hold, hour, hours", 70)];
    check_themes("@southwestair", ("2015-02-21", "2015-02-23"), &southwest);
    let jetblue = [("plane", 34), ("fleet on fleek, stop", 31), ("waiting", 20)];
    check_themes("@jetblue", ("2015-02-22", "2015-02-24"), &jetblue);
    let us_airways = [("hours", 107), ("hold", 83), ("cancelled, cancelled flighted", 62)];
    check_themes("@usairways", ("2015-02-22", "2015-02-24"), &us_airways);
    check_themes("@jetblue", ("2015-02-18", "2015-02-19"), &[]);
    // A storm, and unanswered telephones.
    let southwest = ["hold", "cancelled", "flight", "hour", "phone", "help", "rebook"];
    check("@southwestair", ("2015-02-21", "2015-02-23"), &southwest);
    check("@usairways", ("2015-02-22", "2015-02-24"), &["luggage", "hrs", "people", "hours"]);
    // People mocked its tweet "Our fleet's on fleek".
    check("@jetblue", ("2015-02-22", "2015-02-24"), &["fleet on fleek", "plane", "weather"]);
    // An ordinary day.
    check("@jetblue", ("2015-02-18", "2015-02-19"), &[]);
}
