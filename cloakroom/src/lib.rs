//! Sessions.
mod clock;
mod codec;
mod config;
mod cookie;
mod engine;
mod error;
mod gc;
mod id;
mod manager;
#[cfg(feature = "tower")]
mod middleware;
mod principal;
mod provider;
mod record;
mod registry;
mod session;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use clock::{Clock, ManualClock};
pub use codec::Codec;
pub use config::{Advice, Config};
pub use cookie::{CookieConfig, SameSite};
pub use error::{Error, ErrorKind, Result};
pub use gc::GcGuard;
pub use id::{HashFunc, SessionId, StoreKey};
pub use manager::{Manager, ManagerBuilder};
#[cfg(feature = "tower")]
pub use middleware::tower::{
    OnEnded, OnError, PlainErrors, RefuseEnded, ResponseFuture, SessionLayer, SessionService,
};
pub use principal::Principal;
#[cfg(feature = "file")]
pub use provider::file::{Durability, FileProvider, FileProviderBuilder};
#[cfg(feature = "memory")]
pub use provider::memory::{MemoryProvider, MemoryProviderBuilder};
pub use provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed, Touched, Updated,
};
pub use record::{Meta, Record};
pub use registry::register;
pub use session::{Released, Session, SessionHandle};
