//! Scores and labels, with their figures as computed by scikit-learn, numpy and scipy.

use monitor_core::domain::Probability;

#[derive(serde::Deserialize)]
pub(super) struct Expected {
    pub(super) roc_auc: f64,
    pub(super) roc_auc_bootstrap: (f64, f64),
    pub(super) roc_auc_delong: (f64, f64),
    pub(super) brier: f64,
    pub(super) log_loss: f64,
    pub(super) calibration_error: f64,
    pub(super) right: usize,
    pub(super) accuracy_wilson: (f64, f64),
    negative: String,
    scores: Vec<f32>,
}

pub(super) fn expected() -> Expected {
    let text = include_str!("../../../../tests/fixtures/evaluation/scores.json");
    serde_json::from_str(text).expect("the fixture is JSON")
}

pub(super) fn pairs(rows: &[(f32, bool)]) -> Vec<(Probability, bool)> {
    rows.iter()
        .map(|(score, label)| (Probability::new(*score).expect("within 0 to 1"), *label))
        .collect()
}

/// The fixture's 400 rows: score, and whether the row is negative.
pub(super) fn scored() -> Vec<(Probability, bool)> {
    let Expected { negative, scores, .. } = expected();
    assert_eq!((negative.len(), scores.len()), (400, 400));
    pairs(&scores.into_iter().zip(negative.bytes().map(|b| b == b'1')).collect::<Vec<_>>())
}
