//! The headers of a record that matter to its decoding.

/// Longest value that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 128;

/// What a record's headers say about its payload: `content-type`, the time of a CloudEvent in binary
/// mode (`ce_time`), and whether Confluent's serialisers put a schema id there (`__value_schema_id`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) time: Option<String>,
    pub(super) has_schema: bool,
}

impl Headers {
    /// Takes a header, if it matters. Names are compared in any case.
    pub fn add(&mut self, name: &str, value: Option<&[u8]>) {
        let text = || {
            let value = value?;
            let value = str::from_utf8(value.get(..VALUE_BYTES_MAX).unwrap_or(value)).ok()?;
            Some(value.trim().to_owned())
        };
        if name.eq_ignore_ascii_case("content-type") {
            self.content_type = text();
        } else if name.eq_ignore_ascii_case("ce_time") {
            self.time = text();
        } else if name.eq_ignore_ascii_case("__value_schema_id") {
            self.has_schema = true;
        }
    }
}
