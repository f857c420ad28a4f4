//! What `cargo xtask bench` measures.

pub mod baseline;
pub mod counts;
pub mod scenario;
