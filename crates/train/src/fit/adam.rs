//! The optimiser Adam (Kingma and Ba 2015), with accessible state for checkpoints.
//!
//! **Invariant.** With dense gradients its steps equal those of PyTorch's `AdamW` (without
//! weight decay, those of `Adam`). With a sparse gradient it updates only the rows in the
//! gradient, as PyTorch's `SparseAdam` does: most words occur in no given batch. A network that
//! computes in bfloat16 is updated in single precision (Micikevicius et al. 2018). Weight decay
//! applies to matrices (Loshchilov and Hutter 2019), not to biases and LayerNorms, as in BERT.

use tch::nn::VarStore;
use tch::{Kind, Tensor};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of one set of variables.
pub(super) struct Adam {
    parameters: Vec<Parameter>,
    /// Whether the network computes in bfloat16.
    half: bool,
    /// Steps taken.
    pub(super) steps: i32,
}

/// One trainable array, with the moving means of its gradient and of the squared gradient.
pub(super) struct Parameter {
    pub(super) name: String,
    /// The array that the network computes with.
    used: Tensor,
    /// The array that is updated: the same one, or a copy in single precision.
    pub(super) value: Tensor,
    pub(super) mean: Tensor,
    pub(super) square: Tensor,
}

impl Adam {
    /// An optimiser of all trainable variables, ordered by name. With `half`, the network
    /// computes in bfloat16 until [`Adam::finish`].
    pub(super) fn new(variables: &mut VarStore, half: bool) -> Self {
        let mut parameters: Vec<Parameter> = (variables.variables().into_iter())
            .filter(|(_, value)| value.requires_grad())
            .map(|(name, used)| {
                let (mean, square) = (used.detach().zeros_like(), used.detach().zeros_like());
                let value = if half { used.detach().copy() } else { used.shallow_clone() };
                Parameter { name, used, value, mean, square }
            })
            .collect();
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        if half {
            variables.bfloat16();
        }
        Self { parameters, half, steps: 0 }
    }

    /// Copies the updated or loaded values into the network.
    pub(super) fn publish(&mut self) {
        if self.half {
            let copy = |it: &mut Parameter| it.used.copy_(&it.value);
            tch::no_grad(|| self.parameters.iter_mut().for_each(copy));
        }
    }

    /// Copies `values` into the network, in single precision.
    pub(super) fn finish(mut self, variables: &mut VarStore, values: &[Tensor]) {
        if self.half {
            variables.float();
        }
        for (parameter, value) in self.parameters.iter_mut().zip(values) {
            tch::no_grad(|| parameter.used.copy_(value));
        }
    }

    /// The arrays and their state.
    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Clears the gradients of the previous step; calls of `loss.backward()` then accumulate.
    pub(super) fn begin(&mut self) {
        self.parameters.iter_mut().for_each(|parameter| parameter.used.zero_grad());
    }

    /// Clips the gradient to the norm `norm_max` (Pascanu et al. 2013) and takes one step with
    /// learning rate `rate`; matrices are first multiplied by `1 - rate * decay`.
    pub(super) fn step(&mut self, rate: f64, norm_max: f64, decay: f64) {
        tch::no_grad(|| {
            let gradients: Vec<Gradient> =
                self.parameters.iter().map(|parameter| Gradient::of(&parameter.used)).collect();
            // One number leaves the device: each copy waits for a GPU to finish.
            let norms: Vec<Tensor> = gradients.iter().map(|it| it.values.norm()).collect();
            let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
            let scale = (norm_max / (norm + 1e-6)).min(1.0);
            self.steps += 1;
            let kept = 1.0 - rate * decay;
            let rate = rate / (1.0 - BETA_1.powi(self.steps));
            let unbias = 1.0 / (1.0 - BETA_2.powi(self.steps)).sqrt();
            for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
                if kept < 1.0 && parameter.value.dim() > 1 {
                    let _ = parameter.value.g_mul_scalar_(kept);
                }
                parameter.update(gradient, scale, rate, unbias);
            }
        });
        self.publish();
    }
}

/// A gradient of all rows of an array, or of some.
struct Gradient {
    /// Which rows, shape [rows]; `None` means all.
    rows: Option<Tensor>,
    values: Tensor,
}

impl Gradient {
    fn of(value: &Tensor) -> Self {
        let gradient = value.grad();
        if gradient.is_sparse() {
            let gradient = gradient.coalesce();
            Self {
                rows: Some(gradient.internal_indices().squeeze_dim(0)),
                values: gradient.internal_values(),
            }
        } else {
            Self { rows: None, values: gradient.to_kind(Kind::Float) }
        }
    }
}

impl Parameter {
    fn update(&mut self, gradient: Gradient, scale: f64, rate: f64, unbias: f64) {
        // Computed in place in the gradient: allocating memory for a transformer's word table
        // costs more than the arithmetic.
        let mut work = gradient.values;
        let mut step = |value: &mut Tensor, mean: &mut Tensor, square: &mut Tensor| {
            let _ = work.g_mul_scalar_(scale);
            let _ = mean.lerp_(&work, 1.0 - BETA_1);
            let _ = square.lerp_(&work.square_(), 1.0 - BETA_2);
            // value -= rate * mean / (sqrt(square) * unbias + epsilon)
            work.copy_(square);
            let _ = work.sqrt_().g_mul_scalar_(-unbias / rate).g_add_scalar_(-EPSILON / rate);
            let _ = value.addcdiv_(mean, &work);
        };
        match gradient.rows {
            None => step(&mut self.value, &mut self.mean, &mut self.square),
            Some(rows) => {
                let mut value = self.value.index_select(0, &rows);
                let mut mean = self.mean.index_select(0, &rows);
                let mut square = self.square.index_select(0, &rows);
                step(&mut value, &mut mean, &mut square);
                let _ = self.mean.index_copy_(0, &rows, &mean);
                let _ = self.square.index_copy_(0, &rows, &square);
                let _ = self.value.index_copy_(0, &rows, &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::{AdamW, Init, OptimizerConfig};
    use tch::{Device, nn};

    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap()
    }

    /// (w - target)^2, scaled differently per element, with a large gradient at first.
    fn loss(w: &Tensor) -> Tensor {
        let scales = Tensor::from_slice(&[1f32, 10.0, 0.1]);
        ((w - Tensor::from_slice(&[1f32, -2.0, 3.0])).square() * scales).sum(Kind::Float)
    }

    fn step(adam: &mut Adam, loss: &Tensor, rate: f64, decay: f64) {
        adam.begin();
        loss.backward();
        adam.step(rate, 5.0, decay);
    }

    fn weights(size: &[i64]) -> (nn::VarStore, Tensor) {
        let variables = nn::VarStore::new(Device::Cpu);
        let w = variables.root().var("w", size, Init::Const(1.0));
        (variables, w)
    }

    #[test]
    fn takes_the_steps_of_libtorch() {
        let check = |name: &str, decay, size: &[i64]| {
            let ((mut ours, w), (theirs, v)) = (weights(size), weights(size));
            let mut adam = Adam::new(&mut ours, false);
            let mut reference =
                AdamW { wd: decay, ..AdamW::default() }.build(&theirs, 0.1).unwrap();
            for _ in 0..50 {
                step(&mut adam, &loss(&w), 0.1, decay);
                reference.backward_step_clip_norm(&loss(&v), 5.0);
            }
            for (a, b) in values(&w).into_iter().zip(values(&v)) {
                assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
            }
        };
        check("nothing decays", 0.0, &[3]);
        check("a matrix decays", 0.1, &[1, 3]);
    }

    #[test]
    fn a_bias_does_not_decay() {
        let learned = |decay| {
            let (mut variables, w) = weights(&[3]);
            let mut adam = Adam::new(&mut variables, false);
            step(&mut adam, &loss(&w), 0.1, decay);
            values(&w)
        };
        assert_eq!(learned(0.5), learned(0.0));
    }

    #[test]
    fn passes_add_up_to_one_step() {
        let learned = |passes: usize| {
            let (mut variables, w) = weights(&[3]);
            let mut adam = Adam::new(&mut variables, false);
            adam.begin();
            (0..passes).for_each(|_| (loss(&w) / passes as f64).backward());
            adam.step(0.1, 5.0, 0.0);
            values(&w)
        };
        for (a, b) in learned(1).into_iter().zip(learned(4)) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }

    /// A thousand steps, each too small for the eight bits of a bfloat16 mantissa, add up.
    #[test]
    fn half_precision_learns_in_single() {
        let (mut variables, w) = weights(&[3]);
        let mut adam = Adam::new(&mut variables, true);
        for _ in 0..1_000 {
            assert_eq!(w.kind(), Kind::BFloat16);
            step(&mut adam, &w.sum(Kind::Float), 1e-4, 0.0);
        }
        let best: Vec<Tensor> = adam.parameters().iter().map(|it| it.value.copy()).collect();
        adam.finish(&mut variables, &best);
        for value in values(&w) {
            assert!((value - 0.9).abs() < 1e-3, "{value}");
        }
    }

    #[test]
    fn rows_without_a_gradient_stay() {
        let mut variables = nn::VarStore::new(Device::Cpu);
        let table = variables.root().var("table", &[4, 2], Init::Const(1.0));
        let mut adam = Adam::new(&mut variables, false);
        for _ in 0..3 {
            let ids = Tensor::from_slice(&[1i64, 3, 3]);
            let rows = Tensor::embedding(&table, &ids, -1, false, true);
            step(&mut adam, &rows.square().sum(Kind::Float), 0.1, 0.0);
        }
        let found = values(&table);
        assert_eq!([found[0], found[1], found[4], found[5]], [1.0; 4], "{found:?}");
        assert!(found[2] < 0.75 && found[6] < 0.75, "{found:?}");
    }
}
