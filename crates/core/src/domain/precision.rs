use serde::Deserialize;

/// How finely transformers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Half on a GPU, single on a CPU.
    Auto,
    /// 24 bits of mantissa.
    Single,
    /// bfloat16: 8 bits of mantissa.
    Half,
}
