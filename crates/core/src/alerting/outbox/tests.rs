use super::*;
use crate::domain::LagEvidence;
use crate::notification::Drivers;

const OPENED: &str = "incident-7-opened-100-comms";
const UPDATED: &str = "incident-7-updated-100-comms";

fn at(hour: i64) -> DateTime<Utc> {
    Minute(hour * 60).start()
}

fn step(transition: Transition, deliveries: Vec<Delivery>) -> Step {
    let evidence = Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 });
    Step {
        transition,
        minute: Minute(100),
        severity: Severity::Warning,
        evidence,
        phases: Vec::new(),
        notification: Notification {
            incident_id: 0,
            transition: transition.as_str().into(),
            test: false,
            brand: "acme".into(),
            severity: "warning".into(),
            at: at(1),
            opened_at: at(1),
            reason: "because".into(),
            evidence,
            phases: Vec::new(),
            corrected: None,
            drivers: Drivers::default(),
            examples: Vec::new(),
            curve: Vec::new(),
            curve_minutes: 0,
            echoes: 0,
            also: Vec::new(),
            thread: String::new(),
            url: Some("https://monitor.example.com/".into()),
            digest: None,
            missed: Vec::new(),
        },
        deliveries,
        suppressed: Vec::new(),
        missed: false,
    }
}

fn delivery(not_before: Option<i64>, group: bool) -> Delivery {
    Delivery { receiver: "comms".into(), not_before: not_before.map(at), group }
}

/// The opening of another incident, waiting for the same receiver.
fn other() -> PendingRow {
    PendingRow {
        id: 3,
        key: "incident-6-opened-90-comms".into(),
        receiver: "comms".into(),
        thread: "incident-6-opened-90-comms".into(),
        due_at: Some(at(8)),
        attempts: 0,
        failed: false,
        transition: "opened".into(),
        test: false,
        incident: IncidentId(6),
        also: Some(0),
    }
}

/// The writes in short: `insert KEY`, `join ROW` or `due ROW`.
fn short(plan: &OutboxPlan) -> Vec<String> {
    let short = |write: &OutboxWrite| match write {
        OutboxWrite::Insert { key, due_at, .. } => {
            let due = due_at.map_or(String::new(), |due| format!(" at {}", due.format("%H:%M")));
            format!("insert {key}{due}")
        }
        OutboxWrite::Join { row, also } => format!("join {row} by {}", also.incident_id),
        OutboxWrite::MakeDue { row } => format!("due {row}"),
    };
    plan.writes.iter().map(short).collect()
}

#[test]
fn an_opening_joins_only_a_fresh_opening_that_is_due_in_time() {
    let check = |name: &str, delivery: Delivery, row: PendingRow, joins: bool| {
        let plan = plan(
            &step(Transition::Opened, vec![delivery]),
            IncidentId(7),
            &BTreeMap::new(),
            &[row],
        );
        let joined = matches!(plan.writes[..], [OutboxWrite::Join { .. }]);
        assert_eq!(joined, joins, "{name}: {:?}", short(&plan));
        let thread = if joins { other().key } else { OPENED.into() };
        assert_eq!(plan.threads, BTreeMap::from([("comms".into(), thread)]), "{name}");
    };
    let wait = || delivery(Some(9), true);
    check("an opening that waits", wait(), other(), true);
    check("due at the same time", delivery(Some(8), true), other(), true);
    check("due later", delivery(Some(7), true), other(), false);
    check("this one is due at once", delivery(None, true), other(), false);
    check("due at once", wait(), PendingRow { due_at: None, ..other() }, true);
    check("no grouping", delivery(Some(9), false), other(), false);
    check("another receiver", wait(), PendingRow { receiver: "desk".into(), ..other() }, false);
    check("attempted", wait(), PendingRow { attempts: 1, ..other() }, false);
    check("failed and requeued", wait(), PendingRow { failed: true, ..other() }, false);
    check("an update", wait(), PendingRow { transition: "updated".into(), ..other() }, false);
    check("a test", wait(), PendingRow { test: true, ..other() }, false);
    check("the same incident", wait(), PendingRow { incident: IncidentId(7), ..other() }, false);
    check("almost full", wait(), PendingRow { also: Some(ALSO_MAX - 1), ..other() }, true);
    check("full", wait(), PendingRow { also: Some(ALSO_MAX), ..other() }, false);
    check("too old to be joined", wait(), PendingRow { also: None, ..other() }, false);
}

#[test]
fn a_notification_that_goes_at_once_releases_its_thread() {
    let thread = || BTreeMap::from([("comms".to_owned(), OPENED.to_owned())]);
    let own = || PendingRow { key: OPENED.into(), thread: OPENED.into(), ..other() };
    let check = |name: &str, delivery: Delivery, row: PendingRow, expected: &[&str]| {
        let step = step(Transition::Updated, vec![delivery]);
        let plan = plan(&step, IncidentId(7), &thread(), &[row]);
        assert_eq!(short(&plan)[1..], *expected, "{name}");
        assert!(short(&plan)[0].starts_with(&format!("insert {UPDATED}")), "{name}");
        assert_eq!(plan.threads, thread(), "{name}");
    };
    let now = || delivery(None, false);
    check("held back until the morning", now(), own(), &["due 3"]);
    check("this one waits too", delivery(Some(9), false), own(), &[]);
    check("due already", now(), PendingRow { due_at: None, ..own() }, &[]);
    check("attempted", now(), PendingRow { attempts: 1, ..own() }, &[]);
    check("another thread", now(), other(), &[]);
    check("another receiver", now(), PendingRow { receiver: "desk".into(), ..own() }, &[]);
}

#[test]
fn each_receiver_gets_its_own_transition_key_and_thread() {
    let known = BTreeMap::from([("comms".to_owned(), OPENED.to_owned())]);
    let check = |name: &str, transition, receiver: &str, expected: (&str, &str, &str)| {
        let delivery = Delivery { receiver: receiver.into(), ..delivery(None, true) };
        let plan = plan(&step(transition, vec![delivery]), IncidentId(7), &known, &[]);
        let [OutboxWrite::Insert { key, notification, .. }] = &plan.writes[..] else {
            panic!("{name}: {plan:?}")
        };
        let found = (key.as_str(), notification.transition.as_str(), notification.thread.as_str());
        assert_eq!(found, expected, "{name}");
        assert_eq!(notification.incident_id, 7, "{name}");
        let url = notification.url.as_deref();
        assert_eq!(url, Some("https://monitor.example.com/#incident-7"), "{name}");
    };
    let desk = "incident-7-opened-100-desk";
    check("an update", Transition::Updated, "comms", (UPDATED, "updated", OPENED));
    check("an update, the first for it", Transition::Updated, "desk", (desk, "opened", desk));
    let end = "incident-7-resolved-100-comms";
    check("the end", Transition::Resolved, "comms", (end, "resolved", OPENED));
    let end = "incident-7-resolved-100-desk";
    check("the end, the first for it", Transition::Resolved, "desk", (end, "resolved", end));
}
