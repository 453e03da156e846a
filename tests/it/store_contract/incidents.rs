//! Decisions, incidents, acknowledgements and silences.

use chrono::TimeDelta;
use monitor_core::domain::{
    Acknowledgement, Cause, Incident, IncidentId, Phase, Severity, Transition, Watch,
};
use monitor_store::{Decision, Event, Silence, Store, StoreError};
use serde_json::json;

use super::fixtures::*;

use Transition::{Opened, Reopened, Resolved, Updated};

pub async fn decides_once(store: &dyn Store) {
    assert_eq!(store.detector_state("united", Watch::Buzz).await.expect("read"), None);
    let overtaken = async |name, before| match store
        .decide(&decision("united", before, 99, Some(Opened)))
        .await
    {
        Err(StoreError::Overtaken { brand }) => assert_eq!(brand, "united", "{name}"),
        other => panic!("{name}: {other:?}"),
    };
    overtaken("claims an earlier evaluation, but there is none", Some(1)).await;
    assert_eq!(decide(store, decision("united", None, 10, None)).await, None);
    overtaken("claims to be the first, but is not", None).await;
    overtaken("an older minute", Some(9)).await;
    let state = json!({ "log": [1.5, -2e300, 18_446_744_073_709_551_615_u64], "text": "é\u{7}" });
    let next = Decision { state: state.clone(), ..decision("united", Some(10), 11, None) };
    assert_eq!(decide(store, next).await, None);
    let known = detector_state(store, "united").await;
    assert_eq!((known.evaluated, known.state, known.open), (minute(11), state, None));
    assert_eq!(known.notified, []);
    assert!(
        store.incidents(10).await.expect("incidents").is_empty(),
        "nothing is written of refused decisions"
    );
    assert_eq!(store.totals().await.expect("totals").outbox_pending, 0);
    assert_eq!(
        store.detector_state("delta", Watch::Buzz).await.expect("read"),
        None,
        "brands are separate"
    );
}

pub async fn lets_one_of_two_deciders_win(store: &dyn Store) {
    for (round, before) in [None, Some(1), Some(2)].into_iter().enumerate() {
        let now = round as i64 + 1;
        let step = [Opened, Updated, Resolved][round];
        let one = decision("united", before, now, Some(step));
        let two = decision("united", before, now, Some(step));
        let outcomes = tokio::join!(store.decide(&one), store.decide(&two));
        match outcomes {
            (Ok(Some(_)), Err(StoreError::Overtaken { .. }))
            | (Err(StoreError::Overtaken { .. }), Ok(Some(_))) => {}
            other => panic!("{step:?}: {other:?}"),
        }
    }
    let incidents = store.incidents(10).await.expect("incidents");
    assert_eq!(incidents.len(), 1);
    let events = store.events(incidents[0].id).await.expect("events");
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["opened", "updated", "resolved"], "each once");
    assert_eq!(keys(store).await.len(), 6, "each receiver is notified of each step once");
}

pub async fn opens_updates_and_resolves(store: &dyn Store) {
    let id = open(store, "united", 10).await;
    let opened = detector_state(store, "united").await.open.expect("the open incident");
    assert_eq!(
        opened,
        Incident {
            id,
            brand: "united".into(),
            severity: Severity::Warning,
            opened: minute(10),
            resolved: None,
            acknowledged: None,
            evidence: evidence(Cause::Share),
            phases: vec![Phase::new(minute(10), evidence(Cause::Share))],
            missed: false,
        }
    );
    assert_eq!(decide(store, decision("united", Some(10), 11, None)).await, None);
    assert_eq!(
        detector_state(store, "united").await.open,
        Some(opened.clone()),
        "it stays open between steps"
    );

    let mut now = 11;
    for (name, severity, kept) in [
        ("worse", Severity::Critical, Severity::Critical),
        ("better: the worst stays", Severity::Notice, Severity::Critical),
        ("as when it opened", Severity::Warning, Severity::Critical),
    ] {
        let updated = decision("united", Some(now), now + 1, Some(Updated));
        now += 1;
        assert_eq!(decide(store, as_bad_as(updated, severity)).await, Some(id), "{name}");
        let open = detector_state(store, "united").await.open.expect("the open incident");
        let phases = vec![Phase::new(minute(now), evidence(Cause::Share))];
        assert_eq!(open, Incident { severity: kept, phases, ..opened.clone() }, "{name}");
    }

    let mut resolve = decision("united", Some(now), 20, Some(Resolved));
    resolve.step.as_mut().expect("a step").notification.reason = "over".into();
    assert_eq!(decide(store, resolve).await, Some(id), "the incident that was open");
    let known = detector_state(store, "united").await;
    assert_eq!((known.evaluated, known.open), (minute(20), None));
    let expected = Incident {
        severity: Severity::Critical,
        resolved: Some(minute(20)),
        phases: vec![Phase::new(minute(20), evidence(Cause::Share))],
        ..opened.clone()
    };
    assert_eq!(known.last.as_ref(), Some(&expected), "it may open again");
    assert_eq!(store.incidents(10).await.expect("incidents"), std::slice::from_ref(&expected));
    assert_eq!(store.incident(id).await.expect("incident"), Some(expected));
    assert_eq!(store.incident(IncidentId(id.0 + 1)).await.expect("incident"), None);

    let event = |kind: &str, m, severity, note: &str| Event {
        kind: kind.into(),
        at: minute(m).start(),
        severity,
        who: None,
        note: note.into(),
        notified: vec!["comms".into(), "hook".into()],
        suppressed: vec![suppressed("desk")],
    };
    assert_eq!(
        store.events(id).await.expect("events"),
        [
            event("opened", 10, Severity::Warning, "because of united"),
            event("updated", 12, Severity::Critical, "because of united"),
            event("updated", 13, Severity::Notice, "because of united"),
            event("updated", 14, Severity::Warning, "because of united"),
            event("resolved", 20, Severity::Warning, "over"),
        ]
    );
    assert_eq!(store.events(IncidentId(id.0 + 1)).await.expect("events"), []);

    let again = decide(store, decision("united", Some(20), 21, Some(Opened))).await;
    assert_ne!(again, Some(id), "another incident");
}

pub async fn opens_again(store: &dyn Store) {
    let id = open(store, "united", 10).await;
    decide(store, decision("united", Some(10), 20, Some(Resolved))).await;
    let by = Acknowledgement { at: noon(), by: "ada".into(), note: "on it".into() };
    assert!(store.acknowledge(id, &by).await.expect("noted"));
    let mut again = as_bad_as(decision("united", Some(20), 30, Some(Reopened)), Severity::Critical);
    let joined = Phase::new(minute(30), evidence(Cause::NegativeVolume));
    again.step.as_mut().expect("a step").phases.push(joined);
    again.step.as_mut().expect("a step").deliveries.push(delivery("desk"));
    assert_eq!(decide(store, again).await, Some(id), "the same incident");
    let known = detector_state(store, "united").await;
    let open = known.open.expect("it is open");
    assert_eq!((open.id, open.opened, open.resolved), (id, minute(10), None));
    assert_eq!(open.acknowledged, None, "it wants to be acknowledged again");
    assert_eq!((open.severity, open.phases.len()), (Severity::Critical, 2));
    assert_eq!(open.causes(), [Cause::Share, Cause::NegativeVolume]);
    assert_eq!(known.last, None);
    let told: Vec<_> = known.notified.iter().map(|n| (n.receiver.as_str(), n.at)).collect();
    assert_eq!(told, ["comms", "desk", "hook"].map(|receiver| (receiver, minute(30))));

    // Whoever hears of it for the first time hears that it opens; the others stay in their thread.
    let mut rows = lease_all(store).await;
    rows.retain(|row| row.receiver == "comms");
    assert_eq!(rows.len(), 1, "the turns wait for the ones before");
    let rows = send_all(store).await;
    let turns = |receiver: &str| -> Vec<(String, bool)> {
        let rows = rows.iter().filter(|row| row.receiver == receiver);
        let turn = |n: &monitor_store::Notification| n.transition.clone();
        rows.map(|row| (turn(&row.notification), row.key == row.notification.thread)).collect()
    };
    let turn = |word: &str, is_first| (word.to_owned(), is_first);
    assert_eq!(
        turns("hook"),
        [turn("opened", true), turn("resolved", false), turn("reopened", false)]
    );
    assert_eq!(turns("desk"), [turn("opened", true)]);
    let events = store.events(id).await.expect("events");
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["opened", "resolved", "acknowledged", "reopened"]);
    decide(store, decision("united", Some(30), 40, Some(Resolved))).await.expect("resolved");
    let last = detector_state(store, "united").await.last.expect("the last one");
    assert_eq!((last.id, last.resolved), (id, Some(minute(40))));
}

pub async fn separates_watches(store: &dyn Store) {
    let share = open(store, "united", 10).await;
    let lag = of_cause(decision("united", None, 10, Some(Opened)), Cause::Lag);
    let lag = decide(store, lag).await.expect("a second incident");
    assert_ne!(share, lag);
    let resolve = of_cause(decision("united", Some(10), 15, Some(Resolved)), Cause::Lag);
    assert_eq!(decide(store, resolve).await, Some(lag));
    let known = detector_state(store, "united").await;
    assert_eq!(known.evaluated, minute(10), "the other watch has not advanced");
    assert_eq!(known.open.map(|incident| incident.id), Some(share));
    let since = async |watch| {
        let found = store.incidents_since("united", watch, minute(0)).await.expect("incidents");
        found.into_iter().map(|incident| incident.id).collect::<Vec<_>>()
    };
    assert_eq!(since(Watch::Buzz).await, [share]);
    assert_eq!(since(Watch::Lag).await, [lag]);
    assert_eq!(since(Watch::Quiet).await, []);
    assert_eq!(store.incidents(10).await.expect("incidents").len(), 2, "listed together");
    // The views of a brand have one watch.
    let surge = of_cause(decision("united", Some(10), 12, Some(Opened)), Cause::Surge);
    match store.decide(&surge).await {
        Err(StoreError::Refused(_)) => {}
        other => panic!("a second open incident about what is said: {other:?}"),
    }
}

pub async fn stores_the_evidence_of_each_cause(store: &dyn Store) {
    for cause in Cause::ALL {
        let opened = of_cause(decision(cause.as_str(), None, 10, Some(Opened)), cause);
        let id = decide(store, opened).await.expect("an incident");
        let kept = store.incident(id).await.expect("incident").expect("there");
        assert_eq!(kept.evidence, evidence(cause), "{cause:?}");
        assert_eq!((kept.cause(), kept.causes()), (cause, vec![cause]));
    }
    let causes: Vec<_> = lease_all(store).await.iter().map(|r| r.notification.cause()).collect();
    assert_eq!(causes.len(), 2 * Cause::ALL.len());
    assert!(Cause::ALL.iter().all(|cause| causes.contains(cause)), "{causes:?}");
}

pub async fn refuses_impossible_steps(store: &dyn Store) {
    let refused = async |name, decision: Decision| {
        let all = async || {
            (
                store.detector_state("united", Watch::Buzz).await.expect("read"),
                store.incidents(10).await.expect("incidents"),
                store.totals().await.expect("totals"),
            )
        };
        let before = all().await;
        match store.decide(&decision).await {
            Err(StoreError::Refused(_)) => {}
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(all().await, before, "{name}: nothing of it is written");
    };
    refused("opens nothing again", decision("united", None, 1, Some(Reopened))).await;
    refused("resolves nothing", decision("united", None, 1, Some(Resolved))).await;
    refused("updates nothing", decision("united", None, 1, Some(Updated))).await;
    let id = open(store, "united", 1).await;
    refused("opens twice", decision("united", Some(1), 2, Some(Opened))).await;
    decide(store, decision("united", Some(1), 2, Some(Resolved))).await;
    refused("updates a resolved incident", decision("united", Some(2), 3, Some(Updated))).await;
    decide(store, decision("united", Some(2), 3, Some(Reopened))).await;
    refused("opens an open one again", decision("united", Some(3), 4, Some(Reopened))).await;
    assert_eq!(store.events(id).await.expect("events").len(), 3, "nothing in its history either");
}

pub async fn lists_incidents(store: &dyn Store) {
    open(store, "united", 10).await;
    decide(store, decision("united", Some(10), 20, Some(Resolved))).await;
    open(store, "delta", 15).await;
    decide(store, decision("united", Some(20), 30, Some(Opened))).await;

    let opened = |found: &[Incident]| -> Vec<(String, i64)> {
        found.iter().map(|i| (i.brand.clone(), i.opened.0 - minute(0).0)).collect()
    };
    let name = |brand: &str, n| (brand.to_owned(), n);
    let all = store.incidents(10).await.expect("incidents");
    assert_eq!(opened(&all), [name("united", 30), name("delta", 15), name("united", 10)]);
    let two = store.incidents(2).await.expect("incidents");
    assert_eq!(opened(&two), [name("united", 30), name("delta", 15)], "newest first, limited");
    let one = store.incidents(1).await.expect("incidents");
    assert_eq!(opened(&one), [name("united", 30), name("delta", 15)], "and every open one");
    decide(store, decision("delta", Some(15), 40, Some(Resolved))).await;
    let one = store.incidents(1).await.expect("incidents");
    assert_eq!(opened(&one), [name("united", 30)], "once it is resolved, it is one of many");
    let none = store.incidents(0).await.expect("incidents");
    assert_eq!(opened(&none), [name("united", 30)], "only the open one");

    let check = async |what, from, expected: &[i64]| {
        let found = store.incidents_since("united", Watch::Buzz, minute(from)).await;
        let expected: Vec<_> = expected.iter().map(|&n| name("united", n)).collect();
        assert_eq!(opened(&found.expect("incidents")), expected, "{what}");
    };
    check("all, ascending", 0, &[10, 30]).await;
    check("partly after", 15, &[10, 30]).await;
    check("resolved in that minute", 20, &[10, 30]).await;
    check("resolved before", 21, &[30]).await;
    check("an open incident has no end", 500, &[30]).await;
}

pub async fn acknowledges_incidents(store: &dyn Store) {
    let id = open(store, "united", 10).await;
    let acknowledgement = |by: &str, note: &str, seconds| Acknowledgement {
        at: noon() + TimeDelta::seconds(seconds),
        by: by.into(),
        note: note.into(),
    };
    let (first, second) =
        (acknowledgement("ada", "on it", 0), acknowledgement("ben", "I take over", 60));
    assert!(store.acknowledge(id, &first).await.expect("noted"));
    let open = detector_state(store, "united").await.open.expect("still open");
    assert_eq!(open.acknowledged.as_ref(), Some(&first));
    assert!(store.acknowledge(id, &second).await.expect("noted"));
    decide(store, decision("united", Some(10), 20, Some(Resolved))).await;
    let kept = store.incident(id).await.expect("incident").expect("there");
    assert_eq!(kept.acknowledged, Some(second.clone()), "the latest acknowledgement counts");

    let events = store.events(id).await.expect("events");
    let event = |by: &Acknowledgement| Event {
        kind: "acknowledged".into(),
        at: by.at,
        severity: Severity::Warning,
        who: Some(by.by.clone()),
        note: by.note.clone(),
        notified: vec![],
        suppressed: vec![],
    };
    assert_eq!(events.len(), 4, "in order, between the steps");
    assert_eq!(events[1..3], [event(&first), event(&second)]);
    assert!(store.acknowledge(id, &first).await.expect("noted"), "after the end, too");
    assert!(!store.acknowledge(IncidentId(id.0 + 1), &first).await.expect("no such incident"));
}

pub async fn stores_and_ends_silences(store: &dyn Store) {
    let silence = |brand: Option<&str>, from, to| Silence {
        id: 77,
        brand: brand.map(str::to_owned),
        starts_at: noon() + TimeDelta::minutes(from),
        ends_at: noon() + TimeDelta::minutes(to),
        reason: "a test campaign".into(),
        who: "ada".into(),
    };
    let at = |m| noon() + TimeDelta::minutes(m);
    let numbers = async |m| {
        let found = store.silences(at(m)).await.expect("silences");
        found.into_iter().map(|silence| silence.id).collect::<Vec<_>>()
    };
    let mut ids = Vec::new();
    for row in [silence(Some("united"), 0, 10), silence(None, 5, 20), silence(None, 30, 40)] {
        let id = store.silence(&row).await.expect("kept");
        let kept = store.silences(at(0)).await.expect("silences");
        assert_eq!(kept.last(), Some(&Silence { id, ..row }));
        ids.push(id);
    }
    let (united, all, later) = (ids[0], ids[1], ids[2]);
    assert_eq!(numbers(-5).await, [united, all, later], "future ones too, by number");
    assert_eq!(numbers(9).await, [united, all, later]);
    assert_eq!(numbers(10).await, [all, later], "the end is excluded");

    assert!(store.end_silence(all, at(12)).await.expect("ended"));
    assert_eq!(numbers(11).await, [all, later]);
    assert_eq!(numbers(12).await, [later], "ended then");
    assert!(!store.end_silence(all, at(13)).await.expect("asked"), "has ended");
    assert!(!store.end_silence(united, at(13)).await.expect("asked"), "ran out");
    assert!(store.end_silence(later, at(13)).await.expect("ended"), "before it begins");
    assert_eq!(numbers(13).await, [0; 0], "it is cancelled");
    assert!(!store.end_silence(later, at(13)).await.expect("asked"), "it cannot be ended twice");
    assert!(!store.end_silence(later + 1, at(13)).await.expect("asked"), "no such silence");

    match store.silence(&silence(None, 10, 9)).await {
        Err(StoreError::Refused(_)) => {}
        other => panic!("ends before it starts: {other:?}"),
    }
}
