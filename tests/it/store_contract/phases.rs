//! The migration that made the views of a brand one incident.

use std::path::Path;

use monitor_core::alerting::BuzzState;
use monitor_core::domain::{Cause, IncidentId, Minute, Phase, ResolveReason, Watch};
use monitor_store::{PostgresStore, Store};
use sqlx::Row;
use sqlx::migrate::Migrator;

use super::fixtures::*;
use super::on_postgres;
use super::postgres::run;
use crate::support::fresh_database;

/// Rows of the version before. united has two open incidents and a resolved one that became the new normal,
/// delta a resolved one, klm only a detector of volume that stood elsewhere.
const OLD_ROWS: &str = r#"
CREATE FUNCTION old_share(since timestamptz) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object(
    'kind', 'share', 'rule', 'e-detector', 'since', since, 'window_minutes', 60,
    'observed', '{"total": 100, "negative": 60}'::jsonb,
    'observed_interval', '{"low": 0.5, "high": 0.7}'::jsonb, 'recent_minutes', 15,
    'recent', '{"total": 30, "negative": 20}'::jsonb,
    'baseline', '{"total": 900, "negative": 360}'::jsonb, 'expected_share', 0.4,
    'expected_interval', '{"low": 0.38, "high": 0.42}'::jsonb, 'statistic', 1.5, 'threshold', 1,
    'dispersion', 1.1) $$;
CREATE FUNCTION old_volume(since timestamptz) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object(
    'kind', 'negative_volume', 'since', since, 'observed', 200, 'expected', 40,
    'tweets', '{"total": 300, "negative": 200}'::jsonb, 'usual_share', 0.4, 'statistic', 12,
    'threshold', 9) $$;
INSERT INTO incidents (brand, cause, severity, opened_at, resolved_at, evidence)
VALUES ('united', 'share', 'warning', '2015-02-21T00:10Z', '2015-02-22T00:10Z', old_share('2015-02-21T00:00Z')),
       ('united', 'share', 'warning', '2015-02-23T03:10Z', NULL, old_share('2015-02-23T03:00Z')),
       ('united', 'negative-volume', 'critical', '2015-02-23T03:20Z', NULL, old_volume('2015-02-23T03:05Z')),
       ('delta', 'share', 'notice', '2015-02-23T01:00Z', '2015-02-23T02:00Z', old_share('2015-02-23T00:30Z')),
       ('(stream)', 'lag', 'critical', '2015-02-23T03:00Z', NULL,
        '{"kind": "lag", "behind_minutes": 20, "limit_minutes": 15}');
INSERT INTO incident_events (incident_id, kind, at, severity, note)
SELECT id, 'opened', opened_at, severity, 'a rise' FROM incidents ORDER BY id;
INSERT INTO incident_events (incident_id, kind, at, severity, note)
VALUES (1, 'resolved', '2015-02-22T00:10Z', 'warning', 'it is taken as the new normal.'),
       (4, 'resolved', '2015-02-23T02:00Z', 'notice', 'back near the share expected.');
INSERT INTO outbox (key, receiver, notification, state)
SELECT format('incident-%s-opened-1-%s', incident, receiver), receiver, jsonb_build_object(
    'incident_id', incident, 'transition', 'opened', 'test', false, 'brand', 'united',
    'severity', 'warning', 'at', '2015-02-23T03:20:00Z', 'opened_at', '2015-02-23T03:20:00Z',
    'reason', 'a rise', 'evidence', evidence, 'drivers',
    '{"terms": [], "one_tweet_share": 0, "tweets": 0}'::jsonb, 'examples', '[]'::jsonb,
    'curve', '[]'::jsonb, 'curve_minutes', 60, 'also', '[]'::jsonb,
    'thread', format('incident-%s-opened-1-%s', incident, receiver), 'url', NULL), 'sent'
FROM (VALUES (2, 'comms'), (3, 'comms'), (3, 'hook')) AS told (incident, receiver)
JOIN incidents ON id = incident;
INSERT INTO incident_receivers (incident_id, receiver, thread_key, told_at, severity)
SELECT (notification ->> 'incident_id')::bigint, receiver, key, '2015-02-23T03:20Z', 'warning' FROM outbox;
INSERT INTO watches (brand, cause, judged, state) VALUES
    ('united', 'share', '2015-02-23T04:00Z', '{"held_since": 5, "past": {"until": 23742000, "excluded": [[3, 4]]}}'),
    ('united', 'negative-volume', '2015-02-23T04:00Z', '{"opened": 23744360}'),
    ('united', 'surge', '2015-02-20T04:00Z', '{}'),
    ('delta', 'share', '2015-02-23T04:00Z', 'null'),
    ('klm', 'share', '2015-02-23T04:00Z', '{}'),
    ('klm', 'negative-volume', '2015-02-23T03:59Z', '{}'),
    ('(stream)', 'lag', '2015-02-23T04:00Z', '{"open": true}');
DROP FUNCTION old_share, old_volume;
"#;

async fn state(store: &PostgresStore, brand: &str) -> BuzzState {
    serde_json::from_value(detector_state(store, brand).await.state).expect("a state")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_open_incidents_of_a_brand_become_one() {
    let store = on_postgres(fresh_database().await);
    let migrator = Migrator::new(Path::new("migrations")).await.unwrap();
    migrator.run_to(8, store.pool()).await.unwrap();
    run(&store, OLD_ROWS).await;
    store.migrate().await.unwrap();

    // The older one goes on, with both phases and the higher severity.
    let known = detector_state(&store, "united").await;
    let open = known.open.clone().expect("it is open");
    assert_eq!((open.id, open.severity.as_str()), (IncidentId(2), "critical"));
    assert_eq!(open.causes(), [Cause::Share, Cause::NegativeVolume]);
    assert_eq!((open.phases[0].began, open.phases[1].began), (minute(190), minute(200)));
    assert!(open.phases.iter().all(Phase::is_open));
    assert_eq!(known.evaluated, minute(240));
    let other = store.incident(IncidentId(3)).await.unwrap().expect("it is kept");
    assert_eq!(other.resolved, Some(minute(240)));
    assert_eq!(other.phases[0].ended, Some(minute(240)));
    let past = store.incident(IncidentId(1)).await.unwrap().expect("it is kept");
    assert_eq!(past.phases[0].ended_as, Some(ResolveReason::NewNormal));

    // Whoever was told of the other one is told where it goes on, in its thread.
    let sent = send_all(&store).await;
    let told: Vec<_> = sent
        .iter()
        .map(|row| (row.notification.transition.as_str(), row.notification.thread.as_str()))
        .collect();
    assert_eq!(
        told,
        [("resolved", "incident-3-opened-1-comms"), ("resolved", "incident-3-opened-1-hook")]
    );
    assert!(sent[0].notification.reason.starts_with("It goes on as part of incident 2"));
    let events = async |id| {
        let events = store.events(IncidentId(id)).await.unwrap();
        events.into_iter().map(|event| (event.kind, event.note)).collect::<Vec<_>>()
    };
    let last = events(3).await.pop().expect("an event");
    assert!(
        last.0 == "resolved" && last.1.starts_with("It goes on as part of incident 2"),
        "{last:?}"
    );
    let last = events(2).await.pop().expect("an event");
    assert_eq!(
        (last.0.as_str(), last.1.as_str()),
        ("updated", "Incident 3 goes on as part of this one.")
    );

    // The detectors go on in one row; one that stood elsewhere learns anew.
    let buzz = state(&store, "united").await;
    assert_eq!(buzz.volumes.keys().copied().collect::<Vec<_>>(), [Cause::NegativeVolume]);
    assert_eq!(buzz.volumes[&Cause::NegativeVolume].opened(), Some(Minute(23_744_360)));
    let course = buzz.course.as_ref().expect("the incident");
    assert_eq!((course.opened, course.phases.len()), (open.opened, 2));
    let since = Minute(minute(0).0 - 2 * 1440).plus(-1);
    assert_eq!(
        buzz.share.excluded(),
        [(Minute(3), Minute(4)), (Minute(i64::MIN), since)],
        "what the model left out, and what came before the new normal"
    );
    let delta = state(&store, "delta").await;
    assert_eq!(delta.share.excluded(), [(minute(30), minute(120))]);
    assert_eq!(delta.course.expect("the last one").resolved, Some(minute(120)), "may open again");
    assert!(state(&store, "klm").await.volumes.is_empty());
    let lag = store.detector_state("(stream)", Watch::Lag).await.unwrap().expect("untouched");
    assert!(lag.open.is_some_and(|incident| incident.phases.is_empty()));

    let rows = sqlx::query(
        "SELECT cause, ended_as FROM incident_phases WHERE brand = 'united' ORDER BY 1, 2",
    );
    let rows = rows.fetch_all(store.pool()).await.unwrap();
    let rows: Vec<(String, Option<String>)> =
        rows.iter().map(|row| (row.get("cause"), row.get("ended_as"))).collect();
    let row = |cause: &str, end: Option<&str>| (cause.to_owned(), end.map(str::to_owned));
    let expected = [
        row("negative-volume", None),
        row("negative-volume", None),
        row("share", Some("new normal")),
        row("share", None),
    ];
    assert_eq!(rows, expected);
}
