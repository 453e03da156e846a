//! Checks `[links]`.

use super::Check;
use super::delivery::check_file;
use crate::Settings;
use monitor_core::links::KEY_BYTES_MIN;

/// Longest silence: four weeks, as in the API.
const SILENCE_HOURS_MAX: u32 = 28 * 24;

pub(super) fn check(settings: &Settings, check: &mut Check<'_>) {
    let links = &settings.links;
    let hidden = "(hidden)";
    check(
        links.key.is_none() || links.key_file.is_none(),
        "links.key",
        &hidden,
        "give either key or key_file",
    );
    check(
        links.key.as_ref().is_none_or(|key| key.expose().len() >= KEY_BYTES_MIN),
        "links.key",
        &hidden,
        &format!("give at least {KEY_BYTES_MIN} characters; `openssl rand -base64 32` makes a key"),
    );
    check_file(check, "links.key_file", links.key_file.as_deref());
    check(
        !links.is_on() || settings.http.public_url.is_some(),
        "links.key",
        &hidden,
        "set http.public_url too: the links begin with it",
    );
    check(
        (1..=720).contains(&links.valid_hours),
        "links.valid_hours",
        &links.valid_hours,
        "choose between 1 and 720 hours",
    );
    check(
        (1..=SILENCE_HOURS_MAX).contains(&links.silence_hours),
        "links.silence_hours",
        &links.silence_hours,
        &format!("choose between 1 and {SILENCE_HOURS_MAX} hours"),
    );
}
