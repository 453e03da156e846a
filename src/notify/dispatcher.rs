//! Takes notifications from the outbox to their receivers.
//!
//! **Invariant.** A row is leased before it is sent and recorded after: whatever dies in
//! between, the lease runs out and the row is sent again under the same key. A row that
//! this process still works on is not sent a second time beside it. Each row has a task of
//! its own, bounded by `delivery.timeout_ms`, so a receiver that stalls holds up no other.
//! A row for a receiver that is not configured here is tried again like any other: another
//! daemon, of newer settings, may know it.
//! Deliberately absent: decisions; when to try again is [`backoff`]'s, whether at all the
//! notifier's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::backoff::{self, Policy, Verdict};
use super::{EmailNotifier, Notifier, NotifyError, Outcome, WebhookNotifier};
use crate::clock::Clock;
use crate::config::{self, Delivery};
use crate::store::{OutboxRow, OutboxState, Store, StoreError};
use crate::telemetry;

/// Rows that are being sent at one time, at most.
const IN_FLIGHT_MAX: usize = 64;

/// How long a stopping dispatcher waits for outcomes to be recorded, beyond the time that
/// a send may take.
const RECORD_GRACE: Duration = Duration::from_secs(1);

/// Sends what the outbox holds.
pub struct Dispatcher {
    sender: Arc<Sender>,
    lease: Duration,
    poll: Duration,
}

/// What each send shares.
struct Sender {
    store: Arc<dyn Store>,
    notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    policy: Policy,
    timeout: Duration,
    poll: Duration,
    clock: Arc<dyn Clock>,
    store_away: AtomicBool,
}

impl Dispatcher {
    /// Prepares the receivers; reads the files that hold their secrets.
    ///
    /// # Errors
    /// A receiver's settings cannot be used; the message names it.
    pub fn new(
        store: Arc<dyn Store>,
        receivers: &BTreeMap<String, config::Receiver>,
        delivery: Delivery,
        public_url: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NotifyError> {
        let timeout = Duration::from_millis(delivery.timeout_ms);
        let mut notifiers: BTreeMap<String, Arc<dyn Notifier>> = BTreeMap::new();
        for (name, receiver) in receivers {
            let notifier: Arc<dyn Notifier> = match receiver {
                config::Receiver::Email(email) => {
                    Arc::new(EmailNotifier::new(name, email, timeout, public_url.as_deref())?)
                }
                config::Receiver::Webhook(hook) => {
                    Arc::new(WebhookNotifier::new(name, hook, timeout)?)
                }
            };
            notifiers.insert(name.clone(), notifier);
        }
        Ok(Self::with_notifiers(store, notifiers, delivery, clock))
    }

    /// A dispatcher to notifiers of one's own making, by receiver name.
    pub fn with_notifiers(
        store: Arc<dyn Store>,
        notifiers: BTreeMap<String, Arc<dyn Notifier>>,
        delivery: Delivery,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let poll = Duration::from_millis(delivery.poll_ms);
        Self {
            sender: Arc::new(Sender {
                store,
                notifiers,
                policy: delivery.into(),
                timeout: Duration::from_millis(delivery.timeout_ms),
                poll,
                clock,
                store_away: AtomicBool::new(false),
            }),
            lease: Duration::from_millis(delivery.lease_ms),
            poll,
        }
    }

    /// Sends until told to stop; then lets sends that have begun come to their end, for as
    /// long as one may take. What is cut off is sent again once its lease has run out.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut sends = JoinSet::new();
        let mut in_flight: HashMap<task::Id, i64> = HashMap::new();
        let mut ticks = interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = sends.join_next_with_id() => {
                    forget(&mut in_flight, ended);
                    continue;
                }
                _ = ticks.tick() => {}
            }
            let leased = tokio::select! {
                () = shutdown.cancelled() => break,
                leased = self.lease_due(IN_FLIGHT_MAX - in_flight.len()) => leased,
            };
            for row in leased {
                // Its lease ran out while its outcome waits to be recorded.
                if in_flight.values().any(|&id| id == row.id) {
                    continue;
                }
                let id = row.id;
                let span = tracing::info_span!(
                    "notify",
                    key = row.key,
                    receiver = row.receiver,
                    attempt = row.attempts
                );
                let send = Arc::clone(&self.sender).send(row).instrument(span);
                in_flight.insert(sends.spawn(send).id(), id);
            }
        }
        let drained = timeout(self.sender.timeout + RECORD_GRACE, async {
            while let Some(ended) = sends.join_next_with_id().await {
                forget(&mut in_flight, ended);
            }
        });
        if drained.await.is_err() {
            let rows = in_flight.len();
            tracing::warn!(rows, "stopped before all sends had ended; they will be repeated");
        }
    }

    async fn lease_due(&self, free: usize) -> Vec<OutboxRow> {
        if free == 0 {
            return Vec::new();
        }
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        let sender = &self.sender;
        let leased = sender.store.outbox_lease(sender.clock.now(), self.lease, limit).await;
        sender.note_store(leased.as_ref().err());
        leased.unwrap_or_default()
    }
}

fn forget(in_flight: &mut HashMap<task::Id, i64>, ended: Result<(task::Id, ()), JoinError>) {
    let id = match ended {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "a send broke off; it is repeated when its lease runs out");
            error.id()
        }
    };
    in_flight.remove(&id);
}

impl Sender {
    /// Makes one attempt on a row and records how it ended.
    async fn send(self: Arc<Self>, row: OutboxRow) {
        let outcome = match self.notifiers.get(&row.receiver) {
            None => Outcome::Retry {
                reason: format!("no receiver {:?} is configured here", row.receiver),
                after: None,
            },
            Some(notifier) => timeout(self.timeout, notifier.notify(&row, self.clock.now()))
                .await
                .unwrap_or_else(|_| Outcome::Retry {
                    reason: format!("no end within {} ms", self.timeout.as_millis()),
                    after: None,
                }),
        };
        let now = self.clock.now();
        let verdict = backoff::judge(self.policy, row.attempts, &outcome, rand::random(), now);
        let error = match outcome {
            Outcome::Sent => String::new(),
            Outcome::Retry { reason, .. } | Outcome::Permanent { reason } => reason,
        };
        let (word, state) = match verdict {
            Verdict::Delivered => {
                tracing::info!("notification sent");
                ("sent", OutboxState::Sent)
            }
            Verdict::Retry { at, paced_by } => {
                tracing::warn!(error, %at, ?paced_by, "notification not sent; will retry");
                ("retry", OutboxState::Retry { at, error })
            }
            Verdict::GiveUp { reason } => {
                let error = format!("{error} ({reason})");
                tracing::error!(error, "notification given up");
                ("dead", OutboxState::Dead { error })
            }
        };
        metrics::counter!(
            telemetry::NOTIFICATIONS, "receiver" => row.receiver.clone(), "outcome" => word
        )
        .increment(1);
        self.record(row.id, &state).await;
    }

    /// Records an outcome; waits while the store is away.
    async fn record(&self, row: i64, state: &OutboxState) {
        loop {
            let recorded = self.store.outbox_record(row, self.clock.now(), state).await;
            self.note_store(recorded.as_ref().err());
            match recorded {
                Err(StoreError::Unavailable(_)) => sleep(self.poll).await,
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Logs that the store went away or came back, once a change.
    fn note_store(&self, error: Option<&StoreError>) {
        let was_away = self.store_away.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_away => {
                tracing::warn!(%error, "the outbox cannot be reached; notifications wait");
            }
            None if was_away => tracing::info!("the outbox can be reached again"),
            _ => {}
        }
    }
}
