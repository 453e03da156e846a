//! The training loop, one for every neural family.
//!
//! Each epoch: shuffle, form batches of rows of similar length, and for each batch compute
//! the logits, the cross-entropy against the targets, and one step of Adam. Rows whose label
//! cannot be neutral teach only negative against positive. The
//! learning rate warms up linearly, then stays constant or falls linearly to zero. A batch too
//! large for one pass is computed in several passes whose gradients are summed. Rows of a small
//! weight are not computed in each epoch: a part of them is drawn, with a larger weight.
//!
//! After each epoch the validation loss is computed and the weights with the lowest one are kept.
//! Too many epochs without improvement end the training early (early stopping). It is the loss at
//! the temperature that suits those weights best, because a temperature is fitted afterwards
//! anyway: an overconfident epoch is not a worse one (Berta, Holzmüller, Jordan and Bach,
//! "Rethinking Early Stopping: Refine, Then Calibrate", 2025).
//!
//! **Invariant.** All random numbers depend only on seed, epoch and step, so a resumed
//! training takes the same steps as an uninterrupted one. Deliberately absent: anything
//! specific to a family; see `families.rs`.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use monitor_core::domain::{Classes, Label};
use monitor_model::{Network, Padded};

use super::adam::Adam;
use super::calibrate::best_log_temperature;
use super::checkpoint::Checkpoint;
use super::{FitError, Target};
use crate::progress::Progress;

/// Rows are sorted by length within groups of this many batches, so that a batch holds rows
/// of similar length and epochs still differ.
const GROUP_BATCHES: usize = 64;
/// Steps per epoch at least: a small data set gets smaller batches, or it would learn too little.
const EPOCH_STEPS_MIN: usize = 32;
/// A killed training loses at most this much work.
const CHECKPOINT_EVERY_S: f64 = 120.0;
/// Ids of one pass at most, padding included.
const PASS_IDS_MAX: usize = 32 * 1024;
/// In place of a logit that does not take part; its probability is 0 in single precision.
const MASKED_LOGIT: f64 = -1e4;
/// A row that weighs less than this part of the heaviest one is drawn for an epoch with the
/// probability `weight / part`, and then weighs as much as the part. The mean gradient is the same,
/// for a fraction of the work.
const WEIGHT_MIN: f32 = 0.1;
/// Rows of one pass when measuring the validation loss.
const VALIDATION_BATCH_ROWS: usize = 256;

/// One encoded row.
#[derive(Debug, Clone)]
pub(super) struct Example {
    pub(super) ids: Vec<u32>,
    pub(super) target: Target,
    /// Weight of the row in the loss; usually 1.
    pub(super) weight: f32,
}

/// Hyperparameters of a training.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Epochs at most.
    pub epochs_max: usize,
    /// Epochs without a lower validation loss before the training stops.
    pub patience: usize,
    /// Rows of a batch; fewer if an epoch would have less than [`EPOCH_STEPS_MIN`] steps.
    pub batch_rows: usize,
    /// Adam's maximum learning rate.
    pub learning_rate: f64,
    /// Share of all steps used for the linear warm-up.
    pub warm_up: f64,
    /// Whether it then falls linearly to zero at the end of the last epoch.
    pub learning_rate_falls: bool,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Gradients are clipped to this norm.
    pub gradient_norm_max: f64,
    /// Dropout: share of activations set to zero.
    pub dropout: f64,
    /// Share of words replaced by the unknown word, so that the model learns to handle it.
    pub word_dropout: f64,
}

/// Everything a training needs besides its rows.
pub(super) struct Run<'a> {
    /// For progress lines.
    pub(super) name: &'a str,
    pub(super) recipe: Recipe,
    pub(super) seed: u64,
    pub(super) checkpoint: &'a Checkpoint,
    /// Id of the unknown word, if the vocabulary has one.
    pub(super) unknown: Option<u32>,
    /// Compute in bfloat16; weights are still updated in single precision.
    pub(super) half: bool,
    /// Resume from the checkpoint.
    pub(super) resume: bool,
    /// Returns whether to stop; called before each step.
    pub(super) stop: &'a dyn Fn() -> bool,
}

/// One row of the training history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: usize,
    pub(crate) loss: f64,
    pub(crate) validation_loss: f64,
    pub(crate) validation_accuracy: f64,
    pub(crate) learning_rate: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) seconds: f64,
}

/// State of a training between two steps, as a checkpoint stores it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TrainerState {
    /// Epochs finished.
    epochs: usize,
    /// Batches finished in this epoch, and the sums of their losses and weights.
    batches: usize,
    loss_sum: f64,
    weight_sum: f64,
    steps: i32,
    best_loss: Option<f64>,
    worse: usize,
    /// Time spent on this epoch before the training was resumed.
    epoch_seconds: f64,
    pub(super) history: Vec<Epoch>,
}

/// The least weight with which all rows of these `weights` are learned from in each epoch.
fn weight_min(weights: impl Iterator<Item = f32>) -> f32 {
    WEIGHT_MIN * weights.fold(0.0, f32::max)
}

/// Trains `network` in place, leaves it with its best weights, and returns the history.
///
/// # Errors
/// The loss is not finite, `stop` returned true (the checkpoint is written then), or the
/// checkpoint cannot be written or read.
pub(super) fn fit(
    network: &mut dyn Network,
    train: &[Example],
    validation: &[Example],
    run: &Run<'_>,
) -> Result<Vec<Epoch>, FitError> {
    let recipe = &run.recipe;
    let mut adam = Adam::new(network.variables_mut(), run.half);
    let mut best = snapshot(&adam);
    let batch_rows = recipe.batch_rows.min(train.len() / EPOCH_STEPS_MIN).max(1);
    let floor = weight_min(train.iter().map(|row| row.weight));
    let epoch_rows = drawn(train, floor, &mut random(run.seed, 0)).len();
    let steps_max = epoch_rows.div_ceil(batch_rows) * recipe.epochs_max;
    let mut state = TrainerState {
        epochs: 0,
        batches: 0,
        loss_sum: 0.0,
        weight_sum: 0.0,
        steps: 0,
        best_loss: None,
        worse: 0,
        epoch_seconds: 0.0,
        history: Vec::new(),
    };
    if !run.resume {
        run.checkpoint.warn_if_discarded();
    } else {
        state = run.checkpoint.load(&mut arrays(&adam, &best))?;
        adam.steps = state.steps;
        adam.publish();
    }
    while state.epochs < recipe.epochs_max && state.worse < recipe.patience {
        let epoch = state.epochs + 1;
        let mut random = random(run.seed, u64::MAX - epoch as u64);
        let rows = drawn(train, floor, &mut random);
        let cut = batches(train, rows, batch_rows, &mut random);
        let mut done: usize = cut.iter().take(state.batches).map(Vec::len).sum();
        let mut progress = Progress::from(
            format!("{}, epoch {epoch}/{}", run.name, recipe.epochs_max),
            done,
            epoch_rows,
        );
        let mut saved_s = 0.0;
        for batch in cut.iter().skip(state.batches) {
            let stop = (run.stop)();
            if stop || progress.seconds() - saved_s > CHECKPOINT_EVERY_S {
                saved_s = progress.seconds();
                let epoch_seconds = state.epoch_seconds + saved_s;
                let now = TrainerState { steps: adam.steps, epoch_seconds, ..state.clone() };
                run.checkpoint.save(&now, &arrays(&adam, &best))?;
            }
            if stop {
                return Err(FitError::Stopped);
            }
            let rate = rate(recipe, adam.steps, steps_max);
            let rows: Vec<(&Example, f32)> =
                batch.iter().map(|at| (&train[*at], train[*at].weight.max(floor))).collect();
            let (loss, weight) = step(&*network, &mut adam, &rows, run, rate);
            if !loss.is_finite() {
                return Err(FitError::Diverged { epoch, loss });
            }
            state.loss_sum += loss * weight;
            state.weight_sum += weight;
            state.batches += 1;
            done += batch.len();
            progress.rows(done, Some(state.loss_sum / state.weight_sum));
        }
        let rows_per_s = progress.rate(done);
        let (loss, accuracy) = validate(&*network, validation);
        if !loss.is_finite() {
            return Err(FitError::Diverged { epoch, loss });
        }
        let better = state.best_loss.is_none_or(|best| loss < best);
        let mean = state.loss_sum / state.weight_sum;
        progress.end(&format!(
            "loss {mean:.4}, validation loss {loss:.4}, accuracy {accuracy:.4}{}",
            if better { ", best so far" } else { "" }
        ));
        if better {
            (state.best_loss, state.worse) = (Some(loss), 0);
            best = snapshot(&adam);
        } else {
            state.worse += 1;
        }
        state.history.push(Epoch {
            epoch,
            loss: mean,
            validation_loss: loss,
            validation_accuracy: accuracy,
            learning_rate: rate(recipe, adam.steps, steps_max),
            rows_per_s,
            seconds: state.epoch_seconds + progress.seconds(),
        });
        state.epochs = epoch;
        (state.batches, state.loss_sum, state.weight_sum) = (0, 0.0, 0.0);
        state.epoch_seconds = 0.0;
        state.steps = adam.steps;
        run.checkpoint.save(&state, &arrays(&adam, &best))?;
    }
    adam.finish(network.variables_mut(), &best);
    Ok(state.history)
}

/// The learning rate of the next step.
fn rate(recipe: &Recipe, steps: i32, steps_max: usize) -> f64 {
    let done = f64::from(steps) / steps_max as f64;
    let share = if done < recipe.warm_up {
        (f64::from(steps) + 1.0) / (recipe.warm_up * steps_max as f64).max(1.0)
    } else if recipe.learning_rate_falls {
        (1.0 - done) / (1.0 - recipe.warm_up)
    } else {
        1.0
    };
    recipe.learning_rate * share.min(1.0)
}

/// Trains on one batch, of rows with their weights; returns its mean loss and the sum of its
/// weights.
fn step(
    network: &dyn Network,
    adam: &mut Adam,
    rows: &[(&Example, f32)],
    run: &Run<'_>,
    rate: f64,
) -> (f64, f64) {
    let mut random = random(run.seed, adam.steps as u64);
    tch::manual_seed(random.random());
    let device = network.variables().device();
    let hidden: Vec<Vec<u32>> = (rows.iter())
        .map(|(row, _)| {
            let mut word = |id: &u32| match run.unknown {
                Some(unknown) if random.random_bool(run.recipe.word_dropout) => unknown,
                _ => *id,
            };
            row.ids.iter().map(&mut word).collect()
        })
        .collect();
    let ids: Vec<&[u32]> = hidden.iter().map(Vec::as_slice).collect();
    let weight: f64 = rows.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let longest = ids.iter().map(|ids| ids.len()).max().unwrap_or(1).max(1);
    let pass_rows = (PASS_IDS_MAX / longest).max(1);
    let mut sum = 0.0;
    adam.begin();
    for (ids, rows) in ids.chunks(pass_rows).zip(rows.chunks(pass_rows)) {
        let (rows, weights): (Vec<&Example>, Vec<f32>) = rows.iter().copied().unzip();
        let weights = Tensor::from_slice(&weights);
        let logits = network.logits(&Padded::new(ids, device), run.recipe.dropout);
        let losses = losses(&logits, &rows, network.classes());
        let loss = (losses * weights.to_device(device)).sum(Kind::Float) / weight;
        loss.backward();
        sum += loss.double_value(&[]);
    }
    adam.step(rate, run.recipe.gradient_norm_max, run.recipe.weight_decay);
    (sum, weight)
}

/// A random generator; each `purpose` has its own stream.
fn random(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(purpose);
    random
}

/// Indices of the rows of one epoch, shuffled: all that weigh `floor` or more, and a part of the
/// others, always the same number of rows (systematic sampling).
fn drawn(rows: &[Example], floor: f32, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.shuffle(random);
    // From one half, so that a rounding error cannot change the number of rows.
    let mut sum = 0.5f64;
    order.retain(|at| {
        let before = sum.floor();
        sum += f64::from(rows[*at].weight / floor).min(1.0);
        sum.floor() > before
    });
    order
}

/// The rows `order` in shuffled batches of similar length.
fn batches(
    rows: &[Example],
    mut order: Vec<usize>,
    batch_rows: usize,
    random: &mut ChaCha8Rng,
) -> Vec<Vec<usize>> {
    let mut batches = Vec::with_capacity(rows.len() / batch_rows + 1);
    for group in order.chunks_mut(batch_rows * GROUP_BATCHES) {
        group.sort_by_key(|at| rows[*at].ids.len());
        batches.extend(group.chunks(batch_rows).map(<[usize]>::to_vec));
    }
    batches.shuffle(random);
    batches
}

/// The cross-entropy of each row, shape [rows], from logits of shape [rows, classes]. Without
/// "neutral" in a row's target, its logit does not take part.
fn losses(logits: &Tensor, rows: &[&Example], classes: Classes) -> Tensor {
    let (targets, masks): (Vec<f32>, Vec<bool>) = (rows.iter())
        .flat_map(|row| {
            let of = |label: &Label| row.target.classes[*label as usize];
            let masked = |label: &Label| row.target.masked && *label == Label::Neutral;
            classes.labels().iter().map(move |label| (of(label), masked(label)))
        })
        .unzip();
    let shaped = |flat: Tensor| flat.view_as(logits).to_device(logits.device());
    let mut logits = logits.shallow_clone();
    if masks.contains(&true) {
        logits = logits.masked_fill(&shaped(Tensor::from_slice(&masks)), MASKED_LOGIT);
    }
    let targets = shaped(Tensor::from_slice(&targets));
    -(targets * logits.log_softmax(-1, Kind::Float)).sum_dim_intlist(-1, false, Kind::Float)
}

/// Mean loss at the best temperature, and accuracy, without dropout, weighted like the training.
fn validate(network: &dyn Network, rows: &[Example]) -> (f64, f64) {
    let _no_grad = tch::no_grad_guard();
    let device = network.variables().device();
    let classes = network.classes();
    let mut order: Vec<&Example> = rows.iter().collect();
    order.sort_by_key(|row| row.ids.len());
    let logits: Vec<Tensor> = (order.chunks(VALIDATION_BATCH_ROWS))
        .map(|batch| {
            let ids: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
            let logits = network.logits(&Padded::new(&ids, device), 0.0);
            logits.to_kind(Kind::Float).to_device(Device::Cpu)
        })
        .collect();
    let logits = Tensor::cat(&logits, 0);
    let labels = classes.labels();
    let values = Vec::<f32>::try_from(logits.flatten(0, -1)).expect("a flat array");
    let weight: f64 = order.iter().map(|row| f64::from(row.weight)).sum();
    let right: f64 = (order.iter().zip(values.chunks(labels.len())))
        .filter(|(row, logits)| is_right(row, labels, logits))
        .map(|(row, _)| f64::from(row.weight))
        .sum();
    (best_loss(&logits, &order, classes), right / weight)
}

/// The weighted mean of the losses of `rows` at the temperature with the least one.
fn best_loss(logits: &Tensor, rows: &[&Example], classes: Classes) -> f64 {
    let weights: Vec<f64> = rows.iter().map(|row| f64::from(row.weight)).collect();
    let weights = Tensor::from_slice(&weights);
    let loss = |log_temperature: f64| {
        let losses = losses(&(logits / log_temperature.exp()), rows, classes).to_kind(Kind::Double);
        ((losses * &weights).sum(Kind::Double) / weights.sum(Kind::Double)).double_value(&[])
    };
    loss(best_log_temperature(loss))
}

/// Whether the greatest logit is that of the most probable class of the target.
fn is_right(row: &Example, labels: &[Label], logits: &[f32]) -> bool {
    let takes_part = |label: &Label| !(row.target.masked && *label == Label::Neutral);
    let target = |label: &Label| row.target.classes[*label as usize];
    let each = || labels.iter().zip(logits).filter(|(label, _)| takes_part(label));
    let predicted = each().max_by(|a, b| a.1.total_cmp(b.1)).map(|(label, _)| *label);
    let wanted = each().max_by(|a, b| target(a.0).total_cmp(&target(b.0))).map(|(label, _)| *label);
    predicted == wanted
}

/// Copies of the parameters, in the optimiser's order.
fn snapshot(adam: &Adam) -> Vec<Tensor> {
    tch::no_grad(|| adam.parameters().iter().map(|p| p.value.detach().copy()).collect())
}

/// All arrays of a checkpoint by name; they share memory with those given.
fn arrays(adam: &Adam, best: &[Tensor]) -> HashMap<String, Tensor> {
    let mut arrays = HashMap::new();
    for (parameter, best) in adam.parameters().iter().zip(best) {
        for (kind, tensor) in [
            ("now", &parameter.value),
            ("best", best),
            ("mean", &parameter.mean),
            ("square", &parameter.square),
        ] {
            arrays.insert(format!("{kind}/{}", parameter.name), tensor.shallow_clone());
        }
    }
    arrays
}

#[cfg(test)]
mod tests;
