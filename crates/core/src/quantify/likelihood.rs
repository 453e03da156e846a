use super::classes::mean;

/// The first rounds never stop the iteration, however small their change.
const ROUNDS_MIN: usize = 10;
const ROUNDS_MAX: usize = 1000;
/// Mean absolute change of the shares that ends the iteration, and the least prior of a class.
const EPSILON: f64 = 1e-4;

/// The shares of `K` classes that make the stream most likely, by expectation maximisation: the
/// probabilities are re-weighted to the shares found so far, and their means are the next shares,
/// starting from `prior`.
///
/// `posteriors` has the model's probabilities of each tweet, `prior` the shares of the classes in
/// the rows that the probabilities were calibrated on; each sums to 1. A class with prior 0 gets a
/// small one, but then the result means little. It stops when the shares change by less than 1e-4
/// on average, after more than 10 rounds, or after 1000 rounds: the rule of QuaPy's `EMQ`.
///
/// It needs no labelled rows of the stream, but probabilities that are calibrated. Where they
/// are not, it can be worse than the raw share. There is no interval. `None` without tweets.
///
/// Source: Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a
/// priori probabilities", Neural Computation 14 (2002).
pub fn maximum_likelihood<const K: usize>(
    posteriors: &[[f64; K]],
    prior: &[f64; K],
) -> Option<[f64; K]> {
    let mut prior = *prior;
    if prior.contains(&0.0) {
        let sum: f64 = prior.iter().sum::<f64>() + EPSILON * K as f64;
        prior = prior.map(|share| (share + EPSILON) / sum);
    }
    let (mut shares, mut weighted) = (prior, posteriors.to_vec());
    for round in 0..ROUNDS_MAX {
        let ratio: [f64; K] = std::array::from_fn(|class| shares[class] / prior[class]);
        for (weights, posterior) in weighted.iter_mut().zip(posteriors) {
            *weights = std::array::from_fn(|class| ratio[class] * posterior[class]);
            let sum: f64 = weights.iter().sum();
            // A row that only classes without a share could explain keeps its probabilities.
            *weights = if sum > 0.0 { weights.map(|weight| weight / sum) } else { *posterior };
        }
        let next = mean(weighted.iter())?;
        let change = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).sum::<f64>() / K as f64;
        shares = next;
        if round > ROUNDS_MIN && change < EPSILON {
            break;
        }
    }
    Some(shares)
}
