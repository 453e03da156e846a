//! The device on which models compute, its number format, and the tokens of one pass.
//!
//! **Invariant.** libtorch's GPU library is loaded before anything asks for a GPU: libtorch
//! remembers the answer "none" for good. Deliberately absent: several GPUs.

use std::ffi::{CStr, CString};
use std::path::Path;

use tch::{Cuda, Device};

use monitor_core::domain::Precision;

use super::OpenOptions;

/// Loaded at run time, so that one binary runs on machines with and without a GPU.
const LIBRARY: &str = "libtorch_cuda.so";

/// Tokens of a pass if the settings give none: enough rows to use the hardware fully.
const CPU_TOKENS_MAX: usize = 8 * 1024;
const GPU_TOKENS_MAX: usize = 64 * 1024;

/// The device on which a model computes, its number format, and the tokens of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// Whether LSTMs and transformers compute in bfloat16: 8 significant bits, half the memory, and
    /// several times the speed if the hardware supports it.
    pub bf16: bool,
    /// Largest number of tokens of one pass through a neural model, including padding.
    pub tokens_max: usize,
}

impl Compute {
    /// Single precision on the CPU.
    pub const CPU: Self = Self { device: Device::Cpu, bf16: false, tokens_max: CPU_TOKENS_MAX };

    /// Single precision, with the device's default tokens of a pass.
    pub fn single(device: Device) -> Self {
        let tokens_max = if device.is_cuda() { GPU_TOKENS_MAX } else { CPU_TOKENS_MAX };
        Self { device, bf16: false, tokens_max }
    }

    /// The device and number format of the options; `auto` precision is bfloat16 where
    /// [`is_half_fast`].
    ///
    /// # Errors
    /// [`DeviceError`] if the device is unknown or missing.
    pub fn of(options: &OpenOptions) -> Result<Self, DeviceError> {
        let device = device(&options.device)?;
        let bf16 = match options.precision {
            Precision::Auto => is_half_fast(device),
            Precision::Single => false,
            Precision::Bf16 => true,
        };
        let tokens_max = options.tokens_max.unwrap_or(Self::single(device).tokens_max);
        Ok(Self { device, bf16, tokens_max })
    }
}

/// Whether a device multiplies bfloat16 itself: a GPU, or a processor with such instructions
/// (AVX-512 BF16 or AMX on x86, BF16 on ARM). Others imitate it, several times as slowly as single
/// precision.
pub fn is_half_fast(device: Device) -> bool {
    device.is_cuda() || processor_multiplies_bf16()
}

#[cfg(target_arch = "x86_64")]
fn processor_multiplies_bf16() -> bool {
    // Every processor with AMX has AVX-512 BF16 too.
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn processor_multiplies_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_multiplies_bf16() -> bool {
    false
}

/// Which precision `auto` chooses on a device, and why, for people.
pub fn auto_precision(device: Device) -> &'static str {
    match (device.is_cuda(), is_half_fast(device)) {
        (true, _) => "precision auto: half (bfloat16), on a GPU",
        (false, true) => "precision auto: half (bfloat16), which this processor multiplies",
        (false, false) => {
            "precision auto: single; this processor has no instructions for half (bfloat16)"
        }
    }
}

/// The device is unknown or missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("{0:?} is not a device: give auto, cpu, or cuda:0 for the first GPU")]
    Unknown(String),
    /// The GPU is missing.
    #[error(
        "{device} is set, and libtorch finds {found} GPUs ({loaded}): is {LIBRARY} in the folder of \
         libtorch_cpu.so (LD_LIBRARY_PATH), and does nvidia-smi list the GPU? With `auto` the \
         CPU computes"
    )]
    Missing {
        /// The requested device.
        device: String,
        /// Number of GPUs that libtorch finds.
        found: i64,
        /// Whether libtorch's GPU library was loaded, or the loader's message.
        loaded: String,
    },
}

/// The device of that name; `auto` is the first GPU, if any, else the CPU.
///
/// # Errors
/// [`DeviceError`] if the device is unknown or missing.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown(name.to_owned());
    let number: usize = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => 0,
        cuda => cuda.strip_prefix("cuda:").and_then(|n| n.parse().ok()).ok_or_else(unknown)?,
    };
    let library = CString::new(LIBRARY).expect("a name without NUL");
    // SAFETY: loading a shared library runs its initialisers; this library is part of
    // libtorch. It fails on a machine without a GPU, and dlerror's string is then valid until
    // the next call on this thread.
    let failure = unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
        let said = libc::dlerror();
        let failed = handle.is_null() && !said.is_null();
        failed.then(|| CStr::from_ptr(said).to_string_lossy().into_owned())
    };
    let loaded = failure.unwrap_or_else(|| format!("{LIBRARY} is loaded"));
    let found = Cuda::device_count();
    if name == "auto" && found == 0 && Path::new("/dev/nvidia0").exists() {
        tracing::warn!(
            loaded,
            "libtorch does not find the GPU of this machine: computing on the CPU"
        );
    }
    match name {
        _ if (number as i64) < found => Ok(Device::Cuda(number)),
        "auto" => Ok(Device::Cpu),
        _ => Err(DeviceError::Missing { device: name.to_owned(), found, loaded }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_half_where_the_processor_multiplies_it() {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let has = cpu.split_whitespace().any(|word| matches!(word, "avx512_bf16" | "bf16"));
        assert_eq!(is_half_fast(Device::Cpu), has);
        assert!(is_half_fast(Device::Cuda(0)));
        let options = |precision| OpenOptions {
            directory: "models".into(),
            threads: 1,
            device: "cpu".into(),
            precision,
            tokens_max: None,
        };
        let bf16 = |precision| Compute::of(&options(precision)).unwrap().bf16;
        assert_eq!(bf16(Precision::Auto), has);
        assert!(bf16(Precision::Bf16) && !bf16(Precision::Single));
        assert_eq!(auto_precision(Device::Cpu).contains("half (bfloat16), which"), has);
    }

    #[test]
    fn devices() {
        assert_eq!(device("cpu"), Ok(Device::Cpu));
        assert!(matches!(device("auto"), Ok(Device::Cpu | Device::Cuda(0))));
        for name in ["gpu", "cuda", "cuda:x", "cuda:-1", ""] {
            assert_eq!(device(name), Err(DeviceError::Unknown(name.into())));
        }
        let error = device("cuda:99").unwrap_err().to_string();
        assert!(error.contains("cuda:99") && error.contains("nvidia-smi"), "{error}");
        assert!(error.contains(LIBRARY), "the loader's message: {error}");
    }
}
