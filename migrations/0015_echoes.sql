-- What the detector does not count, and tweets that were edited or deleted.

-- Tweets of one voice (alerting.count: an author, or a text) count once in an hour; the others are echoes.
-- A tweet that was removed stays as a row without text, author, brands and score, so that it does not come back.
ALTER TABLE scores
    ADD COLUMN echo boolean NOT NULL DEFAULT false,
    ADD COLUMN removed text;                    -- deleted, withheld or edited; null for most

-- Which voices an hour has heard. Rows go a few hours after they were written.
CREATE TABLE voices (
    hour     timestamptz NOT NULL,              -- of event time
    voice    bigint      NOT NULL,              -- a keyed hash of the author, or of the text, and the brands
    negative boolean     NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hour, voice, negative)
);

-- A tweet that is edited or deleted may leave 0 behind.
ALTER TABLE minute_counts
    DROP CONSTRAINT minute_counts_total_check,
    ADD CHECK (total >= 0),
    ADD COLUMN echoes bigint NOT NULL DEFAULT 0,           -- of total; the detector does not count them
    ADD COLUMN negative_echoes bigint NOT NULL DEFAULT 0,  -- of negative
    ADD COLUMN gone bigint NOT NULL DEFAULT 0;             -- of total without the echoes: their text was removed
ALTER TABLE hour_counts
    DROP CONSTRAINT hour_counts_tweets_check,
    ADD CHECK (tweets >= 0),
    ADD COLUMN echoes bigint NOT NULL DEFAULT 0,
    ADD COLUMN negative_echoes bigint NOT NULL DEFAULT 0;
ALTER TABLE day_counts
    DROP CONSTRAINT day_counts_tweets_check,
    ADD CHECK (tweets >= 0),
    ADD COLUMN echoes bigint NOT NULL DEFAULT 0,
    ADD COLUMN negative_echoes bigint NOT NULL DEFAULT 0;
ALTER TABLE not_judged_counts
    DROP CONSTRAINT not_judged_counts_tweets_check,
    ADD CHECK (tweets >= 0);

-- Who may use the ids of tweets may use the voices and the links; who may add tweets may remove them.
DO $$
DECLARE
    old record;
BEGIN
    FOR old IN
        SELECT from_table, to_table, privilege,
               CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who
        FROM (VALUES ('tweet_ids', 'voices', 'SELECT, INSERT, DELETE'),
                     ('tweet_ids', 'used_links', 'SELECT, INSERT, DELETE'), ('scores', 'scores', 'UPDATE'))
                 AS pair (from_table, to_table, privilege)
        JOIN pg_class AS c ON c.oid = from_table::regclass, aclexplode(c.relacl)
        WHERE grantee <> c.relowner AND privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', old.privilege, old.to_table, old.who);
    END LOOP;
END $$;

-- Shares are those of the tweets that count.
CREATE OR REPLACE VIEW share_per_minute AS
SELECT brand, minute, tweets, negative, (negative - unheard)::float8 / nullif(tweets - echoes, 0) AS share,
       c.share AS corrected, c.low AS corrected_low, c.high AS corrected_high, e.expected, echoes
FROM (
    SELECT brand, minute, sum(total)::bigint AS tweets, sum(negative)::bigint AS negative,
           sum(echoes)::bigint AS echoes, sum(negative_echoes)::bigint AS unheard,
           CASE WHEN min(model) = max(model) THEN min(model) END AS model
    FROM minute_counts GROUP BY brand, minute HAVING sum(total) > 0
) AS g
LEFT JOIN models AS m USING (model)
LEFT JOIN LATERAL corrected_share(tweets - echoes, negative - unheard, negative_rows, negative_found, other_rows,
                                  other_called) AS c ON true
LEFT JOIN LATERAL expected_share(g.brand, g.minute, interval '1 minute') AS e ON true;
CREATE OR REPLACE VIEW share_per_hour AS
SELECT brand, hour, tweets, negative, neutral, (negative - unheard)::float8 / nullif(tweets - echoes, 0) AS share,
       c.share AS corrected, c.low AS corrected_low, c.high AS corrected_high, e.expected, echoes
FROM (
    SELECT brand, hour, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative, sum(neutral)::bigint AS neutral,
           sum(echoes)::bigint AS echoes, sum(negative_echoes)::bigint AS unheard,
           CASE WHEN min(model) = max(model) THEN min(model) END AS model
    FROM hour_counts WHERE model <> '' GROUP BY brand, hour HAVING sum(tweets) > 0
) AS g
LEFT JOIN models AS m USING (model)
LEFT JOIN LATERAL corrected_share(tweets - echoes, negative - unheard, negative_rows, negative_found, other_rows,
                                  other_called) AS c ON true
LEFT JOIN LATERAL expected_share(g.brand, g.hour, interval '1 hour') AS e ON true;
CREATE OR REPLACE VIEW share_per_day AS
SELECT brand, day, tweets, negative, neutral, (negative - unheard)::float8 / nullif(tweets - echoes, 0) AS share,
       c.share AS corrected, c.low AS corrected_low, c.high AS corrected_high, e.expected, echoes
FROM (
    SELECT brand, day, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative, sum(neutral)::bigint AS neutral,
           sum(echoes)::bigint AS echoes, sum(negative_echoes)::bigint AS unheard,
           CASE WHEN min(model) = max(model) THEN min(model) END AS model
    FROM day_counts WHERE model <> '' GROUP BY brand, day HAVING sum(tweets) > 0
) AS g
LEFT JOIN models AS m USING (model)
LEFT JOIN LATERAL corrected_share(tweets - echoes, negative - unheard, negative_rows, negative_found, other_rows,
                                  other_called) AS c ON true
LEFT JOIN LATERAL expected_share(g.brand, g.day, interval '24 hours') AS e ON true;
COMMENT ON COLUMN share_per_minute.echoes IS
    'Tweets that repeat what their hour has heard (alerting.count): in tweets and negative, not in share and corrected.';
CREATE OR REPLACE VIEW share_of_voice AS
SELECT day, brand, tweets, tweets / sum(tweets) OVER (PARTITION BY day) AS share_of_voice, negative
FROM (
    SELECT day, brand, sum(tweets)::bigint AS tweets, sum(negative)::bigint AS negative
    FROM day_counts GROUP BY day, brand HAVING sum(tweets) > 0
) AS g;
CREATE OR REPLACE VIEW model_counts AS
SELECT brand, minute, model, total - echoes AS total, negative - negative_echoes AS negative
FROM minute_counts WHERE total > echoes
UNION ALL
SELECT brand, minute, model, total, negative FROM rescored_counts WHERE total > 0;
