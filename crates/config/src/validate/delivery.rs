//! Validates `[delivery]` and `[receivers.*]`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use base64::Engine;

use super::{Check, is_name, is_web_url, quoted};
use crate::{Endpoint, Receiver, Settings, SmtpTls, is_public};

pub(super) fn check(settings: &Settings, check: &mut Check) {
    let d = &settings.delivery;
    check(
        (100..=300_000).contains(&d.timeout_ms),
        "delivery.timeout_ms",
        &d.timeout_ms,
        "choose between 100 and 300000 ms",
    );
    check(d.lease_ms <= 3_600_000, "delivery.lease_ms", &d.lease_ms, "choose at most 3600000 ms");
    check(
        d.retry_wait_ms >= 10,
        "delivery.retry_wait_ms",
        &d.retry_wait_ms,
        "choose at least 10 ms",
    );
    check(
        d.lease_ms > d.timeout_ms,
        "delivery.lease_ms",
        &d.lease_ms,
        &format!(
            "choose more than delivery.timeout_ms ({}), or a slow send is repeated",
            d.timeout_ms
        ),
    );
    check(
        d.retry_wait_ms_max >= d.retry_wait_ms && d.retry_wait_ms_max <= 86_400_000,
        "delivery.retry_wait_ms_max",
        &d.retry_wait_ms_max,
        &format!("choose at least delivery.retry_wait_ms ({}), at most 86400000", d.retry_wait_ms),
    );
    check(
        (1..=1000).contains(&d.attempts_max),
        "delivery.attempts_max",
        &d.attempts_max,
        "choose between 1 and 1000",
    );
    check(
        (1..=1000).contains(&d.circuit_failures),
        "delivery.circuit_failures",
        &d.circuit_failures,
        "choose between 1 and 1000",
    );
    check(
        (100..=86_400_000).contains(&d.circuit_rest_ms),
        "delivery.circuit_rest_ms",
        &d.circuit_rest_ms,
        "choose between 100 and 86400000 ms",
    );
    check(
        (10..=60_000).contains(&d.poll_ms),
        "delivery.poll_ms",
        &d.poll_ms,
        "choose between 10 and 60000 ms",
    );

    for (name, receiver) in &settings.receivers {
        check(
            is_name(name),
            &format!("receivers.{name:?}"),
            &"a receiver",
            "give it a name of 1 to 64 characters, none of them a control character",
        );
        let key = |field: &str| format!("receivers.{name}.{field}");
        match receiver {
            Receiver::Email(e) => {
                check(
                    !e.host.trim().is_empty(),
                    &key("host"),
                    &quoted(&e.host),
                    "name the mail server",
                );
                check(e.port > 0, &key("port"), &e.port, "choose between 1 and 65535");
                check(!e.to.is_empty(), &key("to"), &"[]", "name at least one recipient");
                check(
                    e.username.is_some() == (e.password.is_some() || e.password_file.is_some()),
                    &key("username"),
                    &quoted(e.username.as_deref().unwrap_or("")),
                    "give username and password (or password_file) together, or neither",
                );
                check(
                    e.password.is_none() || e.password_file.is_none(),
                    &key("password"),
                    &"(hidden)",
                    "give either password or password_file",
                );
                check(
                    e.username.is_none() || e.tls != SmtpTls::None,
                    &key("tls"),
                    &"\"none\"",
                    "use \"starttls\" or \"tls\": a password must not be sent unencrypted",
                );
                check_file(check, &key("password_file"), e.password_file.as_deref());
            }
            Receiver::Webhook(w) => {
                check_endpoint(check, name, &w.endpoint);
                check(
                    w.secret.is_some() != w.secret_file.is_some(),
                    &key("secret"),
                    &"(hidden)",
                    "give either secret or secret_file: receivers verify the signature",
                );
                check(
                    w.secret.as_ref().is_none_or(|secret| is_webhook_secret(secret.expose())),
                    &key("secret"),
                    &"(hidden)",
                    "give whsec_ and the base64 of 24 to 64 random bytes, such as \
                     `echo whsec_$(openssl rand -base64 32)` makes",
                );
                check_file(check, &key("secret_file"), w.secret_file.as_deref());
                check(
                    w.previous_secret.is_none() || w.previous_secret_file.is_none(),
                    &key("previous_secret"),
                    &"(hidden)",
                    "give either previous_secret or previous_secret_file",
                );
                check(
                    w.previous_secret.as_ref().is_none_or(|s| is_webhook_secret(s.expose())),
                    &key("previous_secret"),
                    &"(hidden)",
                    "give the previous secret unchanged: whsec_ and base64",
                );
                check_file(check, &key("previous_secret_file"), w.previous_secret_file.as_deref());
            }
            Receiver::Slack(c) | Receiver::Teams(c) => check_endpoint(check, name, &c.endpoint),
            Receiver::Alertmanager(a) => {
                check_endpoint(check, name, &a.endpoint);
                check(
                    a.token.is_none() || a.token_file.is_none(),
                    &key("token"),
                    &"(hidden)",
                    "give either token or token_file",
                );
                check(
                    a.token.as_ref().is_none_or(|token| is_token(token.expose())),
                    &key("token"),
                    &"(hidden)",
                    "give one word of visible ASCII characters",
                );
                check_file(check, &key("token_file"), a.token_file.as_deref());
            }
        }
    }
}

fn check_endpoint(check: &mut Check, name: &str, endpoint: &Endpoint) {
    let key = |field: &str| format!("receivers.{name}.{field}");
    check(
        endpoint.url.as_ref().is_none_or(|url| is_web_url(url.expose())),
        &key("url"),
        &"(hidden)",
        "give an http:// or https:// URL",
    );
    let address = endpoint.url.as_ref().and_then(|url| address(url.expose()));
    check(
        endpoint.allow_private || address.is_none_or(is_public),
        &key("url"),
        &"(hidden)",
        "it is an address of this machine or of a private network; to allow it, set \
         allow_private = true",
    );
    check(
        endpoint.url.is_none() || endpoint.url_file.is_none(),
        &key("url"),
        &"(hidden)",
        "give either url or url_file",
    );
    check_file(check, &key("url_file"), endpoint.url_file.as_deref());
    check_file(check, &key("ca_file"), endpoint.ca_file.as_deref());
}

/// The host of a URL if it is an IP address; `localhost` counts as one.
fn address(url: &str) -> Option<IpAddr> {
    let url = url::Url::parse(url).ok()?;
    match url.host_str()? {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        host => host.trim_matches(['[', ']']).parse().ok(),
    }
}

pub(super) fn check_file(check: &mut Check, key: &str, path: Option<&Path>) {
    if let Some(path) = path {
        check(
            path.is_file(),
            key,
            &format!("{:?}", path.display().to_string()),
            "there is no such file; create it, readable only by the daemon",
        );
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_webhook_secret(text: &str) -> bool {
    let key = text.strip_prefix("whsec_").map(|key| base64::prelude::BASE64_STANDARD.decode(key));
    matches!(key, Some(Ok(key)) if (24..=64).contains(&key.len()))
}
