//! Logistic regression on sparse rows, to the optimum.
//!
//! Minimises ½‖w‖² + Σ Cᵢ log(1 + exp(-yᵢ w·xᵢ)) by coordinate descent on the dual (Yu,
//! Huang and Lin 2011, "Dual coordinate descent methods for logistic regression and maximum
//! entropy models"; LIBLINEAR's solver 7), row after row in random order. The bias is the
//! weight of a feature that is always 1. Each row's share αᵢ of the weights w = Σ yᵢ αᵢ xᵢ
//! is at its own optimum where αᵢ = Cᵢ σ(-mᵢ), mᵢ being the row's margin; that is one
//! equation in one unknown, which a few guarded steps of Newton solve.
//!
//! Why no library: the crate `liblinear` is unmaintained since 2020 and uses a C++ copy and the
//! abandoned `failure`; `argmin`'s L-BFGS would need as many lines for objective and gradient,
//! and more passes (scikit-learn's took 66, this solver 7).
//!
//! **Invariant.** The same rows, strength and seed give the same weights, whatever the
//! number of threads. The result is within [`GAP_MAX`] of the optimum: the dual objective is a
//! lower bound of the primal one, so their gap proves it. Deliberately absent:
//! any knowledge of texts; other penalties; a step size.

use std::thread;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::progress::Progress;

/// Largest gap between primal and dual objective, as a share of the former.
const GAP_MAX: f64 = 1e-4;
/// Passes over the rows at most; a handful suffices for rows of length 1.
const PASSES_MAX: usize = 1_000;
/// Steps of Newton on one row at most; two or three suffice unless the row counts a lot.
const STEPS_MAX: usize = 64;
/// Rows between two looks at `stop`, and summed by one thread at a time.
const CHUNK_ROWS: usize = 8_192;

/// Rows of (feature, value), one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseRows {
    /// Where each row ends.
    ends: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
}

impl SparseRows {
    /// Adds a row.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (feature, value) in row {
            self.features.push(feature);
            self.values.push(value);
        }
        self.ends.push(self.features.len());
    }

    /// Adds the rows of another.
    pub(super) fn append(&mut self, other: &Self) {
        let before = self.features.len();
        self.ends.extend(other.ends.iter().map(|end| before + end));
        self.features.extend(&other.features);
        self.values.extend(&other.values);
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The features of a row and their values.
    pub(super) fn features(&self, at: usize) -> impl Iterator<Item = (u32, f32)> {
        let range = at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at];
        let values = self.values[range.clone()].iter().copied();
        self.features[range].iter().copied().zip(values)
    }

    fn row(&self, at: usize) -> impl Iterator<Item = (usize, f64)> + Clone {
        let range = at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at];
        let features = self.features[range.clone()].iter().map(|feature| *feature as usize);
        features.zip(self.values[range].iter().map(|value| f64::from(*value)))
    }
}

/// The training data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) rows: &'a SparseRows,
    /// Each row's label.
    pub(super) negative: &'a [bool],
    /// Weight of each row; usually 1.
    pub(super) row_weights: &'a [f32],
    /// One more than the largest feature.
    pub(super) features: usize,
}

/// Settings of the solver.
#[derive(Clone, Copy)]
pub(super) struct Solver<'a> {
    /// Weight of the errors against that of long weights, for a row that counts 1.
    pub(super) c: f64,
    /// Seed of the order of rows.
    pub(super) seed: u64,
    /// Threads to measure the gap with.
    pub(super) threads: usize,
    /// Returns whether to stop.
    pub(super) stop: &'a dyn Fn() -> bool,
}

/// A linear model; its logit is that of "negative".
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    /// One for each feature.
    pub(super) weight: Vec<f64>,
    pub(super) bias: f64,
}

impl Linear {
    /// Logit of one row.
    pub(super) fn logit(&self, rows: &SparseRows, at: usize) -> f64 {
        let products = rows.row(at).map(|(feature, value)| self.weight[feature] * value);
        self.bias + products.sum::<f64>()
    }

    fn add(&mut self, rows: &SparseRows, at: usize, times: f64) {
        rows.row(at).for_each(|(feature, value)| self.weight[feature] += times * value);
        self.bias += times;
    }
}

/// Finds the optimum; `None` if stopped.
pub(super) fn fit(name: &str, problem: Problem<'_>, solver: Solver<'_>) -> Option<Linear> {
    let Problem { rows, negative, row_weights, features } = problem;
    let mut random = ChaCha8Rng::seed_from_u64(solver.seed);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let lengths: Vec<f64> = (0..rows.len())
        .map(|at| 1.0 + rows.row(at).map(|(_, value)| value * value).sum::<f64>())
        .collect();
    let mut shares = vec![0.0; rows.len()];
    let mut model = Linear { weight: vec![0.0; features], bias: 0.0 };
    for pass in 1..=PASSES_MAX {
        let mut progress = Progress::new(format!("{name}, pass {pass}"), rows.len());
        let (mut done, mut loss_sum) = (0, 0.0);
        order.shuffle(&mut random);
        for chunk in order.chunks(CHUNK_ROWS) {
            if (solver.stop)() {
                return None;
            }
            for at in chunk.iter().copied() {
                let limit = solver.c * f64::from(row_weights[at]);
                let sign = sign(negative[at]);
                let margin = sign * model.logit(rows, at);
                let share = best_share(margin, lengths[at], limit, shares[at]);
                model.add(rows, at, sign * (share - shares[at]));
                shares[at] = share;
                loss_sum += softplus(-margin);
            }
            done += chunk.len();
            progress.rows(done, Some(loss_sum / done as f64));
        }
        let (primal, dual) = objectives(&problem, solver.c, solver.threads, &model, &shares);
        let gap = (primal - dual) / primal;
        progress.end(&format!("within {gap:.0e} of the optimum"));
        if gap <= GAP_MAX {
            break;
        }
    }
    Some(model)
}

/// The share at which one row is at its optimum while the others stay: with
/// m the new margin, share = limit σ(-m) and m = margin + length (share - old).
fn best_share(margin: f64, length: f64, limit: f64, old: f64) -> f64 {
    let (mut low, mut high) = (margin - length * old, margin + length * (limit - old));
    let mut m = margin;
    for _ in 0..STEPS_MAX {
        let sigma = 1.0 / (1.0 + m.exp());
        let error = m - margin - length * (limit * sigma - old);
        if error.abs() < 1e-6 {
            break;
        }
        if error > 0.0 {
            high = m
        } else {
            low = m
        }
        m -= error / (1.0 + length * limit * sigma * (1.0 - sigma));
        if m <= low || m >= high {
            m = f64::midpoint(low, high);
        }
    }
    limit / (1.0 + m.exp())
}

/// The primal objective, and the dual one, which is never above it.
fn objectives(
    problem: &Problem<'_>,
    c: f64,
    threads: usize,
    model: &Linear,
    shares: &[f64],
) -> (f64, f64) {
    let chunk_sums = |chunk: usize| {
        let rows = chunk * CHUNK_ROWS..((chunk + 1) * CHUNK_ROWS).min(problem.rows.len());
        let (mut loss, mut entropy) = (0.0, 0.0);
        for at in rows {
            let limit = c * f64::from(problem.row_weights[at]);
            loss += limit * softplus(-sign(problem.negative[at]) * model.logit(problem.rows, at));
            let p = shares[at] / limit;
            entropy -= limit * (x_log_x(p) + x_log_x(1.0 - p));
        }
        (loss, entropy)
    };
    let chunks = problem.rows.len().div_ceil(CHUNK_ROWS);
    let sums = parallel(chunks, threads, &chunk_sums);
    let squares = model.bias * model.bias + model.weight.iter().map(|w| w * w).sum::<f64>();
    let (loss, entropy) = sums.iter().fold((0.0, 0.0), |sum, new| (sum.0 + new.0, sum.1 + new.1));
    (loss + squares / 2.0, entropy - squares / 2.0)
}

/// `work` of 0..`count`, in order, shared among threads.
pub(super) fn parallel<T: Send>(
    count: usize,
    threads: usize,
    work: &(impl Fn(usize) -> T + Sync),
) -> Vec<T> {
    let each = count.div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..count)
            .step_by(each)
            .map(|from| {
                scope.spawn(move || (from..(from + each).min(count)).map(work).collect::<Vec<T>>())
            })
            .collect();
        let join = |handle: thread::ScopedJoinHandle<'_, Vec<T>>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().flat_map(join).collect()
    })
}

fn sign(negative: bool) -> f64 {
    if negative { 1.0 } else { -1.0 }
}

/// log(1 + exp(x))
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn x_log_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of three features, their labels, and what each counts.
    const ROWS: [([f32; 3], bool, f32); 8] = [
        ([1.0, 0.0, 0.5], true, 1.0),
        ([0.5, 1.0, 0.0], true, 2.0),
        ([0.0, 1.0, 1.0], false, 1.0),
        ([1.0, 0.25, 0.0], true, 1.0),
        ([0.0, 0.0, 1.0], false, 0.5),
        ([0.75, 0.0, 0.0], false, 1.0),
        ([0.0, 0.5, 0.25], false, 3.0),
        ([0.0, 0.0, 0.0], true, 1.0),
    ];
    const GO_ON: &dyn Fn() -> bool = &|| false;

    fn sparse(rows: &[([f32; 3], bool, f32)]) -> (SparseRows, Vec<bool>, Vec<f32>) {
        let mut sparse = SparseRows::default();
        for (values, ..) in rows {
            sparse.push((0..).zip(*values).filter(|(_, value)| *value != 0.0));
        }
        let (negative, weights) =
            rows.iter().map(|(_, negative, weight)| (*negative, *weight)).unzip();
        (sparse, negative, weights)
    }

    fn solve(rows: &[([f32; 3], bool, f32)], c: f64, threads: usize) -> Linear {
        let (rows, negative, row_weights) = sparse(rows);
        let problem =
            Problem { rows: &rows, negative: &negative, row_weights: &row_weights, features: 3 };
        fit("test", problem, Solver { c, seed: 1, threads, stop: GO_ON }).unwrap()
    }

    /// The optimum is scikit-learn's (1.9.1, `newton-cholesky` to 1e-12, the bias as a fourth
    /// feature); the objective found may be above that of the optimum by the gap.
    #[test]
    fn finds_the_optimum() {
        let alike: Vec<_> = ROWS.iter().map(|(row, label, _)| (*row, *label, 1.0)).collect();
        let check = |name: &str, rows: &[_], c: f64, [x, y, z, bias]: [f64; 4]| {
            let best = Linear { weight: vec![x, y, z], bias };
            let found = solve(rows, c, 1);
            let (sparse, negative, row_weights) = sparse(rows);
            let problem = Problem {
                rows: &sparse,
                negative: &negative,
                row_weights: &row_weights,
                features: 3,
            };
            let primal = |model| objectives(&problem, c, 1, model, &[0.0; 8]).0;
            let above = primal(&found) / primal(&best) - 1.0;
            assert!((-1e-9..GAP_MAX).contains(&above), "{name}: {above:e}, {found:?}");
        };
        check("soft", &alike, 1.0, [0.569_670, -0.039_092, -0.594_066, -0.010_664]);
        check("hard", &alike, 10.0, [1.537_105, 0.151_884, -1.825_961, -0.098_113]);
        check("weighted", &ROWS, 1.0, [0.765_954, 0.011_388, -0.590_470, -0.160_697]);
        check("weighted, hard", &ROWS, 10.0, [2.222_655, 0.456_364, -1.933_096, -0.619_495]);
    }

    #[test]
    fn one_row_is_at_its_optimum() {
        let check = |margin: f64, length: f64, limit: f64, old: f64| {
            let share = best_share(margin, length, limit, old);
            let m = margin + length * (share - old);
            let wanted = limit / (1.0 + m.exp());
            let name = format!("{margin} {length} {limit} {old}: {share}, {wanted}");
            assert!((share - wanted).abs() < 0.01 * limit, "{name}");
            assert!((0.0..=limit).contains(&share), "{name}");
        };
        for margin in [-30.0, -2.0, 0.0, 0.5, 40.0] {
            for limit in [0.01, 1.0, 100.0] {
                check(margin, 2.0, limit, 0.0);
                check(margin, 1.0, limit, limit / 2.0);
                check(margin, 50.0, limit, limit);
            }
        }
        assert_eq!(best_share(1.0, 2.0, 0.0, 0.0), 0.0, "a row that counts nothing");
    }

    #[test]
    fn threads_change_nothing() {
        let many: Vec<_> = (0..3 * CHUNK_ROWS).map(|n| ROWS[n * 5 % 8]).collect();
        assert_eq!(solve(&many, 0.01, 1), solve(&many, 0.01, 3));
        assert_eq!(parallel(7, 3, &|n| n * n), [0, 1, 4, 9, 16, 25, 36], "in order");
        assert_eq!(parallel(0, 3, &|n| n), [0; 0]);
    }

    #[test]
    fn stops_when_asked() {
        let (rows, negative, row_weights) = sparse(&ROWS);
        let problem =
            Problem { rows: &rows, negative: &negative, row_weights: &row_weights, features: 3 };
        let solver = Solver { c: 1.0, seed: 1, threads: 1, stop: &|| true };
        assert_eq!(fit("test", problem, solver), None);
    }
}
