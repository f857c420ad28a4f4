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
mod config;
mod cookie;
mod engine;
mod error;
mod event;
mod gc;
mod id;
mod manager;
#[cfg(feature = "tower")]
mod middleware;
mod principal;
mod provider;
mod record;
mod registry;
mod seal;
mod session;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use clock::{Clock, ManualClock};
pub use codec::Codec;
#[cfg(feature = "beego")]
pub use codec::go::{BeegoCookies, GoSession};
#[cfg(feature = "beego")]
pub use codec::gob::{GoTime, go_key};
pub use config::{Advice, Config, Format, OverLimit, Policy};
pub use cookie::{CookieConfig, SameSite};
pub use engine::Visit;
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind, EventListener, IdHash};
pub use gc::GcGuard;
pub use id::{HashFunc, SessionId, StoreKey};
pub use manager::{Manager, ManagerBuilder};
#[cfg(feature = "csrf")]
pub use middleware::csrf::{CsrfBody, CsrfFuture, CsrfLayer, CsrfService, CsrfToken};
#[cfg(feature = "tower")]
pub use middleware::tower::{
    OnEnded, OnError, PlainErrors, RefuseEnded, ResponseFuture, SessionLayer, SessionService,
};
pub use principal::{Level, Principal};
#[cfg(feature = "cached")]
pub use provider::cached::{Cached, CachedBuilder};
#[cfg(feature = "cookie")]
pub use provider::cookie::{CookieProvider, CookieProviderBuilder};
#[cfg(all(feature = "file", unix))]
pub use provider::file::{Durability, FileProvider, FileProviderBuilder};
#[cfg(feature = "memory")]
pub use provider::memory::{MemoryProvider, MemoryProviderBuilder};
#[cfg(all(feature = "redis", unix))]
pub use provider::redis::{RedisProvider, RedisProviderBuilder};
#[cfg(feature = "mysql")]
pub use provider::sql::mysql::{MySqlProvider, MySqlProviderBuilder};
pub use provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed, SealedProvider,
    Touched, Updated, Watched, Watcher,
};
pub use record::{Device, Lifetime, Meta, Record};
pub use registry::register;
pub use seal::{KeyId, KeyRing, SealKey};
pub use session::{Fields, Flash, Released, Session, SessionData, SessionHandle, Typed};
