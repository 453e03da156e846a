use super::*;
use crate::alerting::{QuietHours, Route};
use crate::domain::{Acknowledgement, Evidence, IncidentId, LagEvidence};

use Severity::{Critical, Notice, Warning};

fn now() -> DateTime<Utc> {
    Minute(1060).start()
}

fn route(name: &str) -> Route {
    Route {
        name: name.into(),
        brands: Vec::new(),
        causes: Vec::new(),
        severity_min: Notice,
        receivers: vec!["comms".into()],
        quiet: None,
        group_wait: TimeDelta::zero(),
    }
}

fn incident(acknowledged: bool) -> Incident {
    Incident {
        id: IncidentId(1),
        brand: "acme".into(),
        severity: Warning,
        opened: Minute(1000),
        resolved: None,
        acknowledged: acknowledged.then(|| Acknowledgement {
            at: now(),
            by: "ada".into(),
            note: String::new(),
        }),
        evidence: Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 }),
        phases: Vec::new(),
        missed: false,
    }
}

#[test]
fn each_receiver_is_notified_or_has_a_reason() {
    let silence = Silence {
        id: 3,
        brand: None,
        starts_at: now(),
        ends_at: now() + TimeDelta::hours(1),
        reason: "a launch".into(),
        who: "bob".into(),
    };
    let (open, taken) = (incident(false), incident(true));
    let heard = |at| vec![Notified { receiver: "comms".into(), at: Minute(at), severity: Warning }];
    let (lately, long_ago) = (heard(1030), heard(1000));
    let update = Occasion {
        brand: "acme",
        causes: &[Cause::Lag],
        transition: Transition::Updated,
        severity: Warning,
        incident: Some(&open),
        notified: &lately,
        joined: None,
        minute: Minute(1060),
        now: now(),
        silence: None,
        stale: false,
    };
    let check = |name: &str, routes: &[Route], repeat_minutes, o: Occasion, expected: &str| {
        let audience =
            Audience { routes: routes.to_vec(), receivers: vec!["comms".into()], repeat_minutes };
        let recipients = audience.recipients(&o);
        let suppressed = audience.suppressed(&o, &recipients);
        let notified = recipients.iter().filter(|recipient| recipient.receiver == "comms");
        assert_eq!(notified.count() + suppressed.len(), 1, "{name}");
        let found = suppressed.first().map_or("notified".into(), ToString::to_string);
        assert_eq!(found, expected, "{name}");
    };
    let opening =
        Occasion { transition: Transition::Opened, incident: None, notified: &[], ..update };
    check("an opening", &[], 60, opening, "notified");
    let silenced = Occasion { silence: Some(&silence), ..opening };
    check("in a silence", &[], 60, silenced, "silenced (silence 3 by bob: a launch)");
    let due = "repeat not due (next repeat due 1970-01-01 18:10 UTC)";
    check("too soon to repeat", &[], 60, update, due);
    check("time to repeat", &[], 60, Occasion { notified: &long_ago, ..update }, "notified");
    check("no repeats", &[], 0, Occasion { notified: &long_ago, ..update }, "repeats off");
    check("worse", &[], 60, Occasion { severity: Critical, ..update }, "notified");
    let acknowledged = Occasion { incident: Some(&taken), notified: &long_ago, ..update };
    check("acknowledged", &[], 60, acknowledged, "acknowledged (by ada)");
    let first = Occasion { notified: &[], ..acknowledged };
    let unheard_update = Occasion { notified: &[], ..update };
    check("acknowledged before it was notified", &[], 60, first, "acknowledged (by ada)");
    check("catching up", &[], 60, Occasion { stale: true, ..update }, "catching up");
    check("an opening of long ago", &[], 60, Occasion { stale: true, ..opening }, "catching up");
    let missed = Incident { missed: true, ..incident(false) };
    let of_missed = Occasion { incident: Some(&missed), ..unheard_update };
    check("it goes on when the past is over", &[], 60, of_missed, "notified");
    let back = Occasion { notified: &lately, ..of_missed };
    check("it had ended, and opened again in the past", &[], 60, back, "notified");
    let over = Occasion { transition: Transition::Resolved, ..back };
    check("it ended in the past", &[], 60, over, "catching up (told in one digest)");
    let end = Occasion { transition: Transition::Resolved, ..update };
    check("the end", &[], 60, end, "notified");
    let again = Occasion { transition: Transition::Reopened, ..acknowledged };
    check("it opens again", &[], 60, again, "notified");
    let in_silence = Occasion { silence: Some(&silence), ..again };
    let why = "silenced (silence 3 by bob: a launch)";
    check("it opens again in a silence", &[], 60, in_silence, why);
    let unheard = Occasion { notified: &[], ..end };
    check("the end, never notified", &[], 60, unheard, "never notified");
    let in_silence = Occasion { silence: Some(&silence), ..end };
    check("the end in a silence", &[], 60, in_silence, "notified");

    let others = Route { receivers: vec!["desk".into()], ..route("desk") };
    check("no route names it", &[others], 60, opening, "no route");
    let brand = Route { brands: vec!["delta".into()], ..route("delta") };
    check("other brand", std::slice::from_ref(&brand), 60, opening, "other brand (route delta)");
    let cause = Route { causes: vec![Cause::Share], ..route("share") };
    check("other cause", &[cause], 60, opening, "other cause (route share)");
    let worst = Route { severity_min: Critical, ..route("worst") };
    check("too mild", std::slice::from_ref(&worst), 60, opening, "too mild (route worst)");
    check("the closest route counts", &[worst, brand], 60, opening, "too mild (route worst)");
    let time = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).expect("a time of day");
    let hours =
        QuietHours { from: time(17), to: time(19), zone: chrono_tz::UTC, severity: Critical };
    let night = Route { quiet: Some(hours), ..route("night") };
    let repeat = Occasion { notified: &long_ago, ..update };
    check("quiet hours", &[night], 60, repeat, "quiet hours (route night)");
}
