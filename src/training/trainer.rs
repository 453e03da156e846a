//! The training loop, one for every family that libtorch trains.
//!
//! Each epoch: shuffle, cut into batches of rows of like length, and for each batch
//! compute the logits, the binary cross-entropy against the labels, its gradient (clipped
//! to a longest norm), and one step of Adam (Kingma and Ba 2015). After each epoch the
//! loss on validation rows decides: a better one is remembered with its weights; too many
//! worse ones in a row end the training, and the best weights are put back.
//!
//! **Invariant.** Everything random comes from the seed. Deliberately absent: anything
//! that knows a family; see `families.rs`.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::nn::{OptimizerConfig, VarStore};
use tch::{Kind, Reduction, Tensor, nn};

use super::TrainingError;
use super::progress::Progress;

/// Rows are sorted by length within groups of this many batches, so that a batch holds
/// rows of like length and epochs still differ.
const GROUP_BATCHES: usize = 64;
/// A small set is cut into this many batches at least, or it would learn nothing.
const EPOCH_STEPS_MIN: usize = 32;
/// Rows of one pass when measuring the validation loss.
const VALIDATION_BATCH_ROWS: usize = 256;

/// What the loop can train.
pub(super) trait Trainable {
    /// The numbers to learn.
    fn variables(&self) -> &VarStore;
    /// Logits of "negative", shape [rows]. `noise` is there while learning, and dropout
    /// should apply then.
    fn logits(&self, rows: &[&[u32]], noise: Option<&mut ChaCha8Rng>) -> Tensor;
}

/// One encoded row.
#[derive(Debug, Clone)]
pub(super) struct Example {
    pub(super) ids: Vec<u32>,
    pub(super) negative: bool,
}

/// How to learn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    /// Passes over the rows at most.
    pub(super) epochs_max: usize,
    /// Epochs without a better validation loss before it ends.
    pub(super) patience: usize,
    /// Rows of a batch; fewer where the data would make less than [`EPOCH_STEPS_MIN`].
    pub(super) batch_rows: usize,
    /// Adam's step in the first epoch ...
    pub(super) learning_rate: f64,
    /// ... and what it is multiplied by after each.
    pub(super) learning_rate_decay: f64,
    /// Longest gradient.
    pub(super) gradient_norm_max: f64,
}

/// Trains `model` in place and leaves it with its best weights.
pub(super) fn fit(
    name: &str,
    model: &dyn Trainable,
    train: &[Example],
    validation: &[Example],
    recipe: &Recipe,
    seed: u64,
) -> Result<(), TrainingError> {
    let mut optimizer = nn::Adam::default()
        .build(model.variables(), recipe.learning_rate)
        .expect("Adam accepts any set of variables");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut best = (f64::INFINITY, snapshot(model.variables()));
    let mut worse = 0;
    let batch_rows = recipe.batch_rows.min(train.len() / EPOCH_STEPS_MIN).max(1);

    for epoch in 1..=recipe.epochs_max {
        let mut progress =
            Progress::new(format!("{name}, epoch {epoch}/{}", recipe.epochs_max), train.len());
        let (mut done, mut loss_sum) = (0, 0.0);
        for batch in batches(train, batch_rows, &mut random) {
            let rows: Vec<&[u32]> = batch.iter().map(|at| train[*at].ids.as_slice()).collect();
            let labels = targets(batch.iter().map(|at| train[*at].negative));
            let logits = model.logits(&rows, Some(&mut random));
            let loss = cross_entropy(&logits, &labels, Reduction::Mean);
            optimizer.backward_step_clip_norm(&loss, recipe.gradient_norm_max);

            loss_sum += loss.double_value(&[]) * batch.len() as f64;
            done += batch.len();
            progress.rows(done, loss_sum / done as f64);
        }
        let loss = validation_loss(model, validation);
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { epoch, loss });
        }
        let better = loss < best.0;
        progress.end(&format!(
            "loss {:.4}, validation loss {loss:.4}{}",
            loss_sum / done.max(1) as f64,
            if better { ", best so far" } else { "" }
        ));
        if better {
            best = (loss, snapshot(model.variables()));
            worse = 0;
        } else {
            worse += 1;
            if worse >= recipe.patience {
                break;
            }
        }
        optimizer.set_lr(recipe.learning_rate * recipe.learning_rate_decay.powi(epoch as i32));
    }
    restore(model.variables(), &best.1);
    Ok(())
}

/// Places of `rows` in shuffled batches of like length.
fn batches(rows: &[Example], batch_rows: usize, random: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.shuffle(random);
    let mut batches = Vec::with_capacity(rows.len() / batch_rows + 1);
    for group in order.chunks_mut(batch_rows * GROUP_BATCHES) {
        group.sort_by_key(|at| rows[*at].ids.len());
        batches.extend(group.chunks(batch_rows).map(<[usize]>::to_vec));
    }
    batches.shuffle(random);
    batches
}

/// 1 for negative, 0 for positive, shape [rows].
fn targets(labels: impl Iterator<Item = bool>) -> Tensor {
    Tensor::from_slice(&labels.map(|negative| f32::from(u8::from(negative))).collect::<Vec<_>>())
}

fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.binary_cross_entropy_with_logits::<Tensor>(labels, None, None, reduction)
}

/// Mean loss without dropout.
fn validation_loss(model: &dyn Trainable, rows: &[Example]) -> f64 {
    let mut order: Vec<&Example> = rows.iter().collect();
    order.sort_by_key(|row| row.ids.len());
    let sum: f64 = order
        .chunks(VALIDATION_BATCH_ROWS)
        .map(|batch| {
            let ids: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
            let labels = targets(batch.iter().map(|row| row.negative));
            let loss =
                tch::no_grad(|| cross_entropy(&model.logits(&ids, None), &labels, Reduction::Sum));
            loss.to_kind(Kind::Double).double_value(&[])
        })
        .sum();
    sum / rows.len() as f64
}

/// Copies of all numbers, by name.
fn snapshot(variables: &VarStore) -> Vec<(String, Tensor)> {
    let all = variables.variables().into_iter();
    tch::no_grad(|| all.map(|(name, tensor)| (name, tensor.copy())).collect())
}

fn restore(variables: &VarStore, snapshot: &[(String, Tensor)]) {
    let all = variables.variables();
    for (name, saved) in snapshot {
        let mut tensor = all[name].shallow_clone();
        tch::no_grad(|| tensor.copy_(saved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_each_row_once_and_like_lengths() {
        let rows: Vec<Example> =
            (0..1_000).map(|n| Example { ids: vec![1; 1 + n * 7 % 40], negative: false }).collect();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let cut = batches(&rows, 32, &mut random);
        let mut seen: Vec<usize> = cut.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1_000));
        for batch in &cut {
            let lengths = batch.iter().map(|at| rows[*at].ids.len());
            let spread = lengths.clone().max().unwrap() - lengths.min().unwrap();
            assert!(spread <= 4, "{spread}");
        }
        assert_ne!(cut, batches(&rows, 32, &mut random), "epochs differ");
    }
}
