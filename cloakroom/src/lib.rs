//! Sessions for Rust web applications: the data of each visitor is kept on the server, and the browser holds a cookie with an id.
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
//! Begin with [getting started](guide::getting_started). The [guide] has a chapter for each task.
//!
//! # Promises
//!
//! - **No lost changes.** Two requests that change different keys both keep their changes. [`update`](Session::update) is atomic, across
//!   processes too.
//! - **An ended session stays ended.** A slow request that finishes after a logout restores nothing and sets no cookie.
//! - **A login changes the id.** [`authenticate`](Session::authenticate) is the only way to bind a user.
//! - **A store that fails is an error** within two seconds, never an empty session.
//! - **No record and no cookie** for a visitor who sets nothing, and no I/O for a request that does not ask for its session.
//! - **Safe by default:** a `__Host-` cookie, 256-bit ids that stores see only as hashes, 30 min idle and 8 h absolute timeout.
//!
//! The [cookie provider](guide::cookie#limits) has no store and cannot keep the first two; its page says what holds instead.
//!
//! # The types that matter
//!
//! - [`Manager`] holds the store and the settings. [`Manager::builder`] takes a provider; [`Manager::new`] takes its name and a
//!   [configuration string](guide::configuration).
//! - [`Session`] is a visitor's session in one request: [`get`](Session::get), [`set`](Session::set),
//!   [`update`](Session::update), [`authenticate`](Session::authenticate), [`destroy`](Session::destroy).
//! - [`SessionLayer`](guide::frameworks) is the `tower` layer. Without it, call [`Manager::start`] and [`Session::release`], or
//!   write an adapter for [your own framework](guide::your_own_framework).
//! - [`Principal`] is the user whom a login binds. Sessions are [listed](Manager::sessions_of) and [ended](Manager::end_sessions) by it.
//! - [`Provider`] is the contract of a store. [`providers`] has the stores, and what a store [of your own](guide::writing_a_provider) needs.
//! - [`Error`] has a [`kind`](Error::kind) for code, and a [`status`](Error::status) for clients.
//!
//! Names that few applications need are in modules: [`config`], [`event`], [`mod@seal`], [`session`], [`middleware`], [`providers`], and
//! with their features `go` and `testkit`.
//!
//! # Features
//!
//! A feature adds names. It never changes what another one does.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `memory` | yes | [`MemoryProvider`](guide::memory): sessions in this process |
//! | `file` | yes | [`FileProvider`](guide::files): sessions in a folder that processes may share; Unix |
//! | `axum` | yes | [`Session`] as an [extractor](guide::frameworks#axum) of axum 0.8; brings `tower` |
//! | `tower` | with `axum` | [`SessionLayer`](guide::frameworks#tower) |
//! | `csrf` | no | [`CsrfToken`](guide::csrf), against forged requests; with `tower` also `CsrfLayer` |
//! | `redis` | no | [`RedisProvider`](guide::redis): Redis or Valkey, one server, with sentinels, or a cluster; Unix |
//! | `sqlite` | no | [`SqliteProvider`](guide::sqlite): a file of SQLite; Unix |
//! | `mysql` | no | [`MySqlProvider`](guide::mysql): a table of MariaDB or MySQL |
//! | `postgres` | no | [`PostgresProvider`](guide::postgres): a table of PostgreSQL |
//! | `cookie` | no | [`CookieProvider`](guide::cookie): sealed sessions in the visitor's cookie |
//! | `cached` | no | [`Cached`](guide::near_cache): a near cache in front of any provider |
//! | `config-string` | yes | [configuration as JSON text](guide::configuration): `Manager::new`, `register` |
//! | `beego` | no | sessions shared with Go services: [from Beego](guide::from_beego), [scs and gorilla](guide::from_go) |
//! | `from-tower-sessions` | no | live sessions moved here [from tower-sessions](guide::from_tower_sessions) and axum-login |
//! | `from-actix-session` | no | the same [from actix-session](guide::from_actix_session) and actix-identity |
//! | `from-axum-session` | no | the same [from axum_session](guide::from_axum_session) |
//! | `testkit` | no | [logged-in requests](guide::testing), and the [conformance suite](guide::writing_a_provider#4-prove-it) for providers |
//!
//! # Limits
//!
//! It checks no passwords and knows no roles: it remembers whom the application has authenticated. It is no cache and no place for
//! uploads: a session holds 64 KiB by default. It needs a [tokio](https://docs.rs/tokio) runtime with time enabled.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod codec;
pub mod config;
mod cookie;
mod engine;
mod error;
pub mod event;
mod gc;
pub mod guide;
mod head;
mod id;
mod manager;
pub mod middleware;
pub mod migration;
#[cfg(feature = "config-string")]
mod old_library;
mod principal;
mod provider;
mod record;
#[cfg(feature = "config-string")]
mod registry;
mod request;
pub mod seal;
pub mod session;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod tls;
mod visit;

pub use clock::{Clock, ManualClock};
pub use error::{Error, ErrorKind, Result};
pub use gc::GcGuard;
pub use id::SessionId;
pub use manager::{Manager, ManagerBuilder};
#[cfg(all(feature = "csrf", feature = "tower"))]
#[doc(inline)]
pub use middleware::CsrfLayer;
#[cfg(feature = "csrf")]
#[doc(inline)]
pub use middleware::CsrfToken;
#[cfg(feature = "axum")]
#[doc(inline)]
pub use middleware::LoggedIn;
#[cfg(feature = "tower")]
#[doc(inline)]
pub use middleware::{LoginLayer, SessionLayer};
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
#[cfg(feature = "postgres")]
pub use provider::sql::postgres::PostgresProvider;
#[cfg(all(feature = "sqlite", unix))]
pub use provider::sql::sqlite::SqliteProvider;
pub use record::{Device, Lifetime};
#[cfg(feature = "config-string")]
pub use registry::register;
#[doc(inline)]
pub use seal::KeyRing;
#[doc(inline)]
pub use session::{Released, Session, SessionData, Typed};
pub use visit::Visit;

/// The stores, their builders, and the contract that a store of your own implements.
///
/// The stores themselves are also at the crate's root. The rest is for those who [write a provider](crate::guide::writing_a_provider).
pub mod providers {
    pub use crate::id::StoreKey;
    #[cfg(feature = "cached")]
    pub use crate::provider::cached::{Cached, CachedBuilder};
    #[cfg(feature = "cookie")]
    pub use crate::provider::cookie::{CookieProvider, CookieProviderBuilder};
    #[cfg(all(any(feature = "file", feature = "sqlite"), unix))]
    pub use crate::provider::durability::Durability;
    #[cfg(all(feature = "file", unix))]
    pub use crate::provider::file::{FileProvider, FileProviderBuilder};
    #[cfg(feature = "memory")]
    pub use crate::provider::memory::{MemoryProvider, MemoryProviderBuilder};
    #[cfg(all(feature = "redis", unix))]
    pub use crate::provider::redis::{RedisProvider, RedisProviderBuilder};
    #[cfg(feature = "mysql")]
    pub use crate::provider::sql::mysql::{MySqlProvider, MySqlProviderBuilder};
    #[cfg(feature = "postgres")]
    pub use crate::provider::sql::postgres::{PostgresProvider, PostgresProviderBuilder};
    #[cfg(all(feature = "sqlite", unix))]
    pub use crate::provider::sql::sqlite::{SqliteProvider, SqliteProviderBuilder};
    pub use crate::provider::{
        AnyProvider, Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed,
        SealedProvider, SealedTokens, Touched, Updated, Watched, Watcher,
    };
    pub use crate::record::{IndexEntry, IndexKind, Label, Meta, Record};
}

/// Sessions shared with Go services: values, keys and cookies as Beego, scs and gorilla write them.
#[cfg(feature = "beego")]
pub mod go {
    pub use crate::codec::go::{BeegoCookies, GoSession, GoTime, go_key};
}
