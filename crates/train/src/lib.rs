pub mod hub;
pub mod provider;
pub mod training;
