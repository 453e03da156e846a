//! A store that is not waited for without end.
//!
//! A Postgres host that vanishes without closing its connections leaves a call without an
//! answer: `statement_timeout` is the server's, and the sockets have no keepalive.
//!
//! **Invariant.** Every call ends within the limit, or as [`StoreError::Unavailable`]. As
//! with a connection that breaks, what such a call wrote may be stored or not; the store's
//! conditions tell at the next call. Deliberately absent: trying again.

use std::future::Future;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::{
    Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, OutboxRow,
    OutboxState, PartitionProgress, Silence, Store, StoreError, StoredTweet, Totals,
};
use monitor_core::domain::{
    Acknowledgement, Cause, Counts, Incident, IncidentId, Minute, Offset, Resume, StartAt,
    TopicPartition,
};

/// A [`Store`] whose every call ends within a limit.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    store: S,
    limit: Duration,
}

impl<S: Store> Bounded<S> {
    /// Bounds each call to `store`; `limit` must be longer than any that comes to an end.
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

/// Has each method call its namesake, for as long as the limit allows.
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
    async fn a_call_without_an_answer_ends() {
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
        assert!(store.ping().await.is_err(), "as the store says");
        store.store.set_away(false);
        assert_eq!(store.totals().await.expect("totals"), Totals::default());
    }
}
