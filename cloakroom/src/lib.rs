//! Sessions for web applications: a visitor hands in data and gets a ticket, the cookie; the data waits on the server.
//!
//! ```
//! use axum::{Router, routing::get};
//! use cloakroom::{Manager, MemoryProvider, Session, SessionLayer};
//!
//! async fn visits(session: Session) -> cloakroom::Result<String> {
//!     let n = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
//!     Ok(format!("visit {n}"))
//! }
//!
//! # fn main() -> cloakroom::Result<()> {
//! let sessions = Manager::builder(MemoryProvider::new()).build()?;
//! let app: Router = Router::new().route("/", get(visits)).layer(SessionLayer::new(sessions));
//! # Ok(()) }
//! ```
//!
//! A request that does not ask for its session costs no I/O. What a handler changes is committed before the response
//! leaves. Two requests that set different keys at the same time both keep their changes; under one key the later `set` stands,
//! and [`update`](Session::update) is atomic. A session that has ended stays ended. A store that fails is an error, never an
//! empty session.
//!
//! # The types that matter
//!
//! - [`Manager`]: the sessions of an application. From a provider's value by [`Manager::builder`], or from a provider's name and a
//!   configuration text by [`Manager::new`].
//! - [`Session`]: a visitor's session in one request: [`get`](Session::get), [`set`](Session::set),
//!   [`update`](Session::update), [`authenticate`](Session::authenticate), [`destroy`](Session::destroy).
//! - [`SessionLayer`]: the `tower` layer. Without one, [`Manager::start`] and [`Session::release`].
//! - [`Provider`]: the contract of a store; [`MemoryProvider`] and [`FileProvider`] keep it, and so can yours: see
//!   [`register`] and `conformance!`.
//! - [`KeyRing`]: the keys that seal what is stored, by [`ManagerBuilder::seal`], or what the cookie holds.
//! - [`Principal`]: the user whom a login binds, and by whom sessions are listed and ended.
//! - [`Error`], with its [`kind`](Error::kind) and the [`status`](Error::status) that a client may see.
//!
//! # Features
//!
//! A feature adds names and changes nothing else.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `memory` | yes | [`MemoryProvider`]: sessions in this process |
//! | `file` | yes | [`FileProvider`]: sessions in a folder that processes may share; Unix |
//! | `cookie` | no | [`CookieProvider`]: sessions in the visitor's cookie, sealed |
//! | `cached` | no | `Cached`: a near cache in front of any provider |
//! | `redis` | no | `RedisProvider`: sessions in Redis or Valkey, one server, with sentinels, or a cluster; Unix |
//! | `mysql` | no | `MySqlProvider`: sessions in a table of MariaDB or MySQL |
//! | `axum` | yes | [`Session`] as an argument of axum 0.8 handlers; brings `tower` |
//! | `tower` | with `axum` | [`SessionLayer`] |
//! | `csrf` | no | `CsrfLayer` and `CsrfToken`, against requests that other sites' pages send; brings `tower` |
//! | `beego` | no | sessions shared with Go: [`Codec::GOB`], and `"format": "beego"` at the string door |
//! | `testkit` | no | the conformance suite, the model test, and logged-in requests for tests |
//!
//! # What it does not do
//!
//! It checks no passwords and knows no roles: it remembers whom the application has authenticated. It is no cache, no place for
//! uploads (a session holds 64 KiB at the most unless told otherwise) and no database of users. It needs a
//! [tokio](https://docs.rs/tokio) runtime with time enabled.

mod clock;
mod codec;
pub mod config;
mod cookie;
mod engine;
mod error;
pub mod event;
mod gc;
mod id;
mod manager;
#[cfg(feature = "tower")]
pub mod middleware;
mod principal;
mod provider;
mod record;
mod registry;
pub mod seal;
pub mod session;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use clock::{Clock, ManualClock};
pub use engine::Visit;
pub use error::{Error, ErrorKind, Result};
pub use gc::GcGuard;
pub use id::SessionId;
pub use manager::{Manager, ManagerBuilder};
#[cfg(feature = "tower")]
#[doc(inline)]
pub use middleware::SessionLayer;
#[cfg(feature = "csrf")]
#[doc(inline)]
pub use middleware::{CsrfLayer, CsrfToken};
pub use principal::{Level, Principal};
pub use provider::Provider;
#[cfg(feature = "cached")]
pub use provider::cached::Cached;
#[cfg(feature = "cookie")]
pub use provider::cookie::CookieProvider;
#[cfg(all(feature = "file", unix))]
pub use provider::file::FileProvider;
#[cfg(feature = "memory")]
pub use provider::memory::MemoryProvider;
#[cfg(all(feature = "redis", unix))]
pub use provider::redis::RedisProvider;
#[cfg(feature = "mysql")]
pub use provider::sql::mysql::MySqlProvider;
pub use record::{Device, Lifetime};
pub use registry::register;
#[doc(inline)]
pub use seal::KeyRing;
#[doc(inline)]
pub use session::{Released, Session, SessionData, Typed};

/// The stores, their builders, and the contract that a store of your own implements.
///
/// Applications need [`MemoryProvider`], [`FileProvider`](crate::FileProvider) and the others, which are also at the crate's root.
/// The rest is for those who [write a provider](Provider) or walk through a store.
pub mod providers {
    pub use crate::id::StoreKey;
    #[cfg(feature = "cached")]
    pub use crate::provider::cached::{Cached, CachedBuilder};
    #[cfg(feature = "cookie")]
    pub use crate::provider::cookie::{CookieProvider, CookieProviderBuilder};
    #[cfg(all(feature = "file", unix))]
    pub use crate::provider::file::{Durability, FileProvider, FileProviderBuilder};
    #[cfg(feature = "memory")]
    pub use crate::provider::memory::{MemoryProvider, MemoryProviderBuilder};
    #[cfg(all(feature = "redis", unix))]
    pub use crate::provider::redis::{RedisProvider, RedisProviderBuilder};
    #[cfg(feature = "mysql")]
    pub use crate::provider::sql::mysql::{MySqlProvider, MySqlProviderBuilder};
    pub use crate::provider::{
        AnyProvider, Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed,
        SealedProvider, Touched, Updated, Watched, Watcher,
    };
    pub use crate::record::{Meta, Record};
}

/// Sessions shared with Go services: values, keys and cookies as Beego, scs and gorilla write them.
#[cfg(feature = "beego")]
pub mod go {
    pub use crate::codec::go::{BeegoCookies, GoSession, GoTime, go_key};
}
