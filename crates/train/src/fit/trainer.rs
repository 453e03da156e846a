//! The training loop, one for every neural family.
//!
//! Each epoch: shuffle, form batches of rows of similar length, and for each batch compute
//! the logits, the cross-entropy against the targets, and one step of Adam. Rows whose label
//! cannot be neutral teach only negative against positive. The
//! learning rate warms up linearly, then stays constant or falls linearly to zero. A batch too
//! large for one pass is computed in several passes whose gradients are summed. After each
//! epoch the validation loss is computed and the weights with the lowest one are kept. Too
//! many epochs without improvement end the training early (early stopping).
//!
//! **Invariant.** All random numbers depend only on seed, epoch and step, so a resumed
//! training takes the same steps as an uninterrupted one. Deliberately absent: anything
//! specific to a family; see `families.rs`.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use monitor_core::domain::{Classes, Label};
use monitor_model::{Network, Padded};

use super::adam::Adam;
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
    let steps_max = train.len().div_ceil(batch_rows) * recipe.epochs_max;
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
        let cut = batches(train, batch_rows, &mut random(run.seed, u64::MAX - epoch as u64));
        let mut done: usize = cut.iter().take(state.batches).map(Vec::len).sum();
        let mut progress = Progress::from(
            format!("{}, epoch {epoch}/{}", run.name, recipe.epochs_max),
            done,
            train.len(),
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
            let rows: Vec<&Example> = batch.iter().map(|at| &train[*at]).collect();
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

/// Trains on one batch; returns its mean loss and the sum of its weights.
fn step(
    network: &dyn Network,
    adam: &mut Adam,
    rows: &[&Example],
    run: &Run<'_>,
    rate: f64,
) -> (f64, f64) {
    let mut random = random(run.seed, adam.steps as u64);
    tch::manual_seed(random.random());
    let device = network.variables().device();
    let hidden: Vec<Vec<u32>> = (rows.iter())
        .map(|row| {
            let mut word = |id: &u32| match run.unknown {
                Some(unknown) if random.random_bool(run.recipe.word_dropout) => unknown,
                _ => *id,
            };
            row.ids.iter().map(&mut word).collect()
        })
        .collect();
    let ids: Vec<&[u32]> = hidden.iter().map(Vec::as_slice).collect();
    let weight: f64 = rows.iter().map(|row| f64::from(row.weight)).sum();
    let longest = ids.iter().map(|ids| ids.len()).max().unwrap_or(1).max(1);
    let pass_rows = (PASS_IDS_MAX / longest).max(1);
    let mut sum = 0.0;
    adam.begin();
    for (ids, rows) in ids.chunks(pass_rows).zip(rows.chunks(pass_rows)) {
        let weights = Tensor::from_slice(&rows.iter().map(|row| row.weight).collect::<Vec<_>>());
        let logits = network.logits(&Padded::new(ids, device), run.recipe.dropout);
        let losses = losses(&logits, rows, network.classes());
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

/// Indices of `rows` in shuffled batches of similar length.
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

/// Mean loss and accuracy against labels, without dropout, weighted like the training.
fn validate(network: &dyn Network, rows: &[Example]) -> (f64, f64) {
    let device = network.variables().device();
    let mut order: Vec<&Example> = rows.iter().collect();
    order.sort_by_key(|row| row.ids.len());
    let (mut loss, mut right, mut weight) = (0.0, 0.0, 0.0);
    for batch in order.chunks(VALIDATION_BATCH_ROWS) {
        let ids: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
        let _no_grad = tch::no_grad_guard();
        let logits = network.logits(&Padded::new(&ids, device), 0.0);
        let each = losses(&logits, batch, network.classes());
        let each = Vec::<f64>::try_from(each.to_kind(Kind::Double)).expect("a flat array");
        let labels = network.classes().labels();
        let values =
            Vec::<f32>::try_from(logits.to_kind(Kind::Float).flatten(0, -1)).expect("a flat array");
        for ((row, own), logits) in batch.iter().zip(each).zip(values.chunks(labels.len())) {
            let own_weight = f64::from(row.weight);
            weight += own_weight;
            loss += own * own_weight;
            right += own_weight * f64::from(u8::from(is_right(row, labels, logits)));
        }
    }
    (loss / weight, right / weight)
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
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::*;
    use crate::fit::families::TRANSFORMER_RECIPE;
    use monitor_model::Pretrained;

    fn target(negative: f32) -> Target {
        Target { classes: [negative, 0.0, 1.0 - negative], masked: false }
    }

    #[test]
    fn a_masked_row_says_nothing_of_neutral() {
        let example = |classes: [f32; 3], masked| Example {
            ids: vec![1],
            target: Target { classes, masked },
            weight: 1.0,
        };
        let (masked, whole) = (example([1.0, 0.0, 0.0], true), example([1.0, 0.0, 0.0], false));
        let logits = Tensor::from_slice2(&[[1.0f32, 5.0, 1.0], [1.0, 5.0, 1.0]]);
        let found = losses(&logits, &[&masked, &whole], Classes::Three);
        let found = Vec::<f64>::try_from(found.to_kind(Kind::Double)).unwrap();
        assert!((found[0] - 2f64.ln()).abs() < 1e-6, "{found:?}: one of two");
        let sum = 2.0 * 1f64.exp() + 5f64.exp();
        assert!((found[1] - (sum.ln() - 1.0)).abs() < 1e-5, "{found:?}");
        assert!(!is_right(&whole, &Label::ALL, &[1.0, 5.0, 0.0]));
        assert!(is_right(&masked, &Label::ALL, &[1.0, 5.0, 0.0]), "neutral does not take part");
    }

    #[test]
    fn batches_hold_each_row_once_and_similar_lengths() {
        let rows: Vec<Example> = (0..1_000)
            .map(|n| Example { ids: vec![1; 1 + n * 7 % 40], target: target(0.0), weight: 1.0 })
            .collect();
        let mut random = random(1, 1);
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

    #[test]
    fn several_passes_equal_one_pass() {
        let rows: Vec<Example> = (0..1_500u32)
            .map(|n| Example {
                ids: (0..2 + n % 40).map(|place| (n * 31 + place * 7) % 400).collect(),
                target: target((n % 3) as f32 / 2.0),
                weight: 1.0 + (n % 2) as f32,
            })
            .collect();
        let rows: Vec<&Example> = rows.iter().collect();
        assert!(rows.len() * 41 > PASS_IDS_MAX, "the test needs several passes");
        let folder = "tests/fixtures/transformer/distilbert";
        let base =
            Pretrained::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder))
                .unwrap();
        let checkpoint = Checkpoint::new(Path::new(""), "", String::new(), String::new());
        let run = Run {
            name: "",
            recipe: Recipe { dropout: 0.0, ..TRANSFORMER_RECIPE },
            seed: 1,
            checkpoint: &checkpoint,
            unknown: None,
            half: false,
            resume: false,
            stop: &|| false,
        };
        // After the first step, Adam's mean is a tenth of the gradient.
        let means = |step: &dyn Fn(&dyn Network, &mut Adam) -> f64| {
            let mut network = base.network(Classes::Two, 48, Device::Cpu).unwrap();
            let mut adam = Adam::new(network.variables_mut(), false);
            let loss = step(&network, &mut adam);
            let mean = |it: &super::super::adam::Parameter| it.mean.flatten(0, -1);
            (loss, Tensor::cat(&adam.parameters().iter().map(mean).collect::<Vec<_>>(), 0))
        };
        let found = means(&|network, adam| step(network, adam, &rows, &run, 1e-3).0);
        let expected = means(&|network, adam| {
            let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
            let logits = network.logits(&Padded::new(&ids, Device::Cpu), 0.0);
            let weights: Vec<f32> = rows.iter().map(|row| row.weight).collect();
            // The softmax of two logits is the logistic function of their difference.
            let logits = logits.select(1, 0) - logits.select(1, 1);
            let negative: Vec<f32> = rows.iter().map(|row| row.target.classes[0]).collect();
            let loss = logits.binary_cross_entropy_with_logits::<Tensor>(
                &Tensor::from_slice(&negative),
                Some(Tensor::from_slice(&weights)),
                None,
                tch::Reduction::Sum,
            ) / f64::from(weights.iter().sum::<f32>());
            adam.begin();
            loss.backward();
            adam.step(1e-3, run.recipe.gradient_norm_max, run.recipe.weight_decay);
            loss.double_value(&[])
        });
        assert!((found.0 - expected.0).abs() < 1e-5, "{} {}", found.0, expected.0);
        let longest = expected.1.abs().max().double_value(&[]);
        let apart = (found.1 - expected.1).abs().max().double_value(&[]);
        assert!(apart < 1e-4 * longest, "{apart} of {longest}");
    }

    #[test]
    fn learning_rates() {
        let recipe = Recipe { warm_up: 0.2, ..TRANSFORMER_RECIPE };
        let check = |name: &str, recipe: Recipe, steps, expected: f64| {
            let found = rate(&recipe, steps, 100) / recipe.learning_rate;
            assert!((found - expected).abs() < 1e-9, "{name}: {found}");
        };
        check("begins low", recipe, 0, 0.05);
        check("is warm", recipe, 19, 1.0);
        check("begins to fall", recipe, 20, 1.0);
        check("half way down", recipe, 60, 0.5);
        check("ends at nothing", recipe, 100, 0.0);
        check("falls from the start", Recipe { warm_up: 0.0, ..recipe }, 50, 0.5);
        check("stays", Recipe { learning_rate_falls: false, warm_up: 0.0, ..recipe }, 50, 1.0);
    }
}
