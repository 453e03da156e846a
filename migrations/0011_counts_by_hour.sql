-- Prepares the partitions of `scores`: the tables that the next migration needs, and a stop for writers.
-- Between the two, crates/store/src/postgres/upgrade.rs fills the tables from the tweets that are stored, in
-- steps that are kept when it is interrupted.

-- The tweets that are stored, whichever week they are in: a tweet id has one row here, so it counts once even
-- if it comes again with another created_at. COLLATE "C": ids are compared byte by byte, which is faster.
CREATE TABLE tweet_ids (
    tweet_id   text        COLLATE "C" PRIMARY KEY,
    created_at timestamptz NOT NULL
);

-- Tweets a brand and hour of UTC, written in the transaction of their scores. They are kept when the tweets
-- of the time are dropped.
CREATE TABLE hour_counts (
    brand    text        NOT NULL,
    hour     timestamptz NOT NULL,
    model    text        NOT NULL,              -- name@version; '' is none: no model knows the language
    language text        NOT NULL,              -- '' is unknown
    tweets   bigint      NOT NULL CHECK (tweets > 0),
    negative bigint      NOT NULL,
    neutral  bigint      NOT NULL,              -- the rest is positive, or without a score if model is ''
    PRIMARY KEY (brand, hour, model, language),
    CHECK (negative >= 0 AND neutral >= 0 AND negative + neutral <= tweets)
) WITH (fillfactor = 80);
CREATE INDEX hour_counts_hour ON hour_counts (hour);

-- The same a day of UTC.
CREATE TABLE day_counts (
    brand    text        NOT NULL,
    day      timestamptz NOT NULL,
    model    text        NOT NULL,
    language text        NOT NULL,
    tweets   bigint      NOT NULL CHECK (tweets > 0),
    negative bigint      NOT NULL,
    neutral  bigint      NOT NULL,
    PRIMARY KEY (brand, day, model, language),
    CHECK (negative >= 0 AND neutral >= 0 AND negative + neutral <= tweets)
) WITH (fillfactor = 80);
CREATE INDEX day_counts_day ON day_counts (day);

-- How many records were refused, by minute of the clock and kind of reason; of very many, dead_letters has a
-- sample only.
CREATE TABLE dead_letter_counts (
    minute  timestamptz NOT NULL,
    reason  text        NOT NULL,               -- without the values that it quotes
    records bigint      NOT NULL CHECK (records > 0),
    kept    bigint      NOT NULL,               -- of them in dead_letters, when they came
    PRIMARY KEY (minute, reason)
);

-- The weeks of `scores`. [from_at, to_at) of the parts do not overlap.
CREATE TABLE score_partitions (
    name        text        PRIMARY KEY,        -- of the table
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    detached_at timestamptz                     -- since then no part of scores, and to be dropped
);

-- How far the steps between this migration and the next one have come.
CREATE TABLE upgrade_steps (
    step  text PRIMARY KEY,
    up_to text,                                 -- where it goes on
    done  boolean NOT NULL DEFAULT false
);

-- A daemon of the version before takes class 57 for a Postgres that is not ready: it waits, and loses nothing.
CREATE FUNCTION wait_for_upgrade() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the schema is being upgraded: no score is written until `monitor migrate` is done'
        USING ERRCODE = '57P03';
END $$;
CREATE TRIGGER wait_for_upgrade BEFORE INSERT ON scores
    FOR EACH STATEMENT EXECUTE FUNCTION wait_for_upgrade();
