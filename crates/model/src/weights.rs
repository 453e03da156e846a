//! Named arrays of numbers in a safetensors file.
//!
//! **Invariant.** On disk, numbers are fp16 in models, fp32 in the checkpoints of a training,
//! and fp16, bf16 or fp32 in models from elsewhere; in memory they are fp32. An array that is
//! read has the requested shape. Deliberately absent: pickles, which can contain code, and
//! memory mapping: the models are small.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

/// The number format on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredPrecision {
    /// IEEE half precision: half the size, three decimal digits.
    Fp16,
    /// IEEE single precision: lossless.
    Single,
}

/// Arrays by name, each with its shape.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

/// A message that says what is invalid in a weights file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(String);

/// Names that an error lists; the rest are counted.
const LISTED_MAX: usize = 8;

impl Weights {
    /// Adds an array; the product of `shape` is the number of `values`.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        self.0.insert(name.to_owned(), (shape.to_vec(), values));
    }

    /// Adds a tensor's numbers, in single precision.
    pub fn insert_tensor(&mut self, name: &str, tensor: &Tensor) {
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        let flat = tensor.to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, -1);
        let values = Vec::try_from(flat).expect("a flat array of single precision converts");
        self.insert(name, &shape, values);
    }

    /// Removes and returns an array of exactly this shape.
    ///
    /// # Errors
    /// The array is missing or has another shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        match self.0.remove(name) {
            None => Err(WeightsError(format!("array {name:?} is missing"))),
            Some((found, _)) if found != shape => Err(WeightsError(format!(
                "array {name:?} has the shape {found:?}, and its manifest says {shape:?}"
            ))),
            Some((_, values)) => Ok(values),
        }
    }

    /// Whether there is an array of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The same arrays under other names; arrays for which `name` returns `None` are dropped.
    pub fn rename(self, name: impl Fn(&str) -> Option<String>) -> Self {
        let renamed = |(old, array): (String, _)| name(&old).map(|new| (new, array));
        Self(self.0.into_iter().filter_map(renamed).collect())
    }

    /// Keeps `rows` of a matrix, if there is one of that name, in their order.
    ///
    /// # Errors
    /// It has fewer rows.
    pub fn keep_rows(&mut self, name: &str, rows: &[u32]) -> Result<(), WeightsError> {
        let Some((shape, values)) = self.0.get_mut(name) else { return Ok(()) };
        let width: usize = shape.iter().skip(1).product();
        let row = |at: &u32| values.get(*at as usize * width..(*at as usize + 1) * width);
        let kept: Option<Vec<&[f32]>> = rows.iter().map(row).collect();
        let Some(kept) = kept else {
            return Err(WeightsError(format!(
                "array {name:?} has the shape {shape:?}: too few rows"
            )));
        };
        (shape[0], *values) = (rows.len(), kept.concat());
        Ok(())
    }

    /// The mean of these arrays and those of `others`, number by number.
    ///
    /// # Errors
    /// Arrays are missing, unexpected, or have another shape.
    pub fn mean(mut self, others: &[Self]) -> Result<Self, WeightsError> {
        let shapes = |of: &Self| -> Vec<(String, Vec<usize>)> {
            of.0.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
        };
        if others.iter().any(|other| shapes(other) != shapes(&self)) {
            return Err(WeightsError("its arrays have other names or shapes".into()));
        }
        let count = (others.len() + 1) as f32;
        for (name, (_, values)) in &mut self.0 {
            for other in others {
                values.iter_mut().zip(&other.0[name].1).for_each(|(sum, value)| *sum += value);
            }
            values.iter_mut().for_each(|sum| *sum /= count);
        }
        Ok(self)
    }

    /// Copies each array into the variable of its name; both have the same names.
    ///
    /// # Errors
    /// Arrays are missing, unexpected or have another shape; the message lists them.
    pub fn fill(mut self, variables: Vec<(String, Tensor)>) -> Result<(), WeightsError> {
        let (mut missing, mut misshapen, mut fitting) = (Vec::new(), Vec::new(), Vec::new());
        for (name, variable) in variables {
            let size = variable.size();
            match self.0.remove(&name) {
                None => missing.push(name),
                Some((shape, _)) if !shape.iter().map(|n| *n as i64).eq(size.iter().copied()) => {
                    misshapen.push(format!("{name} is {shape:?} and should be {size:?}"));
                }
                Some((_, values)) => fitting.push((variable, values)),
            }
        }
        let unexpected: Vec<String> = self.0.into_keys().collect();
        let faults = [("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)];
        let faults: Vec<String> = (faults.into_iter().filter(|(_, names)| !names.is_empty()))
            .map(|(fault, names)| {
                let listed = names[..names.len().min(LISTED_MAX)].join(", ");
                let more = names.len().saturating_sub(LISTED_MAX);
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                format!("{} {fault}: {listed}{more}", names.len())
            })
            .collect();
        if !faults.is_empty() {
            return Err(WeightsError(format!(
                "arrays do not fit the model: {}",
                faults.join("; ")
            )));
        }
        for (mut variable, values) in fitting {
            let values = Tensor::from_slice(&values).reshape(variable.size());
            tch::no_grad(|| variable.copy_(&values));
        }
        Ok(())
    }

    /// The file, with numbers rounded to `precision`.
    pub fn to_bytes(&self, precision: StoredPrecision) -> Vec<u8> {
        let dtype = match precision {
            StoredPrecision::Fp16 => Dtype::F16,
            StoredPrecision::Single => Dtype::F32,
        };
        let arrays: Vec<(&String, &Vec<usize>, Vec<u8>)> = (self.0.iter())
            .map(|(name, (shape, values))| {
                let bytes = match precision {
                    StoredPrecision::Fp16 => {
                        values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
                    }
                    StoredPrecision::Single => {
                        values.iter().flat_map(|v| v.to_le_bytes()).collect()
                    }
                };
                (name, shape, bytes)
            })
            .collect();
        let views = arrays.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(dtype, (*shape).clone(), bytes)
                .expect("the bytes of each value of the shape were written");
            (name.as_str(), view)
        });
        safetensors::serialize(views, None).expect("a handful of names fits in a header")
    }

    /// Reads the output of [`Weights::to_bytes`].
    ///
    /// # Errors
    /// The file is truncated or damaged, or has another number format.
    pub fn parse(bytes: &[u8]) -> Result<Self, WeightsError> {
        // PyTorch saves a zip archive, or a pickle of protocol 2 or later. The length of a
        // safetensors header may begin with the same bytes, but then the header follows.
        let has_header = bytes.get(8) == Some(&b'{');
        if !has_header && (bytes.starts_with(b"PK") || matches!(bytes, [0x80, 2..=5, ..])) {
            return Err(WeightsError(
                "it is a pickle, which can contain code and is never read: save the model as \
                 safetensors"
                    .into(),
            ));
        }
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| WeightsError(format!("the file is truncated or damaged ({error})")))?;
        let mut weights = Self::default();
        for (name, view) in file.tensors() {
            let values = match view.dtype() {
                Dtype::F16 => (view.data().as_chunks::<2>().0.iter())
                    .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
                    .collect(),
                Dtype::F32 => (view.data().as_chunks::<4>().0.iter())
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
                Dtype::BF16 => (view.data().as_chunks::<2>().0.iter())
                    .map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
                    .collect(),
                // Token positions in older files, which are not needed.
                Dtype::I64 if name.ends_with("position_ids") => continue,
                other => {
                    return Err(WeightsError(format!(
                        "array {name:?} is {other:?}; supported are F16, BF16 and F32"
                    )));
                }
            };
            weights.insert(&name, view.shape(), values);
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_length_may_look_like_a_pickle() {
        // 640 bytes of header, as 80 02: the second protocol of pickles.
        let name = (0..1000).map(|n| "a".repeat(n)).find(|name| {
            let mut weights = Weights::default();
            weights.insert(name, &[1], vec![1.0]);
            weights.to_bytes(StoredPrecision::Fp16).starts_with(&[0x80, 2, 0, 0, 0, 0, 0, 0, b'{'])
        });
        let mut weights = Weights::default();
        weights.insert(&name.unwrap(), &[1], vec![1.0]);
        assert_eq!(Weights::parse(&weights.to_bytes(StoredPrecision::Fp16)).unwrap(), weights);
        for pickle in [&b"\x80\x02}q\x00."[..], b"PK\x03\x04\x00\x00\x00\x00\x00\x00"] {
            let error = Weights::parse(pickle).unwrap_err().to_string();
            assert!(error.contains("pickle"), "{error}");
        }
    }

    #[test]
    fn a_mean_is_of_each_number() {
        let of = |name: &str, values: Vec<f32>| {
            let mut weights = Weights::default();
            weights.insert(name, &[values.len()], values);
            weights
        };
        let others = [of("a", vec![2.0, -1.0]), of("a", vec![6.0, 4.0])];
        assert_eq!(of("a", vec![1.0, 0.0]).mean(&others), Ok(of("a", vec![3.0, 1.0])));
        assert_eq!(of("a", vec![1.0]).mean(&[]), Ok(of("a", vec![1.0])));
        for other in [of("b", vec![1.0]), of("a", vec![1.0, 1.0]), Weights::default()] {
            assert!(of("a", vec![1.0]).mean(&[other]).is_err());
        }
    }

    #[test]
    fn survives_the_file() {
        let mut weights = Weights::default();
        weights.insert("a", &[2, 2], vec![0.5, -1.25, 0.0, 100.0]);
        weights.insert("b", &[1], vec![3.0]);
        weights.insert("c", &[2], vec![1.0 / 3.0, 1e-9]);
        let single = weights.to_bytes(StoredPrecision::Single);
        assert_eq!(Weights::parse(&single), Ok(weights.clone()));
        weights.insert("c", &[1], vec![2.0]);
        let bytes = weights.to_bytes(StoredPrecision::Fp16);
        assert_eq!(Weights::parse(&bytes), Ok(weights.clone()));
        let check = |name, result: Result<Vec<f32>, WeightsError>, expected: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
        };
        check("missing", weights.take("d", &[1]), "array \"d\" is missing");
        check("shape", weights.take("a", &[4]), "has the shape [2, 2]");
        for end in [0, 4, 20, bytes.len() - 1] {
            let error = Weights::parse(&bytes[..end]).unwrap_err().to_string();
            assert!(error.contains("truncated"), "{end}: {error}");
        }
    }
}
