-- `scores` by week of created_at: old weeks are dropped at once (store.keep_days), and a question about some days
-- reads the indexes of some weeks. By week and not by day, because a query that compares with now() is planned
-- over all parts: 8 ms for five years of weeks, 110 ms for five years of days. What there was stays in one part.
LOCK TABLE scores IN ACCESS EXCLUSIVE MODE;
DROP TRIGGER wait_for_upgrade ON scores;
DROP FUNCTION wait_for_upgrade();

-- What the steps of crates/store/src/postgres/upgrade.rs have done is not done again.
ALTER TABLE scores
    VALIDATE CONSTRAINT scores_label_check,
    VALIDATE CONSTRAINT scores_neutral_check,
    VALIDATE CONSTRAINT scores_whole_check;
CREATE INDEX IF NOT EXISTS scores_before_time ON scores (created_at, (brands[1]));
CREATE INDEX IF NOT EXISTS scores_before_brands ON scores (created_at) WHERE cardinality(brands) > 1;
INSERT INTO tweet_ids SELECT tweet_id, created_at FROM scores
WHERE NOT EXISTS (SELECT FROM upgrade_steps WHERE step = 'ids' AND done)
ON CONFLICT DO NOTHING;
INSERT INTO hour_counts (brand, hour, model, language, tweets, negative, neutral)
SELECT brand, date_trunc('hour', created_at, 'UTC'), coalesce(model, ''), coalesce(language, ''), count(*),
       count(*) FILTER (WHERE label = 'NEGATIVE'), count(*) FILTER (WHERE label = 'NEUTRAL')
FROM scores, unnest(brands) AS brand
WHERE NOT EXISTS (SELECT FROM upgrade_steps WHERE step = 'hours' AND done)
GROUP BY 1, 2, 3, 4
ON CONFLICT (brand, hour, model, language) DO UPDATE
SET tweets = excluded.tweets, negative = excluded.negative, neutral = excluded.neutral;
INSERT INTO day_counts (brand, day, model, language, tweets, negative, neutral)
SELECT brand, date_trunc('day', hour, 'UTC'), model, language, sum(tweets), sum(negative), sum(neutral)
FROM hour_counts GROUP BY 1, 2, 3, 4;

-- The key of the authors' hashes (store.authors). No view shows it.
CREATE TABLE author_key (key text NOT NULL);
INSERT INTO author_key VALUES (gen_random_uuid()::text || gen_random_uuid()::text);

ALTER TABLE scores RENAME TO scores_before;
DROP INDEX scores_created_at;
CREATE TABLE scores (LIKE scores_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (created_at);
ALTER TABLE scores_before DROP CONSTRAINT scores_pkey;
ALTER TABLE scores DROP CONSTRAINT IF EXISTS scores_before_until;
-- A brand's tweets of a time: most tweets are about one brand, and brands are sorted, so those whose first brand
-- it is, and those of the few about several. By time first: new entries go to the end of the index, which costs half of
-- one by brand first, and those of other brands are passed over inside it.
CREATE INDEX scores_time ON scores (created_at, (brands[1]));
CREATE INDEX scores_brands ON scores (created_at) WHERE cardinality(brands) > 1;

DO $$
DECLARE
    newest timestamptz := (SELECT max(created_at) FROM scores_before);
    week   timestamptz := date_trunc('week', newest, 'UTC') + interval '168 hours';
    old    record;
    new    text;
BEGIN
    -- Who may use the old tables may use the new ones.
    FOR old IN
        SELECT from_table, unnest(to_tables) AS to_table, privilege_type, is_grantable,
               CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who
        FROM (VALUES ('scores_before', '{scores,tweet_ids}'::text[]),
                     ('minute_counts', '{hour_counts,day_counts,dead_letter_counts}'),
                     ('checkpoints', '{score_partitions,author_key}')) AS pair (from_table, to_tables)
        JOIN pg_class AS c ON c.oid = from_table::regclass, aclexplode(c.relacl)
        WHERE grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', old.privilege_type, old.to_table, old.who);
    END LOOP;
    IF newest IS NULL THEN
        DROP TABLE scores_before;
    ELSE
        EXECUTE format('ALTER TABLE scores ATTACH PARTITION scores_before FOR VALUES FROM (MINVALUE) TO (%L)',
                       week);
        ALTER TABLE scores_before DROP CONSTRAINT IF EXISTS scores_before_until;
        CREATE STATISTICS scores_before_several ON (cardinality(brands)) FROM scores_before;
        INSERT INTO score_partitions (name, from_at, to_at) VALUES ('scores_before', '-infinity', week);
    END IF;
END $$;
DROP TABLE upgrade_steps;
CREATE INDEX dead_letters_seen_at ON dead_letters (seen_at);
CREATE INDEX outbox_incident ON outbox ((notification ->> 'incident_id'));

-- Makes the parts of the weeks from `first` to `last`, as far as there are none; returns how many it made. It runs
-- with the rights of its owner, so that the daemon needs none to change the schema. Attaching a part waits for
-- no reader and no writer, and lets none wait.
CREATE FUNCTION make_score_partitions(first timestamptz, last timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    week timestamptz := date_trunc('week', first, 'UTC');
    part text;
    made integer := 0;
BEGIN
    WHILE week <= last LOOP
        part := 'scores_' || to_char(week AT TIME ZONE 'UTC', 'YYYY_MM_DD');
        IF NOT EXISTS (SELECT FROM score_partitions AS p
                       WHERE p.detached_at IS NULL AND p.from_at <= week AND p.to_at > week) THEN
            -- Of two that make the same part, the second waits here for the first.
            INSERT INTO score_partitions (name, from_at, to_at)
            VALUES (part, week, week + interval '168 hours') ON CONFLICT DO NOTHING;
            IF FOUND THEN
                EXECUTE format('CREATE TABLE %I (LIKE scores INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
                EXECUTE format('ALTER TABLE scores ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, week,
                               week + interval '168 hours');
                -- How few tweets are about several brands: without it the planner would assume a third.
                EXECUTE format('CREATE STATISTICS %I ON (cardinality(brands)) FROM %I', part || '_brands', part);
                made := made + 1;
            END IF;
        END IF;
        week := week + interval '168 hours';
    END LOOP;
    RETURN made;
END $$;

-- Takes a part out of `scores`; its ids are then forgotten and its table is dropped, step by step.
CREATE FUNCTION detach_score_partition(part text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM score_partitions WHERE name = part AND detached_at IS NULL FOR UPDATE;
    IF FOUND THEN
        EXECUTE format('ALTER TABLE scores DETACH PARTITION %I', part);
        -- A late tweet may need a part of this name again.
        EXECUTE format('DROP STATISTICS IF EXISTS %I', part || '_brands');
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part, part || '_dropped');
        UPDATE score_partitions SET name = part || '_dropped', detached_at = now() WHERE name = part;
    END IF;
END $$;

-- Forgets the ids of the tweets in some pages of a detached part; returns whether pages are left behind them.
CREATE FUNCTION forget_tweet_ids(part text, first bigint, pages bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM score_partitions WHERE name = part AND detached_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the part % of scores is not detached', part;
    END IF;
    EXECUTE format('DELETE FROM tweet_ids AS i USING %I AS s
                    WHERE i.tweet_id = s.tweet_id COLLATE "C" AND s.ctid >= $1 AND s.ctid < $2', part)
        USING format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid;
    RETURN (first + pages) * current_setting('block_size')::bigint
           < pg_relation_size(quote_ident(part)::regclass);
END $$;

-- Deletes up to `rows` tweets of a part that were written before `until`, the oldest first, with their ids; returns
-- how many.
CREATE FUNCTION delete_scores(part text, until timestamptz, rows bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    deleted bigint;
BEGIN
    PERFORM FROM score_partitions WHERE name = part;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is no part of scores', part;
    END IF;
    EXECUTE format('WITH gone AS (
                        DELETE FROM %1$I WHERE ctid IN (
                            SELECT ctid FROM %1$I WHERE created_at < $1 ORDER BY created_at LIMIT $2)
                        RETURNING tweet_id, created_at
                    ), forgotten AS (
                        DELETE FROM tweet_ids AS i USING gone
                        WHERE i.tweet_id = gone.tweet_id COLLATE "C"
                    )
                    SELECT count(*) FROM gone', part) INTO deleted USING until, rows;
    RETURN deleted;
END $$;

-- Drops a detached part.
CREATE FUNCTION drop_score_partition(part text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM score_partitions WHERE name = part AND detached_at IS NOT NULL;
    IF FOUND THEN
        EXECUTE format('DROP TABLE IF EXISTS %I', part);
    END IF;
END $$;

-- Only who may write scores may call them.
DO $$
DECLARE
    grantee text;
    f       text;
BEGIN
    FOREACH f IN ARRAY ARRAY['make_score_partitions(timestamptz, timestamptz)', 'detach_score_partition(text)',
                             'delete_scores(text, timestamptz, bigint)', 'forget_tweet_ids(text, bigint, bigint)',
                             'drop_score_partition(text)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        FOR grantee IN
            SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
            FROM pg_class AS c, aclexplode(c.relacl) AS a
            WHERE c.oid = 'scores'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> c.relowner
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, grantee);
        END LOOP;
    END LOOP;
END $$;

-- The views. A filter by brand and time reaches the tables below them; none reads all tweets.

-- A tweet about two brands is in it twice. The first arm is most tweets, the second the few about several brands.
CREATE VIEW brand_tweets AS
SELECT brands[1] AS brand, created_at, tweet_id, text, label, negative, neutral, model, language, author, followers,
       retweets, retweet_of, truncated, scored_at
FROM scores WHERE cardinality(brands) > 0
UNION ALL
SELECT brand, created_at, tweet_id, text, label, negative, neutral, model, language, author, followers, retweets,
       retweet_of, truncated, scored_at
FROM scores CROSS JOIN LATERAL unnest(brands[2:]) AS brand WHERE cardinality(brands) > 1;
COMMENT ON VIEW brand_tweets IS
    'One row a tweet and brand that it is about. Filter by brand and created_at. label, negative and neutral are null if no model knows its language.';

CREATE VIEW top_negative AS
SELECT brand, created_at, tweet_id, text, negative, model, author, followers, retweets
FROM brand_tweets WHERE label = 'NEGATIVE';
COMMENT ON VIEW top_negative IS
    'The tweets called negative. Filter by brand and created_at, order by negative (the probability) or followers, limit.';

-- What was expected of a brand's share in a time: by the phase of the share that lasted then, if any.
CREATE FUNCTION expected_share(brand text, begins timestamptz, lasts interval) RETURNS TABLE (expected float8)
LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT (p.phase #>> '{opening,expected_share}')::float8
    FROM incidents AS i CROSS JOIN LATERAL jsonb_array_elements(i.phases) AS p (phase)
    WHERE i.brand = expected_share.brand AND i.watch = 'buzz' AND i.opened_at < begins + lasts
      AND i.opened_at > begins - interval '720 hours' AND (i.resolved_at IS NULL OR i.resolved_at >= begins)
      AND p.phase #>> '{opening,kind}' = 'share' AND (p.phase ->> 'began')::timestamptz < begins + lasts
      AND coalesce((p.phase ->> 'ended')::timestamptz, 'infinity') >= begins
    ORDER BY i.opened_at DESC LIMIT 1;
END;

CREATE VIEW share_per_minute AS
SELECT brand, minute, tweets, negative, negative::float8 / tweets AS share,
       c.share AS corrected, c.low AS corrected_low, c.high AS corrected_high, e.expected
FROM (
    SELECT brand, minute, sum(total)::bigint AS tweets, sum(negative)::bigint AS negative,
           CASE WHEN min(model) = max(model) THEN min(model) END AS model
    FROM minute_counts GROUP BY brand, minute
) AS g
LEFT JOIN models AS m USING (model)
LEFT JOIN LATERAL corrected_share(tweets, negative, negative_rows, negative_found, other_rows, other_called) AS c
    ON true
LEFT JOIN LATERAL expected_share(g.brand, g.minute, interval '1 minute') AS e ON true;
COMMENT ON VIEW share_per_minute IS
    'Share of negative tweets by brand and minute of event time: as the models call it (share), corrected for the errors of the model on the rows it held out, with the 95 % interval (null where several models scored, or the errors are unknown), and as expected by the open phase of the share, if any.';

CREATE VIEW share_per_hour AS
SELECT brand, hour, tweets, negative, neutral, negative::float8 / tweets AS share,
       c.share AS corrected, c.low AS corrected_low, c.high AS corrected_high, e.expected
FROM (
    SELECT brand, hour, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative,
           sum(neutral)::bigint AS neutral, CASE WHEN min(model) = max(model) THEN min(model) END AS model
    FROM hour_counts WHERE model <> '' GROUP BY brand, hour
) AS g
LEFT JOIN models AS m USING (model)
LEFT JOIN LATERAL corrected_share(tweets, negative, negative_rows, negative_found, other_rows, other_called) AS c
    ON true
LEFT JOIN LATERAL expected_share(g.brand, g.hour, interval '1 hour') AS e ON true;
COMMENT ON VIEW share_per_hour IS 'As share_per_minute, by hour of UTC. Kept when the tweets are gone.';

CREATE VIEW share_per_day AS
SELECT brand, day, tweets, negative, neutral, negative::float8 / tweets AS share,
       c.share AS corrected, c.low AS corrected_low, c.high AS corrected_high, e.expected
FROM (
    SELECT brand, day, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative,
           sum(neutral)::bigint AS neutral, CASE WHEN min(model) = max(model) THEN min(model) END AS model
    FROM day_counts WHERE model <> '' GROUP BY brand, day
) AS g
LEFT JOIN models AS m USING (model)
LEFT JOIN LATERAL corrected_share(tweets, negative, negative_rows, negative_found, other_rows, other_called) AS c
    ON true
LEFT JOIN LATERAL expected_share(g.brand, g.day, interval '24 hours') AS e ON true;
COMMENT ON VIEW share_per_day IS 'As share_per_minute, by day of UTC. Kept when the tweets are gone.';

CREATE VIEW share_of_voice AS
SELECT day, brand, tweets, tweets / sum(tweets) OVER (PARTITION BY day) AS share_of_voice, negative
FROM (
    SELECT day, brand, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative
    FROM day_counts GROUP BY day, brand
) AS g;
COMMENT ON VIEW share_of_voice IS
    'Each brand''s part of all mentions of a day of UTC, with or without a score. A tweet about two brands is two mentions.';

CREATE VIEW volume_by_model AS
SELECT hour, brand, model, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative,
       sum(neutral)::bigint AS neutral
FROM hour_counts WHERE model <> '' GROUP BY hour, brand, model;
COMMENT ON VIEW volume_by_model IS 'Tweets by hour of UTC, brand, and the model that scored them.';

CREATE VIEW languages AS
SELECT day, brand, nullif(language, '') AS language, sum(tweets)::bigint AS tweets,
       coalesce(sum(tweets) FILTER (WHERE model = ''), 0)::bigint AS not_judged, sum(negative)::bigint AS negative
FROM day_counts GROUP BY day, brand, language;
COMMENT ON VIEW languages IS
    'Tweets by day of UTC, brand and language (null is unknown); not_judged have no score, because no model knows the language.';

CREATE VIEW authors AS
SELECT d.brand, d.day, a.*
FROM (SELECT DISTINCT brand, day FROM day_counts) AS d
CROSS JOIN LATERAL (
    SELECT author, count(*) AS tweets, count(*) FILTER (WHERE label = 'NEGATIVE') AS negative,
           max(followers) AS followers
    FROM (
        SELECT author, label, followers FROM scores
        WHERE brands[1] = d.brand AND created_at >= d.day AND created_at < d.day + interval '24 hours'
        UNION ALL
        SELECT author, label, followers FROM scores
        WHERE cardinality(brands) > 1 AND brands[1] <> d.brand AND brands @> ARRAY[d.brand]
          AND created_at >= d.day AND created_at < d.day + interval '24 hours'
    ) AS t
    WHERE author IS NOT NULL GROUP BY author
) AS a;
COMMENT ON VIEW authors IS
    'Tweets by brand, day of UTC and author. Filter by brand and day, sum over the days, order, limit.';

CREATE VIEW incident_tweets AS
SELECT i.id AS incident_id, i.brand, i.severity, i.opened_at, t.*
FROM (SELECT *, coalesce((evidence ->> 'since')::timestamptz, opened_at) AS since FROM incidents) AS i
CROSS JOIN LATERAL (
    SELECT created_at, tweet_id, text, label, negative, model, author, followers, retweets FROM scores
    WHERE brands[1] = i.brand AND created_at >= i.since
      AND created_at < coalesce(i.resolved_at, 'infinity') + interval '1 minute'
    UNION ALL
    SELECT created_at, tweet_id, text, label, negative, model, author, followers, retweets FROM scores
    WHERE cardinality(brands) > 1 AND brands[1] <> i.brand AND brands @> ARRAY[i.brand] AND created_at >= i.since
      AND created_at < coalesce(i.resolved_at, 'infinity') + interval '1 minute'
) AS t;
COMMENT ON VIEW incident_tweets IS
    'The tweets of an incident, from the beginning of its rise to its end, all labels. Filter by incident_id.';

CREATE VIEW drivers AS
SELECT i.id AS incident_id, i.brand, i.opened_at, d.place, d.driver ->> 'term' AS term, d.driver ->> 'kind' AS kind,
       (d.driver ->> 'tweets')::bigint AS tweets, (d.driver ->> 'baseline_tweets')::bigint AS baseline_tweets,
       (d.driver ->> 'z')::float8 AS z
FROM incidents AS i
CROSS JOIN LATERAL (
    SELECT o.notification -> 'drivers' -> 'terms' AS terms
    FROM incident_receivers AS r JOIN outbox AS o ON o.key = r.thread_key
    WHERE r.incident_id = i.id AND o.notification ->> 'incident_id' = i.id::text
    ORDER BY o.id LIMIT 1
) AS first
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(first.terms) WHEN 'array' THEN first.terms ELSE '[]' END) WITH ORDINALITY AS d (driver, place);
COMMENT ON VIEW drivers IS
    'The words, hashtags and links that set the negative tweets of an incident apart from those before, as its first notification had them; tweets with it, in the incident and before.';

CREATE VIEW notifications AS
SELECT id, receiver, CASE WHEN notification ->> 'incident_id' ~ '^[0-9]{1,18}$'
                          THEN (notification ->> 'incident_id')::bigint END AS incident_id,
       notification ->> 'brand' AS brand, transition, notification ->> 'severity' AS severity,
       notification ->> 'reason' AS reason, state, attempts, created_at,
       CASE WHEN state = 'pending' THEN nullif(due_at, '-infinity') END AS due_at, ended_at, last_error
FROM outbox;
COMMENT ON VIEW notifications IS
    'What was sent, waits (state pending) or was given up (dead), newest id last; due_at is null if it is due at once.';

CREATE VIEW suppressed AS
SELECT e.incident_id, i.brand, i.cause, e.at, e.kind, e.severity, s.one ->> 'receiver' AS receiver,
       s.one ->> 'reason' AS reason, s.one ->> 'detail' AS detail
FROM incident_events AS e JOIN incidents AS i ON i.id = e.incident_id
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(e.suppressed) WHEN 'array' THEN e.suppressed ELSE '[]' END) AS s (one);
COMMENT ON VIEW suppressed IS 'Who was not notified of a step of an incident, and why.';

CREATE VIEW dead_letters_by_reason AS
SELECT date_trunc('day', minute, 'UTC') AS day, reason, sum(records)::bigint AS records, sum(kept)::bigint AS kept,
       min(minute) AS first_seen, max(minute) AS last_seen
FROM dead_letter_counts GROUP BY 1, 2;
COMMENT ON VIEW dead_letters_by_reason IS
    'Records that were refused, by day of the clock (UTC) and kind of reason; of very many, a sample is kept in dead_letters.';

CREATE VIEW lag AS
SELECT topic, "partition", position, event_time_max, record_time_max, at_end,
       CASE WHEN at_end THEN interval '0' ELSE greatest(now() - record_time_max, interval '0') END AS behind, updated_at
FROM checkpoints;
COMMENT ON VIEW lag IS
    'How far each partition is read: the newest tweet and record read, and how long ago that record was written unless the reader is at the end.';

-- What was counted before there were counts by minute of the clock.
INSERT INTO dead_letter_counts (minute, reason, records, kept)
SELECT date_trunc('minute', seen_at, 'UTC'), left(regexp_replace(reason, '"([^"\\]|\\.)*"|[0-9][0-9.:-]*', '…', 'g'), 120),
       count(*), count(*)
FROM dead_letters GROUP BY 1, 2;
COMMENT ON TABLE incidents IS
    'One row an incident: opened_at and resolved_at are event-time minutes, evidence is what it opened on.';
COMMENT ON VIEW incident_phases IS
    'One row a phase of an incident: its share of negative tweets, their number, or that of all tweets.';
COMMENT ON VIEW model_counts IS
    'Counts by minute of each model: of its own scores, and of tweets that it scored again.';
CREATE OR REPLACE VIEW share_incidents AS
SELECT i.id, i.brand, i.severity, i.opened_at, i.resolved_at, i.acknowledged_at, i.acknowledged_by,
       (p.opening ->> 'window_minutes')::integer AS window_minutes,
       (p.opening #>> '{observed,total}')::bigint AS observed_total,
       (p.opening #>> '{observed,negative}')::bigint AS observed_negative,
       (p.opening ->> 'expected_share')::double precision AS expected_share,
       (p.opening ->> 'statistic')::double precision AS statistic,
       (p.opening ->> 'threshold')::double precision AS threshold
FROM incidents AS i CROSS JOIN LATERAL (
    SELECT phase -> 'opening' AS opening FROM jsonb_array_elements(i.phases) AS phase
) AS p
WHERE p.opening ->> 'kind' = 'share';
COMMENT ON VIEW share_incidents IS
    'The incidents with a phase of the share: what was observed and expected when it joined.';
