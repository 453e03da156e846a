//! Validates `[alerting]`, `[stream]`, `[heartbeat]` and `[routes.*]`.

use super::{Check, is_name, is_web_url, quoted};
use crate::{Alerting, Heartbeat, Route, Settings, Stream, parse_quiet_hours};
use monitor_core::domain::{Cause, STREAM, Zone};

pub(super) fn check(settings: &Settings, check: &mut Check) {
    rules(&settings.alerting, check);
    zones(settings, check);
    stream(&settings.stream, check);
    heartbeat(&settings.heartbeat, check);
    check(
        !settings.brands.contains_key(STREAM),
        &format!("brands.{STREAM:?}"),
        &"a brand",
        "give it another name: this one stands for the stream itself",
    );
    for (name, route) in &settings.routes {
        self::route(settings, name, route, check);
    }
}

fn zones(settings: &Settings, check: &mut Check) {
    let own = settings.brands.iter().filter_map(|(name, brand)| {
        Some((format!("brands.{name}.time_zone"), brand.time_zone.as_ref()?))
    });
    let all = std::iter::once(("alerting.time_zone".to_owned(), &settings.alerting.time_zone));
    for (key, zone) in all.chain(own) {
        check(
            Zone::parse(zone).is_some(),
            &key,
            &quoted(zone),
            "name a zone of the IANA database, such as Europe/Paris",
        );
    }
}

fn rules(a: &Alerting, check: &mut Check) {
    check(
        a.false_alarms_per_month > 0.0 && a.false_alarms_per_month <= 1000.0,
        "alerting.false_alarms_per_month",
        &a.false_alarms_per_month,
        "choose a number above 0 and up to 1000, such as 2",
    );
    check(
        a.share_above > 0.0 && a.share_above < 1.0,
        "alerting.share_above",
        &a.share_above,
        "choose a share between 0 and 1, such as 0.5",
    );
    check(
        a.times_previous > 1.0 && a.times_previous.is_finite(),
        "alerting.times_previous",
        &a.times_previous,
        "choose a number above 1, such as 2",
    );
    check(
        (1..=1440).contains(&a.window_minutes),
        "alerting.window_minutes",
        &a.window_minutes,
        "choose between 1 and 1440 minutes",
    );
    check(a.tweets_min >= 1, "alerting.tweets_min", &a.tweets_min, "choose at least 1");
    check(
        a.rise_min > 0.0 && a.rise_min < 1.0,
        "alerting.rise_min",
        &a.rise_min,
        "choose a share between 0 and 1, such as 0.05",
    );
    check(
        a.warning_rise >= a.rise_min && a.warning_rise < 1.0,
        "alerting.warning_rise",
        &a.warning_rise,
        &format!("choose at least alerting.rise_min ({}), below 1", a.rise_min),
    );
    check(
        a.critical_rise >= a.warning_rise && a.critical_rise < 1.0,
        "alerting.critical_rise",
        &a.critical_rise,
        &format!("choose at least alerting.warning_rise ({}), below 1", a.warning_rise),
    );
    check(
        a.reach_followers >= 1,
        "alerting.reach_followers",
        &a.reach_followers,
        "choose at least 1, or the severity of every incident would be one step higher",
    );
    for (key, times) in [
        ("alerting.negative_volume_times_min", a.negative_volume_times_min),
        ("alerting.surge_times_min", a.surge_times_min),
    ] {
        let valid = times > 1.0 && times <= 1000.0;
        check(valid, key, &times, "choose a number above 1 and up to 1000, such as 3");
    }
    check(
        a.baseline_tweets_min >= 1,
        "alerting.baseline_tweets_min",
        &a.baseline_tweets_min,
        "choose at least 1",
    );
    check(
        (1..=1440).contains(&a.short_window_minutes),
        "alerting.short_window_minutes",
        &a.short_window_minutes,
        "choose between 1 and 1440 minutes",
    );
    check(
        a.for_minutes <= 1440,
        "alerting.for_minutes",
        &a.for_minutes,
        "choose at most 1440 minutes",
    );
    check(
        (1..=7 * 1440).contains(&a.resolve_minutes),
        "alerting.resolve_minutes",
        &a.resolve_minutes,
        "choose between 1 and 10080 minutes",
    );
    check(
        a.new_normal_minutes > 1440
            && a.new_normal_minutes > a.resolve_minutes
            && a.new_normal_minutes <= 60 * 1440,
        "alerting.new_normal_minutes",
        &a.new_normal_minutes,
        &format!(
            "choose more than 1440 and than alerting.resolve_minutes ({}), at most 86400",
            a.resolve_minutes
        ),
    );
    check(
        a.reopen_minutes <= 7 * 1440,
        "alerting.reopen_minutes",
        &a.reopen_minutes,
        "choose at most 10080 minutes; 0 is never",
    );
    check(
        a.critical_people >= a.warning_people,
        "alerting.critical_people",
        &a.critical_people,
        &format!("choose at least alerting.warning_people ({})", a.warning_people),
    );
    check(
        a.repeat_minutes <= 7 * 1440,
        "alerting.repeat_minutes",
        &a.repeat_minutes,
        "choose at most 10080 minutes; 0 is never",
    );
    check(
        a.catch_up_minutes <= 7 * 1440,
        "alerting.catch_up_minutes",
        &a.catch_up_minutes,
        "choose at most 10080 minutes; 0 sends each alert of the past",
    );
    for author in &a.ignore_authors {
        let is_hash =
            |digits: &str| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let name = author.trim();
        check(
            name.strip_prefix('#').map_or(!name.trim_matches('@').is_empty(), is_hash),
            "alerting.ignore_authors",
            author,
            "give names of accounts, or what is stored of them, such as \"#9d77c3180ff81edf\"",
        );
    }
    check(
        a.brand_quiet_minutes_max <= 7 * 1440,
        "alerting.brand_quiet_minutes_max",
        &a.brand_quiet_minutes_max,
        "choose at most 10080 minutes; 0 is never",
    );
    check(a.lateness_s <= 86_400, "alerting.lateness_s", &a.lateness_s, "choose at most 86400 s");
    check(
        (10..=60_000).contains(&a.tick_ms),
        "alerting.tick_ms",
        &a.tick_ms,
        "choose between 10 and 60000 ms",
    );
}

fn stream(stream: &Stream, check: &mut Check) {
    check(
        stream.quiet_minutes_max <= 7 * 1440,
        "stream.quiet_minutes_max",
        &stream.quiet_minutes_max,
        "choose at most 10080 minutes; 0 is never",
    );
    check(
        stream.lag_minutes_max <= 7 * 1440,
        "stream.lag_minutes_max",
        &stream.lag_minutes_max,
        "choose at most 10080 minutes; 0 is never",
    );
}

fn heartbeat(heartbeat: &Heartbeat, check: &mut Check) {
    check(
        heartbeat.url.as_deref().is_none_or(is_web_url),
        "heartbeat.url",
        &"(hidden)",
        "give an http:// or https:// URL",
    );
    check(
        (1..=86_400).contains(&heartbeat.every_s),
        "heartbeat.every_s",
        &heartbeat.every_s,
        "choose between 1 and 86400 s",
    );
}

fn route(settings: &Settings, name: &str, route: &Route, check: &mut Check) {
    check(
        is_name(name),
        &format!("routes.{name:?}"),
        &"a route",
        "give it a name of 1 to 64 characters, none of them a control character",
    );
    let key = |field: &str| format!("routes.{name}.{field}");
    check(
        !route.receivers.is_empty(),
        &key("receivers"),
        &"[]",
        "name at least one receiver, or the route notifies nobody",
    );
    for receiver in &route.receivers {
        check(
            settings.receivers.contains_key(receiver),
            &key("receivers"),
            &quoted(receiver),
            &format!("there is no such receiver; {}", one_of(settings.receivers.keys())),
        );
    }
    for brand in &route.brands {
        check(
            brand == STREAM || settings.brands.contains_key(brand),
            &key("brands"),
            &quoted(brand),
            &format!(
                "there is no such brand; {}, or {STREAM:?} for the stream itself",
                one_of(settings.brands.keys())
            ),
        );
    }
    for cause in &route.causes {
        check(
            Cause::parse(cause).is_some(),
            &key("causes"),
            &quoted(cause),
            &format!("there is no such cause; {}", one_of(Cause::ALL.map(Cause::as_str))),
        );
    }
    if let Some(hours) = &route.quiet_hours {
        check(
            parse_quiet_hours(hours).is_some(),
            &key("quiet_hours"),
            &quoted(hours),
            "give two times of the day that differ, such as 22:00-07:00",
        );
    }
    check(
        route.time_zone.parse::<chrono_tz::Tz>().is_ok(),
        &key("time_zone"),
        &quoted(&route.time_zone),
        "name a zone of the IANA database, such as Europe/Paris",
    );
    check(
        route.group_wait_s <= 3600,
        &key("group_wait_s"),
        &route.group_wait_s,
        "choose at most 3600 s; 0 is no grouping",
    );
}

fn one_of(names: impl IntoIterator<Item: AsRef<str>>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| quoted(name.as_ref())).collect();
    if names.is_empty() {
        "there is none yet".into()
    } else {
        format!("name one of {}", names.join(", "))
    }
}
