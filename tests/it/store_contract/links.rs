//! Acts by links of notifications.

use chrono::TimeDelta;
use monitor_core::domain::{Acknowledgement, IncidentId, Label, Silence, Transition};
use monitor_store::{Correction, LinkOutcome, LinkUse, LinkedAct, Store, UsedLink};

use super::fixtures::*;

fn using(link: &str, by: &str, act: LinkedAct) -> LinkUse {
    LinkUse {
        link: link.into(),
        by: by.into(),
        at: noon(),
        expires: noon() + TimeDelta::hours(72),
        act,
    }
}

fn acknowledge(id: i64, by: &str) -> LinkedAct {
    let acknowledgement = Acknowledgement { at: noon(), by: by.into(), note: String::new() };
    LinkedAct::Acknowledge(IncidentId(id), acknowledgement)
}

fn silence(by: &str) -> LinkedAct {
    LinkedAct::Silence(Silence {
        id: 0,
        brand: Some("united".into()),
        starts_at: noon(),
        ends_at: noon() + TimeDelta::hours(2),
        reason: "by the link of incident 1".into(),
        who: by.into(),
    })
}

fn correct(tweet: &str, by: &str) -> LinkedAct {
    LinkedAct::Correct(Correction {
        tweet_id: tweet.into(),
        label: Label::Neutral,
        by: by.into(),
        at: noon(),
        text: String::new(),
    })
}

pub async fn keeps_who_has_used_a_link(store: &dyn Store) {
    claim_empty(store, 1).await;
    let rows = vec![tweet("t1", &["united"], 0.9)];
    store.commit(&batch(rows, vec![advance(0, 0, 1)])).await.expect("committed");
    let id = open(store, "united", 60).await;
    let act = async |link: &str, by: &str, act| {
        store.use_link(&using(link, by, act)).await.expect("answered")
    };
    let used = |by: &str| LinkOutcome::Used(UsedLink { by: by.into(), at: noon() });
    for (link, of) in [
        ("1-acknowledge", acknowledge as fn(i64, &str) -> LinkedAct),
        ("1-silence", |_, by| silence(by)),
        ("1-not-negative-t1", |_, by| correct("t1", by)),
    ] {
        assert_eq!(store.used_link(link).await.expect("answered"), None, "{link}");
        assert_eq!(act(link, "anna", of(id.0, "anna")).await, LinkOutcome::Done, "{link}");
        assert_eq!(act(link, "bob", of(id.0, "bob")).await, used("anna"), "{link}");
        let known = store.used_link(link).await.expect("answered");
        assert_eq!(known, Some(UsedLink { by: "anna".into(), at: noon() }), "{link}");
    }
    let incident = store.incident(id).await.expect("read").expect("an incident");
    assert_eq!(incident.acknowledged.expect("acknowledged").by, "anna");
    let events = store.events(id).await.expect("events");
    let who: Vec<_> = events.into_iter().filter_map(|event| event.who).collect();
    assert_eq!(who, ["anna"], "one event");
    let silences = store.silences(noon()).await.expect("silences");
    assert_eq!(silences.iter().map(|it| it.who.as_str()).collect::<Vec<_>>(), ["anna"]);
    let corrections = store.corrections().await.expect("corrections");
    let said: Vec<_> = corrections.iter().map(|it| (it.by.as_str(), it.label)).collect();
    assert_eq!(said, [("anna", Label::Neutral)]);

    // What does nothing does not use the link up.
    let check = async |name, link: &str, of: LinkedAct, expected| {
        assert_eq!(act(link, "anna", of).await, expected, "{name}");
        assert_eq!(store.used_link(link).await.expect("answered"), None, "{name}");
    };
    check("no such incident", "2-x", acknowledge(99, "anna"), LinkOutcome::Missing).await;
    check("no such tweet", "2-y", correct("t99", "anna"), LinkOutcome::Missing).await;
    decide(store, decision("united", Some(60), 90, Some(Transition::Resolved))).await;
    check("it has ended", "2-acknowledge", acknowledge(id.0, "bob"), LinkOutcome::Over).await;
    let incident = store.incident(id).await.expect("read").expect("an incident");
    assert_eq!(incident.acknowledged.expect("acknowledged").by, "anna", "nothing has changed");
}

pub async fn lets_one_of_two_uses_win(store: &dyn Store) {
    let id = open(store, "united", 60).await;
    for n in 0..20 {
        let link = format!("{n}-both");
        let of = |by: &str| match n % 2 {
            0 => using(&link, by, acknowledge(id.0, by)),
            _ => using(&link, by, silence(by)),
        };
        let (anna, bob) = (of("anna"), of("bob"));
        let (one, other) = tokio::join!(store.use_link(&anna), store.use_link(&bob));
        let outcomes = [one.expect("answered"), other.expect("answered")];
        let winner = store.used_link(&link).await.expect("answered").expect("used");
        let done = outcomes.iter().filter(|it| **it == LinkOutcome::Done).count();
        assert_eq!(done, 1, "{outcomes:?}");
        assert!(outcomes.contains(&LinkOutcome::Used(winner)), "{outcomes:?}");
    }
    let events = store.events(id).await.expect("events");
    assert_eq!(events.iter().filter(|it| it.kind == "acknowledged").count(), 10, "each once");
    assert_eq!(store.silences(noon()).await.expect("silences").len(), 10, "each once");
}
