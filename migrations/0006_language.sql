-- The language of a tweet: as the stream names it, else as found in the text; NULL if unknown and
-- for rows from before this column. A code of ISO 639-1 ("en"), or of ISO 639-3 where there is none.
-- A tweet in a language that no model knows is stored without a score: negative, neutral, label and
-- model are NULL.
ALTER TABLE scores
    ADD COLUMN language text,
    ALTER COLUMN negative DROP NOT NULL,
    ALTER COLUMN neutral DROP NOT NULL,
    ALTER COLUMN label DROP NOT NULL,
    ALTER COLUMN model DROP NOT NULL,
    -- NOT VALID: the rows at hand have a score, so none is read again.
    ADD CONSTRAINT scores_whole_check CHECK (num_nulls(negative, neutral, label, model) IN (0, 4)) NOT VALID;

-- The tweets without a score, which are in no count of minute_counts and so in no share.
CREATE TABLE not_judged_counts (
    brand    text        NOT NULL,
    minute   timestamptz NOT NULL,
    language text        NOT NULL,
    tweets   bigint      NOT NULL CHECK (tweets > 0),
    PRIMARY KEY (brand, minute, language)
);
ALTER TABLE checkpoints ADD COLUMN not_judged bigint NOT NULL DEFAULT 0;
