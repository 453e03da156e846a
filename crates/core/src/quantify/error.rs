/// The mean absolute difference between the true and the estimated shares of the classes.
pub fn absolute_error<const K: usize>(truth: &[f64; K], estimate: &[f64; K]) -> f64 {
    truth.iter().zip(estimate).map(|(t, e)| (t - e).abs()).sum::<f64>() / K as f64
}

/// The Kullback-Leibler divergence of the estimated from the true shares, in nats: 0 if they are
/// equal. All shares are smoothed by `1 / (2 tweets)`, so that a share of 0 gives no infinity.
/// `tweets` is the number of tweets whose shares these are.
///
/// Source: Rosenthal, Farra and Nakov, "SemEval-2017 Task 4: Sentiment Analysis in Twitter"
/// (2017), subtask D, which ranks systems by the mean over topics.
pub fn kullback_leibler<const K: usize>(truth: &[f64; K], estimate: &[f64; K], tweets: u64) -> f64 {
    let epsilon = 1.0 / (2.0 * tweets.max(1) as f64);
    let smooth = |shares: &[f64; K]| {
        let sum = shares.iter().sum::<f64>() + epsilon * K as f64;
        shares.map(|share| (share + epsilon) / sum)
    };
    let (truth, estimate) = (smooth(truth), smooth(estimate));
    truth.iter().zip(&estimate).map(|(t, e)| t * (t / e).ln()).sum::<f64>().max(0.0)
}
