-- What the tables that a reader may read (crates/store/src/postgres/reader.rs) say of themselves.
COMMENT ON TABLE minute_counts IS
    'Scored tweets by brand, minute of event time and model; what the detector and the page read.';
COMMENT ON TABLE incident_events IS
    'The history of incidents, a row a step: who was told (told), and who was not and why (suppressed).';
COMMENT ON TABLE models IS
    'The models that have scored here, with their thresholds and their errors on labelled rows that they did not learn from.';
COMMENT ON TABLE model_switches IS
    'From which minute of event time on which model scores the stream.';
COMMENT ON TABLE rescored_counts IS
    'What another model says of stored tweets, by brand and minute; gained and lost are negative by one of the two only.';
COMMENT ON TABLE retrainings IS
    'Trainings by schedule, by drift or on request: why, and what came of them.';
