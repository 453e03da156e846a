//! Checks `[digest]`.

use super::{Check, quoted};
use crate::{Receiver, Settings};

pub(super) fn check(settings: &Settings, check: &mut Check<'_>) {
    let digest = &settings.digest;
    for name in &digest.receivers {
        let is_mail = matches!(settings.receivers.get(name), Some(Receiver::Email(_)));
        check(
            is_mail,
            "digest.receivers",
            &quoted(name),
            "name a receiver of kind \"email\": a digest goes by mail only",
        );
    }
    check(digest.hour <= 23, "digest.hour", &digest.hour, "choose between 0 and 23");
    check(
        digest.time_zone.parse::<chrono_tz::Tz>().is_ok(),
        "digest.time_zone",
        &quoted(&digest.time_zone),
        "name a zone of the IANA database, such as \"Europe/Paris\"",
    );
}
