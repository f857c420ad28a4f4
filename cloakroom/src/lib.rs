//! Sessions.
mod clock;
mod codec;
mod config;
mod cookie;
mod error;
mod id;
mod principal;
mod provider;
mod record;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use clock::{Clock, ManualClock};
pub use codec::Codec;
pub use config::{Advice, Config};
pub use cookie::{CookieConfig, SameSite};
pub use error::{Error, ErrorKind, Result};
pub use id::{HashFunc, SessionId, StoreKey};
pub use principal::Principal;
pub use provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed, Touched, Updated,
};
pub use record::{Meta, Record};
