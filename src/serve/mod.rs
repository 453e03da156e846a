//! The page, health and metrics over HTTP.
