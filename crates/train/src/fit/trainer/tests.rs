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
    let order = drawn(&rows, WEIGHT_MIN, &mut random);
    let cut = batches(&rows, order.clone(), 32, &mut random);
    let mut seen: Vec<usize> = cut.iter().flatten().copied().collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..1_000));
    for batch in &cut {
        let lengths = batch.iter().map(|at| rows[*at].ids.len());
        let spread = lengths.clone().max().unwrap() - lengths.min().unwrap();
        assert!(spread <= 4, "{spread}");
    }
    assert_ne!(cut, batches(&rows, order, 32, &mut random), "epochs differ");
}

#[test]
fn rows_of_a_small_weight_are_drawn_as_often_as_they_weigh() {
    let weights = |n: usize| [1.0, 0.5, 0.02][n % 3];
    let rows: Vec<Example> = (0..3_000)
        .map(|n| Example { ids: vec![1], target: target(0.0), weight: weights(n) })
        .collect();
    let mut times = vec![0; rows.len()];
    for epoch in 0..200 {
        let drawn = drawn(&rows, 0.1, &mut random(1, epoch));
        assert_eq!(drawn.len(), 2_200, "a fifth of the light rows");
        drawn.into_iter().for_each(|at| times[at] += 1);
    }
    for (at, times) in times.into_iter().enumerate() {
        let expected = if at % 3 == 2 { 15..=70 } else { 200..=200 };
        assert!(expected.contains(&times), "row {at}: {times} times in 200 epochs");
    }
}

#[test]
fn overconfidence_does_not_raise_the_validation_loss() {
    let example = |negative| Example { ids: vec![1], target: target(negative), weight: 1.0 };
    let rows: Vec<Example> = [1.0, 1.0, 1.0, 0.0].map(example).into();
    let rows: Vec<&Example> = rows.iter().collect();
    let check = |name: &str, times: f32, expected: f64| {
        let logits = Tensor::from_slice2(&[[times, 0.0f32]; 4]);
        let found = best_loss(&logits, &rows, Classes::Two);
        assert!((found - expected).abs() < 1e-3, "{name}: {found}");
    };
    // Three of four are right: the best certainty is three in four.
    let entropy = -0.75 * 0.75f64.ln() - 0.25 * 0.25f64.ln();
    check("hesitant", 0.5, entropy);
    check("overconfident", 5.0, entropy);
    check("without an answer", 0.0, 2f64.ln());
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
    let base = Pretrained::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder))
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
    let weighted: Vec<_> = rows.iter().map(|row| (*row, row.weight)).collect();
    let found = means(&|network, adam| step(network, adam, &weighted, &run, 1e-3).0);
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
