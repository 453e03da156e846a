-- Incidents have a cause, a severity, evidence in a form of its own for each cause, and may be
-- acknowledged. What the share's columns held moves into the evidence; the view below shows it
-- to dashboards.
ALTER TABLE incidents
    ADD COLUMN cause             text NOT NULL DEFAULT 'share',
    ADD COLUMN severity          text NOT NULL DEFAULT 'warning'
        CHECK (severity IN ('notice', 'warning', 'critical')),
    ADD COLUMN acknowledged_at   timestamptz,           -- by the clock
    ADD COLUMN acknowledged_by   text,
    ADD COLUMN acknowledged_note text,
    ADD COLUMN evidence          jsonb;                 -- what it opened on
UPDATE incidents SET evidence = jsonb_build_object(
    'kind', 'share',
    'rule', 'z-test',
    'since', opened_at - make_interval(mins => window_minutes - 1),
    'window_minutes', window_minutes,
    'observed', jsonb_build_object('total', observed_total, 'negative', observed_negative,
        'share', observed_negative::float8 / greatest(observed_total, 1)),
    'observed_interval', jsonb_build_object('low', 0, 'high', 1),
    'recent_minutes', window_minutes,
    'recent', jsonb_build_object('total', observed_total, 'negative', observed_negative,
        'share', observed_negative::float8 / greatest(observed_total, 1)),
    'baseline', jsonb_build_object('total', baseline_total, 'negative', baseline_negative,
        'share', baseline_negative::float8 / greatest(baseline_total, 1)),
    'expected_share', expected_share,
    'expected_interval', jsonb_build_object('low', 0, 'high', 1),
    'statistic', z,
    'threshold', z_min,
    'dispersion', 1);
ALTER TABLE incidents
    ALTER COLUMN evidence SET NOT NULL,
    ALTER COLUMN cause DROP DEFAULT,
    ALTER COLUMN severity DROP DEFAULT,
    DROP COLUMN window_minutes,
    DROP COLUMN observed_total,
    DROP COLUMN observed_negative,
    DROP COLUMN baseline_total,
    DROP COLUMN baseline_negative,
    DROP COLUMN expected_share,
    DROP COLUMN z,
    DROP COLUMN z_min,
    DROP CONSTRAINT incidents_brand_opened_at_key,
    ADD UNIQUE (brand, cause, opened_at);
-- At most one open incident a brand and cause.
DROP INDEX incidents_open;
CREATE UNIQUE INDEX incidents_open ON incidents (brand, cause) WHERE resolved_at IS NULL;

-- For dashboards: incidents of a brand's share, a column a figure.
CREATE VIEW share_incidents AS
SELECT id, brand, severity, opened_at, resolved_at, acknowledged_at, acknowledged_by,
       (evidence ->> 'window_minutes')::integer AS window_minutes,
       (evidence #>> '{observed,total}')::bigint AS observed_total,
       (evidence #>> '{observed,negative}')::bigint AS observed_negative,
       (evidence ->> 'expected_share')::double precision AS expected_share,
       (evidence ->> 'statistic')::double precision AS statistic,
       (evidence ->> 'threshold')::double precision AS threshold
FROM incidents WHERE cause = 'share';

-- What has happened to an incident, in order; nothing is ever changed here.
CREATE TABLE incident_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id bigint      NOT NULL REFERENCES incidents,
    kind        text        NOT NULL
        CHECK (kind IN ('opened', 'updated', 'resolved', 'acknowledged')),
    at          timestamptz NOT NULL,           -- minute judged; by the clock for what people do
    severity    text        NOT NULL
        CHECK (severity IN ('notice', 'warning', 'critical')),
    who         text,                           -- where a person did it
    note        text        NOT NULL,           -- the reason, or what the person had to say
    evidence    jsonb,
    told        text[]      NOT NULL DEFAULT '{}', -- receivers that a notification was written for
    written_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX incident_events_incident ON incident_events (incident_id, id);

-- Which receivers have been told of an incident: whom a resolve goes to, what thread it joins.
CREATE TABLE incident_receivers (
    incident_id bigint      NOT NULL REFERENCES incidents,
    receiver    text        NOT NULL,
    thread_key  text        NOT NULL,           -- outbox key of the first notification
    told_at     timestamptz NOT NULL,           -- minute of the latest one
    severity    text        NOT NULL            -- severity that the latest one told
        CHECK (severity IN ('notice', 'warning', 'critical')),
    PRIMARY KEY (incident_id, receiver)
);

-- Times in which nobody is told of a brand's incidents; they are still kept.
CREATE TABLE silences (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand      text,                            -- null is all brands
    starts_at  timestamptz NOT NULL,            -- by the clock
    ends_at    timestamptz NOT NULL,
    reason     text        NOT NULL,
    who        text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (ends_at >= starts_at)
);

-- How far each brand has been judged for each cause, and what its detector remembers. A decision
-- names the minute it started from, so of two daemons that judge the same minute one is refused.
CREATE TABLE watches (
    brand  text        NOT NULL,
    cause  text        NOT NULL,
    judged timestamptz NOT NULL,
    state  jsonb       NOT NULL,
    PRIMARY KEY (brand, cause)
);

-- When the record read last was written to Kafka: a stream gone quiet, or lag, shows there.
ALTER TABLE checkpoints ADD COLUMN record_time_max timestamptz;

-- Reach, where the stream tells of it.
ALTER TABLE scores
    ADD COLUMN author     text,
    ADD COLUMN followers  bigint,               -- of the author
    ADD COLUMN retweets   bigint,
    ADD COLUMN retweet_of text;                 -- id of the tweet that this one repeats

-- From here on: what there was is carried over.

-- Notifications take the new form, so that those not yet sent still are, and those given up can
-- be tried again.
UPDATE outbox SET notification = jsonb_build_object(
    'incident_id', notification -> 'incident_id',
    'transition', notification -> 'transition',
    'test', false,
    'brand', notification -> 'brand',
    'severity', 'warning',
    'at', notification -> 'at',
    'opened_at', notification -> 'opened_at',
    'reason', notification -> 'reason',
    'evidence', jsonb_build_object(
        'kind', 'share',
        'rule', 'z-test',
        'since', (notification ->> 'at')::timestamptz
            - make_interval(mins => (notification ->> 'window_minutes')::integer - 1),
        'window_minutes', notification -> 'window_minutes',
        'observed', notification -> 'observed',
        'observed_interval', jsonb_build_object('low', 0, 'high', 1),
        'recent_minutes', notification -> 'window_minutes',
        'recent', notification -> 'observed',
        'baseline', notification -> 'baseline',
        'expected_share', notification -> 'expected_share',
        'expected_interval', jsonb_build_object('low', 0, 'high', 1),
        'statistic', notification -> 'z',
        'threshold', notification -> 'z_min',
        'dispersion', 1),
    'drivers', jsonb_build_object('terms', '[]'::jsonb, 'one_tweet_share', 0, 'tweets', 0),
    'examples', (
        SELECT coalesce(jsonb_agg(example || '{"author": null, "reach": null, "alike": 1}'
                                  ORDER BY place), '[]')
        FROM jsonb_array_elements(notification -> 'examples') WITH ORDINALITY AS e (example, place)),
    'curve', notification -> 'curve',
    'curve_minutes', 60,
    'also', '[]'::jsonb,
    'thread', coalesce(
        (SELECT key FROM outbox AS first
         WHERE key = 'incident-' || (outbox.notification ->> 'incident_id') || '-opened-'
                     || outbox.receiver),
        outbox.key),
    'url', null);

-- What of a notification decides when it may be sent: what tells of an end waits for what is
-- pending before it in its thread.
ALTER TABLE outbox
    ADD COLUMN thread     text GENERATED ALWAYS AS (notification ->> 'thread') STORED,
    ADD COLUMN transition text GENERATED ALWAYS AS (notification ->> 'transition') STORED;
CREATE INDEX outbox_thread ON outbox (thread, id) WHERE state = 'pending';

INSERT INTO incident_events (incident_id, kind, at, severity, note, evidence, told)
SELECT i.id, step.kind, step.at, i.severity, 'Recorded before histories were kept.', step.evidence,
       coalesce(told.receivers, '{}')
FROM incidents AS i
CROSS JOIN LATERAL (VALUES ('opened', i.opened_at, i.evidence), ('resolved', i.resolved_at, NULL))
    AS step (kind, at, evidence)
LEFT JOIN (
    SELECT (notification ->> 'incident_id')::bigint AS incident_id, transition AS kind,
           array_agg(receiver ORDER BY receiver) AS receivers
    FROM outbox GROUP BY 1, 2
) AS told ON told.incident_id = i.id AND told.kind = step.kind
WHERE step.at IS NOT NULL ORDER BY i.id, step.kind;
INSERT INTO incident_receivers (incident_id, receiver, thread_key, told_at, severity)
SELECT DISTINCT ON (i.id, o.receiver) i.id, o.receiver, o.key, i.opened_at, i.severity
FROM incidents i JOIN outbox o ON (o.notification ->> 'incident_id')::bigint = i.id
ORDER BY i.id, o.receiver, o.id;

-- The detector is another, and starts anew where the old one stood, so what is open is closed;
-- whoever was told that it opened is told so.
WITH closed AS (
    UPDATE incidents SET resolved_at = coalesce(
        (SELECT judged FROM brand_states AS s WHERE s.brand = incidents.brand), opened_at)
    WHERE resolved_at IS NULL
    RETURNING id, resolved_at, severity
), told AS (
    INSERT INTO outbox (key, receiver, notification)
    SELECT 'incident-' || closed.id || '-resolved-' || r.receiver, r.receiver,
           o.notification || jsonb_build_object(
               'transition', 'resolved', 'at', closed.resolved_at, 'reason',
               'Closed by an upgrade of Monitor, which brought another detector; if the share '
               'is still up, that one will say so.')
    FROM closed
    JOIN incident_receivers AS r ON r.incident_id = closed.id
    JOIN outbox AS o ON o.key = r.thread_key
    ORDER BY closed.id, r.receiver
    RETURNING (notification ->> 'incident_id')::bigint AS incident_id, receiver
)
INSERT INTO incident_events (incident_id, kind, at, severity, note, told)
SELECT id, 'resolved', resolved_at, severity, 'Closed by an upgrade: the detector is another.',
       ARRAY(SELECT receiver FROM told WHERE incident_id = closed.id ORDER BY receiver)
FROM closed ORDER BY id;

INSERT INTO watches (brand, cause, judged, state)
SELECT brand, 'share', judged, '{}' FROM brand_states;
DROP TABLE brand_states;
