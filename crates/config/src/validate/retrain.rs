//! Validates `[retrain]`.

use super::{Check, quoted};
use crate::{Retrain, Schedule, Settings};

/// The families that `monitor retrain` trains.
const FAMILIES: [&str; 5] = ["logistic-hash", "logistic-tfidf", "dense", "lstm", "transformer"];
/// Arguments of `monitor retrain` that other keys set, or that would change what a retraining does.
const OF_KEYS: [&str; 10] = [
    "--data",
    "--test",
    "--also",
    "--resume",
    "--no-promote",
    "--fractions",
    "--output",
    "--scheduled",
    "--config",
    "-c",
];

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
        FAMILIES.contains(&r.family.as_str()),
        "retrain.family",
        &quoted(&r.family),
        &format!("choose one of {}", FAMILIES.join(", ")),
    );
    for entry in &r.data {
        check(
            std::path::Path::new(Retrain::file_of(entry)).is_file(),
            "retrain.data",
            &quoted(entry),
            "there is no such file; give its path from where the daemon starts",
        );
    }
    for file in &r.test {
        check(
            file.is_file(),
            "retrain.test",
            &file.display(),
            "there is no such file; give its path from where the daemon starts",
        );
    }
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
    for argument in &r.arguments {
        let flag = argument.split('=').next().unwrap_or_default();
        check(
            !OF_KEYS.contains(&flag),
            "retrain.arguments",
            &quoted(argument),
            "remove it: the keys of [retrain] set it, or it does not go with them",
        );
    }
}
