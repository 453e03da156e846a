//! Where the stages meet, and the order in which they stop.
