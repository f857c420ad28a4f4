//! The measurements of `cargo xtask bench`.

pub mod baseline;
pub mod counts;
pub mod scenario;
