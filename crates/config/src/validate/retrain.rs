//! Validates `[retrain]`. Deliberately absent: family, files and arguments, which `monitor retrain` reads.

use super::{Check, quoted};
use crate::{Schedule, Settings};

pub(super) fn check(settings: &Settings, check: &mut Check) {
    let r = &settings.retrain;
    check(
        r.time_zone.parse::<chrono_tz::Tz>().is_ok(),
        "retrain.time_zone",
        &quoted(&r.time_zone),
        "name a zone of the IANA database, such as Europe/Paris",
    );
    if let Some(schedule) = &r.schedule {
        check(
            Schedule::parse(schedule, "UTC").is_some(),
            "retrain.schedule",
            &quoted(schedule),
            "give minute, hour, day of the month, month and day of the week, such as \"0 3 * * 0\" \
             (Sundays at 03:00)",
        );
    }
    check(
        !r.is_on() || !r.data.is_empty(),
        "retrain.data",
        &"[]",
        "name the labelled files to train on, as `monitor retrain --data` takes them",
    );
    check(
        !r.on_drift || settings.drift.tweets_per_day > 0,
        "retrain.on_drift",
        &r.on_drift,
        "give drift.tweets_per_day another value than 0, or no drift is ever seen",
    );
    check(
        (0.0..=1000.0).contains(&r.labels_weight),
        "retrain.labels_weight",
        &r.labels_weight,
        "choose between 0 (people's labels are left out) and 1000",
    );
    check(
        (1..=256).contains(&r.threads),
        "retrain.threads",
        &r.threads,
        "choose between 1 and 256",
    );
}
