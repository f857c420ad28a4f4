#![doc = include_str!("../README.md")]

mod axum_login;
mod base;
mod error;
#[macro_use]
mod implement;
mod requests;
mod store;
mod time;

pub use store::CloakroomStore;

#[cfg(not(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15")))]
compile_error!(
    "expected one of the features `tower-sessions-0_15` (the default) and `tower-sessions-0_14` (for axum-login 0.18), found none; add \
     the one that matches your tower-sessions to the dependency `cloakroom-tower-sessions`"
);
