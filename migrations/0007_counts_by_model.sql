-- Counts know the model that made them, so that another model can take over without moving a
-- brand's share. Counts from before are taken as those of the model of the newest tweet.
DO $$
DECLARE newest text := (
    SELECT model FROM scores WHERE model IS NOT NULL ORDER BY created_at DESC LIMIT 1);
BEGIN
    EXECUTE format('ALTER TABLE minute_counts ADD COLUMN model text NOT NULL DEFAULT %L',
                   coalesce(newest, ''));
END $$;
ALTER TABLE minute_counts
    ALTER COLUMN model DROP DEFAULT,
    DROP CONSTRAINT minute_counts_pkey,
    ADD PRIMARY KEY (brand, minute, model);
CREATE INDEX minute_counts_minute ON minute_counts (minute);

-- What another model says of tweets that are stored already. A minute is written as a whole, so
-- a run that is killed and started again counts nothing twice.
CREATE TABLE rescored_counts (
    model      text        NOT NULL,            -- the one that scored the tweets again
    brand      text        NOT NULL,
    minute     timestamptz NOT NULL,
    instead_of text        NOT NULL,            -- the one whose scores are stored
    total      bigint      NOT NULL,            -- tweets that both have scored
    negative   bigint      NOT NULL CHECK (negative BETWEEN 0 AND total),
    gained     bigint      NOT NULL,            -- negative by model, not by instead_of
    lost       bigint      NOT NULL,            -- negative by instead_of, not by model
    not_judged bigint      NOT NULL CHECK (total + not_judged > 0), -- in a language model does not know
    PRIMARY KEY (model, brand, minute, instead_of)
);

-- All counts of each model: what the detector reads.
CREATE VIEW model_counts AS
SELECT brand, minute, model, total, negative FROM minute_counts
UNION ALL
SELECT brand, minute, model, total, negative FROM rescored_counts WHERE total > 0;

-- Which model scores the stream, and from which minute of event time on; models of single languages
-- are not in it. The commit of a batch
-- holds this table still and refuses a tweet that a model of before has scored.
CREATE TABLE model_switches (
    minute      timestamptz PRIMARY KEY,
    model       text        NOT NULL,
    gap_from    timestamptz NOT NULL,           -- minutes from here to the switch may still wait
                                                -- to be scored again by the model
    switched_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO model_switches (minute, model, gap_from)
SELECT '1970-01-01 00:00+00', model, '1970-01-01 00:00+00'
FROM scores WHERE model IS NOT NULL ORDER BY created_at DESC LIMIT 1;
