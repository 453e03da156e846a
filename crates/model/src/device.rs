//! Where models compute, how finely, and how much at once.
//!
//! **Invariant.** libtorch's GPU half is loaded before anything asks for a GPU: whoever
//! asks before it is there is told "none" for good. Deliberately absent: several GPUs.

use std::ffi::{CStr, CString};
use std::path::Path;

use tch::{Cuda, Device};

use monitor_core::domain::Precision;

use super::OpenOptions;

/// Loaded at run time, so that one program serves machines with a GPU and without.
const LIBRARY: &str = "libtorch_cuda.so";

/// What a pass takes where the settings do not say: enough rows to fill the hardware.
const CPU_TOKENS_MAX: usize = 8 * 1024;
const GPU_TOKENS_MAX: usize = 64 * 1024;

/// Where a model computes, how finely, and how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    /// Where.
    pub device: Device,
    /// Whether transformers compute in bfloat16: eight bits of mantissa, half the memory,
    /// and several times the speed where the hardware multiplies it.
    pub half: bool,
    /// Tokens of one pass through a neural model at most, padding counted.
    pub tokens_max: usize,
}

impl Compute {
    /// Single precision on the CPU, which every machine has.
    pub const CPU: Self = Self { device: Device::Cpu, half: false, tokens_max: CPU_TOKENS_MAX };

    /// Single precision, as many tokens at once as suit the device.
    pub fn single(device: Device) -> Self {
        let tokens_max = if device.is_cuda() { GPU_TOKENS_MAX } else { CPU_TOKENS_MAX };
        Self { device, half: false, tokens_max }
    }

    /// What the options ask for; `auto` precision is half on a GPU and single on a CPU.
    ///
    /// # Errors
    /// [`DeviceError`]
    pub fn of(options: &OpenOptions) -> Result<Self, DeviceError> {
        let device = device(&options.device)?;
        let half = match options.precision {
            Precision::Auto => device.is_cuda(),
            Precision::Single => false,
            Precision::Half => true,
        };
        let tokens_max = options.tokens_max.unwrap_or(Self::single(device).tokens_max);
        Ok(Self { device, half, tokens_max })
    }
}

/// The device is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No such word.
    #[error("{0:?} is no device: give auto, cpu, or cuda:0 for the first GPU")]
    Unknown(String),
    /// No such GPU.
    #[error(
        "{device} was asked for, and libtorch sees {found} GPUs ({loaded}): is {LIBRARY} beside \
         libtorch_cpu.so (LD_LIBRARY_PATH), and does nvidia-smi list the GPU? `auto` takes the CPU \
         then"
    )]
    Missing {
        /// What was asked for.
        device: String,
        /// How many there are.
        found: i64,
        /// What became of libtorch's GPU half.
        loaded: String,
    },
}

/// The device of that name; `auto` is the first GPU, where there is one, else the CPU.
///
/// # Errors
/// [`DeviceError`]
pub fn device(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown(name.to_owned());
    let number: usize = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => 0,
        cuda => cuda.strip_prefix("cuda:").and_then(|n| n.parse().ok()).ok_or_else(unknown)?,
    };
    let library = CString::new(LIBRARY).expect("a name without NUL");
    // SAFETY: loading a shared library runs its initialisers; this is libtorch's own other
    // half. A failure is what a machine without a GPU answers, and dlerror then has a string of
    // its own until the next call on this thread.
    let failure = unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
        let said = libc::dlerror();
        let failed = handle.is_null() && !said.is_null();
        failed.then(|| CStr::from_ptr(said).to_string_lossy().into_owned())
    };
    let loaded = failure.unwrap_or_else(|| format!("{LIBRARY} is loaded"));
    let found = Cuda::device_count();
    if name == "auto" && found == 0 && Path::new("/dev/nvidia0").exists() {
        tracing::warn!(loaded, "there is a GPU, and libtorch sees none: computing on the CPU");
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
    fn devices() {
        assert_eq!(device("cpu"), Ok(Device::Cpu));
        assert!(matches!(device("auto"), Ok(Device::Cpu | Device::Cuda(0))));
        for name in ["gpu", "cuda", "cuda:x", "cuda:-1", ""] {
            assert_eq!(device(name), Err(DeviceError::Unknown(name.into())));
        }
        let error = device("cuda:99").unwrap_err().to_string();
        assert!(error.contains("cuda:99") && error.contains("nvidia-smi"), "{error}");
        assert!(error.contains(LIBRARY), "what the loader said: {error}");
    }
}
