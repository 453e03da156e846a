//! When a batch closes; pure.
