//! Takes notifications from the outbox to their receivers.
//!
//! **Invariant.** A row is leased before it is sent and recorded after: whatever dies in
//! between, the lease runs out and the row is sent again under the same key. A row that
//! this process still works on is not sent a second time beside it. Each row has a task of
//! its own, bounded by `delivery.timeout_ms`, and a receiver has some of the places in flight,
//! never all, so one that stalls holds up no other; one that keeps failing rests.
//! A row for a receiver that is not configured here is tried again like any other: another
//! daemon, of newer settings, may know it.
//! Deliberately absent: decisions; when to try again is [`backoff`]'s, whether a receiver rests
//! [`circuit`]'s, whether to try at all the notifier's.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::backoff::{self, Policy, Verdict};
use super::circuit::{self, Change, Circuit, Permit};
use super::{Notifier, NotifyError, Outcome, notifiers};
use monitor_config::{self as config, Delivery};
use monitor_core::clock::Clock;
use monitor_store::{OutboxRow, OutboxState, Store, StoreError};
use monitor_telemetry as telemetry;

/// Rows that are being sent at one time, at most.
const IN_FLIGHT_MAX: usize = 64;

/// Rows leased at one time. A receiver has at most twice as many in flight, less one.
const LEASE_MAX: usize = 8;

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
    circuits: Mutex<BTreeMap<String, Circuit>>,
    policy: Policy,
    circuit_policy: circuit::Policy,
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
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NotifyError> {
        let notifiers = notifiers(receivers, delivery)?;
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
                circuits: Mutex::new(
                    notifiers.keys().map(|name| (name.clone(), Circuit::default())).collect(),
                ),
                notifiers,
                policy: delivery.into(),
                circuit_policy: delivery.into(),
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
        let mut in_flight = InFlight::new();
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
                leased = self.lease_due(&in_flight) => leased,
            };
            for row in leased {
                // Its lease ran out while its outcome waits to be recorded.
                if in_flight.values().any(|sent| sent.row == row.id) {
                    continue;
                }
                let sent = Sent { row: row.id, receiver: row.receiver.clone() };
                let span = tracing::info_span!(
                    "notify",
                    key = row.key,
                    receiver = row.receiver,
                    attempt = row.attempts
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
            tracing::warn!(rows, "stopped before all sends had ended; they will be repeated");
        }
    }

    /// Leases what may be sent: a few rows at a time, until there are none or every place is
    /// taken; then one for each receiver that is to be tried out.
    async fn lease_due(&self, in_flight: &InFlight) -> Vec<OutboxRow> {
        let mut leased: Vec<OutboxRow> = Vec::new();
        loop {
            let free = IN_FLIGHT_MAX.saturating_sub(in_flight.len() + leased.len());
            let limit = free.min(LEASE_MAX);
            let (busy, _) = self.busy(in_flight, &leased);
            let rows = self.lease(limit, &busy).await;
            let last = rows.len() < limit || limit == 0;
            leased.extend(rows);
            if last {
                break;
            }
        }
        let (_, tried_out) = self.busy(in_flight, &leased);
        for receiver in tried_out {
            let others: Vec<_> =
                self.sender.notifiers.keys().filter(|name| **name != receiver).cloned().collect();
            leased.extend(self.lease(1, &others).await);
        }
        leased
    }

    /// The receivers that are to get nothing now, and those of them that one row may try out.
    fn busy(&self, in_flight: &InFlight, leased: &[OutboxRow]) -> (Vec<String>, Vec<String>) {
        let now = self.sender.clock.now();
        let mut busy = Vec::new();
        let mut tried_out = Vec::new();
        for (name, circuit) in self.sender.circuits().iter() {
            let sent = in_flight.values().filter(|sent| sent.receiver == *name).count()
                + leased.iter().filter(|row| row.receiver == *name).count();
            let permit = circuit.permit(sent, now);
            if permit != Permit::All || sent >= LEASE_MAX {
                busy.push(name.clone());
            }
            if permit == Permit::One {
                tried_out.push(name.clone());
            }
        }
        (busy, tried_out)
    }

    async fn lease(&self, limit: usize, resting: &[String]) -> Vec<OutboxRow> {
        if limit == 0 {
            return Vec::new();
        }
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let sender = &self.sender;
        let leased =
            sender.store.outbox_lease(sender.clock.now(), self.lease, limit, resting).await;
        sender.note_store(leased.as_ref().err());
        leased.unwrap_or_default()
    }
}

/// A row on its way, by the task that sends it.
struct Sent {
    row: i64,
    receiver: String,
}

type InFlight = HashMap<task::Id, Sent>;

fn forget(in_flight: &mut InFlight, ended: Result<(task::Id, ()), JoinError>) {
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
            Some(notifier) => self.attempt(Arc::clone(notifier), row.clone()).await,
        };
        let now = self.clock.now();
        self.note_circuit(&row.receiver, &outcome, now);
        let verdict = backoff::judge(self.policy, row.attempts, &outcome, rand::random(), now);
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
                    tracing::error!(error, "notification sent, but not to all of the receiver");
                }
                ("sent", OutboxState::Sent)
            }
            Verdict::Retry { at, paced_by } => {
                tracing::warn!(error, %at, ?paced_by, "notification not sent; will retry");
                ("retry", OutboxState::Retry { at, error })
            }
            Verdict::GiveUp { reason } => {
                let error = format!("{error} ({reason})");
                let row = row.id;
                tracing::error!(
                    error,
                    "notification given up; `monitor alert retry --id {row}` sends it again"
                );
                ("dead", OutboxState::Dead { error })
            }
        };
        metrics::counter!(
            telemetry::NOTIFICATIONS, "receiver" => row.receiver.clone(), "outcome" => word
        )
        .increment(1);
        self.record(row.id, &state).await;
    }

    /// Makes the attempt in a task of its own, so that one that panics has failed as any other
    /// may, and counts.
    async fn attempt(&self, notifier: Arc<dyn Notifier>, row: OutboxRow) -> Outcome {
        let now = self.clock.now();
        let attempt = async move { notifier.notify(&row, now).await }.in_current_span();
        let reason = match timeout(self.timeout, AbortOnDropHandle::new(task::spawn(attempt))).await
        {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(error)) => format!("the attempt broke off: {error}"),
            Err(_) => format!("no end within {} ms", self.timeout.as_millis()),
        };
        Outcome::Retry { reason, after: None }
    }

    fn circuits(&self) -> MutexGuard<'_, BTreeMap<String, Circuit>> {
        self.circuits.lock().expect("no holder of this lock panics")
    }

    /// Notes for the receiver's circuit how an attempt ended.
    fn note_circuit(&self, receiver: &str, outcome: &Outcome, now: DateTime<Utc>) {
        let mut circuits = self.circuits();
        let Some(circuit) = circuits.get_mut(receiver) else { return };
        let rests = match circuit.note(self.circuit_policy, outcome, now) {
            None => return,
            Some(Change::Opened { until, failures }) => {
                tracing::warn!(failures, %until, "the receiver rests; its notifications wait");
                1.0
            }
            Some(Change::Closed) => {
                tracing::info!("the receiver works again");
                0.0
            }
        };
        metrics::gauge!(telemetry::RECEIVER_RESTS, "receiver" => receiver.to_owned()).set(rests);
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
