//! A store with a time limit for each call.
//!
//! If a Postgres host vanishes without closing its connections, a call never ends:
//! `statement_timeout` works on the server, and the sockets have no keepalive.
//!
//! **Invariant.** Every call ends within the limit, or with [`StoreError::Unavailable`]. As
//! after a broken connection, the writes of such a call may be stored or not; the checks of
//! the next call show which. Deliberately absent: retries.

use std::future::Future;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::{
    Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, Example, OutboxRow,
    OutboxState, PartitionProgress, Silence, Store, StoreError, StoredTweet, Totals,
};
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Resume,
    StartAt, TopicPartition, Watch,
};

/// A [`Store`] with a time limit for each call.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    store: S,
    limit: Duration,
}

impl<S: Store> Bounded<S> {
    /// Limits each call to `store`; `limit` must exceed the longest call that succeeds.
    pub fn new(store: S, limit: Duration) -> Self {
        Self { store, limit }
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        timeout(self.limit, call).await.unwrap_or_else(|_| {
            let problem = format!("no answer within {:?}", self.limit);
            let error = io::Error::new(io::ErrorKind::TimedOut, problem);
            Err(StoreError::Unavailable(sqlx::Error::Io(error)))
        })
    }
}

/// Forwards each method to the inner store, within the limit.
macro_rules! bounded {
    ($($group:ident {
        $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl<S: Store> Store for Bounded<S> {
            $($(async fn $method(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.within(self.store.$method($($argument),*)).await
            })*)*
        }
    };
}
crate::each_store_call!(bounded);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn a_call_without_an_answer_times_out() {
        let store = Bounded::new(MemoryStore::new(), Duration::from_millis(10));
        let error = store.within(pending::<Result<(), _>>()).await.expect_err("no answer");
        assert!(error.is_transient());
        assert!(error.to_string().contains("no answer within 10ms"), "{error}");
    }

    #[tokio::test]
    async fn answers_pass_through() {
        let memory = MemoryStore::new();
        memory.set_away(true);
        let store = Bounded::new(memory, Duration::from_secs(60));
        assert!(store.ping().await.is_err(), "the error of the inner store");
        store.store.set_away(false);
        assert_eq!(store.totals().await.expect("totals"), Totals::default());
    }
}
