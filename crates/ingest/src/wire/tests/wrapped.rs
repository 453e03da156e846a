//! What wrappers may do to a tweet, and what any bytes may do.

use proptest::prelude::*;

use super::*;

#[test]
fn wrappers() {
    let tweet = r#"{"id":"7","text":"hi","created_at":"2015-02-24T19:35:52Z"}"#;
    let sound = line(&read(tweet));
    let text = |json: &str| serde_json::Value::from(json).to_string();
    let check = |name: &str, payload: &[u8], layers: usize| {
        let found = read(payload);
        assert_eq!((line(&found), found.layers), (sound.clone(), layers), "{name}");
    };
    let framed = |frame: &[u8], json: &str| [frame, json.as_bytes()].concat();
    let connect = |json: &str| format!(r#"{{"schema":{{"type":"string"}},"payload":{json}}}"#);
    let debezium = |json: &str| format!(r#"{{"before":null,"after":{json},"op":"u","ts_ms":1}}"#);
    let event =
        |data: &str| format!(r#"{{"specversion":"1.0","id":"1","type":"t","source":"s",{data}}}"#);
    check("none", tweet.as_bytes(), 0);
    check("a byte order mark", &framed(b"\xef\xbb\xbf", tweet), 0);
    check("white space", format!("\n\t {tweet}\r\n").as_bytes(), 0);
    let utf16 = |mark: &[u8], units: Vec<u8>| [mark, &units].concat();
    let little = tweet.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big = tweet.encode_utf16().flat_map(u16::to_be_bytes).collect();
    check("UTF-16, little endian", &utf16(b"\xff\xfe", little), 0);
    check("UTF-16, big endian", &utf16(b"\xfe\xff", big), 0);
    check("Confluent", &framed(b"\0\0\0\0\x2a", tweet), 1);
    check("Confluent, before a mark", &framed(b"\0\0\0\0\x2a\xef\xbb\xbf", tweet), 1);
    check("Confluent's GUID", &framed(b"\x010123456789abcdef", tweet), 1);
    check("Kafka Connect", connect(tweet).as_bytes(), 1);
    check(
        "Kafka Connect without a schema",
        format!(r#"{{"payload":{tweet},"schema":null}}"#).as_bytes(),
        1,
    );
    check("Kafka Connect, a text", connect(&text(tweet)).as_bytes(), 2);
    check("Debezium", debezium(tweet).as_bytes(), 1);
    check("Debezium of MongoDB, a text", debezium(&text(tweet)).as_bytes(), 2);
    check("Debezium in Kafka Connect", connect(&debezium(tweet)).as_bytes(), 2);
    check("all three", &framed(b"\0\0\0\0\x01", &connect(&debezium(tweet))), 3);
    check("CloudEvents", event(&format!(r#""data":{tweet}"#)).as_bytes(), 1);
    check("CloudEvents, a text", event(&format!(r#""data":{}"#, text(tweet))).as_bytes(), 2);
    let coded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tweet);
    check("CloudEvents, base64", event(&format!(r#""data_base64":"{coded}""#)).as_bytes(), 1);
    check("JSON in a text", text(tweet).as_bytes(), 1);
}

#[test]
fn headers_explain_what_is_not_json() {
    let check = |name: &str, value: &[u8], expected: &str| {
        let mut headers = Headers::default();
        headers.add(name, Some(value));
        let found = line(&decode_with(b"\x02\x0ehello", &headers, StreamFormat::Auto));
        assert!(found.contains(expected), "{found}");
    };
    check("Content-Type", b"application/avro", r#"(its content-type is "application/avro")"#);
    check("__value_schema_id", b"\x01", "names a schema: Avro or Protobuf? send JSON");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any bytes are read without a panic, and rejected in words that are not serde's.
    #[test]
    fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(rejected) = read(&payload).content {
            let words = rejected.to_string();
            prop_assert!(!words.contains("expected") && !words.contains("did not match"), "{words}");
        }
    }

    /// So is anything near JSON.
    #[test]
    fn near_json(payload in r#"([{}\[\],:"]|"(id|text|data|payload|op|after|event|kind|did|commit)":|\\ud83d|\\|NaN|-|[0-9]|a| |\n){0,40}"#) {
        if let Err(rejected) = read(&payload).content {
            prop_assert!(!rejected.to_string().contains("expected"), "{rejected}");
        }
    }

    /// Up to three wrappers of any kind are taken off, a fourth is refused, and neither changes the tweet.
    #[test]
    fn unwraps_any_three(kinds in proptest::collection::vec(0..5_usize, 0..6), id in 1..u64::MAX, text in "[a-z\"\\\\é😡]{1,20}") {
        let tweet = serde_json::json!({"id": id.to_string(), "text": text, "created_at": "2015-02-24T19:35:52Z"});
        let mut payload = tweet.clone();
        for kind in &kinds {
            payload = match kind {
                0 => serde_json::json!({"schema": {"type": "struct"}, "payload": payload}),
                1 => serde_json::json!({"before": null, "after": payload, "op": "c"}),
                2 => serde_json::json!({"specversion": "1.0", "data": payload}),
                3 if payload.is_object() => payload.to_string().into(),
                _ => serde_json::json!({"payload": payload, "schema": null}),
            };
        }
        // A CloudEvent's data is an object, or the text of one.
        let found = read(payload.to_string());
        if kinds.len() <= unwrap::LAYERS_MAX {
            prop_assert_eq!(line(&found), line(&read(tweet.to_string())));
            prop_assert_eq!(found.layers, kinds.len());
        } else {
            let words = line(&found);
            prop_assert!(words.contains("more than 3 wrappers"), "{}", words);
        }
    }

    /// What a person wrote is stored as written, except for HTML entities and NUL.
    #[test]
    fn texts_are_kept(text in "[^&\0]{1,50}") {
        prop_assume!(!text.trim().is_empty());
        let payload = serde_json::json!({"id": "7", "text": text}).to_string();
        prop_assert_eq!(tweet("text", payload).text, text);
    }
}
