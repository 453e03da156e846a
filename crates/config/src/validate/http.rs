//! Checks `[http]`.

use std::net::SocketAddr;

use super::{Check, is_name, is_web_url, quoted};
use crate::Settings;

pub(super) fn check(settings: &Settings, check: &mut Check<'_>) {
    let http = &settings.http;
    check(
        http.listen.parse::<SocketAddr>().is_ok(),
        "http.listen",
        &quoted(&http.listen),
        "give address and port, such as 127.0.0.1:8080",
    );
    check(
        !http.is_exposed() || !http.tokens.is_empty(),
        "http.listen",
        &quoted(&http.listen),
        "other machines reach this address: set a token in [http.tokens.NAME], or listen on \
         127.0.0.1",
    );
    if let Some(url) = &http.public_url {
        check(
            is_web_url(url),
            "http.public_url",
            &quoted(url),
            "give an http:// or https:// URL, such as https://monitor.example.com",
        );
    }
    for (name, token) in &http.tokens {
        check(
            is_name(name),
            &format!("http.tokens.{name:?}"),
            &"a token",
            "give it a name of 1 to 64 characters, none of them a control character",
        );
        check(
            token.digest().is_some(),
            &format!("http.tokens.{name}.sha256"),
            &"(hidden)",
            "give the 64 hexadecimal digits that `printf %s TOKEN | sha256sum` prints",
        );
    }
}
