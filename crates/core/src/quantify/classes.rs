use super::{AMPLIFICATION_MAX, Estimate, Method, effective};
use crate::stats::Z_95;

type Matrix<const K: usize> = [[f64; K]; K];

/// The corrected shares of `K` classes by "adjusted classify and count": the solution `p` of
/// `q = M p`, clipped to 0..=1 and scaled to sum to 1. `q` are the shares of the labels in the
/// stream, and `M[i][j]` is the share of the rows of class `j` that the model puts in class `i`.
///
/// Use it for a model with a neutral class: if neutral and positive tweets are called negative
/// at different rates, the false positive rate of [`super::adjusted_count`] depends on their mix.
///
/// `called[i]` counts the tweets of the stream that the model puts in class `i`;
/// `labelled[j][i]` counts the rows that people put in class `j` and the model in class `i`.
/// `design_effect` is explained at [`super::adjusted_count`].
///
/// Intervals are those of the delta method for `p = M⁻¹ q`, with multinomial counts. One row
/// more in each cell of `labelled` keeps them from being too short where the model made no error.
///
/// `None` without tweets, if a class has no labelled row, if `M⁻¹` may multiply errors by more
/// than [`AMPLIFICATION_MAX`], or if an interval lies outside 0..=1: then `M` is not that of this
/// stream.
///
/// Sources: Forman (as above); matrix form and clipping: Hopkins and King, "A method of automated
/// nonparametric content analysis for social science", American Journal of Political Science 54
/// (2010), and `ACC(method="inversion", norm="clip")` in QuaPy.
pub fn adjusted_shares<const K: usize>(
    called: &[u64; K],
    labelled: &[[u64; K]; K],
    design_effect: f64,
) -> Option<[Estimate; K]> {
    let total: u64 = called.iter().sum();
    let rows = labelled.map(|row| row.iter().sum::<u64>());
    if total == 0 || rows.contains(&0) {
        return None;
    }
    let q = called.map(|count| count as f64 / total as f64);
    let columns: Matrix<K> =
        std::array::from_fn(|j| labelled[j].map(|count| count as f64 / rows[j] as f64));
    let inverse = inverse(&columns)?;
    let solved = inverse.map(|row| dot(&row, &q));
    let shares = clipped(&solved)?;

    let smooth: Matrix<K> = std::array::from_fn(|j| {
        labelled[j].map(|count| (count as f64 + 1.0) / (rows[j] as f64 + K as f64))
    });
    let n = effective(total, design_effect);
    let estimate = |class: usize| {
        let weights = &inverse[class];
        let stream = spread(weights, &q) / n;
        let labels: f64 = (0..K)
            .map(|j| shares[j].powi(2) * spread(weights, &smooth[j]) / (rows[j] as f64 + K as f64))
            .sum();
        let half = Z_95 * (stream + labels).sqrt();
        let (low, high) = (solved[class] - half, solved[class] + half);
        Estimate::new(shares[class], low, high, Method::AdjustedCount)
    };
    (0..K).map(estimate).collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// [`adjusted_shares`] with probabilities in place of labels: `q` are the mean probabilities of
/// the stream, `M[i][j]` the mean probability of class `i` over the rows of class `j`. It uses
/// more of what the model says, but the probabilities must mean the same in both sets.
///
/// `stream` has the probabilities of each tweet, `labelled` those of each labelled row after its
/// class, in 0..`K`. `None` without tweets, if a class has no labelled row or is unknown, or if
/// `M⁻¹` may multiply errors by more than [`AMPLIFICATION_MAX`].
///
/// Source: Bella, Ferri, Hernández-Orallo and Ramírez-Quintana, "Quantification via probability
/// estimators", ICDM 2010.
pub fn adjusted_probabilities<const K: usize>(
    stream: &[[f64; K]],
    labelled: &[(usize, [f64; K])],
) -> Option<[f64; K]> {
    let q = mean(stream.iter())?;
    if labelled.iter().any(|(class, _)| *class >= K) {
        return None;
    }
    let mut columns = [[0.0; K]; K];
    for (j, column) in columns.iter_mut().enumerate() {
        *column = mean(labelled.iter().filter(|(class, _)| *class == j).map(|(_, p)| p))?;
    }
    clipped(&inverse(&columns)?.map(|row| dot(&row, &q)))
}

/// The mean of each class; `None` without rows.
pub(super) fn mean<'a, const K: usize>(
    rows: impl Iterator<Item = &'a [f64; K]>,
) -> Option<[f64; K]> {
    let (mut sum, mut count) = ([0.0; K], 0_u64);
    for row in rows {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
        count += 1;
    }
    (count > 0).then(|| sum.map(|sum| sum / count as f64))
}

fn dot<const K: usize>(a: &[f64; K], b: &[f64; K]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The variance of the weight of one draw from the classes with these shares.
fn spread<const K: usize>(weights: &[f64; K], shares: &[f64; K]) -> f64 {
    let squares = weights.map(|weight| weight * weight);
    (dot(&squares, shares) - dot(weights, shares).powi(2)).max(0.0)
}

/// Values kept in 0..=1 and scaled to sum to 1; `None` if none is positive.
fn clipped<const K: usize>(values: &[f64; K]) -> Option<[f64; K]> {
    let kept = values.map(|value| value.clamp(0.0, 1.0));
    let sum: f64 = kept.iter().sum();
    (sum > 0.0).then(|| kept.map(|value| value / sum))
}

/// The inverse of the matrix with these columns, by Gauss-Jordan elimination with pivoting.
/// `None` if its 1-norm is above [`AMPLIFICATION_MAX`]: an error of `q` comes out at most that
/// many times larger, summed over the classes.
fn inverse<const K: usize>(columns: &Matrix<K>) -> Option<Matrix<K>> {
    let mut left: Matrix<K> = std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i]));
    let mut right: Matrix<K> =
        std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }));
    for step in 0..K {
        let pivot =
            (step..K).max_by(|a, b| left[*a][step].abs().total_cmp(&left[*b][step].abs()))?;
        left.swap(step, pivot);
        right.swap(step, pivot);
        let scale = left[step][step];
        if scale.abs() < 1e-12 {
            return None;
        }
        left[step] = left[step].map(|value| value / scale);
        right[step] = right[step].map(|value| value / scale);
        for i in (0..K).filter(|i| *i != step) {
            let factor = left[i][step];
            for j in 0..K {
                left[i][j] -= factor * left[step][j];
                right[i][j] -= factor * right[step][j];
            }
        }
    }
    let norm = (0..K).map(|j| right.iter().map(|row| row[j].abs()).sum::<f64>());
    norm.fold(0.0, f64::max).le(&AMPLIFICATION_MAX).then_some(right)
}
