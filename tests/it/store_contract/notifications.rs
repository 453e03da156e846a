//! Notifications: who gets them, grouping, leases, requeues.

use std::time::Duration;

use chrono::TimeDelta;
use monitor_core::domain::{Cause, IncidentId, Notified, Severity, Transition, Watch};
use monitor_store::{Decision, Delivery, OutboxRow, OutboxState, Store};

use super::fixtures::*;

use Transition::{Opened, Resolved, Updated};

/// A delivery due `seconds` after noon, which may join others.
fn grouped(receiver: &str, seconds: i64) -> Delivery {
    Delivery {
        receiver: receiver.into(),
        not_before: Some(noon() + TimeDelta::seconds(seconds)),
        group: true,
    }
}

pub async fn notifies_each_receiver_in_its_thread(store: &dyn Store) {
    let notified = async || {
        let receivers = detector_state(store, "united").await.notified;
        receivers.into_iter().map(|t: Notified| (t.receiver, t.at, t.severity)).collect::<Vec<_>>()
    };
    let entry = |receiver: &str, m, severity| (receiver.to_owned(), minute(m), severity);
    let opened = decision("united", None, 10, Some(Opened));
    let id = decide(store, notifying(opened, vec![delivery("hook")])).await.expect("an incident");
    assert_eq!(notified().await, [entry("hook", 10, Severity::Warning)]);

    // Worse now, so comms is notified too: for comms this is the opening.
    let updated = as_bad_as(decision("united", Some(10), 11, Some(Updated)), Severity::Critical);
    decide(store, updated).await;
    let critical = Severity::Critical;
    assert_eq!(notified().await, [entry("comms", 11, critical), entry("hook", 11, critical)]);

    let quiet = decision("united", Some(11), 12, Some(Updated));
    decide(store, notifying(quiet, vec![])).await;
    let events = store.events(id).await.expect("events");
    assert_eq!(events[2].notified, Vec::<String>::new(), "nobody was notified of this step");

    let updated = decision("united", Some(12), 13, Some(Updated));
    decide(store, notifying(updated, vec![delivery("comms")])).await;
    assert_eq!(
        notified().await,
        [entry("comms", 13, Severity::Warning), entry("hook", 11, critical)],
        "the last notification of each"
    );
    let all = vec![delivery("comms"), delivery("hook"), delivery("late")];
    decide(store, notifying(decision("united", Some(13), 14, Some(Resolved)), all)).await;

    let rows = send_all(store).await;
    let found: Vec<_> = rows
        .iter()
        .map(|r| {
            assert_eq!(r.notification.incident_id, id.0, "filled in by the store");
            assert_eq!(r.notification.reason, "because of united");
            let url = format!("https://monitor.example.com/#incident-{id}");
            assert_eq!(r.notification.url, Some(url), "leads to the incident");
            let transition = r.notification.transition.as_str();
            (r.receiver.as_str(), transition, r.key.clone(), r.notification.thread.clone())
        })
        .collect();
    let key = |step: &str, receiver: &str| format!("incident-{id}-{step}-{receiver}");
    let row = |receiver, transition, step: &str, thread: &str| {
        (receiver, transition, key(step, receiver), key(thread, receiver))
    };
    let at = |step: &str, m| format!("{step}-{}", minute(m).0);
    let (hook, comms, late) = (at("opened", 10), at("opened", 11), at("resolved", 14));
    assert_eq!(
        found,
        [
            row("hook", "opened", &hook, &hook),
            row("comms", "opened", &comms, &comms),
            row("hook", "updated", &at("updated", 11), &hook),
            row("comms", "updated", &at("updated", 13), &comms),
            row("comms", "resolved", &late, &comms),
            row("hook", "resolved", &late, &hook),
            row("late", "resolved", &late, &late),
        ]
    );
}

pub async fn holds_notifications_until_their_time(store: &dyn Store) {
    let later = Delivery { not_before: Some(noon() + TimeDelta::hours(1)), ..delivery("comms") };
    let opened = decision("united", None, 10, Some(Opened));
    decide(store, notifying(opened, vec![later, delivery("hook")])).await;
    let receivers = async |minutes| {
        let now = noon() + TimeDelta::minutes(minutes);
        let rows =
            store.outbox_lease(now, Duration::from_secs(1), 9, &[], &[]).await.expect("leased");
        for row in &rows {
            store
                .outbox_record(row.id, row.attempts, now, &OutboxState::Sent)
                .await
                .expect("recorded");
        }
        rows.into_iter().map(|row| row.receiver).collect::<Vec<_>>()
    };
    assert_eq!(receivers(0).await, ["hook"], "at once");
    assert_eq!(receivers(59).await, [""; 0]);
    assert_eq!(receivers(60).await, ["comms"], "from its time on");
}

fn opens(brand: &str, deliveries: Vec<Delivery>) -> Decision {
    notifying(decision(brand, None, 10, Some(Opened)), deliveries)
}

pub async fn groups_incidents_that_open_together(store: &dyn Store) {
    let host = decide(store, opens("united", vec![grouped("comms", 30)])).await.expect("opened");
    let both = vec![grouped("comms", 40), grouped("hook", 40)];
    let joined = decide(store, opens("delta", both)).await.expect("opened");
    let lag = of_cause(decision("united", None, 12, Some(Opened)), Cause::Lag);
    let lag = notifying(lag, vec![grouped("comms", 50)]);
    let lag = decide(store, lag).await.expect("opened");
    let opened = minute(10).0;
    let key = |id: IncidentId, receiver: &str| format!("incident-{id}-opened-{opened}-{receiver}");

    let notified = store
        .detector_state("delta", Watch::Buzz)
        .await
        .expect("read")
        .expect("evaluated before")
        .notified;
    let receivers: Vec<_> = notified.iter().map(|n| n.receiver.as_str()).collect();
    assert_eq!(
        receivers,
        ["comms", "hook"],
        "a receiver counts as notified if its notification joined"
    );
    assert_eq!(store.events(joined).await.expect("events")[0].notified, ["comms", "hook"]);

    let rows = send_all(store).await;
    assert_eq!(
        rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(),
        [key(host, "comms"), key(joined, "hook")],
        "one row per receiver, under the key of the first incident"
    );
    assert_eq!(rows[0].notification.brand, "united");
    let also: Vec<_> = rows[0]
        .notification
        .also
        .iter()
        .map(|a| (a.incident_id, a.brand.as_str(), a.transition.as_str(), a.reason.as_str()))
        .collect();
    assert_eq!(
        also,
        [
            (joined.0, "delta", "opened", "because of delta"),
            (lag.0, "united", "opened", "because of united")
        ]
    );
    assert_eq!(rows[1].notification.also, []);

    // Later steps have their own rows, in the thread of the row that was joined.
    let resolved = decision("delta", Some(10), 20, Some(Resolved));
    let both = vec![grouped("comms", 40), grouped("hook", 40)];
    decide(store, notifying(resolved, both)).await;
    let threads: Vec<_> =
        send_all(store).await.into_iter().map(|row| row.notification.thread).collect();
    assert_eq!(threads, [key(host, "comms"), key(joined, "hook")]);
}

pub async fn groups_only_fresh_openings(store: &dyn Store) {
    // Each case has its own receivers, so that cases do not interfere.
    let brand = |n: i64| format!("brand {n}");
    let mut count = 0;
    let mut opened = async |delivery: Delivery| {
        count += 1;
        decide(store, opens(&brand(count), vec![delivery])).await.expect("opened");
        brand(count)
    };
    // Counts as an attempt on all of them.
    let rows_for = async |receiver: &str| {
        lease_all(store).await.into_iter().filter(|row| row.receiver == receiver).count()
    };
    let alone = |receiver: &str, seconds| Delivery { group: false, ..grouped(receiver, seconds) };

    for (receiver, host, newcomer, rows) in [
        ("joins", grouped("joins", 30), grouped("joins", 30), 1),
        (
            "joins one that is due at once",
            delivery("joins one that is due at once"),
            grouped("joins one that is due at once", 30),
            1,
        ),
        (
            "joins one that would not have",
            alone("joins one that would not have", 30),
            grouped("joins one that would not have", 30),
            1,
        ),
        ("stays alone", grouped("stays alone", 30), alone("stays alone", 40), 2),
        (
            "waits no longer than it may",
            grouped("waits no longer than it may", 30),
            grouped("waits no longer than it may", 29),
            2,
        ),
        (
            "does not wait at all",
            grouped("does not wait at all", 30),
            Delivery { group: true, ..delivery("does not wait at all") },
            2,
        ),
        ("other receiver", grouped("another", 30), grouped("other receiver", 30), 1),
    ] {
        opened(host).await;
        opened(newcomer).await;
        assert_eq!(rows_for(receiver).await, rows, "{receiver}");
    }

    // An attempted row is never joined: not while leased, not after a failure, not once requeued.
    let attempted = opened(grouped("attempted", 30)).await;
    // The lease expires before the new one is due, so only the attempt prevents joining.
    let soon = noon() + TimeDelta::seconds(30);
    let leased =
        store.outbox_lease(soon, Duration::from_secs(1), 99, &[], &[]).await.expect("leased");
    let row = leased.iter().find(|r| r.notification.brand == attempted).expect("the row").id;
    opened(grouped("attempted", 40)).await;
    assert_eq!(rows_for("attempted").await, 2, "leased");
    let dead = OutboxState::Dead { error: "refused".into() };
    for row in lease_all(store).await.iter().filter(|r| r.receiver == "attempted") {
        store.outbox_record(row.id, row.attempts, noon(), &dead).await.expect("recorded");
    }
    opened(grouped("attempted", 50)).await;
    assert_eq!(rows_for("attempted").await, 1, "a dead row is not joined");
    assert_eq!(store.requeue(Some(row), None).await.expect("requeued"), 1);
    opened(grouped("attempted", 60)).await;
    assert_eq!(rows_for("attempted").await, 3, "the receiver may know the key of the requeued row");

    // An update does not join and is not joined.
    let brand = opened(delivery("update")).await;
    assert_eq!(rows_for("update").await, 1, "its own opening has been attempted");
    opened(grouped("update", 30)).await;
    let update = |before, now| {
        let update = decision(&brand, Some(before), now, Some(Updated));
        notifying(update, vec![grouped("update", 40)])
    };
    decide(store, update(10, 20)).await;
    assert_eq!(rows_for("update").await, 3, "does not join");
    decide(store, update(20, 21)).await;
    opened(grouped("update", 50)).await;
    assert_eq!(rows_for("update").await, 5, "is not joined");

    // The same for a resolve.
    let brand = opened(delivery("resolve")).await;
    for row in lease_all(store).await.iter().filter(|row| row.receiver == "resolve") {
        store
            .outbox_record(row.id, row.attempts, noon(), &OutboxState::Sent)
            .await
            .expect("recorded");
    }
    opened(grouped("resolve", 30)).await;
    let resolve = decision(&brand, Some(10), 20, Some(Resolved));
    decide(store, notifying(resolve, vec![grouped("resolve", 40)])).await;
    assert_eq!(rows_for("resolve").await, 2, "does not join");
    let again = notifying(decision(&brand, Some(20), 30, Some(Opened)), vec![grouped("again", 40)]);
    decide(store, again).await;
    let late = vec![grouped("again", 40), grouped("last", 40)];
    decide(store, notifying(decision(&brand, Some(30), 40, Some(Resolved)), late)).await;
    opened(grouped("last", 50)).await;
    assert_eq!(rows_for("last").await, 2, "is not joined");

    // A test is not joined, and at most twenty join one row.
    let mut test = opens("tested", vec![grouped("test", 30)]);
    test.step.as_mut().expect("a step").notification.test = true;
    decide(store, test).await;
    opened(grouped("test", 40)).await;
    assert_eq!(rows_for("test").await, 2, "a test");
    for _ in 0..22 {
        opened(grouped("crowd", 30)).await;
    }
    let also: Vec<_> = lease_all(store)
        .await
        .iter()
        .filter(|row| row.receiver == "crowd")
        .map(|row| row.notification.also.len())
        .collect();
    assert_eq!(also, [20, 0]);
}

pub async fn leases_the_outbox(store: &dyn Store) {
    open(store, "united", 10).await;
    let lease_but = async |seconds_later: i64, limit, sending: &[i64]| {
        let now = noon() + TimeDelta::seconds(seconds_later);
        let rows = store.outbox_lease(now, Duration::from_secs(60), limit, &[], sending).await;
        let rows = rows.expect("leased").into_iter();
        rows.map(|r| (r.id, r.receiver, r.attempts)).collect::<Vec<_>>()
    };
    let lease = async |seconds_later, limit| lease_but(seconds_later, limit, &[]).await;
    let first = lease(0, 1).await;
    assert_eq!(first.len(), 1, "limit");
    let (comms, hook) = (first[0].0, first[0].0 + 1);
    assert_eq!(first, [(comms, "comms".to_owned(), 1)], "the older one first");
    assert_eq!(lease(1, 9).await, [(hook, "hook".to_owned(), 1)], "leased rows are not due");
    assert_eq!(lease(59, 9).await, [], "still leased");
    assert_eq!(lease_but(60, 9, &[comms]).await, [], "the caller is still sending it");
    assert_eq!(lease(60, 9).await, [(comms, "comms".to_owned(), 2)], "the lease ran out");

    let retry = OutboxState::Retry { at: noon() + TimeDelta::seconds(300), error: "busy".into() };
    store.outbox_record(hook, 1, noon(), &retry).await.expect("recorded");
    store.outbox_record(comms, 1, noon(), &OutboxState::Sent).await.expect("recorded");
    assert_eq!(
        store.totals().await.expect("totals").outbox_pending,
        2,
        "another has taken it over"
    );
    store.outbox_record(comms, 2, noon(), &OutboxState::Sent).await.expect("recorded");
    assert_eq!(lease(299, 9).await, [], "not due before its time, nor once sent");
    assert_eq!(lease(300, 9).await, [(hook, "hook".to_owned(), 2)], "due at its time");
    assert_eq!(store.totals().await.expect("totals").outbox_pending, 1);
}

pub async fn leases_nothing_for_resting_receivers(store: &dyn Store) {
    open(store, "united", 10).await;
    let lease = async |limit, resting: &[&str]| {
        let resting: Vec<_> = resting.iter().map(|&name| name.to_owned()).collect();
        let rows = store.outbox_lease(noon(), Duration::from_secs(60), limit, &resting, &[]).await;
        let rows = rows.expect("leased").into_iter();
        rows.map(|row| (row.receiver, row.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(lease(9, &["comms", "hook"]).await, [], "all rest");
    assert_eq!(
        lease(1, &["comms"]).await,
        [("hook".into(), 1)],
        "they do not count towards the limit"
    );
    assert_eq!(lease(9, &["nobody"]).await, [("comms".into(), 1)], "resting is not an attempt");
}

pub async fn sends_a_resolve_after_its_thread(store: &dyn Store) {
    let step = |before, now, step| decision("united", before, now, Some(step));
    let later = Delivery { not_before: Some(noon() + TimeDelta::hours(7)), ..delivery("comms") };
    let held = notifying(step(None, 10, Opened), vec![later, delivery("hook")]);
    let first = decide(store, held).await.expect("opened");
    // Due at noon, not at once: a delivery at once would release the held rows.
    let due = || Delivery { not_before: Some(noon()), ..delivery("comms") };
    // The opening of another brand joins the held row, and its end must wait too.
    let joins = Delivery {
        group: true,
        not_before: Some(noon() + TimeDelta::hours(8)),
        ..delivery("comms")
    };
    decide(store, opens("delta", vec![joins])).await;
    decide(store, notifying(decision("delta", Some(10), 20, Some(Resolved)), vec![due()])).await;
    let both = || vec![due(), delivery("hook")];
    decide(store, notifying(step(Some(10), 11, Updated), both())).await;
    decide(store, notifying(step(Some(11), 12, Resolved), both())).await;

    let lease = async |hours| {
        let now = noon() + TimeDelta::hours(hours);
        let rows = store.outbox_lease(now, Duration::from_secs(60), 99, &[], &[]).await;
        let word = |row: &OutboxRow| {
            let n = &row.notification;
            format!("{} {} {}", row.receiver, n.brand, n.transition)
        };
        let rows = rows.expect("leased");
        (rows.iter().map(word).collect::<Vec<_>>(), rows)
    };
    let sent = async |rows: Vec<OutboxRow>, receiver: &str| {
        for row in rows.iter().filter(|row| row.receiver == receiver) {
            store
                .outbox_record(row.id, row.attempts, noon(), &OutboxState::Sent)
                .await
                .expect("recorded");
        }
    };
    // An update must not wait for the held row; a resolve must.
    let (words, rows) = lease(0).await;
    assert_eq!(words, ["hook united opened", "comms united updated", "hook united updated"]);
    sent(rows, "comms").await;
    let (words, rows) = lease(1).await;
    assert_eq!(words, ["hook united opened", "hook united updated"], "their lease ran out");
    sent(rows, "hook").await;
    let (words, rows) = lease(2).await;
    assert_eq!(words, ["hook united resolved"], "all before it has been sent");
    sent(rows, "hook").await;

    let (words, rows) = lease(7).await;
    assert_eq!(words, ["comms united opened"]);
    assert_eq!(rows[0].notification.incident_id, first.0);
    let dead = OutboxState::Dead { error: "gone".into() };
    store.outbox_record(rows[0].id, rows[0].attempts, noon(), &dead).await.expect("recorded");
    let (words, rows) = lease(8).await;
    assert_eq!(words, ["comms delta resolved"], "a dead row holds nothing back");
    sent(rows, "comms").await;
    assert_eq!(lease(9).await.0, ["comms united resolved"], "the last of the thread");
}

pub async fn releases_held_rows_once_a_notification_goes_at_once(store: &dyn Store) {
    let step = |before, now, step| decision("united", before, now, Some(step));
    let held = |receiver: &str| Delivery {
        not_before: Some(noon() + TimeDelta::hours(7)),
        ..delivery(receiver)
    };
    let lease = async |minutes| {
        let now = noon() + TimeDelta::minutes(minutes);
        let rows =
            store.outbox_lease(now, Duration::from_secs(1), 99, &[], &[]).await.expect("leased");
        for row in &rows {
            store
                .outbox_record(row.id, row.attempts, now, &OutboxState::Sent)
                .await
                .expect("recorded");
        }
        let word = |row: &OutboxRow| {
            format!("{} {} {}", row.receiver, row.notification.brand, row.notification.transition)
        };
        rows.iter().map(word).collect::<Vec<_>>()
    };
    decide(store, notifying(step(None, 10, Opened), vec![held("comms"), held("hook")])).await;
    decide(store, opens("delta", vec![held("comms")])).await;
    assert_eq!(lease(0).await, [""; 0], "both are held");
    decide(store, notifying(step(Some(10), 11, Updated), vec![delivery("comms")])).await;
    assert_eq!(
        lease(1).await,
        ["comms united opened", "comms united updated"],
        "not those of another incident or receiver"
    );
    let both = vec![delivery("comms"), held("hook")];
    decide(store, notifying(step(Some(11), 12, Resolved), both)).await;
    assert_eq!(
        lease(2).await,
        ["comms united resolved"],
        "quiet hours still hold for the other receiver"
    );
    assert_eq!(lease(7 * 60).await, ["hook united opened", "comms delta opened"]);
    assert_eq!(lease(7 * 60 + 1).await, ["hook united resolved"]);
}

pub async fn resends_the_end_after_a_requeued_opening(store: &dyn Store) {
    open(store, "united", 10).await;
    open(store, "delta", 10).await;
    let lease = async || {
        let rows = store.outbox_lease(noon(), Duration::from_secs(60), 99, &[], &[]).await;
        rows.expect("leased")
    };
    let record = async |row: &OutboxRow, state: &OutboxState| {
        store.outbox_record(row.id, row.attempts, noon(), state).await.expect("recorded");
    };
    let dead = OutboxState::Dead { error: "gone".into() };
    for row in lease().await {
        let is_dead = row.receiver == "hook" && row.notification.brand == "united";
        record(&row, if is_dead { &dead } else { &OutboxState::Sent }).await;
    }
    for brand in ["united", "delta"] {
        decide(store, decision(brand, Some(10), 20, Some(Resolved))).await;
    }
    let ends = lease().await;
    assert_eq!(ends.len(), 4, "each receiver of each brand");
    for row in &ends {
        record(row, &OutboxState::Sent).await;
    }
    assert_eq!(
        store.requeue(None, Some("hook")).await.expect("requeued"),
        1,
        "the sent end is not counted"
    );
    let again = lease().await;
    let [opened] = &again[..] else { panic!("the end waits for its beginning: {again:?}") };
    assert_eq!(opened.notification.transition, "opened");
    record(opened, &OutboxState::Sent).await;
    let again = lease().await;
    let [end] = &again[..] else { panic!("its end alone: {again:?}") };
    let earlier = ends.iter().find(|row| row.id == end.id).expect("one sent before");
    assert_eq!((end, end.attempts), (earlier, 1), "under its old key");
    assert_eq!((end.receiver.as_str(), end.notification.brand.as_str()), ("hook", "united"));
}

pub async fn keeps_sent_and_dead_rows(store: &dyn Store) {
    open(store, "united", 10).await;
    let rows =
        store.outbox_lease(noon(), Duration::from_secs(1), 9, &[], &[]).await.expect("leased");
    let dead = OutboxState::Dead { error: "no such address".into() };
    let retry = OutboxState::Retry { at: noon(), error: "late result".into() };
    store
        .outbox_record(rows[0].id, rows[0].attempts, noon(), &OutboxState::Sent)
        .await
        .expect("recorded");
    store.outbox_record(rows[1].id, rows[1].attempts, noon(), &dead).await.expect("recorded");
    for row in &rows {
        store.outbox_record(row.id, row.attempts, noon(), &retry).await.expect("recorded");
    }
    assert_eq!(keys(store).await, [""; 0], "a late result changes nothing");
    let totals = store.totals().await.expect("totals");
    assert_eq!((totals.outbox_pending, totals.outbox_dead), (0, 1));
    store.outbox_record(i64::MAX, 1, noon(), &dead).await.expect("unknown: nothing to do");
}

pub async fn requeues_dead_notifications(store: &dyn Store) {
    assert_eq!(store.dead_notifications(9).await.expect("dead"), []);
    open(store, "united", 10).await;
    let both = vec![delivery("comms"), delivery("sms")];
    decide(store, notifying(decision("delta", None, 10, Some(Opened)), both)).await;
    let rows = lease_all(store).await;
    // They die from the last to the first; the first is sent.
    for (seconds, row) in rows.iter().skip(1).rev().enumerate() {
        let error = format!("no {}\0", row.receiver);
        let now = noon() + TimeDelta::seconds(seconds as i64);
        store
            .outbox_record(row.id, row.attempts, now, &OutboxState::Dead { error })
            .await
            .expect("recorded");
    }
    store
        .outbox_record(rows[0].id, rows[0].attempts, noon(), &OutboxState::Sent)
        .await
        .expect("recorded");

    let dead = async |limit| {
        let dead = store.dead_notifications(limit).await.expect("dead");
        dead.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let (hook, comms, sms) = (rows[1].id, rows[2].id, rows[3].id);
    assert_eq!(dead(9).await, [sms, comms, hook], "the first dead one comes first");
    assert_eq!(dead(2).await, [sms, comms]);
    let first = &store.dead_notifications(1).await.expect("dead")[0];
    assert_eq!(
        (first.key.as_str(), first.receiver.as_str(), first.attempts, first.ended_at),
        (rows[3].key.as_str(), "sms", 1, noon())
    );
    assert!(first.error.starts_with("no sms"), "{}", first.error);

    let requeue = async |row, receiver| store.requeue(row, receiver).await.expect("requeued");
    assert_eq!(requeue(Some(rows[0].id), None).await, 0, "sent, not dead");
    assert_eq!(requeue(Some(i64::MAX), None).await, 0, "no such row");
    assert_eq!(requeue(Some(hook), Some("comms")).await, 0, "of another receiver");
    assert_eq!(requeue(Some(hook), Some("hook")).await, 1);
    assert_eq!(requeue(Some(hook), None).await, 0, "waits already");
    assert_eq!(requeue(None, Some("comms")).await, 1);
    assert_eq!(dead(9).await, [sms]);
    assert_eq!(requeue(None, None).await, 1);
    let again =
        store.outbox_lease(noon(), Duration::from_secs(1), 9, &[], &[]).await.expect("leased");
    assert_eq!(
        again.iter().map(|r| (r.key.clone(), r.attempts)).collect::<Vec<_>>(),
        rows[1..].iter().map(|r| (r.key.clone(), 1)).collect::<Vec<_>>(),
        "due at once, under the old keys, with the attempts reset"
    );
    assert_eq!(again[0].notification, rows[1].notification);
}

pub async fn takes_and_keeps_the_lead(store: &dyn Store) {
    assert!(store.lead().await.expect("asked"), "no other holder");
    assert!(store.lead().await.expect("asked"), "and keeps it");
}

/// Those that it opened with, even if a later step has others.
pub async fn keeps_the_examples_of_an_incident(store: &dyn Store) {
    let with = |mut decision: Decision, text: &str| {
        let step = decision.step.as_mut().expect("a step");
        step.notification.examples = vec![example(text)];
        decision
    };
    let opened = with(decision("united", None, 10, Some(Opened)), "é late");
    let id = decide(store, opened).await.expect("an incident");
    decide(store, with(decision("united", Some(10), 11, Some(Updated)), "later")).await;
    let other = decide(store, decision("delta", None, 10, Some(Opened))).await.expect("another");
    send_all(store).await;
    assert_eq!(store.examples(id).await.expect("examples"), [example("é late")]);
    assert_eq!(store.examples(other).await.expect("examples"), [example("delta")]);
    assert_eq!(store.examples(IncidentId(99)).await.expect("examples"), []);
    let silent = notifying(decision("klm", None, 10, Some(Opened)), Vec::new());
    let silent = decide(store, silent).await.expect("an incident");
    assert_eq!(store.examples(silent).await.expect("examples"), [], "nobody was notified");
}

pub async fn tells_what_became_of_notifications(store: &dyn Store) {
    let opened = decision("united", None, 5, Some(Transition::Opened));
    let id = decide(store, notifying(opened, vec![delivery("a"), delivery("b")])).await;
    let id = id.expect("an incident");
    open(store, "delta", 5).await;
    let states = async || {
        let found = store.notifications_of(id).await.expect("notifications");
        found.into_iter().map(|it| (it.receiver, it.transition, it.state)).collect::<Vec<_>>()
    };
    let of = |receiver: &str, state: &str| (receiver.into(), "opened".into(), state.into());
    assert_eq!(states().await, [of("a", "pending"), of("b", "pending")]);
    let leased = lease_all(store).await;
    let of_it = |receiver: &str| {
        let row = leased
            .iter()
            .find(|row| row.receiver == receiver && row.notification.incident_id == id.0);
        row.expect("leased").id
    };
    store.outbox_record(of_it("a"), 1, noon(), &OutboxState::Sent).await.expect("recorded");
    let dead = OutboxState::Dead { error: "410 Gone".into() };
    store.outbox_record(of_it("b"), 1, noon(), &dead).await.expect("recorded");
    assert_eq!(states().await, [of("a", "sent"), of("b", "dead")]);
    let found = store.notifications_of(id).await.expect("notifications");
    assert_eq!((found[1].attempts, found[1].error.as_deref()), (1, Some("410 Gone")));
    assert_eq!(found[1].ended_at, Some(noon()));
    assert_eq!(found[1].drivers, notification("united", Cause::Share, Transition::Opened).drivers);
    assert!(store.notifications_of(IncidentId(99)).await.expect("an answer").is_empty());
}
