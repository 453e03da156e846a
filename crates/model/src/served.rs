//! A network in service: passes over rows of like length, and less at once where memory
//! runs out.
//!
//! **Invariant.** A pass takes at most `tokens_max` tokens, padding counted, or one row.
//! Memory that runs out halves that for good, and the rows are computed all the same. Where
//! a row alone does not fit, or a GPU fails otherwise, the device is at fault and no row.
//! Deliberately absent: growing again, which would fail again and again on a GPU that others
//! use too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics::counter;

use super::network::{Network, Padded, values};
use super::{Classifier, ClassifyError, Encoding, check_ids, probabilities, words_of};
use monitor_core::batching::{Limits, cut};
use monitor_core::domain::Probability;
use monitor_telemetry::TOKENS;

/// What libtorch says where memory runs out: on a GPU, in its libraries, on a CPU.
const OUT_OF_MEMORY: [&str; 3] = ["out of memory", "ALLOC_FAILED", "can't allocate memory"];
/// What it says where a GPU or its libraries fail, which they do for good.
const GPU_FAULTS: [&str; 4] = ["CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUDNN_STATUS"];

/// A network in service.
pub(super) struct Served<N> {
    network: N,
    tokens_max: usize,
}

impl<N: Network> Served<N> {
    /// Takes at most `tokens_max` tokens in one pass, padding counted, or one row.
    pub fn new(network: N, tokens_max: usize) -> Self {
        Self { network, tokens_max }
    }

    /// Scores of rows that are computed together, or what libtorch said.
    fn pass(&self, rows: &[&[u32]]) -> Result<Vec<f32>, String> {
        // tch has no other way to say that memory ran out.
        catch_unwind(AssertUnwindSafe(|| {
            let _no_grad = tch::no_grad_guard();
            let rows = Padded::new(rows, self.network.variables().device());
            values(&self.network.logits(&rows, 0.0).sigmoid())
        }))
        .map_err(|panic| words_of(panic.as_ref()))
    }

    /// Passes over the rows at these places, shortest first.
    fn passes(&self, places: &[usize], batch: &[&Encoding]) -> Vec<Vec<usize>> {
        let tokens: Vec<usize> = places.iter().map(|place| batch[*place].ids.len()).collect();
        let limits = Limits { tokens_max: self.tokens_max, rows_max: usize::MAX };
        let places = |pass: Vec<usize>| pass.into_iter().map(|row| places[row]).collect();
        cut(&tokens, limits).into_iter().rev().map(places).collect()
    }
}

impl<N: Network> Classifier for Served<N> {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
        check_ids(batch, self.network.vocabulary())?;
        let mut scores = vec![0.0; batch.len()];
        let mut passes = self.passes(&(0..batch.len()).collect::<Vec<_>>(), batch);
        while let Some(pass) = passes.pop() {
            let rows: Vec<&[u32]> = pass.iter().map(|row| batch[*row].ids.as_slice()).collect();
            match self.pass(&rows) {
                Ok(found) => {
                    let tokens: usize = rows.iter().map(|row| row.len()).sum();
                    let padding = rows[0].len() * rows.len() - tokens;
                    counter!(TOKENS, "kind" => "text").increment(tokens as u64);
                    counter!(TOKENS, "kind" => "padding").increment(padding as u64);
                    pass.into_iter().zip(found).for_each(|(row, it)| scores[row] = it);
                }
                Err(reason) if pass.len() > 1 && says(&reason, &OUT_OF_MEMORY) => {
                    self.tokens_max = self.tokens_max.min(rows[0].len() * rows.len()) / 2;
                    let tokens_max = self.tokens_max;
                    tracing::warn!(reason, tokens_max, "out of memory: half as much at once");
                    passes.push(pass);
                    passes = self.passes(&passes.concat(), batch);
                }
                Err(reason) => {
                    let device = says(&reason, &OUT_OF_MEMORY) || says(&reason, &GPU_FAULTS);
                    return Err(ClassifyError { rows: batch.len(), reason, device });
                }
            }
        }
        probabilities(scores)
    }

    fn tokens_max(&self) -> Option<usize> {
        Some(self.tokens_max)
    }
}

fn says(reason: &str, any: &[&str]) -> bool {
    any.iter().any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::nn::VarStore;
    use tch::{Device, Kind, Tensor};

    use super::*;

    /// Answers with a row's mean id; has memory for so many tokens, and counts its passes.
    struct Narrow {
        variables: VarStore,
        tokens: usize,
        passes: Arc<AtomicUsize>,
    }

    impl Network for Narrow {
        fn variables(&self) -> &VarStore {
            &self.variables
        }
        fn variables_mut(&mut self) -> &mut VarStore {
            &mut self.variables
        }
        fn vocabulary(&self) -> usize {
            100
        }
        fn logits(&self, rows: &Padded, _: f64) -> Tensor {
            self.passes.fetch_add(1, Ordering::Relaxed);
            let tokens = rows.ids.numel();
            assert!(tokens <= self.tokens, "CUDA out of memory. Tried to allocate {tokens} B");
            assert!(!Vec::<i64>::try_from(rows.ids.flatten(0, -1)).unwrap().contains(&99), "99");
            rows.ids.sum_dim_intlist(1, false, Kind::Float) / rows.lengths.squeeze_dim(1)
        }
    }

    #[test]
    fn memory_that_runs_out_halves_the_budget() {
        let check = |name: &str, has: usize, lengths: &[usize], left: usize, passes: usize| {
            let variables = VarStore::new(Device::Cpu);
            let counted = Arc::new(AtomicUsize::new(0));
            let network = Narrow { variables, tokens: has, passes: counted.clone() };
            let mut served = Served::new(network, 1_000);
            let rows: Vec<Encoding> =
                (1..).zip(lengths).map(|(id, n)| Encoding::new(vec![id; *n])).collect();
            let scores = served.classify(&rows.iter().collect::<Vec<_>>());
            assert_eq!(served.tokens_max(), Some(left), "{name}");
            assert_eq!(counted.load(Ordering::Relaxed), passes, "{name}: passes");
            scores.map(|scores| {
                for (row, score) in rows.iter().zip(scores) {
                    let expected = 1.0 / (1.0 + (-(row.ids[0] as f32)).exp());
                    assert!((score.get() - expected).abs() < 1e-6, "{name}: {row:?} {score:?}");
                }
            })
        };
        check("enough", 1_000, &[10; 60], 1_000, 1).unwrap();
        // 600 tokens fail, then 300; four passes of 150.
        check("a quarter", 200, &[10; 60], 150, 6).unwrap();
        // 400 tokens, 200; the budget takes one long row, and all of the short ones.
        check("mixed", 160, &[100, 10, 100, 10, 100, 100], 100, 7).unwrap();
        let error = check("one row is too much", 50, &[10, 60], 60, 2).unwrap_err();
        assert!(error.reason.contains("out of memory") && error.device, "{error}");
        assert!(says("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", &OUT_OF_MEMORY));
    }

    #[test]
    fn other_failures_cost_no_budget() {
        let variables = VarStore::new(Device::Cpu);
        let mut served = Served::new(Narrow { variables, tokens: 100, passes: Arc::default() }, 80);
        let (sound, poison) = (Encoding::new(vec![1]), Encoding::new(vec![99]));
        assert_eq!(served.classify(&[&sound, &poison]).unwrap_err().reason, "99");
        assert_eq!(served.tokens_max(), Some(80));
    }
}
