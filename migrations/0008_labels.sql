-- The models that have scored here, with what SQL needs to read their scores and correct a share.
CREATE TABLE models (
    model          text     PRIMARY KEY,        -- name@version
    classes        smallint NOT NULL CHECK (classes IN (2, 3)),
    languages      text[]   NOT NULL,           -- ISO 639-1 codes; empty: any language
    negative_from  real     NOT NULL,           -- NEGATIVE from this probability of negative upwards
    positive_from  real     NOT NULL,           -- of the others, POSITIVE from this positive / (neutral + positive) upwards
    -- Labelled rows that the model did not learn from, and those of them that it calls negative;
    -- null if it has none with neutral rows.
    negative_rows  bigint,
    negative_found bigint,
    other_rows     bigint,
    other_called   bigint,
    first_used_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nulls(negative_rows, negative_found, other_rows, other_called) IN (0, 4))
);

-- The corrected share of negative tweets with its 95 % interval, by adjusted count: of `total` tweets
-- `negative` are called negative by a model with these rates. No row if it cannot be corrected.
-- The formula and its sources: crates/core/src/quantify/binary.rs.
CREATE FUNCTION corrected_share(total bigint, negative bigint, negative_rows bigint, negative_found bigint,
                                other_rows bigint, other_called bigint)
RETURNS TABLE (share float8, low float8, high float8)
LANGUAGE sql IMMUTABLE AS $$
    WITH raw AS (
        SELECT negative::float8 / nullif(total, 0) AS q, total::float8 AS n,
               negative_found::float8 / nullif(negative_rows, 0) AS t,
               other_called::float8 / nullif(other_rows, 0) AS f,
               1.959963984540054 AS z
    ), smooth AS (
        SELECT *, (q - f) / nullif(t - f, 0) AS p0, (q * n + z * z / 2) / (n + z * z) AS q1,
               (t * negative_rows + 1) / (negative_rows + 2) AS t1,
               (f * other_rows + 1) / (other_rows + 2) AS f1
        FROM raw WHERE t - f >= 0.1
    ), spread AS (
        SELECT *, (q1 - f1) / nullif(t1 - f1, 0) AS p, t1 * (1 - t1) / (negative_rows + 2) AS vt,
               f1 * (1 - f1) / (other_rows + 2) AS vf
        FROM smooth WHERE t1 > f1
    ), bounds AS (
        SELECT p0, t1 - f1 AS d, vt, vf, p + 2 * z * z * (p * vt - (1 - p) * vf) AS middle,
               z * sqrt(q1 * (1 - q1) / (n + z * z) + p * p * vt + (1 - p) ^ 2 * vf)
               / nullif(t1 - f1, 0) AS half
        FROM spread
    ), kept AS (
        SELECT least(greatest(p0, 0), 1) AS share, middle - half AS low, middle + half AS high
        FROM bounds
        WHERE d >= 4 * sqrt(vt + vf) AND middle - half <= 1 AND middle + half >= 0
    )
    SELECT share, least(greatest(low, 0), share), least(greatest(high, share), 1) FROM kept
$$;

-- Random samples of a brand's tweets, drawn for people to label.
CREATE TABLE label_samples (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand      text        NOT NULL,
    from_at    timestamptz NOT NULL,            -- event time
    to_at      timestamptz NOT NULL,            -- exclusive
    population bigint      NOT NULL,            -- the tweets that it was drawn from
    seed       text        NOT NULL,            -- drawn: the smallest sha256(seed || tweet_id)
    drawn_by   text        NOT NULL,
    drawn_at   timestamptz NOT NULL
);
CREATE TABLE sampled_tweets (
    sample      bigint  NOT NULL REFERENCES label_samples,
    place       integer NOT NULL,               -- from 1
    tweet_id    text    NOT NULL,
    label       text    CHECK (label IN ('NEGATIVE', 'NEUTRAL', 'POSITIVE')),
    labelled_by text,
    labelled_at timestamptz,
    PRIMARY KEY (sample, place),
    UNIQUE (sample, tweet_id),
    CHECK (num_nulls(label, labelled_by, labelled_at) IN (0, 3))
);

-- Labels of tweets that people chose themselves. They are no random sample, and no share is computed
-- from them.
CREATE TABLE corrections (
    tweet_id     text        PRIMARY KEY,
    label        text        NOT NULL CHECK (label IN ('NEGATIVE', 'NEUTRAL', 'POSITIVE')),
    corrected_by text        NOT NULL,
    corrected_at timestamptz NOT NULL
);
