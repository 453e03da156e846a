-- What people say about a brand is one incident: its share of negative tweets, the number of negative
-- tweets and the number of all tweets are views of it, each a phase of the incident. So an incident has a
-- list of phases, a brand has one open incident about all of them, and one row of `watches` (its `cause` is
-- `buzz`) holds the state of their detectors. An incident may open again.
ALTER TABLE incidents
    ADD COLUMN watch  text GENERATED ALWAYS AS (
        CASE WHEN cause IN ('share', 'negative-volume', 'surge') THEN 'buzz' ELSE cause END) STORED,
    ADD COLUMN phases jsonb NOT NULL DEFAULT '[]'; -- as of its last step, in the order in which they joined
ALTER TABLE incident_events
    DROP CONSTRAINT incident_events_kind_check,
    ADD CHECK (kind IN ('opened', 'updated', 'resolved', 'reopened', 'acknowledged'));

-- For dashboards: a row for each phase.
CREATE VIEW incident_phases AS
SELECT i.id AS incident_id, i.brand, i.severity, p.place::integer AS place,
       replace(p.phase #>> '{opening,kind}', '_', '-') AS cause,
       (p.phase ->> 'began')::timestamptz AS began_at,
       (p.phase ->> 'ended')::timestamptz AS ended_at,
       p.phase ->> 'ended_as' AS ended_as,
       (p.phase ->> 'relapses')::integer AS relapses,
       (p.phase ->> 'peak_at')::timestamptz AS peak_at,
       p.phase -> 'peak' AS peak
FROM incidents AS i, jsonb_array_elements(i.phases) WITH ORDINALITY AS p (phase, place);

-- From here on: what there was is carried over.

-- The minute of a time, counted from 1970.
CREATE FUNCTION pg_temp.minute(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT floor(extract(epoch FROM at) / 60)::bigint $$;

-- Each incident about a brand was one phase.
UPDATE incidents AS i SET phases = jsonb_build_array(jsonb_build_object(
    'began', opened_at,
    'ended', resolved_at,
    'ended_as', CASE
        WHEN resolved_at IS NULL THEN NULL
        WHEN EXISTS (SELECT 1 FROM incident_events
                     WHERE incident_id = i.id AND kind = 'resolved' AND note LIKE '%new normal%')
        THEN 'new normal'
        ELSE 'calm' END,
    'relapses', 0,
    'opening', evidence,
    'peak_at', opened_at,
    'peak', evidence,
    'latest', evidence))
WHERE watch = 'buzz';

-- Of several open incidents about one brand the oldest stays open and takes in the others; whoever was
-- notified of one of the others is told where it goes on.
CREATE TEMPORARY TABLE joining ON COMMIT DROP AS
SELECT i.id, i.severity, i.phases,
       first_value(i.id) OVER of_brand AS into_id,
       row_number() OVER of_brand AS place,
       coalesce(w.judged, i.opened_at) AS at
FROM incidents AS i LEFT JOIN watches AS w ON w.brand = i.brand AND w.cause = i.cause
WHERE i.watch = 'buzz' AND i.resolved_at IS NULL
WINDOW of_brand AS (PARTITION BY i.brand ORDER BY i.opened_at, i.id);

UPDATE incidents AS i SET
    phases = joined.phases,
    severity = joined.severity
FROM (
    SELECT j.into_id,
           jsonb_agg(phase ORDER BY j.place) AS phases,
           (array_agg(j.severity
            ORDER BY array_position(ARRAY['notice', 'warning', 'critical'], j.severity) DESC))[1] AS severity
    FROM joining AS j, jsonb_array_elements(j.phases) AS phase
    GROUP BY j.into_id HAVING count(*) > 1
) AS joined
WHERE i.id = joined.into_id;

UPDATE incidents AS i SET
    resolved_at = j.at,
    phases = jsonb_set(i.phases, '{0,ended}', to_jsonb(j.at))
FROM joining AS j WHERE i.id = j.id AND j.place > 1;

WITH told AS (
    INSERT INTO outbox (key, receiver, notification)
    SELECT format('incident-%s-resolved-%s-%s', j.id, pg_temp.minute(j.at), r.receiver), r.receiver,
           o.notification || jsonb_build_object(
               'incident_id', j.id, 'transition', 'resolved', 'at', j.at, 'also', '[]'::jsonb,
               'thread', r.thread_key, 'phases', i.phases,
               'reason', format('It goes on as part of incident %s: all that is said about a brand is one '
                                'incident now.', j.into_id))
    FROM joining AS j
    JOIN incidents AS i ON i.id = j.id
    JOIN incident_receivers AS r ON r.incident_id = j.id
    JOIN outbox AS o ON o.key = r.thread_key
    WHERE j.place > 1
    ORDER BY j.id, r.receiver
    ON CONFLICT (key) DO NOTHING
    RETURNING (notification ->> 'incident_id')::bigint AS incident_id, receiver
)
INSERT INTO incident_events (incident_id, kind, at, severity, note, told)
SELECT j.id, 'resolved', j.at, j.severity,
       format('It goes on as part of incident %s: all that is said about a brand is one incident now.',
              j.into_id),
       ARRAY(SELECT receiver FROM told WHERE told.incident_id = j.id ORDER BY receiver)
FROM joining AS j WHERE j.place > 1
UNION ALL
SELECT j.into_id, 'updated', j.at, j.severity, format('Incident %s goes on as part of this one.', j.id), '{}'
FROM joining AS j WHERE j.place > 1;

-- At most one open incident a brand and watch.
DROP INDEX incidents_open;
CREATE UNIQUE INDEX incidents_open ON incidents (brand, watch) WHERE resolved_at IS NULL;
CREATE INDEX incidents_latest ON incidents (brand, watch, opened_at);

-- The detectors of a brand go on where that of the share stood. The periods that its baselines leave out
-- move from the incidents into its state; of the time before a switch of the model those that the new model
-- found. A detector of volume that stood elsewhere learns anew.
CREATE TEMPORARY TABLE buzz ON COMMIT DROP AS
SELECT w.brand, w.judged,
       jsonb_build_object(
           'share', known.state || jsonb_build_object('excluded',
               coalesce(known.state #> '{past,excluded}', '[]') || excluded.periods),
           'volumes', volumes.states,
           'course', (
               SELECT jsonb_build_object(
                   'opened', i.opened_at, 'resolved', i.resolved_at, 'phases', i.phases)
               FROM incidents AS i WHERE i.brand = w.brand AND i.watch = 'buzz'
               ORDER BY (i.resolved_at IS NULL) DESC, i.opened_at DESC, i.id DESC LIMIT 1)
       ) AS state
FROM watches AS w
CROSS JOIN LATERAL (
    SELECT CASE WHEN jsonb_typeof(w.state) = 'object' THEN w.state ELSE '{}' END AS state
) AS known
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(
        CASE i.phases #>> '{0,ended_as}'
        WHEN 'new normal'
        THEN jsonb_build_array((-9223372036854775808)::bigint, since.minute - 1)
        ELSE jsonb_build_array(since.minute, pg_temp.minute(i.resolved_at)) END
        ORDER BY i.resolved_at, i.id), '[]') AS periods
    FROM incidents AS i
    CROSS JOIN LATERAL (
        SELECT pg_temp.minute((i.evidence ->> 'since')::timestamptz) AS minute
    ) AS since
    WHERE i.brand = w.brand AND i.cause = 'share'
      AND i.resolved_at > w.judged - interval '90 days' AND since.minute IS NOT NULL
      AND pg_temp.minute(i.resolved_at) >= coalesce((known.state #>> '{past,until}')::bigint, 0)
) AS excluded
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_object_agg(v.cause, v.state), '{}') AS states
    FROM watches AS v
    WHERE v.brand = w.brand AND v.cause IN ('negative-volume', 'surge') AND v.judged = w.judged
      AND jsonb_typeof(v.state) = 'object'
) AS volumes
WHERE w.cause = 'share';
DELETE FROM watches WHERE cause IN ('share', 'negative-volume', 'surge');
INSERT INTO watches (brand, cause, judged, state) SELECT brand, 'buzz', judged, state FROM buzz;
DROP FUNCTION pg_temp.minute;
