//! Incidents that were over when they were found, and the digest that tells of them.

use monitor_core::domain::{IncidentId, Transition};
use monitor_store::{Addressed, Decision, Store};

use super::fixtures::*;

/// A step that nobody is told of because it is long past.
fn missed(brand: &str, before: Option<i64>, now: i64, transition: Transition) -> Decision {
    let mut decision = notifying(decision(brand, before, now, Some(transition)), Vec::new());
    decision.step.as_mut().expect("a step").missed = transition != Transition::Resolved;
    decision
}

async fn missed_ids(store: &dyn Store) -> Vec<i64> {
    store.missed(10).await.expect("read").iter().map(|incident| incident.id.0).collect()
}

fn digest(
    receiver: &str,
    key: &str,
    not_before: Option<chrono::DateTime<chrono::Utc>>,
) -> Addressed {
    let mut notification =
        notification("united", monitor_core::domain::Cause::Share, Transition::Resolved);
    notification.transition = "missed".into();
    notification.thread = key.into();
    Addressed { receiver: receiver.into(), not_before, notification }
}

pub async fn tells_what_was_missed_once(store: &dyn Store) {
    use Transition::{Opened, Reopened, Resolved};
    let first = decide(store, missed("united", None, 10, Opened)).await.expect("an incident");
    assert_eq!(missed_ids(store).await, [0; 0], "it is not over");
    assert!(detector_state(store, "united").await.open.expect("open").missed);
    decide(store, missed("united", Some(10), 20, Resolved)).await;
    let second = decide(store, missed("delta", None, 5, Opened)).await.expect("an incident");
    decide(store, missed("delta", Some(5), 30, Resolved)).await;
    let told = open(store, "jetblue", 12).await;
    decide(store, decision("jetblue", Some(12), 13, Some(Resolved))).await;
    assert_eq!(missed_ids(store).await, [second.0, first.0], "as they opened");
    assert!(!store.incident(told).await.expect("read").expect("one").missed);
    send_all(store).await;

    let digests =
        [digest("comms", "missed-1-comms", None), digest("hook", "missed-1-hook", Some(noon()))];
    let unknown = [first, IncidentId(99)];
    assert!(!store.tell_missed(&unknown, &digests).await.expect("answered"), "one is not missed");
    assert_eq!(missed_ids(store).await, [second.0, first.0], "nothing has changed");
    assert_eq!(store.totals().await.expect("read").outbox_pending, 0);

    assert!(store.tell_missed(&[second, first], &digests).await.expect("told"));
    assert_eq!(missed_ids(store).await, [0; 0]);
    assert!(!store.tell_missed(&[second, first], &digests).await.expect("answered"), "once");
    let before = noon() - chrono::TimeDelta::minutes(1);
    let lease = std::time::Duration::from_secs(9);
    let due = store.outbox_lease(before, lease, 9, &[], &[]).await.expect("leased");
    let due: Vec<_> = due.iter().map(|row| (row.receiver.as_str(), row.key.as_str())).collect();
    assert_eq!(due, [("comms", "missed-1-comms")], "the other one waits");
    let all = lease_all(store).await;
    assert_eq!(all.iter().map(|row| row.key.as_str()).max(), Some("missed-1-hook"));

    decide(store, missed("delta", Some(30), 40, Reopened)).await;
    assert_eq!(missed_ids(store).await, [0; 0], "it is open again");
    decide(store, missed("delta", Some(40), 50, Resolved)).await;
    assert_eq!(missed_ids(store).await, [second.0], "missed again");
}

pub async fn forgets_that_it_was_missed_when_somebody_is_told(store: &dyn Store) {
    use Transition::{Opened, Reopened, Resolved, Updated};
    decide(store, missed("united", None, 10, Opened)).await;
    let untold = notifying(decision("united", Some(10), 11, Some(Updated)), Vec::new());
    decide(store, untold).await;
    assert!(detector_state(store, "united").await.open.expect("open").missed, "nobody was told");
    decide(store, decision("united", Some(11), 12, Some(Updated))).await;
    assert!(!detector_state(store, "united").await.open.expect("open").missed);
    let rows = lease_all(store).await;
    assert!(rows.iter().all(|row| row.notification.transition == "opened"), "for the first time");
    decide(store, decision("united", Some(12), 13, Some(Resolved))).await;
    decide(store, missed("united", Some(13), 14, Reopened)).await;
    assert!(detector_state(store, "united").await.open.expect("open").missed);
    decide(store, missed("united", Some(14), 15, Resolved)).await;
    assert_eq!(missed_ids(store).await.len(), 1);
    decide(store, decision("united", Some(15), 16, Some(Reopened))).await;
    assert!(!detector_state(store, "united").await.open.expect("open").missed, "told as reopened");
}
