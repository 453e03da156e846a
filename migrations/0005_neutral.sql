-- Models of three classes: the probability of neutral; that of positive is 1 - negative - neutral.
-- Rows from before this column, and those of models of two classes, have 0. A label may be NEUTRAL.
ALTER TABLE scores ADD COLUMN neutral real NOT NULL DEFAULT 0;

-- NOT VALID: the rows at hand obey the narrower constraint before, so none is read again.
ALTER TABLE scores
    DROP CONSTRAINT scores_label_check,
    ADD CONSTRAINT scores_label_check CHECK (label IN ('NEGATIVE', 'NEUTRAL', 'POSITIVE')) NOT VALID,
    ADD CONSTRAINT scores_neutral_check CHECK (neutral BETWEEN 0 AND 1) NOT VALID;
