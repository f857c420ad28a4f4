//! What `cargo xtask bench` measures.

pub mod counts;
pub mod scenario;
