//! Each format's samples.

mod wrapped;

use chrono::TimeDelta;
use monitor_core::domain::{StreamFormat, Tweet, TweetId};

use super::*;
use crate::timestamp::parse_timestamp;

fn at(text: &str) -> DateTime<Utc> {
    parse_timestamp(text).expect("a valid time")
}

fn limits(format: StreamFormat) -> WireLimits {
    WireLimits { record_bytes_max: 100_000, future_max: TimeDelta::seconds(600), format }
}

/// The record's own time, for tweets that have none.
const RECORD_TIME: &str = "2015-02-20T00:00:00Z";

fn decode_with(payload: &[u8], headers: &Headers, format: StreamFormat) -> Decoded {
    let timestamp = Some(at(RECORD_TIME));
    let raw = Raw { payload, payload_bytes: payload.len(), headers, timestamp };
    decode(&raw, &limits(format), at("2027-01-01T00:00:00Z"))
}

fn read(payload: impl AsRef<[u8]>) -> Decoded {
    decode_with(payload.as_ref(), &Headers::default(), StreamFormat::Auto)
}

fn tweet(name: &str, payload: impl AsRef<[u8]>) -> Tweet {
    match read(payload).content {
        Ok(Content::Tweet(tweet)) => tweet,
        other => panic!("{name}: {other:?}"),
    }
}

/// All that was read, in one line.
fn line(decoded: &Decoded) -> String {
    let shown = |value: Option<String>| value.unwrap_or("-".into());
    let format = decoded.format.map_or("?", StreamFormat::as_str);
    match &decoded.content {
        Err(rejected) => {
            assert!(Rejected::KINDS.contains(&rejected.kind()), "{rejected:?}");
            format!("{format} {}: {rejected}", rejected.kind())
        }
        Ok(Content::Notice(notice)) => {
            let subject = match notice {
                Notice::Deleted(subject) => format!(" {}", subject_line(subject)),
                Notice::Compliance { event, subject } => {
                    format!(" {event} {}", subject_line(subject))
                }
                Notice::Limit(count) => format!(" {}", shown(count.map(|count| count.to_string()))),
                _ => String::new(),
            };
            format!("{format} {}{subject}", notice.reason())
        }
        Ok(Content::Tweet(tweet)) => {
            let reach = &tweet.reach;
            let number = |number: Option<u64>| shown(number.map(|number| number.to_string()));
            let id = |id: &Option<TweetId>| shown(id.as_ref().map(TweetId::to_string));
            format!(
                "{format} {} {:?} {} by {} to {}, {} of {} in {} {:?} edit {}{}",
                tweet.id,
                tweet.text,
                tweet.created_at.format("%FT%T%.fZ"),
                shown(reach.author.clone()),
                number(reach.followers),
                number(reach.retweets),
                id(&reach.retweet_of),
                shown(tweet.language.map(|language| language.as_str().to_owned())),
                tweet.rule_tags,
                id(&tweet.edit_of.first().cloned()),
                if tweet.is_cut { " cut" } else { "" },
            )
        }
    }
}

fn subject_line(subject: &Subject) -> String {
    let shown = |value: Option<String>| value.unwrap_or("-".into());
    format!(
        "{} of {} at {}",
        shown(subject.tweet.as_ref().map(TweetId::to_string)),
        shown(subject.user.clone()),
        shown(subject.at.map(|at| at.format("%T").to_string())),
    )
}

/// Reads the samples of one format, `tests/fixtures/formats/NAME.jsonl`, each alone.
fn check(name: &str, set: StreamFormat, expected: &[&str]) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/formats");
    let samples = std::fs::read_to_string(format!("{root}/{name}.jsonl")).expect("the samples");
    for format in [StreamFormat::Auto, set] {
        let found: Vec<String> = samples
            .lines()
            .map(|sample| line(&decode_with(sample.as_bytes(), &Headers::default(), format)))
            .collect();
        for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "{name}, line {}, format {format:?}", number + 1);
        }
        assert_eq!(found.len(), expected.len(), "{name}");
    }
}

#[test]
fn x_api_v2() {
    let whole = "RT @bob: Three hours in the queue, no one from the airline to be seen, and now the last \
                 flight is gone. Thank you, Acme Air.";
    let long = "A long one, whole: Acme Air lost my bag twice.";
    check(
        "x-v2",
        StreamFormat::X,
        &[
            r#"x 1234567892 "Flight acme:77 delayed again & nobody says why https://t.co/a1" 2026-01-15T12:00:00Z by acme_fan to 507, 5 of - in en ["acme"] edit -"#,
            &format!(
                r#"x 1234567893 {whole:?} 2026-01-15T12:00:05Z by carla to 20, 41 of 1234560000 in en ["acme"] edit -"#
            ),
            &format!(
                r#"x 1234567894 {long:?} 2026-01-15T12:01:00Z by 14 to -, 0 of - in en ["acme"] edit 1234567890"#
            ),
            r#"x 1234567895 "RT @bob: Three hours in the queue, no one from the airline to be seen, and now the last flight is gon…" 2026-01-15T12:02:00Z by - to -, - of 1234560000 in - [] edit - cut"#,
        ],
    );
    check(
        "x-v2-posts",
        StreamFormat::X,
        &[
            &format!(
                r#"x 1234567893 {whole:?} 2026-08-15T12:00:05Z by carla to 20, 41 of 1234560000 in en ["acme"] edit -"#
            ),
            &format!(
                r#"x 1234567894 {long:?} 2026-08-15T12:01:00Z by - to -, - of - in - [] edit 1234567890"#
            ),
        ],
    );
}

#[test]
fn x_compliance() {
    check(
        "x-compliance",
        StreamFormat::X,
        &[
            "x deleted 601430178305220608 of 3198576760 at 12:00:00",
            "x compliance withheld 601430178305220609 of 3198576760 at 12:00:01",
            "x compliance drop 601430178305220610 of 3198576761 at 12:00:02",
            "x compliance undrop 601430178305220610 of 3198576761 at 12:00:03",
            "x compliance tweet_edit 601430178305220611 of - at 12:00:04",
            "x compliance user_delete - of 771136850 at 12:00:05",
            "x compliance user_suspend - of 771136851 at 12:00:06",
            "x compliance user_profile_modification - of 771136852 at 12:00:07",
            "x deleted 601430178305220612 of 3198576760 at 12:00:08",
            "x compliance scrub_geo - of 14090452 at -",
            "x compliance status_withheld 601430178305220613 of 3198576763 at -",
            "x compliance user_withheld - of 3198576764 at -",
            "x limit 1234",
            "x stream-error: the stream reports an error: operational-disconnect: This stream has been disconnected upstream for operational reasons.",
            "x stream-error: the stream reports an error: disconnect: the client reads too slowly",
            "x stream-error: the stream reports an error: warning: Your connection is falling behind.",
        ],
    );
}

#[test]
fn x_api_v1() {
    let whole = "To make room for more expression, we will now count all emojis as equal & Acme Air still lost my \
                 bag.";
    check(
        "x-v1",
        StreamFormat::X,
        &[
            &format!(
                r#"x 1050118621198921728 {whole:?} 2018-10-10T20:19:24Z by ann to 5921, 3 of - in en ["acme"] edit -"#
            ),
            &format!(
                r#"x 1050118621198921801 {:?} 2018-10-10T20:20:00Z by bob to 12, 17 of 1050118621198921728 in en [] edit -"#,
                format!("RT @ann: {whole}")
            ),
            r#"x 1050118621198921802 "Extended mode of the REST API: Acme Air found my bag." 2018-10-10T20:21:00Z by cy to 1, 0 of - in en [] edit -"#,
            r#"x 1050118621198921803 "Nobody asked for the rest of this one, and so it ends in the midd…" 2018-10-10T20:22:00Z by di to 2, - of - in - [] edit - cut"#,
            r#"x 1050118621198921804 "no date but this" 2018-10-10T20:19:24.657Z by 8 to -, - of - in - [] edit -"#,
        ],
    );
}

#[test]
fn bluesky() {
    let post = "at://did:plc:eygmaihciaxprqvxpfvl6flk/app.bsky.feed.post";
    let did = "did:plc:eygmaihciaxprqvxpfvl6flk";
    check(
        "bluesky-v1",
        StreamFormat::Bluesky,
        &[
            &format!(
                r#"bluesky {post}/3mmoojp4cd223 "Acme Air lost my bag & did not even call" 2026-05-25T14:23:28.757Z by {did} to -, - of - in en [] edit -"#
            ),
            &format!(
                r#"bluesky {post}/3mmoojp4cd224 "from a clock that is a year ahead" 2026-05-25T14:23:30Z by {did} to -, - of - in - [] edit -"#
            ),
            &format!(
                r#"bluesky {post}/3mmoojp4cd223 "Acme Air found my bag" 2026-05-25T14:23:31Z by {did} to -, - of - in en [] edit {post}/3mmoojp4cd223"#
            ),
            "bluesky no-text",
            "bluesky no-text",
            "bluesky no-post",
            &format!("bluesky deleted {post}/3mmoojp4cd223 of {did} at 14:23:35"),
            "bluesky no-post",
            "bluesky no-post",
        ],
    );
    check(
        "bluesky-v2",
        StreamFormat::Bluesky,
        &[
            &format!(
                r#"bluesky {post}/3l3qo2vuowo2b "Acme Air is on time today" 2026-09-09T19:46:02.102Z by {did} to -, - of - in en [] edit -"#
            ),
            &format!("bluesky deleted {post}/3l3qo2vuowo2b of {did} at 19:46:03"),
            "bluesky no-post",
            "bluesky no-post",
            "bluesky stream-error: the stream reports an error: the consumer is too slow",
        ],
    );
}

#[test]
fn mastodon() {
    check(
        "mastodon",
        StreamFormat::Mastodon,
        &[
            r#"mastodon mastodon:114567890123456789 "@acme lost my bag & my patience\n😡" 2026-01-15T12:00:00Z by ann@social.example to 72, 3 of - in en [] edit -"#,
            r#"mastodon mastodon:114567890123456789 "travel\n\nAcme found my bag" 2026-01-15T12:00:00Z by ann to 72, 4 of - in - [] edit mastodon:114567890123456789"#,
            r#"mastodon mastodon:114567890123456790 "Acme found my bag" 2026-01-15T12:01:00Z by bob to 9, 5 of mastodon:114567890123456789 in en [] edit -"#,
            "mastodon no-text",
            "mastodon deleted mastodon:114567890123456789 of - at -",
            "mastodon no-post",
            "mastodon no-post",
            r#"mastodon mastodon:114567890123456792 "Ein Status allein" 2026-01-15T12:03:00Z by cy to 3, 0 of - in de [] edit -"#,
        ],
    );
}

#[test]
fn reddit() {
    check(
        "reddit",
        StreamFormat::Reddit,
        &[
            r#"reddit reddit:t1_ds0ny2p "Acme Air lost my bag >:( again" 2026-01-15T12:00:00Z by ann to -, - of - in - [] edit -"#,
            r#"reddit reddit:t1_ds0ny2q "same here" 2026-01-15T12:00:01Z by bob to -, - of - in - [] edit -"#,
            r#"reddit reddit:t3_7nbqy2 "Acme Air?\n\nHas anyone flown with them?" 2026-01-15T12:00:02Z by cy to -, - of - in - [] edit -"#,
            r#"reddit reddit:t3_7nbqy3 "A link alone" 2026-01-15T12:00:03Z by di to -, - of - in - [] edit -"#,
            "reddit no-text",
            "reddit no-post",
        ],
    );
}

#[test]
fn flat() {
    // Debezium's deletion is seen before a format is.
    check(
        "flat",
        StreamFormat::Flat,
        &[
            r#"flat 570306133677760513 "@acme flight cancelled again" 2015-02-24T19:35:52Z by jnardino to 1203, 2 of 570306133677760000 in en ["acme"] edit -"#,
            r#"flat 570306133677760514 "tea & coffee, and a � cut emoji" 2015-02-24T19:35:52Z by - to 12, - of - in - [] edit -"#,
            r#"flat 570306133677760515 "names of a table" 2015-02-24T19:35:52Z by bob to 7, 1 of - in - [] edit -"#,
            r#"flat 570306133677760516 "a row by Debezium" 2015-02-24T19:35:52Z by - to -, - of - in - [] edit -"#,
            r#"flat 570306133677760517 "a row by Kafka Connect" 2015-02-24T19:35:52Z by - to -, - of - in - [] edit -"#,
            r#"flat 570306133677760518 "an event whose time is its wrapper's" 2015-02-24T19:35:52Z by - to -, - of - in - [] edit -"#,
            "flat deleted 570306133677760519 of - at -",
            "? deleted 570306133677760516 of - at 19:35:54",
        ],
    );
}

#[test]
fn the_setting_decides() {
    let check = |payload: &str, set, expected: &str| {
        let found = line(&decode_with(payload.as_bytes(), &Headers::default(), set));
        assert!(found.contains(expected), "{set:?}: {found}");
    };
    let reddit = r#"{"id":"a","body":"hi","created_utc":1768478400}"#;
    check(reddit, StreamFormat::Auto, "reddit reddit:t1_a");
    let other = r#"kafka.format is "x", but the record has the format "reddit""#;
    check(reddit, StreamFormat::X, other);
    check(reddit, StreamFormat::Flat, r#"not a tweet: "text" is missing"#);
    let bare = r#"{"id":"7","text":"hi"}"#;
    check(bare, StreamFormat::X, "x 7 \"hi\" 2015-02-20T00:00:00Z");
    check(bare, StreamFormat::Flat, "flat 7 \"hi\" 2015-02-20T00:00:00Z");
    check(bare, StreamFormat::Mastodon, r#"but the record has the format "flat""#);
}

#[test]
fn fields_that_are_not_needed_never_cost_a_tweet() {
    let sound = line(&read(r#"{"id":"7","text":"hi"}"#));
    for json in [
        "null",
        "0",
        "-1.5",
        "1e300",
        "true",
        r#""""#,
        r#""x""#,
        "[]",
        "[null]",
        "{}",
        r#"{"a":1}"#,
    ] {
        for field in ["lang", "author", "followers", "retweets", "retweet_of", "rule_tags", "other"]
        {
            // Some of these values can be read; the tweet must be there either way.
            tweet(field, format!(r#"{{"id":"7","text":"hi","{field}":{json}}}"#));
        }
        // Fields that are wrappers where the tweet is inside.
        for field in [
            "data",
            "errors",
            "event",
            "payload",
            "kind",
            "did",
            "op",
            "before",
            "after",
            "schema",
            "body",
            "specversion",
            "delete",
            "limit",
            "status",
            "user",
            "title",
            "content",
            "account",
            "$type",
        ] {
            let more = r#""schema":1,"kind":"t1","created_utc":1"#;
            for more in ["\"z\":1", more] {
                tweet(field, format!(r#"{{"id":"7","text":"hi",{more},"{field}":{json}}}"#));
            }
        }
        for field in ["matching_rules", "includes", "errors", "other"] {
            tweet(field, format!(r#"{{"data":{{"id":"7","text":"hi"}},"{field}":{json}}}"#));
        }
        for field in [
            "author_id",
            "public_metrics",
            "referenced_tweets",
            "referenced_posts",
            "note_tweet",
            "note_post",
            "edit_history_tweet_ids",
            "edit_history_post_ids",
            "lang",
            "entities",
        ] {
            tweet(field, format!(r#"{{"data":{{"id":"7","text":"hi","{field}":{json}}}}}"#));
        }
        for field in ["retweeted_status", "extended_tweet", "retweet_count", "timestamp_ms"] {
            // Read only where created_at is missing.
            let time = r#""created_at":"Wed Oct 10 20:19:24 +0000 2018""#;
            let user = r#""user":{"id_str":"5"}"#;
            tweet(field, format!(r#"{{"id_str":"7","text":"hi",{time},{user},"{field}":{json}}}"#));
        }
    }
    let with = |fields: &str| line(&read(format!(r#"{{"id":"7","text":"hi",{fields}}}"#)));
    assert_eq!(with(r#""author":"a\u0000b","followers":1.5,"retweet_of":null"#), sound);
    assert_eq!(
        with(&format!(r#""author":"{}","followers":18446744073709551615"#, "x".repeat(129))),
        sound
    );
    assert_eq!(with(r#""author":"\ud83d""#), sound.replace("by -", "by \u{FFFD}"));
    assert_eq!(with(r#""entities":{"urls":["\ud83d",1e999]}"#), sound);
    let tags = r#"{"data":{"id":"7","text":"hi"},"matching_rules":[{"tag":5},{"tag":null},null,{"tag":"a"}]}"#;
    assert_eq!(tweet("tags", tags).rule_tags, ["5", "a"]);
}

#[test]
fn reads_the_language_if_present() {
    let check = |name: &str, payload: &str, expected: Option<&str>| {
        let found = tweet(name, payload).language;
        assert_eq!(found.as_ref().map(|language| language.as_str()), expected, "{name}");
    };
    let flat = |lang: &str| format!(r#"{{"id":"7","text":"hi","lang":{lang}}}"#);
    check("absent", r#"{"id":"7","text":"hi"}"#, None);
    check("flat", &flat(r#""fr""#), Some("fr"));
    check("beside the tweet", r#"{"data":{"id":"7","text":"hi"},"lang":"fr"}"#, None);
    check("Hebrew's old code", &flat(r#""iw""#), Some("he"));
    check("a region", &flat(r#""zh-tw""#), Some("zh"));
    for unknown in ["und", "qme", "qht", "qam", "qst", "qct", "zxx", "art", "", "English"] {
        check(unknown, &flat(&format!("{unknown:?}")), None);
    }
}

#[test]
fn a_tweet_needs_a_time() {
    let payload = br#"{"id":"7","text":"hi"}"#;
    let headers = Headers::default();
    let raw = Raw { payload, payload_bytes: payload.len(), headers: &headers, timestamp: None };
    let decode =
        |raw: &Raw<'_>| decode(raw, &limits(StreamFormat::Auto), at("2027-01-01T00:00:00Z"));
    assert_eq!(decode(&raw).content, Err(Rejected::NoTime { field: "created_at".into() }));
    let mut headers = Headers::default();
    headers.add("CE_time", Some(b"2015-02-24T19:35:52Z"));
    let found = line(&decode(&Raw { headers: &headers, ..raw }));
    assert!(found.contains("2015-02-24T19:35:52Z"), "{found}");
}
