//! Ends an incident because a person says so.
//!
//! **Invariant.** The end is a decision like those of the evaluator: one transaction with its
//! notifications, refused if the evaluator has gone on meanwhile (then it is tried again). The
//! evaluator finds its incident ended and starts its detector anew, so a rise that goes on opens
//! another incident.

use monitor_core::domain::{Evidence, Incident, Minute, Phase, Transition};
use monitor_store::{Decision, Delivery, Notification, Step, Store, StoreError};

/// How often a decision that the evaluator has overtaken is tried again.
const ATTEMPTS_MAX: u32 = 5;

/// Ends `incident`; returns whether it was open.
///
/// # Errors
/// The store cannot be reached, or the evaluator has overtaken every attempt.
pub async fn resolve(
    store: &dyn Store,
    incident: &Incident,
    public_url: Option<&str>,
    by: &str,
    note: &str,
) -> Result<bool, StoreError> {
    let mut attempts = 0;
    loop {
        let watch = incident.cause().watch();
        let stored = store.detector_state(&incident.brand, watch).await?;
        let Some(state) = stored else { return Ok(false) };
        let open = state.open.as_ref().filter(|open| open.id == incident.id);
        let Some(open) = open else { return Ok(false) };
        let deliveries = state.notified.iter().map(|it| Delivery {
            receiver: it.receiver.clone(),
            not_before: None,
            group: false,
        });
        let minute = state.evaluated.max(open.opened);
        let phases = open.phases.iter();
        let phases: Vec<_> =
            phases.map(|phase| Phase { ended: phase.ended.or(Some(minute)), ..*phase }).collect();
        let step = Step {
            transition: Transition::Resolved,
            minute,
            severity: open.severity,
            evidence: open.evidence,
            phases: phases.clone(),
            notification: notification(open, phases, minute, public_url, by, note),
            deliveries: deliveries.collect(),
            suppressed: Vec::new(),
            missed: false,
        };
        let decision = Decision {
            brand: open.brand.clone(),
            watch,
            evaluated_before: Some(state.evaluated),
            evaluated: state.evaluated,
            state: state.state.clone(),
            step: Some(step),
        };
        attempts += 1;
        match store.decide(&decision).await {
            Err(StoreError::Overtaken { .. }) if attempts < ATTEMPTS_MAX => {}
            decided => return decided.map(|_| true),
        }
    }
}

fn notification(
    open: &Incident,
    phases: Vec<Phase>,
    minute: Minute,
    public_url: Option<&str>,
    by: &str,
    note: &str,
) -> Notification {
    let goes_on = match open.evidence {
        Evidence::Quiet(_) | Evidence::Lag(_) => "If the trouble goes on, another alert follows.",
        Evidence::BrandQuiet(_) => "If tweets come and stop again, another alert follows.",
        _ => "If the rise goes on, another alert follows.",
    };
    let note = if note.is_empty() { String::new() } else { format!(": {note}") };
    let reason = format!("Ended by {by}{note}. {goes_on}");
    let (resolved, at) = (Transition::Resolved.as_str(), minute.start());
    Notification {
        incident_id: open.id.0,
        opened_at: open.opened.start(),
        phases,
        url: public_url.map(str::to_owned),
        ..Notification::bare(resolved, &open.brand, open.severity, at, reason, open.evidence)
    }
}
