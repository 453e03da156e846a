//! Adam (Kingma and Ba 2015), with its state in the open so that a training can be
//! stopped and taken up again.
//!
//! **Invariant.** With dense gradients it takes the very steps of PyTorch's `Adam`; of a
//! sparse gradient it moves the rows named and no others, as PyTorch's `SparseAdam` does:
//! most words stand in no batch. Deliberately absent: weight decay; early stopping and
//! dropout hold these models back.

use tch::nn::VarStore;
use tch::{Kind, Tensor};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of one set of variables.
pub(super) struct Adam {
    parameters: Vec<Parameter>,
    /// Steps taken.
    pub(super) steps: i32,
}

/// One array to learn, with the decaying means of its gradient and of its square.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: Tensor,
    pub(super) mean: Tensor,
    pub(super) square: Tensor,
}

impl Adam {
    /// For all trainable variables, in the order of their names.
    pub(super) fn new(variables: &VarStore) -> Self {
        let mut parameters: Vec<Parameter> = (variables.variables().into_iter())
            .filter(|(_, value)| value.requires_grad())
            .map(|(name, value)| {
                let (mean, square) = (value.detach().zeros_like(), value.detach().zeros_like());
                Parameter { name, value, mean, square }
            })
            .collect();
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        Self { parameters, steps: 0 }
    }

    /// The arrays and their state.
    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Computes the gradient of `loss`, shortens it to a norm of `norm_max` where it is
    /// longer (Pascanu et al. 2013), and takes one step of `rate`.
    pub(super) fn step(&mut self, loss: &Tensor, rate: f64, norm_max: f64) {
        for parameter in &mut self.parameters {
            parameter.value.zero_grad();
        }
        loss.backward();
        tch::no_grad(|| {
            let gradients: Vec<Gradient> =
                self.parameters.iter().map(|parameter| Gradient::of(&parameter.value)).collect();
            let norm: f64 = gradients.iter().map(Gradient::square_sum).sum::<f64>().sqrt();
            let scale = (norm_max / (norm + 1e-6)).min(1.0);
            self.steps += 1;
            let rate = rate / (1.0 - BETA_1.powi(self.steps));
            let unbias = 1.0 / (1.0 - BETA_2.powi(self.steps)).sqrt();
            for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
                parameter.update(gradient, scale, rate, unbias);
            }
        });
    }
}

/// A gradient: of all rows, or of some.
struct Gradient {
    /// Which rows; all where absent. Shape [rows].
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
            Self { rows: None, values: gradient }
        }
    }

    fn square_sum(&self) -> f64 {
        self.values.square().sum(Kind::Double).double_value(&[])
    }
}

impl Parameter {
    fn update(&mut self, gradient: Gradient, scale: f64, rate: f64, unbias: f64) {
        let values = gradient.values * scale;
        let step = |mean: &mut Tensor, square: &mut Tensor| {
            let _ = mean.lerp_(&values, 1.0 - BETA_1);
            let _ = square.lerp_(&values.square(), 1.0 - BETA_2);
            mean.f_div(&(square.sqrt() * unbias + EPSILON)).expect("shapes agree") * -rate
        };
        match gradient.rows {
            None => {
                let change = step(&mut self.mean, &mut self.square);
                let _ = self.value.g_add_(&change);
            }
            Some(rows) => {
                let mut mean = self.mean.index_select(0, &rows);
                let mut square = self.square.index_select(0, &rows);
                let change = step(&mut mean, &mut square);
                let _ = self.mean.index_copy_(0, &rows, &mean);
                let _ = self.square.index_copy_(0, &rows, &square);
                let _ = self.value.index_add_(0, &rows, &change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::{Adam as Reference, Init, OptimizerConfig};
    use tch::{Device, nn};

    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap()
    }

    /// (w - target)^2, unevenly scaled, with a long gradient at first.
    fn loss(w: &Tensor) -> Tensor {
        let scales = Tensor::from_slice(&[1f32, 10.0, 0.1]);
        ((w - Tensor::from_slice(&[1f32, -2.0, 3.0])).square() * scales).sum(Kind::Float)
    }

    #[test]
    fn takes_the_steps_of_libtorch() {
        let weights = || {
            let variables = nn::VarStore::new(Device::Cpu);
            let w = variables.root().var("w", &[3], Init::Const(0.0));
            (variables, w)
        };
        let ((ours, w), (theirs, v)) = (weights(), weights());
        let mut adam = Adam::new(&ours);
        let mut reference = Reference::default().build(&theirs, 0.1).unwrap();
        for _ in 0..50 {
            adam.step(&loss(&w), 0.1, 5.0);
            reference.backward_step_clip_norm(&loss(&v), 5.0);
        }
        for (a, b) in values(&w).into_iter().zip(values(&v)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn rows_without_a_gradient_stay() {
        let variables = nn::VarStore::new(Device::Cpu);
        let table = variables.root().var("table", &[4, 2], Init::Const(1.0));
        let mut adam = Adam::new(&variables);
        for _ in 0..3 {
            let ids = Tensor::from_slice(&[1i64, 3, 3]);
            let rows = Tensor::embedding(&table, &ids, -1, false, true);
            adam.step(&rows.square().sum(Kind::Float), 0.1, 5.0);
        }
        let found = values(&table);
        assert_eq!([found[0], found[1], found[4], found[5]], [1.0; 4], "{found:?}");
        assert!(found[2] < 0.75 && found[6] < 0.75, "{found:?}");
    }
}
