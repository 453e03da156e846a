//! The methods of [`Store`](crate::Store), listed once for the types that forward each of them.
//!
//! **Invariant.** The list is complete: with a missing method the crate does not compile.
//! Deliberately absent: documentation, which is in the trait.

/// Passes the list of all methods of [`Store`](crate::Store) to the given macro, as
/// `group { method(argument: Type, ...) -> Answer; ... } ...`.
///
/// The groups are the modules of the Postgres implementation. The caller imports the types
/// that the signatures name.
#[macro_export]
macro_rules! each_store_call {
    ($forward:ident) => {
        $forward! {
            scores {
                claim(claims: &[Claim], start_at: StartAt) -> Vec<Resume>;
                commit(batch: &Batch) -> Committed;
                mark_at_end(partition: &TopicPartition, position: Offset, at_end: bool) -> ();
                progress(topic: &str) -> Vec<PartitionProgress>;
                totals() -> Totals;
                ping() -> ();
            }
            counts {
                minute_counts(brand: &str, from: Minute, to: Minute) -> Vec<(Minute, Counts)>;
                hour_counts(brand: Option<&str>, from: Minute, to: Minute) -> Vec<(Minute, Counts)>;
                echoes(brand: &str, from: Minute, to: Minute) -> u64;
                not_judged(brand: &str, from: Minute, to: Minute) -> Vec<(Language, u64)>;
                first_minute(brand: &str) -> Option<Minute>;
                last_minute(brand: &str) -> Option<Minute>;
                newest(brands: &[String]) -> Vec<(String, Minute)>;
                window_tweets(brand: &str, from: Minute, to: Minute, limit: u32) -> Vec<StoredTweet>;
                random_tweets(brand: Option<&str>, minutes: &[Minute], limit: u32)
                    -> Vec<$crate::DrawnTweet>;
                tweet(id: &str) -> Option<StoredTweet>;
            }
            search {
                search_tweets(query: &$crate::TweetQuery) -> Vec<$crate::FoundTweet>;
                notifications_of(id: IncidentId) -> Vec<$crate::NotificationState>;
            }
            switches {
                switches() -> $crate::Switches;
                begin_with(model: &str) -> $crate::Switches;
                switch_to(model: &str, gap_from: Minute) -> $crate::Switches;
                model_counts(model: &str, brand: &str, from: Minute, to: Minute)
                    -> Vec<(Minute, Counts)>;
                model_hour_counts(model: &str, brand: &str, from: Minute, to: Minute)
                    -> Vec<(Minute, Counts)>;
                unscored(model: &str, from: Minute, to: Minute) -> Vec<(Minute, u64)>;
                texts_to_rescore(
                    model: &str, minutes: &[Minute], after: Option<&$crate::StoredText>, limit: u32
                ) -> Vec<$crate::StoredText>;
                put_rescored(model: &str, rows: &[$crate::Rescored]) -> ();
                pairs(model: &str, instead_of: &str, from: Minute) -> Vec<(String, $crate::Pairs)>;
            }
            labels {
                record_model(model: &$crate::StoredModel) -> ();
                models() -> Vec<$crate::StoredModel>;
                draw_sample(request: &$crate::SampleRequest) -> $crate::Sample;
                samples() -> Vec<$crate::Sample>;
                sampled_tweets(sample: i64) -> Vec<$crate::SampledTweet>;
                record_labels(sample: i64, labels: &[(u32, Label)], by: &str, at: DateTime<Utc>)
                    -> u64;
                correct(correction: &$crate::Correction) -> bool;
                corrections() -> Vec<$crate::Correction>;
            }
            links {
                use_link(using: &$crate::LinkUse) -> $crate::LinkOutcome;
                used_link(link: &str) -> Option<$crate::UsedLink>;
            }
            retrainings {
                retrainings(limit: u32) -> Vec<$crate::Retraining>;
                begin_retraining(
                    reason: $crate::RetrainReason, due_at: DateTime<Utc>, now: DateTime<Utc>
                ) -> Option<$crate::Retraining>;
                put_retraining(retraining: &$crate::Retraining) -> ();
            }
            drift {
                record_drift(drift: &$crate::DriftDay) -> ();
                latest_drift() -> Option<$crate::DriftDay>;
            }
            lead {
                lead() -> bool;
            }
            decide {
                detector_state(brand: &str, watch: Watch) -> Option<DetectorState>;
                decide(decision: &Decision) -> Option<IncidentId>;
            }
            incidents {
                incidents_since(brand: &str, watch: Watch, from: Minute) -> Vec<Incident>;
                incidents(limit: u32) -> Vec<Incident>;
                incident(id: IncidentId) -> Option<Incident>;
                events(id: IncidentId) -> Vec<Event>;
                acknowledge(id: IncidentId, acknowledgement: &Acknowledgement) -> bool;
                silences(now: DateTime<Utc>) -> Vec<Silence>;
                silence(silence: &Silence) -> i64;
                end_silence(id: i64, now: DateTime<Utc>) -> bool;
            }
            missed {
                missed(limit: u32) -> Vec<Incident>;
                tell_missed(incidents: &[IncidentId], notifications: &[$crate::Addressed]) -> bool;
            }
            outbox {
                time(now: DateTime<Utc>) -> DateTime<Utc>;
                outbox_lease(now: DateTime<Utc>, lease: Duration, limit: u32, resting: &[String], sending: &[i64])
                    -> Vec<OutboxRow>;
                outbox_record(row: i64, attempt: u32, now: DateTime<Utc>, state: &OutboxState) -> ();
                examples(id: IncidentId) -> Vec<Example>;
                dead_notifications(limit: u32) -> Vec<DeadNotification>;
                requeue(row: Option<i64>, receiver: Option<&str>) -> u64;
            }
        }
    };
}
