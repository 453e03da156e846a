use proptest::prelude::*;

use super::*;
use crate::domain::{STREAM, Silence, silenced};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn time(text: &str) -> NaiveTime {
    NaiveTime::parse_from_str(text, "%H:%M").expect("a time of day")
}

fn quiet(from: &str, to: &str, zone: Tz) -> QuietHours {
    QuietHours { from: time(from), to: time(to), zone, severity: Severity::Critical }
}

fn to(name: &str, receivers: &[&str]) -> Route {
    Route {
        name: name.into(),
        brands: Vec::new(),
        causes: Vec::new(),
        severity_min: Severity::Notice,
        receivers: receivers.iter().map(|&r| r.to_owned()).collect(),
        quiet: None,
        group_wait: TimeDelta::zero(),
    }
}

/// One text per recipient: "receiver by route when".
fn recipients(
    routes: &[Route],
    step: (&str, Cause, Severity, Transition),
    now: DateTime<Utc>,
) -> Vec<String> {
    let receivers = ["chat".to_owned(), "comms".to_owned()];
    let (brand, cause, severity, transition) = step;
    route(routes, &receivers, brand, &[cause], severity, transition, now)
        .into_iter()
        .map(|recipient| {
            let route = recipient.route.as_deref().unwrap_or("none");
            let group = if recipient.group { " with others" } else { "" };
            let when = recipient.when.not_before().map_or("now".into(), |at| at.to_rfc3339());
            format!("{} by {route} {when}{group}", recipient.receiver)
        })
        .collect()
}

#[test]
fn routes_by_brand_cause_and_severity() {
    use Cause::*;
    use Severity::*;
    let now = at("2026-01-05T12:00:00Z");
    let check = |name: &str, routes: &[Route], (brand, cause, severity), expected: &[&str]| {
        for transition in [Transition::Opened, Transition::Updated, Transition::Resolved] {
            let found = recipients(routes, (brand, cause, severity, transition), now);
            assert_eq!(found, expected, "{name}: {transition:?}");
        }
    };
    let acme = ("acme", Share, Warning);
    check("no routes", &[], acme, &["chat by none now", "comms by none now"]);
    check("a route for everything", &[to("a", &["comms"])], acme, &["comms by a now"]);
    let brands = |brands: &[&str]| {
        [Route { brands: brands.iter().map(|&b| b.into()).collect(), ..to("a", &["comms"]) }]
    };
    check("its brand", &brands(&["globex", "acme"]), acme, &["comms by a now"]);
    check("another brand", &brands(&["globex"]), acme, &[]);
    let stream = (STREAM, Lag, Critical);
    check("the stream", &brands(&[]), stream, &["comms by a now"]);
    check("the stream, named", &brands(&[STREAM]), stream, &["comms by a now"]);
    check("the stream, not named", &brands(&["acme"]), stream, &[]);
    check("a brand, where the stream is named", &brands(&[STREAM]), acme, &[]);
    let causes = [Route { causes: vec![Surge, Share], ..to("a", &["comms"]) }];
    check("its cause", &causes, acme, &["comms by a now"]);
    check("another cause", &causes, stream, &[]);
    let bad = [Route { severity_min: Warning, ..to("a", &["comms"]) }];
    check("severe enough", &bad, acme, &["comms by a now"]);
    check("worse", &bad, ("acme", Share, Critical), &["comms by a now"]);
    check("not severe enough", &bad, ("acme", Share, Notice), &[]);
    let several = [to("a", &["comms", "chat"]), to("b", &["comms", "pager"])];
    let all = ["chat by a now", "comms by a now", "pager by b now"];
    check("each receiver once", &several, acme, &all);
}

#[test]
fn waits_for_the_group_and_for_the_end_of_quiet_hours() {
    use Transition::*;
    let step = |severity, transition| ("acme", Cause::Share, severity, transition);
    let (warning, critical) = (Severity::Warning, Severity::Critical);
    let night = Route {
        quiet: Some(quiet("22:00", "07:00", Tz::Europe__Paris)),
        ..to("night", &["comms"])
    };
    let grouped = Route { group_wait: TimeDelta::seconds(90), ..to("grouped", &["comms"]) };
    let both = Route { quiet: night.quiet, ..grouped.clone() };
    let check = |name: &str, routes: &[Route], step, now: &str, expected: &[&str]| {
        assert_eq!(recipients(routes, step, at(now)), expected, "{name}");
    };
    // Paris is an hour ahead in winter.
    let (day, late) = ("2026-01-05T12:00:00Z", "2026-01-05T23:30:00Z");
    let morning = "comms by night 2026-01-06T06:00:00+00:00";
    check(
        "by day",
        std::slice::from_ref(&night),
        step(warning, Opened),
        day,
        &["comms by night now"],
    );
    check("opened at night", std::slice::from_ref(&night), step(warning, Opened), late, &[morning]);
    check(
        "resolved at night",
        std::slice::from_ref(&night),
        step(warning, Resolved),
        late,
        &[morning],
    );
    check("updated at night", std::slice::from_ref(&night), step(warning, Updated), late, &[]);
    check(
        "severe enough",
        std::slice::from_ref(&night),
        step(critical, Updated),
        late,
        &["comms by night now"],
    );
    let open = step(warning, Opened);
    let starts = "2026-01-05T21:00:00Z";
    check("at the start of the night", std::slice::from_ref(&night), open, starts, &[morning]);
    let ends = "2026-01-06T06:00:00Z";
    check("at its end", std::slice::from_ref(&night), open, ends, &["comms by night now"]);

    let soon = "comms by grouped 2026-01-05T12:01:30+00:00 with others";
    check("opened", std::slice::from_ref(&grouped), step(critical, Opened), day, &[soon]);
    check(
        "updated",
        std::slice::from_ref(&grouped),
        step(warning, Updated),
        day,
        &["comms by grouped now"],
    );
    check(
        "resolved",
        std::slice::from_ref(&grouped),
        step(warning, Resolved),
        day,
        &["comms by grouped now"],
    );
    let together = "comms by grouped 2026-01-06T06:00:00+00:00 with others";
    check("grouped, at night", std::slice::from_ref(&both), open, late, &[together]);
    check(
        "resolved at night",
        std::slice::from_ref(&both),
        step(warning, Resolved),
        late,
        &[together],
    );
    let evening = "2026-01-05T20:59:00Z";
    check(
        "a wait that ends in the night",
        std::slice::from_ref(&both),
        open,
        evening,
        &["comms by grouped now"],
    );
    let waits = "comms by grouped 2026-01-05T21:00:30+00:00 with others";
    check(
        "a night that does not apply",
        std::slice::from_ref(&both),
        step(critical, Opened),
        evening,
        &[waits],
    );

    let plain = to("plain", &["comms"]);
    let first = [night.clone(), grouped.clone(), plain.clone()];
    check("the earliest wins", &first, open, late, &["comms by plain now"]);
    let sooner = "comms by grouped 2026-01-05T23:31:30+00:00 with others";
    check(
        "a wait that ends before the night does",
        &[night.clone(), grouped],
        open,
        late,
        &[sooner],
    );
    let again = Route { name: "again".into(), ..plain.clone() };
    check("the first of two", &[plain, again], open, late, &["comms by plain now"]);
    let dropped = [night, to("other", &["chat"])];
    check("dropped by one", &dropped, step(warning, Updated), late, &["chat by other now"]);
}

#[test]
fn quiet_hours_end_in_local_time() {
    let check = |name: &str, hours: QuietHours, now: &str, expected: Option<&str>| {
        let end = hours.contains(at(now)).then(|| hours.end(at(now)));
        assert_eq!(end, expected.map(at), "{name}");
    };
    use Tz::*;
    let night = |zone| quiet("22:00", "07:00", zone);
    check("before", night(UTC), "2026-01-05T21:59:59Z", None);
    check("from", night(UTC), "2026-01-05T22:00:00Z", Some("2026-01-06T07:00:00Z"));
    check("after midnight", night(UTC), "2026-01-06T00:00:00Z", Some("2026-01-06T07:00:00Z"));
    check("to", night(UTC), "2026-01-06T07:00:00Z", None);
    let noon = quiet("12:00", "14:00", UTC);
    check("within a day", noon, "2026-01-05T13:00:00Z", Some("2026-01-05T14:00:00Z"));
    check("outside of it", noon, "2026-01-05T15:00:00Z", None);
    let midnight = quiet("22:00", "00:00", UTC);
    check("to midnight", midnight, "2026-01-05T23:00:00Z", Some("2026-01-06T00:00:00Z"));
    check("none at all", quiet("07:00", "07:00", UTC), "2026-01-05T07:00:00Z", None);

    let tokyo = night(Asia__Tokyo);
    check(
        "a different date in the zone",
        tokyo,
        "2026-01-05T14:00:00Z",
        Some("2026-01-05T22:00:00Z"),
    );
    // Paris goes from 02:00 to 03:00 on 29 March 2026 and from 03:00 to 02:00 on 25 October.
    let paris = night(Europe__Paris);
    check("a short night", paris, "2026-03-28T22:00:00Z", Some("2026-03-29T05:00:00Z"));
    check("a long night", paris, "2026-10-24T21:00:00Z", Some("2026-10-25T06:00:00Z"));
    let early = quiet("22:00", "02:30", Europe__Paris);
    check("a skipped end", early, "2026-03-29T00:30:00Z", Some("2026-03-29T01:00:00Z"));
    check("a first end", early, "2026-10-24T23:45:00Z", Some("2026-10-25T00:30:00Z"));
    check("between the two", early, "2026-10-25T00:45:00Z", None);
    check("a second end", early, "2026-10-25T01:10:00Z", Some("2026-10-25T01:30:00Z"));
    let all_but_skipped = quiet("02:45", "02:30", Europe__Paris);
    check(
        "nothing between start and end",
        all_but_skipped,
        "2026-03-28T12:00:00Z",
        Some("2026-03-30T00:30:00Z"),
    );
    // Samoa went from 29 to 31 December 2011.
    let apia = night(Pacific__Apia);
    check("a skipped day", apia, "2011-12-30T09:00:00Z", Some("2011-12-30T17:00:00Z"));
}

#[test]
fn silences_apply_to_their_brand_and_time() {
    let silence = |id, brand: Option<&str>| Silence {
        id,
        brand: brand.map(str::to_owned),
        starts_at: at("2026-01-05T12:00:00Z"),
        ends_at: at("2026-01-05T14:00:00Z"),
        reason: String::new(),
        who: String::new(),
    };
    let one = [silence(1, Some("acme"))];
    let all = [silence(1, Some("acme")), silence(2, None)];
    let check = |name: &str, silences: &[Silence], brand, now: &str, expected| {
        let found = silenced(silences, brand, at(now)).map(|silence| silence.id);
        assert_eq!(found, expected, "{name}");
    };
    check("its brand", &one, "acme", "2026-01-05T13:00:00Z", Some(1));
    check("from its start", &one, "acme", "2026-01-05T12:00:00Z", Some(1));
    check("before", &one, "acme", "2026-01-05T11:59:59Z", None);
    check("to its end", &one, "acme", "2026-01-05T14:00:00Z", None);
    check("another brand", &one, "globex", "2026-01-05T13:00:00Z", None);
    check("all brands", &all, "globex", "2026-01-05T13:00:00Z", Some(2));
    check("and the stream", &all, STREAM, "2026-01-05T13:00:00Z", Some(2));
    check("none", &[], "acme", "2026-01-05T13:00:00Z", None);
}

/// Zones whose clocks change by an hour, by half an hour, by a day, or never.
const ZONES: [Tz; 7] = [
    Tz::UTC,
    Tz::Europe__Paris,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Apia,
    Tz::Africa__Casablanca,
    Tz::Asia__Kathmandu,
];

prop_compose! {
    fn any_route()(
        from in 0..1440_u32,
        to_minute in 0..1440_u32,
        zone in proptest::sample::select(&ZONES),
        severity in proptest::sample::select(&Severity::ALL),
        severity_min in proptest::sample::select(&Severity::ALL),
        has_quiet in any::<bool>(),
        wait_s in prop_oneof![Just(0), 0..3600_i64],
        receivers in proptest::sample::subsequence(vec!["a", "b", "c"], 1..=3),
    ) -> Route {
        let time = |minute: u32| {
            NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).expect("a time of day")
        };
        let quiet = QuietHours { from: time(from), to: time(to_minute), zone, severity };
        Route {
            severity_min,
            quiet: has_quiet.then_some(quiet),
            group_wait: TimeDelta::seconds(wait_s),
            ..to("", &receivers)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nobody_is_notified_too_early(
        mut routes in proptest::collection::vec(any_route(), 1..5),
        severity in proptest::sample::select(&Severity::ALL),
        transition in proptest::sample::select(
            &[Transition::Opened, Transition::Updated, Transition::Resolved]),
        // 2010 to 2030.
        seconds in 1_262_304_000..1_893_456_000_i64,
    ) {
        let now = DateTime::from_timestamp(seconds, 0).expect("a time");
        routes.iter_mut().enumerate().for_each(|(n, route)| route.name = n.to_string());
        let decide = || route(&routes, &[], "acme", &[Cause::Share], severity, transition, now);
        let recipients = decide();
        prop_assert_eq!(&recipients, &decide(), "the same at every call");
        for recipient in &recipients {
            let by = |route: &&Route| Some(&route.name) == recipient.route.as_ref()
                && route.evaluate("acme", &[Cause::Share], severity, transition, now)
                    == Ok(recipient.when);
            let route = routes.iter().find(by).expect("the route of the recipient");
            prop_assert!(route.receivers.contains(&recipient.receiver));
            let sent = recipient.when.not_before().unwrap_or(now);
            prop_assert!(sent >= now);
            let applies = route.quiet.filter(|quiet| severity < quiet.severity);
            prop_assert!(!applies.is_some_and(|quiet| quiet.contains(sent)), "{recipient:?}");
            for other in routes.iter().filter(|r| r.receivers.contains(&recipient.receiver)) {
                let when = other.evaluate("acme", &[Cause::Share], severity, transition, now);
                prop_assert!(when.is_err() || when.unwrap().not_before().unwrap_or(now) >= sent);
            }
        }
        let mut names: Vec<_> = recipients.iter().map(|recipient| &recipient.receiver).collect();
        names.dedup();
        prop_assert_eq!(names.len(), recipients.len(), "each once");
    }

    #[test]
    fn quiet_hours_end_at_the_first_time_outside(
        route in any_route(),
        seconds in 1_262_304_000..1_893_456_000_i64,
    ) {
        let now = DateTime::from_timestamp(seconds, 0).expect("a time");
        let Some(quiet) = route.quiet.filter(|quiet| quiet.contains(now)) else { return Ok(()) };
        let end = quiet.end(now);
        prop_assert!(quiet.contains(end - TimeDelta::seconds(1)) || end - now > TimeDelta::days(1));
        prop_assert!(end - now < TimeDelta::days(3));
    }
}
