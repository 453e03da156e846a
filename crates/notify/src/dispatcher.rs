//! Sends the notifications of the outbox to their receivers.
//!
//! **Invariant.** A row is leased before it is sent, and its outcome recorded afterwards. If
//! the daemon dies in between, the lease expires and the row is sent again under the same key.
//! A row that this process is still sending is not sent twice at the same time. Each row has
//! its own task, limited by `delivery.timeout_ms`, and a receiver never has all places in
//! flight, so a slow receiver does not delay the others; the circuit pauses a receiver that
//! keeps failing. A row for a receiver that is not configured here is retried like any other:
//! another daemon, with newer settings, may know it.
//! Deliberately absent: decisions. [`backoff`] decides about retries, [`circuit`] about pauses,
//! the notifier about what is permanent.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use monitor_config::{self as config, Delivery};
use monitor_core::clock::Clock;
use monitor_store::{OutboxRow, OutboxState, Store, StoreError};
use monitor_telemetry as telemetry;

use super::backoff::{self, RetryPolicy, Verdict};
use super::circuit::{Change, Circuit, CircuitPolicy, Permit};
use super::{Linker, Notifier, NotifyError, Outcome, notifiers};

/// Rows sent at the same time, at most.
const IN_FLIGHT_MAX: usize = 64;

/// Rows leased at the same time. A receiver has at most twice as many in flight, minus one.
const LEASE_MAX: usize = 8;

/// How long a stopping dispatcher waits for outcomes to be recorded, in addition to the
/// timeout of a send.
const RECORD_GRACE: Duration = Duration::from_secs(1);

/// Sends the notifications of the outbox.
pub struct Dispatcher {
    sender: Arc<Sender>,
    lease: Duration,
    poll: Duration,
}

/// What all sends share.
struct Sender {
    store: Arc<dyn Store>,
    notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    circuits: Mutex<BTreeMap<String, Circuit>>,
    retry: RetryPolicy,
    circuit: CircuitPolicy,
    timeout: Duration,
    poll: Duration,
    clock: Arc<dyn Clock>,
    store_unavailable: AtomicBool,
}

impl Dispatcher {
    /// Creates the notifiers of all receivers; reads the files that contain their secrets.
    ///
    /// # Errors
    /// A receiver's settings are invalid; the message names the receiver.
    pub fn new(
        store: Arc<dyn Store>,
        receivers: &BTreeMap<String, config::Receiver>,
        delivery: Delivery,
        linker: Option<&Arc<Linker>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NotifyError> {
        let notifiers = notifiers(receivers, delivery, linker)?;
        Ok(Self::with_notifiers(store, notifiers, delivery, clock))
    }

    /// A dispatcher with the given notifiers, by receiver name.
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
                circuits: Mutex::new(
                    notifiers.keys().map(|name| (name.clone(), Circuit::default())).collect(),
                ),
                notifiers,
                retry: delivery.into(),
                circuit: delivery.into(),
                timeout: Duration::from_millis(delivery.timeout_ms),
                poll,
                clock,
                store_unavailable: AtomicBool::new(false),
            }),
            lease: Duration::from_millis(delivery.lease_ms),
            poll,
        }
    }

    /// Sends until `shutdown`; then waits for the sends in flight, for as long as one send may
    /// take. A send that is interrupted is repeated when its lease expires.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut sends = JoinSet::new();
        let mut in_flight = InFlight::new();
        let mut ticks = interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // In this order, so that a simulation can be repeated.
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = sends.join_next_with_id() => {
                    forget(&mut in_flight, ended);
                    continue;
                }
                _ = ticks.tick() => {}
            }
            let leased = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                leased = self.lease_due(&in_flight) => leased,
            };
            for row in leased {
                let sent = Sent { row: row.id, receiver: row.receiver.clone() };
                let span = tracing::info_span!(
                    "notify",
                    key = row.key,
                    receiver = row.receiver,
                    attempt = i64::from(row.attempts),
                    outcome = tracing::field::Empty
                );
                let send = Arc::clone(&self.sender).send(row).instrument(span);
                in_flight.insert(sends.spawn(send).id(), sent);
            }
        }
        let drained = timeout(self.sender.timeout + RECORD_GRACE, async {
            while let Some(ended) = sends.join_next_with_id().await {
                forget(&mut in_flight, ended);
            }
        });
        if drained.await.is_err() {
            let rows = in_flight.len();
            tracing::warn!(rows, "stopped before all sends ended; they will be repeated");
        }
    }

    /// Leases rows to send: a few at a time, until there are none or all places are taken;
    /// then one for each receiver that needs a probe.
    async fn lease_due(&self, in_flight: &InFlight) -> Vec<OutboxRow> {
        let mut leased: Vec<OutboxRow> = Vec::new();
        // Their leases may have expired while their outcomes wait to be recorded.
        let sending: Vec<i64> = in_flight.values().map(|sent| sent.row).collect();
        loop {
            let free = IN_FLIGHT_MAX.saturating_sub(in_flight.len() + leased.len());
            let limit = free.min(LEASE_MAX);
            let (busy, _) = self.busy(in_flight, &leased);
            let rows = self.lease(limit, &busy, &sending).await;
            let last = rows.len() < limit || limit == 0;
            leased.extend(rows);
            if last {
                break;
            }
        }
        let (_, probed) = self.busy(in_flight, &leased);
        for receiver in probed {
            let mut others: Vec<_> =
                self.sender.notifiers.keys().filter(|name| **name != receiver).cloned().collect();
            // A row of a receiver that is not configured here is no probe.
            while let Some(row) = self.lease(1, &others, &sending).await.pop() {
                let is_probe = row.receiver == receiver;
                others.push(row.receiver.clone());
                leased.push(row);
                if is_probe {
                    break;
                }
            }
        }
        leased
    }

    /// Returns the receivers that must not get a row now, and those of them that may get one
    /// row as a probe.
    fn busy(&self, in_flight: &InFlight, leased: &[OutboxRow]) -> (Vec<String>, Vec<String>) {
        let now = self.sender.clock.now();
        let mut busy = Vec::new();
        let mut probed = Vec::new();
        for (name, circuit) in self.sender.circuits().iter() {
            let sent = in_flight.values().filter(|sent| sent.receiver == *name).count()
                + leased.iter().filter(|row| row.receiver == *name).count();
            let permit = circuit.permit(sent, now);
            if permit != Permit::All || sent >= LEASE_MAX {
                busy.push(name.clone());
            }
            if permit == Permit::One {
                probed.push(name.clone());
            }
        }
        (busy, probed)
    }

    async fn lease(&self, limit: usize, excluded: &[String], sending: &[i64]) -> Vec<OutboxRow> {
        if limit == 0 {
            return Vec::new();
        }
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let sender = &self.sender;
        let leased = sender
            .store
            .outbox_lease(sender.clock.now(), self.lease, limit, excluded, sending)
            .await;
        sender.log_store(leased.as_ref().err());
        leased.unwrap_or_default()
    }
}

/// A row in flight.
struct Sent {
    row: i64,
    receiver: String,
}

/// Rows in flight, by the task that sends them.
type InFlight = HashMap<task::Id, Sent>;

fn forget(in_flight: &mut InFlight, ended: Result<(task::Id, ()), JoinError>) {
    let id = match ended {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "a send panicked; it is repeated when its lease expires");
            error.id()
        }
    };
    in_flight.remove(&id);
}

/// A number in 0..1 that differs between rows and attempts, so that what failed together is not retried together.
fn draw(row: &OutboxRow) -> f64 {
    let hash = Sha256::digest(format!("{} {}", row.key, row.attempts));
    f64::from(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])) / f64::from(u32::MAX)
}

impl Sender {
    /// Makes one attempt to send a row and records the outcome.
    async fn send(self: Arc<Self>, row: OutboxRow) {
        let outcome = match self.notifiers.get(&row.receiver) {
            None => Outcome::Retry {
                reason: format!("no receiver {:?} is configured here", row.receiver),
                after: None,
            },
            Some(notifier) if row.notification.digest.is_some() && !notifier.takes_digests() => {
                let reason = "a digest goes by mail only (digest.receivers)".into();
                Outcome::Permanent { reason }
            }
            Some(notifier) => self.attempt(Arc::clone(notifier), row.clone()).await,
        };
        let now = self.clock.now();
        self.update_circuit(&row.receiver, &outcome, now);
        let verdict = backoff::decide(self.retry, row.attempts, &outcome, draw(&row), now);
        let error = match outcome {
            Outcome::Sent => String::new(),
            Outcome::Partly { reason, .. }
            | Outcome::Retry { reason, .. }
            | Outcome::Permanent { reason } => reason,
        };
        let (word, state) = match verdict {
            Verdict::Delivered => {
                if error.is_empty() {
                    tracing::info!("notification sent");
                } else {
                    tracing::error!(error, "notification sent, but not to all recipients");
                }
                ("sent", OutboxState::Sent)
            }
            Verdict::Retry { at, paced_by } => {
                tracing::warn!(error, %at, ?paced_by, "notification not sent; will retry");
                ("retry", OutboxState::Retry { at, error })
            }
            Verdict::Dead { reason } => {
                let error = format!("{error} ({reason})");
                let row = row.id;
                tracing::error!(
                    error,
                    "notification is dead; `monitor alert retry --id {row}` sends it again"
                );
                ("dead", OutboxState::Dead { error })
            }
        };
        tracing::Span::current().record("outcome", word);
        metrics::counter!(
            telemetry::NOTIFICATIONS, "receiver" => row.receiver.clone(), "outcome" => word
        )
        .increment(1);
        self.record(&row, &state).await;
    }

    /// Makes the attempt in its own task, so that a panic counts as a failed attempt.
    async fn attempt(&self, notifier: Arc<dyn Notifier>, row: OutboxRow) -> Outcome {
        let now = self.clock.now();
        let attempt = async move { notifier.notify(&row, now).await }.in_current_span();
        let reason = match timeout(self.timeout, AbortOnDropHandle::new(task::spawn(attempt))).await
        {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(error)) => format!("the attempt failed: {error}"),
            Err(_) => format!("no result within {} ms", self.timeout.as_millis()),
        };
        Outcome::Retry { reason, after: None }
    }

    fn circuits(&self) -> MutexGuard<'_, BTreeMap<String, Circuit>> {
        self.circuits.lock().expect("no holder of this lock panics")
    }

    /// Records the outcome of an attempt in the receiver's circuit.
    fn update_circuit(&self, receiver: &str, outcome: &Outcome, now: DateTime<Utc>) {
        let mut circuits = self.circuits();
        let Some(circuit) = circuits.get_mut(receiver) else { return };
        let open = match circuit.record(self.circuit, outcome, now) {
            None => return,
            Some(Change::Opened { until, failures }) => {
                tracing::warn!(failures, %until, "the receiver keeps failing; its notifications wait");
                1.0
            }
            Some(Change::Closed) => {
                tracing::info!("the receiver works again");
                0.0
            }
        };
        metrics::gauge!(telemetry::RECEIVER_CIRCUIT_OPEN, "receiver" => receiver.to_owned())
            .set(open);
    }

    /// Records an outcome; retries while the store is not available.
    async fn record(&self, row: &OutboxRow, state: &OutboxState) {
        loop {
            let now = self.clock.now();
            let recorded = self.store.outbox_record(row.id, row.attempts, now, state).await;
            self.log_store(recorded.as_ref().err());
            match recorded {
                Err(StoreError::Unavailable(_)) => sleep(self.poll).await,
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Logs when the store becomes unavailable or available, once per change.
    fn log_store(&self, error: Option<&StoreError>) {
        let was_unavailable = self.store_unavailable.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_unavailable => {
                tracing::warn!(%error, "the outbox is not available; notifications wait");
            }
            None if was_unavailable => tracing::info!("the outbox is available again"),
            _ => {}
        }
    }
}
