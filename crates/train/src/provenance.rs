//! What a manifest says about the build and its inputs: versions and digests.

use sha2::{Digest, Sha256};

/// Versions of the libraries that compute; a test compares the first with `vendor/tch`.
pub(crate) const TCH: &str = "0.24.0";
pub(crate) const LIBTORCH: &str = "2.11.0";

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn library_versions_are_those_of_the_build() {
        let shim = include_str!("../../../vendor/tch/Cargo.toml");
        assert!(shim.contains(&format!("package = \"tch\", version = \"{}\"", super::TCH)));
    }
}
