//! The keys that settings have, and what a wrong one probably meant.
//!
//! **Invariant.** The keys are those that serde's derive knows, read from the types themselves, so a
//! new setting is known here at once. A place in a file is a line number, never the line: it may
//! contain a password. Deliberately absent: whether a value is valid.

use std::cell::Cell;
use std::fmt;
use std::path::Path;

use serde::de::value::Error as Stop;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::de::{DeTable, DeValue};

use super::Settings;

/// How similar a key must be to be suggested, from 0 to 1, by Jaro's measure. Slips of the hand are
/// above 0.9; "recipients" and "secret" have about 0.7.
const SIMILAR_MIN: f64 = 0.8;

/// A key that is no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// Where it stands: "monitor.toml, line 3".
    pub place: String,
    /// Dotted, as in the file.
    pub key: String,
    /// The most similar key, dotted, if one is similar.
    pub similar: Option<String>,
    /// The keys that its table has.
    pub known: Vec<&'static str>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: there is no setting `{}`", self.place, self.key)?;
        match &self.similar {
            Some(similar) => write!(f, "; did you mean `{similar}`?"),
            None => write!(f, "; there are `{}`", self.known.join("`, `")),
        }
    }
}

/// The keys of the table at `path`; `None` if it is no table, or one with keys of the user's choice.
pub(super) fn fields(path: &[&str]) -> Option<&'static [&'static str]> {
    let found = Cell::new(None);
    // Ends with an error in any case.
    let _ = Settings::deserialize(Probe { path, found: &found });
    found.get()
}

/// Follows `path` through the types, and notes the fields of the struct at its end.
struct Probe<'a> {
    path: &'a [&'a str],
    found: &'a Cell<Option<&'static [&'static str]>>,
}

/// A map with the next part of the path as its only key.
struct Entry<'a> {
    key: Option<&'a str>,
    below: Option<Probe<'a>>,
}

impl<'a> Probe<'a> {
    fn descend<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Some((key, path)) = self.path.split_first() else { return Err(Stop::custom("end")) };
        let below = Some(Probe { path, found: self.found });
        visitor.visit_map(Entry { key: Some(key), below })
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::custom("no table"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if self.path.is_empty() {
            self.found.set(Some(fields));
        }
        self.descend(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.descend(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        let key = self.key.take().map(|key| seed.deserialize(key.to_owned().into_deserializer()));
        key.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.below.take().ok_or_else(|| Stop::custom("no value"))?)
    }
}

/// The first part of a dotted key that is no setting.
pub(super) fn unknown(place: &str, path: &[&str]) -> Option<UnknownKey> {
    (0..path.len()).find_map(|depth| unknown_at(place, &path[..depth], path[depth]))
}

/// Whether the table at `path` has no `key`.
fn unknown_at(place: &str, path: &[&str], key: &str) -> Option<UnknownKey> {
    let fields = fields(path)?;
    if fields.contains(&key) {
        return None;
    }
    let dotted = |key: &str| [path, &[key]].concat().join(".");
    let similar = fields
        .iter()
        .map(|field| (strsim::jaro(field, &key.to_lowercase()), field))
        .filter(|(similarity, _)| *similarity > SIMILAR_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Some(UnknownKey {
        place: place.to_owned(),
        key: dotted(key),
        similar: similar.map(|(_, field)| dotted(field)),
        known: fields.to_vec(),
    })
}

/// The setting that a variable with too few underscores probably meant: `MONITOR_KAFKA__BROKERS` for
/// `MONITOR_KAFKA_BROKERS`. `None` for other variables, such as `MONITOR_CACHE`.
pub(super) fn meant(variable: &str) -> Option<String> {
    let words = variable.strip_prefix("MONITOR_")?.to_lowercase();
    if words.contains("__") {
        return None;
    }
    let path = below(&mut Vec::new(), &words)?;
    Some(format!("MONITOR_{}", path.join("__").to_uppercase()))
}

/// The path of the setting below `path` that `words` spell with single underscores.
fn below<'a>(path: &mut Vec<&'a str>, words: &'a str) -> Option<Vec<&'a str>> {
    let keys = fields(path);
    if !path.is_empty() && keys.is_some_and(|keys| keys.contains(&words)) {
        return Some([path.as_slice(), &[words]].concat());
    }
    words.match_indices('_').find_map(|(at, _)| {
        let (key, rest) = (&words[..at], &words[at + 1..]);
        // In a table of tables, any name may stand between.
        let is_key = keys.is_none_or(|keys| keys.contains(&key));
        path.push(key);
        let found = (is_key && (keys.is_some() || fields(path).is_some()))
            .then(|| below(path, rest))
            .flatten();
        path.pop();
        found
    })
}

/// A settings file that is valid TOML.
pub(super) struct Document<'a> {
    name: String,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// `None` if the text is no TOML.
    pub fn parse(file: &Path, text: &'a str) -> Option<Self> {
        let table = DeTable::parse(text).ok()?.into_inner();
        Some(Self { name: file.display().to_string(), text, table })
    }

    /// All keys that are no settings, in the order of the tables.
    pub fn unknown(&self) -> Vec<UnknownKey> {
        let mut found = Vec::new();
        self.gather(&self.table, &mut Vec::new(), &mut found);
        found
    }

    fn gather<'b>(
        &self,
        table: &'b DeTable<'_>,
        path: &mut Vec<&'b str>,
        found: &mut Vec<UnknownKey>,
    ) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            if let Some(unknown) = unknown_at(&self.place(key.span().start), path, name) {
                found.push(unknown);
            } else if let DeValue::Table(below) = value.get_ref() {
                path.push(name);
                self.gather(below, path, found);
                path.pop();
            }
        }
    }

    /// Where a setting stands, by its dotted key; parts with dots are in quotes.
    pub fn place_of(&self, key: &str) -> Option<String> {
        let parts = key.split('"').enumerate().flat_map(|(at, part)| match at % 2 {
            0 => part.split('.').filter(|part| !part.is_empty()).collect(),
            _ => vec![part],
        });
        let (mut table, mut place) = (Some(&self.table), None);
        for part in parts {
            let (key, value) = table?.iter().find(|(key, _)| key.get_ref() == part)?;
            place = Some(key.span().start);
            table = match value.get_ref() {
                DeValue::Table(below) => Some(below),
                _ => None,
            };
        }
        place.map(|start| self.place(start))
    }

    fn place(&self, start: usize) -> String {
        let before = &self.text.as_bytes()[..start.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{}, line {line}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_keys_from_the_types() {
        let has = |path: &[&str], key: &str| {
            assert!(fields(path).is_some_and(|fields| fields.contains(&key)), "{path:?} {key}");
        };
        has(&[], "kafka");
        has(&["kafka"], "brokers");
        has(&["brands", "acme"], "handles");
        has(&["receivers", "comms"], "password_file");
        for none in [&["brands"][..], &["kafka", "brokers"], &["kafka", "properties"], &["nothing"]]
        {
            assert_eq!(fields(none), None, "{none:?}");
        }
    }

    #[test]
    fn names_the_nearest_key() {
        let check = |path: &[&str], expected: Option<&str>| {
            let found = unknown("here", path).map(|unknown| unknown.to_string());
            assert_eq!(found.as_deref(), expected, "{path:?}");
        };
        check(&["kafka", "brokers"], None);
        check(&["kafka", "properties", "sasl", "password"], None);
        check(&["model", "by_language", "fr"], None);
        check(
            &["kafak", "topic"],
            Some("here: there is no setting `kafak`; did you mean `kafka`?"),
        );
        check(
            &["brands", "acme", "Handle"],
            Some(
                "here: there is no setting `brands.acme.Handle`; did you mean `brands.acme.handles`?",
            ),
        );
        check(
            &["log", "zz"],
            Some("here: there is no setting `log.zz`; there are `filter`, `format`"),
        );
    }

    #[test]
    fn says_which_variable_was_meant() {
        let check = |variable, expected: Option<&str>| {
            assert_eq!(meant(variable).as_deref(), expected, "{variable}");
        };
        check("MONITOR_KAFKA_BROKERS", Some("MONITOR_KAFKA__BROKERS"));
        check("MONITOR_MODEL_TOKENS_MAX", Some("MONITOR_MODEL__TOKENS_MAX"));
        check("MONITOR_RECEIVERS_COMMS_PASSWORD", Some("MONITOR_RECEIVERS__COMMS__PASSWORD"));
        check("MONITOR_RECEIVERS_MY_CHAT_URL_FILE", Some("MONITOR_RECEIVERS__MY_CHAT__URL_FILE"));
        check("MONITOR_HTTP_TOKENS_COMMS_SHA256", Some("MONITOR_HTTP__TOKENS__COMMS__SHA256"));
        check("MONITOR_KAFKA__BROKERS", None);
        for other in
            ["MONITOR_CACHE", "MONITOR_CONFIG", "MONITOR_LOG", "MONITOR_STORE_SERVICE_HOST", "PATH"]
        {
            check(other, None);
        }
    }

    #[test]
    fn finds_lines() {
        let text = "[kafka]\ntopic = \"t\"\n\n[brands.\"a.b\"]\nhandle = []\n[kafka.properties]\n\"sasl.password\" = \"x\"\n";
        let document = Document::parse(Path::new("m.toml"), text).unwrap();
        let unknown = document.unknown();
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        assert_eq!(unknown[0].place, "m.toml, line 5");
        for (key, line) in [
            ("kafka.topic", Some(2)),
            ("brands.\"a.b\"", Some(4)),
            ("brands.\"a.b\".handle", Some(5)),
            ("kafka.properties.\"sasl.password\"", Some(7)),
            ("kafka.group", None),
        ] {
            let expected = line.map(|line| format!("m.toml, line {line}"));
            assert_eq!(document.place_of(key), expected, "{key}");
        }
    }
}
