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

pub use clock::{Clock, ManualClock};
pub use codec::Codec;
pub use config::{Advice, Config};
pub use cookie::{CookieConfig, SameSite};
pub use error::{Error, ErrorKind, Result};
pub use id::{HashFunc, SessionId, StoreKey};
pub use principal::Principal;
#[cfg(feature = "file")]
pub use provider::file::{Durability, FileProvider, FileProviderBuilder};
pub use provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed, Touched, Updated,
};
pub use record::{Meta, Record};
