//! What is a bad buzz; pure.
