//! `[serve]`: the model for other programs, over the HTTP server of `[http]`.

use std::fmt;

use serde::Deserialize;

/// `[serve]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Whether the daemon answers `/predict` and the other routes of the model.
    pub predict: bool,
    /// Texts of all requests that may wait for the model; a request beyond that is refused.
    pub rows_waiting_max: usize,
    /// Texts of one request.
    pub batch_rows_max: usize,
    /// Longest body of a request, in bytes.
    pub body_bytes_max: usize,
}

impl Default for Serve {
    fn default() -> Self {
        Self { predict: true, rows_waiting_max: 512, batch_rows_max: 32, body_bytes_max: 2_000_000 }
    }
}

impl Serve {
    /// Calls `check` (whether a value is valid, key, value, remedy) for each value.
    pub(super) fn check(&self, check: &mut dyn FnMut(bool, &str, &dyn fmt::Display, &str)) {
        check(
            (1..=16_384).contains(&self.rows_waiting_max),
            "serve.rows_waiting_max",
            &self.rows_waiting_max,
            "choose between 1 and 16384 texts",
        );
        check(
            (1..=self.rows_waiting_max).contains(&self.batch_rows_max),
            "serve.batch_rows_max",
            &self.batch_rows_max,
            &format!(
                "choose between 1 and serve.rows_waiting_max ({}), or no full request is ever let in",
                self.rows_waiting_max
            ),
        );
        check(
            (1024..=64 << 20).contains(&self.body_bytes_max),
            "serve.body_bytes_max",
            &self.body_bytes_max,
            "choose between 1024 and 67108864 bytes",
        );
    }
}
