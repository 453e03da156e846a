//! The library versions that a manifest names.

/// Versions of the libraries that compute; a test compares the first with `vendor/tch`.
pub(crate) const TCH: &str = "0.24.0";
pub(crate) const LIBTORCH: &str = "2.11.0";

#[cfg(test)]
mod tests {
    #[test]
    fn library_versions_are_those_of_the_build() {
        let shim = include_str!("../../../vendor/tch/Cargo.toml");
        assert!(shim.contains(&format!("package = \"tch\", version = \"{}\"", super::TCH)));
    }
}
