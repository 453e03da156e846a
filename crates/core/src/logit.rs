//! The logistic function and its inverse.

/// The logistic function: the probability with these log-odds.
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// [`sigmoid`] in single precision, in which models are trained and scored.
pub fn sigmoid_f32(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Log-odds of a probability in single precision. 0 and 1 have none, so the nearest
/// representable probabilities replace them.
pub fn logit_f32(probability: f32) -> f64 {
    let p = f64::from(probability).clamp(1e-8, 1.0 - 6e-8);
    (p / (1.0 - p)).ln()
}
