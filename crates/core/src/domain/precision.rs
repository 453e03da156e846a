use serde::Deserialize;

/// The number format in which transformers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// [`Precision::Bf16`] on a GPU and on a processor that multiplies it, else
    /// [`Precision::Single`].
    Auto,
    /// 32 bits, 24 of them significant.
    Single,
    /// bfloat16: 16 bits, 8 of them significant; written `half` in the settings.
    #[serde(rename = "half")]
    Bf16,
}
