//! Records that are not as they should be, and what becomes of each: the decoder here, a running daemon in
//! `daemon/records.rs`.

use chrono::{DateTime, TimeDelta, Utc};
use monitor_core::domain::StreamFormat;
use monitor_ingest::{Content, Headers, Raw, WireLimits, decode};

/// What a record becomes.
#[derive(Debug, Clone, Copy)]
pub enum Becomes {
    /// A tweet with this text.
    Tweet(&'static str),
    /// A dead letter whose reason contains this.
    Letter(&'static str),
    /// Counted under this reason, and not stored.
    Notice(&'static str),
}

use Becomes::{Letter, Notice, Tweet};

/// One kind of record.
pub struct Kind {
    pub name: &'static str,
    pub payload: Vec<u8>,
    pub header: Option<(&'static str, &'static str)>,
    pub becomes: Becomes,
}

/// The id of the record with this number, which stands for `ID` in its payload.
pub fn id(number: usize) -> String {
    format!("70000000000000{number:04}")
}

/// All kinds, in the order in which the daemon gets them.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut add = |name, payload: &[u8], becomes| {
        kinds.push(Kind { name, payload: payload.to_vec(), header: None, becomes });
    };
    not_json(&mut add);
    wrapped(&mut add);
    shapes(&mut add);
    ids(&mut add);
    texts(&mut add);
    times(&mut add);
    platforms(&mut add);
    read_all_the_same(&mut add);
    notices(&mut add);
    let binary = b"\x02\x0ehello".to_vec();
    let mut add = |name, header, part| {
        let becomes = Letter(part);
        kinds.push(Kind { name, payload: binary.clone(), header: Some(header), becomes });
    };
    add(
        "Avro by its content type",
        ("content-type", "avro/binary"),
        "content-type is \"avro/binary\"",
    );
    add("a schema in a header", ("__value_schema_id", "x"), "Avro or Protobuf? send JSON");
    for (number, kind) in kinds.iter_mut().enumerate() {
        kind.payload = replace(&kind.payload, b"#ID", id(number).as_bytes());
    }
    kinds
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        None => bytes.to_vec(),
        Some(at) => {
            let rest = replace(&bytes[at + from.len()..], from, to);
            [&bytes[..at], to, &rest].concat()
        }
    }
}

type Add<'a> = &'a mut dyn FnMut(&'static str, &[u8], Becomes);

fn not_json(add: Add<'_>) {
    let mut add = |name, bytes: &[u8], part| add(name, bytes, Letter(part));
    add("nothing", b"", "the record is empty");
    add("a word", b"hello", "not JSON: byte 1 begins \"hello\"");
    add("a NUL", b"\0", "byte 1 begins");
    add("gzip", b"\x1f\x8b\x08\0\0\0\0\0", "looks like gzip");
    add("Zstandard", b"\x28\xb5\x2f\xfd\x04\x00", "looks like Zstandard");
    add("LZ4", b"\x04\x22\x4d\x18\x64\x40", "looks like LZ4");
    add("xz", b"\xfd7zXZ\0\0\x04", "looks like xz");
    add("zip", b"PK\x03\x04\x14\0", "looks like a zip archive");
    add("an Avro file", b"Obj\x01\x04\x14avro", "looks like an Avro file");
    add("a Java object", b"\xac\xed\0\x05sr\0", "looks like a serialised Java object");
    add("a Python pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.", "looks like a Python pickle");
    add("XML", b"<tweet><id>7</id></tweet>", "looks like XML or HTML");
    add("an HTML error page", b"\n<!DOCTYPE html><title>502</title>", "looks like XML or HTML");
    add("a PDF", b"%PDF-1.7", "byte 1 begins \"%PDF-1.7\"");
    add("a picture", b"\x89PNG\r\n\x1a\n", "byte 1 begins");
    add("MessagePack", b"\x82\xa2id\xa17\xa4text\xa2hi", "byte 1 begins");
    add("CBOR", b"\xa2\x62id\x617\x64text\x62hi", "byte 1 begins");
    add("YAML", b"id: 7\ntext: hi\n", "byte 1 begins \"id: 7");
    add("CSV", b"7,hi,2015-02-24T19:35:52Z", "byte 2 begins \",hi,");
    add("TOML", b"id = \"7\"", "byte 1 begins \"id = ");
    add("a form", b"id=7&text=hi", "byte 1 begins \"id=7&");
    add("base64", b"eyJpZCI6IjciLCJ0ZXh0IjoiaGkifQ==", "byte 1 begins \"eyJ");
    add("an event stream", b"data: {\"id\":\"7\"}\n\n", "byte 1 begins \"data: ");
    add("an HTTP chunk", b"1f\r\n{\"id\":\"7\"}\r\n", "byte 2 begins \"f");
    add("a log line", b"2015-02-24 INFO {\"id\":\"7\"}", "byte 5 begins \"-02-24");
    add("a Python dict", b"{'id': '7', 'text': 'hi'}", "use json.dumps");
    add("Python bytes", b"b'{\"id\": \"7\"}'", "Python's form of bytes");
    add("Python's None", b"{\"id\": None}", "byte 8 begins \"N");
    add("Python's True", b"{\"id\": True}", "begins \"T");
    add("a JavaScript object", b"{id: \"7\"}", "byte 2 begins \"id: ");
    add("undefined", b"{\"id\":undefined}", "byte 7 begins \"undefined");
    add("a comma too many", b"{\"id\":\"7\",}", "begins \"}\"");
    add("a comma too few", b"{\"id\":\"7\" \"text\":\"hi\"}", "byte 11 begins");
    add("a comment", b"{\"id\":\"7\", // the id\n}", "begins \"// the id");
    add("no colon", b"{\"id\" \"7\"}", "byte 7 begins");
    add("a value in single quotes", b"{\"id\":'7'}", "byte 7 begins \"'7'");
    add("an unknown escape", br#"{"id":"7","text":"\q"}"#, "not JSON: byte ");
    add("cut after a key", b"{\"id\":\"7\",\"te", "ends in the middle, after 13 bytes");
    add("cut in a text", b"{\"id\":\"7\",\"text\":\"hi", "ends in the middle");
    add("cut in an escape", br#"{"id":"7","text":"\u12"#, "ends in the middle");
    add("cut at once", b"{", "ends in the middle, after 1 bytes");
    add("a bracket alone", b"}", "byte 1 begins \"}\"");
    add("a bracket too many", b"{\"id\":\"7\",\"text\":\"hi\"}}", "byte 23 begins \"}\"");
    add("NUL bytes behind", b"{\"id\":\"7\",\"text\":\"hi\"}\0\0", "byte 23 begins");
    add(
        "two objects",
        b"{\"id\":\"7\"}{\"id\":\"8\"}",
        "more than one JSON value; send one record",
    );
    add("two lines", b"{\"id\":\"7\"}\n{\"id\":\"8\"}\n", "more than one JSON value");
    add("text behind", b"{\"id\":\"7\",\"text\":\"hi\"} ok", "byte 24 begins \"ok\"");
    add("UTF-16 without a mark", b"{\0\"\0i\0d\0\"\0", "byte 2 begins");
    add("deep lists", "[".repeat(500).as_bytes(), "nested deeper than 128 levels");
    add("deep objects", "{\"data\":".repeat(500).as_bytes(), "nested deeper than 128 levels");
    add("a number out of range", b"{\"id\":1e999,\"text\":\"hi\"}", "out of range");
    add("leading zeros", b"{\"id\":007,\"text\":\"hi\"}", "not JSON: byte ");
    add("a plus sign", b"{\"id\":+7,\"text\":\"hi\"}", "byte 7 begins \"+7");
    add("hexadecimal", b"{\"id\":0x7,\"text\":\"hi\"}", "begins \"x7");
}

fn wrapped(add: Add<'_>) {
    let mut add = |name, bytes: &[u8], part| add(name, bytes, Letter(part));
    add("Confluent, nothing inside", b"\0\0\0\0\x2a", "names schema 42, and no JSON follows");
    add("Confluent, Avro", b"\0\0\0\0\x2a\x02\x0ehello", "names schema 42, and no JSON follows");
    add("Confluent, Protobuf", b"\0\0\0\0\x07\0\x0a\x03abc", "names schema 7, and no JSON follows");
    add("Confluent's GUID, Avro", b"\x010123456789abcdef\x02\x02", "names schema 30313233");
    add("Confluent, cut JSON", b"\0\0\0\0\x2a{\"id\":", "ends in the middle");
    add("Kafka Connect, null", br#"{"schema":null,"payload":null}"#, "the record is empty");
    add("Kafka Connect, a number", br#"{"schema":{},"payload":7}"#, "the record is a number");
    add("Kafka Connect, a text", br#"{"schema":{},"payload":"hi"}"#, "the record is a text");
    add("Kafka Connect, a list", br#"{"schema":{},"payload":[1,2]}"#, "a list of 2");
    add("Kafka Connect, cut JSON", br#"{"schema":{},"payload":"{\"id\":"}"#, "ends in the middle");
    add("Kafka Connect, no id", br#"{"schema":{},"payload":{"text":"hi"}}"#, "\"id\" is missing");
    add("Debezium, an unknown change", br#"{"op":"x","after":{"id":"7"}}"#, "\"op\" is \"x\"");
    add("Debezium, no row", br#"{"op":"c","before":null,"after":null}"#, "\"after\" is missing");
    add("Debezium, no text", br#"{"op":"u","after":{"id":"7"}}"#, "\"text\" is missing");
    add("Debezium, a row that is a number", br#"{"op":"u","after":7}"#, "the record is a number");
    let event = |data: &str| format!(r#"{{"specversion":"1.0","id":"e","type":"t",{data}}}"#);
    add(
        "a CloudEvent of text",
        event(r#""datacontenttype":"text/plain","data":"hi""#).as_bytes(),
        "\"data\" of the CloudEvent is a text of type \"text/plain\", not JSON",
    );
    add("a CloudEvent of a number", event(r#""data":7"#).as_bytes(), "is a number, not JSON");
    add("a CloudEvent of null", event(r#""data":null"#).as_bytes(), "is null, not JSON");
    add("a CloudEvent of a list", event(r#""data":[]"#).as_bytes(), "is a list, not JSON");
    add("a CloudEvent, no base64", event(r#""data_base64":"?""#).as_bytes(), "is not base64");
    add(
        "a CloudEvent, coded words",
        event(r#""data_base64":"aGVsbG8=""#).as_bytes(),
        "begins \"hello\"",
    );
    add("a CloudEvent without data", event(r#""text":7"#).as_bytes(), "\"text\" is a number");
    add("JSON in a text, broken", br#""{oops""#, "byte 2 begins \"oops\"");
    let mut deep = r#"{"id":"7","text":"hi"}"#.to_owned();
    for _ in 0..4 {
        deep = format!(r#"{{"schema":{{}},"payload":{deep}}}"#);
    }
    add("four wrappers", deep.as_bytes(), "there are more than 3 wrappers");
}

fn shapes(add: Add<'_>) {
    let mut add = |name, text: &str, part| add(name, text.as_bytes(), Letter(part));
    add("null", "null", "the record is null, not an object");
    add("true", "true", "the record is true or false, not an object");
    add("a number", "42", "the record is a number, not an object");
    add("a text", r#""hello""#, "the record is a text, not an object");
    add("not a number", "NaN", "the record is null, not an object");
    add("an empty list", "[]", "the record is a list of 0; send one record for each post");
    add("a list of one", r#"[{"id":"7","text":"hi"}]"#, "a list of 1");
    add("an empty object", "{}", "not a tweet: \"id\" is missing");
    add("other fields", r#"{"message":"hi","level":"info"}"#, "\"id\" is missing");
    add("data is a text", r#"{"data":"x"}"#, "\"data\" is a text, not an object");
    add("data is a number", r#"{"data":7}"#, "\"data\" is a number, not an object");
    add("data is a list", r#"{"data":[{"id":"7"},{"id":"8"}]}"#, "a list of 2");
    add("data is empty", r#"{"data":{}}"#, "\"data.id\" is missing");
    add("data is null", r#"{"data":null}"#, "\"id\" is missing");
    add(
        "errors alone",
        r#"{"errors":[{"title":"operational-disconnect","detail":"bye"}]}"#,
        "the stream reports an error: operational-disconnect: bye",
    );
    add("no errors", r#"{"errors":[]}"#, "the stream reports an error: errors");
    add("v1.1 disconnects", r#"{"disconnect":{"code":4,"reason":"slow"}}"#, "disconnect: slow");
    add("v1.1 warns", r#"{"warning":{"code":"FALLING_BEHIND"}}"#, "warning: FALLING_BEHIND");
    add(
        "Jetstream fails",
        r#"{"$type":"error","error":"ConsumerTooSlow"}"#,
        "an error: ConsumerTooSlow",
    );
    add("a listing", r#"{"kind":"Listing","data":{"children":[{},{}]}}"#, "a list of 2");
}

fn ids(add: Add<'_>) {
    let mut add = |name, id: &str, part| {
        let flat = format!(r#"{{"id":{id},"text":"hi"}}"#);
        add(name, flat.as_bytes(), Letter(part));
    };
    add("id: null", "null", "\"id\" is missing");
    add("id: empty", r#""""#, "\"id\": the id is empty");
    add("id: blank", r#"" \t""#, "\"id\": the id is empty");
    add("id: a spreadsheet's", r#""5.70306E+17""#, "\"id\": the id is a rounded number");
    add("id: a spreadsheet's, in Europe", r#""5,70306E+17""#, "the id is a rounded number");
    add("id: a data frame's", r#""570306133677760512.0""#, "the id is a rounded number");
    add("id: a rounded number", "5.70306e17", "\"id\" is the number 5.70306e17, not a text or");
    add("id: a fraction", "1.5", "\"id\" is the number 1.5e0");
    add("id: negative", "-7", "\"id\" is the number -7e0");
    add("id: more than 64 bits", "99999999999999999999", "\"id\" is the number 1e20");
    add("id: true", "true", "\"id\" is true or false");
    add("id: a list", "[7]", "\"id\" is a list");
    add("id: an object", r#"{"$oid":"7"}"#, "\"id\" is an object");
    add("id: too long", &format!("{:?}", "x".repeat(129)), "longer than 128 characters");
    add("id: a bell", r#""a\u0007b""#, "holds a control character");
    add("id: two lines", r#""a\nb""#, "holds a control character");
    add("id: a NUL", r#""a\u0000b""#, "holds a control character");
}

fn texts(add: Add<'_>) {
    let mut whole = |name, json: &str, part| add(name, json.as_bytes(), Letter(part));
    whole("text: none", r#"{"id":"7"}"#, "not a tweet: \"text\" is missing");
    whole("text: none in data", r#"{"data":{"id":"7"}}"#, "\"data.text\" is missing");
    whole(
        "text: an empty note alone",
        r#"{"data":{"id":"7","note_tweet":{"text":" "}}}"#,
        "\"data.text\" is missing",
    );
    whole("text: none in v1.1", r#"{"id_str":"7","user":{}}"#, "\"text\" is missing");
    let mut add = |name, text: &str, part| {
        let flat = format!(r#"{{"id":"7","text":{text}}}"#);
        whole(name, &flat, part);
    };
    add("text: null", "null", "\"text\" is missing");
    add("text: a number", "7", "\"text\" is a number, not a text");
    add("text: true", "true", "\"text\" is true or false, not a text");
    add("text: a list", r#"["hi"]"#, "\"text\" is a list, not a text");
    add("text: an object", r#"{"en":"hi"}"#, "\"text\" is an object, not a text");
    add("text: empty", r#""""#, "\"text\": the text is empty");
    add("text: blank", r#"" \n\t\u00a0\u3000""#, "\"text\": the text is empty");
    add("text: a blank entity", r#""&nbsp;""#, "\"text\": the text is empty");
}

fn times(add: Add<'_>) {
    let mut whole = |name, json: &str, part| add(name, json.as_bytes(), Letter(part));
    whole(
        "time: of data",
        r#"{"data":{"id":"7","text":"hi","created_at":"then"}}"#,
        "\"data.created_at\" is \"then\", not a time such as",
    );
    whole(
        "time: of v1.1",
        r#"{"id_str":"7","text":"hi","user":{},"created_at":"Feb 24"}"#,
        "\"created_at\" is \"Feb 24\"",
    );
    whole(
        "time: of Mastodon",
        r#"{"id":"7","content":"hi","account":{},"created_at":"x"}"#,
        "\"created_at\" is \"x\"",
    );
    whole(
        "time: of Reddit",
        r#"{"id":"7","body":"hi","created_utc":"x"}"#,
        "\"created_utc\" is \"x\"",
    );
    whole(
        "time: of Bluesky, with no other",
        r#"{"did":"d","kind":"commit","commit":{"operation":"create","collection":"app.bsky.feed.post","rkey":"r","record":{"text":"hi","createdAt":"x"}}}"#,
        "\"record.createdAt\" is \"x\"",
    );
    let mut add = |name, time: &str, part| {
        let flat = format!(r#"{{"id":"7","text":"hi","created_at":{time}}}"#);
        whole(name, &flat, part);
    };
    add("time: a word", r#""yesterday""#, "\"created_at\" is \"yesterday\", not a time");
    add("time: a day alone", r#""2015-02-24""#, "\"created_at\" is \"2015-02-24\"");
    add("time: with slashes", r#""24/02/2015 19:35""#, "not a time such as");
    add("time: in words", r#""Feb 24, 2015 7:35 PM""#, "not a time such as");
    add("time: a 13th month", r#""2015-13-24T19:35:52Z""#, "not a time such as");
    add("time: 30 February", r#""2015-02-30T19:35:52Z""#, "not a time such as");
    add("time: a 25th hour", r#""2015-02-24T25:35:52Z""#, "not a time such as");
    add("time: true", "true", "\"created_at\" is true or false, not a time");
    add("time: an object", r#"{"$date":1}"#, "\"created_at\" is an object, not a time");
    add("time: a list", "[2015,2,24]", "\"created_at\" is a list, not a time");
    add("time: huge", "1e300", "not a time such as");
    add("time: not a number", r#""NaN""#, "\"created_at\" is \"NaN\"");
    add("time: zero", "0", "1970-01-01 00:00:00 UTC is before the first tweet ever");
    add("time: negative", "-5", "is before the first tweet ever");
    add("time: before X", r#""2001-01-01T00:00:00Z""#, "is before the first tweet ever");
    add(
        "time: to come",
        r#""2099-01-01T00:00:00Z""#,
        "is in the future, more than kafka.future_s_max",
    );
    add("time: too long", &format!("{:?}", "9".repeat(500)), "not a time such as");
}

fn platforms(add: Add<'_>) {
    let mut whole = |name, json: &str, part| add(name, json.as_bytes(), Letter(part));
    whole("v2, id true", r#"{"data":{"id":true,"text":"hi"}}"#, "\"data.id\" is true or false");
    whole(
        "v2, id rounded",
        r#"{"data":{"id":"5.7E+17","text":"hi"}}"#,
        "\"data.id\": the id is a rounded",
    );
    whole("v2, text a number", r#"{"data":{"id":"7","text":7}}"#, "\"data.text\" is a number");
    whole("v1.1, no id", r#"{"text":"hi","user":{}}"#, "\"id\" is missing");
    whole(
        "v1.1, id too long",
        &format!(r#"{{"id_str":"{}","text":"hi","user":{{}}}}"#, "9".repeat(129)),
        "\"id_str\": the id is longer",
    );
    whole("Bluesky, no commit", r#"{"did":"d","kind":"commit"}"#, "\"commit\" is missing");
    whole(
        "Bluesky, no author",
        r#"{"commit":{"collection":"app.bsky.feed.post"},"did":null,"kind":"commit"}"#,
        "\"did\" is missing",
    );
    let mut bluesky = |name, commit: &str, part| {
        let event = format!(
            r#"{{"did":"d","time_us":1424806552000000,"kind":"commit","commit":{{{commit}}}}}"#
        );
        whole(name, &event, part);
    };
    bluesky("Bluesky, no collection", r#""rkey":"r""#, "\"commit.collection\" is missing");
    bluesky(
        "Bluesky, no key",
        r#""collection":"app.bsky.feed.post""#,
        "\"commit.rkey\" is missing",
    );
    let post = r#""collection":"app.bsky.feed.post","rkey":"r""#;
    bluesky("Bluesky, no operation", post, "\"commit.operation\" is missing");
    bluesky(
        "Bluesky, an unknown operation",
        &format!(r#"{post},"operation":"x""#),
        "\"commit.operation\" is \"x\", not create",
    );
    bluesky(
        "Bluesky, no record",
        &format!(r#"{post},"operation":"create""#),
        "\"record\" is missing",
    );
    bluesky(
        "Bluesky, a text as record",
        &format!(r#"{post},"operation":"create","record":"hi""#),
        "\"record\" is a text, not an object",
    );
    bluesky(
        "Bluesky, no text",
        &format!(r#"{post},"operation":"create","record":{{}}"#),
        "\"record.text\" is missing",
    );
    bluesky(
        "Bluesky, text a number",
        &format!(r#"{post},"operation":"create","record":{{"text":7}}"#),
        "\"record.text\" is a number",
    );
    bluesky(
        "Bluesky, a key of two lines",
        r#""collection":"app.bsky.feed.post","rkey":"a\nb","operation":"create""#,
        "\"commit.rkey\": the id",
    );
    whole(
        "Mastodon, broken payload",
        r#"{"event":"update","payload":"{oops"}"#,
        "byte 2 begins \"oops\"",
    );
    whole(
        "Mastodon, no payload",
        r#"{"event":"update","stream":["user"]}"#,
        "\"payload\" is missing",
    );
    whole(
        "Mastodon, a list as payload",
        r#"{"event":"update","payload":[]}"#,
        "\"payload\" is a list, not a status",
    );
    whole(
        "Mastodon, no content",
        r#"{"id":"7","content":null,"account":{}}"#,
        "\"content\" is missing",
    );
    whole(
        "Mastodon, content a number",
        r#"{"id":"7","content":7,"account":{}}"#,
        "\"content\" is a number",
    );
    whole("Mastodon, no id", r#"{"content":"hi","account":{}}"#, "\"id\" is missing");
    whole(
        "Mastodon, deletes nothing",
        r#"{"event":"delete","payload":null}"#,
        "\"payload\" is missing",
    );
    whole("Reddit, no id", r#"{"body":"hi","created_utc":1424806552}"#, "\"id\" is missing");
    whole("Reddit, no body", r#"{"kind":"t1","data":{"id":"7"}}"#, "\"body\" is missing");
    whole(
        "Reddit, body a number",
        r#"{"id":"7","body":7,"created_utc":1}"#,
        "\"body\" is a number",
    );
    whole("Reddit, no title", r#"{"kind":"t3","data":{"id":"7"}}"#, "\"title\" is missing");
    whole(
        "Reddit, an empty title",
        r#"{"kind":"t3","data":{"id":"7","title":7}}"#,
        "\"title\" is a number",
    );
    whole("Reddit, data a text", r#"{"kind":"t1","data":"x"}"#, "\"id\" is missing");
}

fn read_all_the_same(add: Add<'_>) {
    add("a byte order mark", b"\xef\xbb\xbf{\"id\":\"#ID\",\"text\":\"hi\"}", Tweet("hi"));
    add("Confluent, JSON", b"\0\0\0\0\x2a{\"id\":\"#ID\",\"text\":\"hi\"}", Tweet("hi"));
    add("raw Latin-1", b"{\"id\":\"#ID\",\"text\":\"caf\xe9\"}", Tweet("café"));
    add(
        "half a character",
        b"{\"id\":\"#ID\",\"text\":\"caf\xc3\xa9 \xc3\"}",
        Tweet("café \u{FFFD}"),
    );
    add("a line break in a text", b"{\"id\":\"#ID\",\"text\":\"a\nb\"}", Tweet("a\nb"));
    let mut add = |name, json: &str, text| add(name, json.as_bytes(), Tweet(text));
    add("half an emoji", r##"{"id":"#ID","text":"hi \ud83d"}"##, "hi \u{FFFD}");
    add("half an emoji elsewhere", r##"{"id":"#ID","text":"hi","name":"\ud83d"}"##, "hi");
    add("half an emoji as a key", r##"{"id":"#ID","text":"hi","\ude00":1}"##, "hi");
    add("NaN", r##"{"id":"#ID","text":"hi","followers":NaN}"##, "hi");
    add("infinity", r##"{"id":"#ID","text":"hi","followers":-Infinity}"##, "hi");
    add("a NUL in the text", r##"{"id":"#ID","text":"a\u0000b"}"##, "a\u{FFFD}b");
    add("entities", r##"{"id":"#ID","text":"a &lt; b &amp; c"}"##, "a < b & c");
    add("id: a number", r##"{"id":#ID,"text":"hi"}"##, "hi");
    add("id: blanks around", r##"{"id":" #ID ","text":"hi"}"##, "hi");
    add("time: milliseconds", r##"{"id":"#ID","text":"hi","created_at":1424806552000}"##, "hi");
    add("time: seconds as text", r##"{"id":"#ID","text":"hi","created_at":"1424806552"}"##, "hi");
    add(
        "time: a short offset",
        r##"{"id":"#ID","text":"hi","created_at":"2015-02-24T19:35:52+0000"}"##,
        "hi",
    );
    add("time: no zone", r##"{"id":"#ID","text":"hi","created_at":"2015-02-24 19:35:52"}"##, "hi");
    add("time: null", r##"{"id":"#ID","text":"hi","created_at":null}"##, "hi");
    add("time: empty", r##"{"id":"#ID","text":"hi","created_at":" "}"##, "hi");
    add("rules: null", r##"{"data":{"id":"#ID","text":"hi"},"matching_rules":null}"##, "hi");
    add(
        "rules: a tag that is a number",
        r##"{"data":{"id":"#ID","text":"hi"},"matching_rules":[{"tag":5}]}"##,
        "hi",
    );
    add("tags: null", r##"{"id":"#ID","text":"hi","rule_tags":null}"##, "hi");
    add("note: empty", r##"{"data":{"id":"#ID","text":"hi","note_tweet":{}}}"##, "hi");
    add(
        "includes: a text",
        r##"{"data":{"id":"#ID","text":"hi","author_id":1},"includes":"none"}"##,
        "hi",
    );
    add(
        "errors beside the tweet",
        r##"{"data":{"id":"#ID","text":"hi"},"errors":[{"title":"x"}]}"##,
        "hi",
    );
    add("a field twice", r##"{"id":"7","text":"old","id":"#ID","text":"new"}"##, "new");
    add("an unknown number out of range", r##"{"id":"#ID","text":"hi","size":1e999}"##, "hi");
    add(
        "an unknown field, deep",
        &format!(r##"{{"id":"#ID","text":"hi","tree":{}{}}}"##, "[".repeat(2000), "]".repeat(2000)),
        "hi",
    );
    add("spaces around", " \r\n{ \"id\" : \"#ID\" , \"text\" : \"hi\" }\r\n", "hi");
    add("JSON in a text", r##""{\"id\":\"#ID\",\"text\":\"hi\"}""##, "hi");
    add("a CSV's names", r##"{"tweet_id":"#ID","tweet":"hi","date":"2015-02-24 19:35:52"}"##, "hi");
    add(
        "Kafka Connect",
        r##"{"schema":{"type":"struct"},"payload":{"id":"#ID","text":"hi"}}"##,
        "hi",
    );
    add("Debezium", r##"{"before":null,"after":{"id":#ID,"text":"hi"},"op":"c","ts_ms":1}"##, "hi");
    add(
        "a CloudEvent",
        r##"{"specversion":"1.0","id":"e","data":{"id":"#ID","text":"hi"}}"##,
        "hi",
    );
}

fn notices(add: Add<'_>) {
    let mut add = |name, json: &str, reason| add(name, json.as_bytes(), Notice(reason));
    add("a keep-alive", "\r\n", "keep-alive");
    add("a deletion", r#"{"data":{"delete":{"tweet":{"id":"7"}}}}"#, "deleted");
    add("a suspension", r#"{"data":{"user_suspend":{"user":{"id":"7"}}}}"#, "compliance");
    add("a limit", r#"{"limit":{"track":7}}"#, "limit");
    add(
        "a like",
        r#"{"did":"d","kind":"commit","commit":{"collection":"app.bsky.feed.like"}}"#,
        "no-post",
    );
    add("a picture alone", r#"{"id":"7","content":"","account":{}}"#, "no-text");
    add("removed", r#"{"id":"7","body":"[removed]","created_utc":1424806552}"#, "no-text");
    add("a row deleted", r#"{"op":"d","before":{"id":"7"},"after":null}"#, "deleted");
    add("a table emptied", r#"{"op":"t","before":null,"after":null}"#, "no-post");
}

#[test]
fn the_decoder_names_each() {
    let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    let limits = WireLimits {
        record_bytes_max: 1 << 20,
        future_max: TimeDelta::minutes(10),
        format: StreamFormat::Auto,
    };
    let kinds = kinds();
    let not_tweets = kinds.iter().filter(|kind| !matches!(kind.becomes, Tweet(_))).count();
    assert!(not_tweets >= 150, "{not_tweets} kinds");
    let mut wrong = Vec::new();
    for (number, Kind { name, payload, header, becomes }) in kinds.iter().enumerate() {
        let mut headers = Headers::default();
        if let Some((name, value)) = header {
            headers.add(name, Some(value.as_bytes()));
        }
        let timestamp = Some(now);
        let raw = Raw { payload, payload_bytes: payload.len(), headers: &headers, timestamp };
        let found = decode(&raw, &limits, now).content;
        let is_right = match (&found, becomes) {
            (Ok(Content::Tweet(tweet)), Tweet(text)) => {
                tweet.id.as_str() == id(number) && tweet.text == *text
            }
            (Ok(Content::Notice(notice)), Notice(reason)) => notice.reason() == *reason,
            (Err(rejected), Letter(part)) => rejected.to_string().contains(part),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{name}: {found:?} should be {becomes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), kinds.len(), wrong.join("\n"));
    let names: std::collections::BTreeSet<_> = kinds.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), kinds.len(), "each kind has a name of its own");
}
