//! Converts the settings of alerting and routes to the types of `monitor_core::alerting`.

use chrono::TimeDelta;

use monitor_config::{self as config, Receiver, parse_quiet_hours};
use monitor_core::alerting::{
    BuzzPolicy, QuietHours, Route, SharePolicy, ShareRule, Thresholds, Volume, VolumePolicy,
};
use monitor_core::domain::{Cause, Zone};

/// The routes. Alertmanager groups alerts itself, so a route with grouping becomes two routes of
/// the same name: one with grouping for the other receivers, one without for Alertmanagers.
pub fn routes(settings: &config::Settings) -> Vec<Route> {
    let groups_itself = |receiver: &String| {
        matches!(settings.receivers.get(receiver), Some(Receiver::Alertmanager(_)))
    };
    let mut routes = Vec::new();
    for (name, route) in &settings.routes {
        let alone = self::route(name, route);
        let together = Route {
            group_wait: i64::try_from(route.group_wait_s)
                .ok()
                .and_then(TimeDelta::try_seconds)
                .expect("validated with the settings"),
            ..alone.clone()
        };
        let alone_only = |receiver: &String| route.group_wait_s > 0 && groups_itself(receiver);
        let (own, others) = route.receivers.iter().cloned().partition(alone_only);
        routes.extend(
            [Route { receivers: others, ..together }, Route { receivers: own, ..alone }]
                .into_iter()
                .filter(|route| !route.receivers.is_empty()),
        );
    }
    routes
}

fn route(name: &str, route: &config::Route) -> Route {
    let quiet = route.quiet_hours.as_deref().map(|hours| {
        let (from, to) = parse_quiet_hours(hours).expect("validated with the settings");
        let zone = route.time_zone.parse().expect("validated with the settings");
        QuietHours { from, to, zone, severity: route.quiet_hours_severity }
    });
    Route {
        name: name.to_owned(),
        brands: route.brands.clone(),
        causes: route
            .causes
            .iter()
            .map(|cause| Cause::parse(cause).expect("validated with the settings"))
            .collect(),
        severity_min: route.severity_min,
        receivers: route.receivers.clone(),
        quiet,
        group_wait: TimeDelta::zero(),
    }
}

/// The thresholds of the severities.
fn thresholds(alerting: &config::Alerting) -> Thresholds {
    Thresholds {
        warning_rise: alerting.warning_rise,
        critical_rise: alerting.critical_rise,
        reach_followers: alerting.reach_followers,
        surge_times_min: alerting.surge_times_min,
        negative_times_min: alerting.negative_volume_times_min,
        warning_people: alerting.warning_people,
        critical_people: alerting.critical_people,
    }
}

/// The policy that evaluates a brand, with seasons in its time zone.
pub fn brand_policy(alerting: &config::Alerting, brand: Option<&config::Brand>) -> BuzzPolicy {
    let policy = buzz_policy(alerting);
    match brand.and_then(brand_zone) {
        Some(zone) => policy.in_zone(zone),
        None => policy,
    }
}

/// The time zone of the brand's own, if it has one.
pub fn brand_zone(brand: &config::Brand) -> Option<Zone> {
    let zone = brand.time_zone.as_deref()?;
    Some(Zone::parse(zone).expect("validated with the settings"))
}

/// The policy that evaluates brands without a time zone of their own.
pub fn buzz_policy(alerting: &config::Alerting) -> BuzzPolicy {
    let policy = BuzzPolicy {
        share: share_policy(alerting),
        volumes: volumes(alerting),
        reopen_minutes: alerting.reopen_minutes,
        thresholds: thresholds(alerting),
    };
    policy.with_budget(alerting.false_alarms_per_month)
}

/// The policy that evaluates shares.
pub fn policy(alerting: &config::Alerting) -> SharePolicy {
    buzz_policy(alerting).share
}

/// The policies that evaluate volumes; none if they are disabled.
pub fn volume_policies(alerting: &config::Alerting) -> Vec<VolumePolicy> {
    buzz_policy(alerting).volumes
}

fn share_policy(alerting: &config::Alerting) -> SharePolicy {
    let window_minutes = alerting.window_minutes;
    SharePolicy {
        rule: match alerting.rule {
            config::Rule::EDetector => {
                ShareRule::EDetector { false_alarms_per_month: alerting.false_alarms_per_month }
            }
            config::Rule::ShareAbove => {
                ShareRule::ShareAbove { share: alerting.share_above, window_minutes }
            }
            config::Rule::TimesPrevious => {
                ShareRule::TimesPrevious { times: alerting.times_previous, window_minutes }
            }
        },
        tweets_min: alerting.tweets_min,
        rise_min: alerting.rise_min,
        baseline_tweets_min: alerting.baseline_tweets_min,
        short_minutes: alerting.short_window_minutes,
        for_minutes: alerting.for_minutes,
        resolve_minutes: alerting.resolve_minutes,
        new_normal_minutes: alerting.new_normal_minutes,
        zone: zone(alerting),
    }
}

fn zone(alerting: &config::Alerting) -> Zone {
    Zone::parse(&alerting.time_zone).expect("validated with the settings")
}

fn volumes(alerting: &config::Alerting) -> Vec<VolumePolicy> {
    let policy = |counted, times_min| VolumePolicy {
        times_min,
        tweets_min: alerting.tweets_min,
        resolve_minutes: alerting.resolve_minutes,
        zone: zone(alerting),
        ..VolumePolicy::of(counted)
    };
    [
        (alerting.negative_volume, Volume::Negative, alerting.negative_volume_times_min),
        (alerting.surge, Volume::All, alerting.surge_times_min),
    ]
    .into_iter()
    .filter(|(is_on, ..)| *is_on)
    .map(|(_, counted, times_min)| policy(counted, times_min))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alertmanagers_are_not_grouped() {
        let check = |name: &str, receivers: &str, group_wait_s: &str, expected: &[(&str, i64)]| {
            let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let set = [
                set("receivers.chat.kind", "slack"),
                set("receivers.chat.url", "https://slack.example.com"),
                set("receivers.am.kind", "alertmanager"),
                set("receivers.am.url", "https://alertmanager.example.com"),
                set("routes.office.receivers", receivers),
                set("routes.office.group_wait_s", group_wait_s),
                set("routes.office.quiet_hours", "22:00-7:00"),
            ];
            let settings = config::load_from(None, [], &set, &[]).expect("valid settings");
            let routes = routes(&settings);
            let found: Vec<_> = routes
                .iter()
                .map(|r| (r.receivers.join(" "), r.group_wait.num_seconds()))
                .collect();
            let expected: Vec<_> = expected.iter().map(|&(r, wait)| (r.to_owned(), wait)).collect();
            assert_eq!(found, expected, "{name}");
            assert!(routes.iter().all(|r| r.name == "office" && r.quiet.is_some()), "{name}");
        };
        check("both", "[\"am\", \"chat\"]", "60", &[("chat", 60), ("am", 0)]);
        check("an Alertmanager", "[\"am\"]", "60", &[("am", 0)]);
        check("no grouping", "[\"am\", \"chat\"]", "0", &[("am chat", 0)]);
        check("none", "[\"chat\"]", "60", &[("chat", 60)]);
    }
}
