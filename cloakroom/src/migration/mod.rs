//! Sessions of another library, moved to this one's store when their visitors come.
//!
//! [`ManagerBuilder::migrate_from`](crate::ManagerBuilder::migrate_from) takes a reader of the old sessions. A visitor who presents the
//! old cookie is looked up in the old store. The session becomes a native one under a new id, the response sets this library's cookie,
//! and the old record is deleted. Nobody is logged out.
//!
//! | old library | feature | reader |
//! |---|---|---|
//! | tower-sessions, axum-login | `from-tower-sessions` | [`TowerSessions`](crate::guide::from_tower_sessions) |
//! | actix-session, actix-identity | `from-actix-session` | [`ActixSessions`](crate::guide::from_actix_session) |
//! | axum_session | `from-axum-session` | [`AxumSessions`](crate::guide::from_axum_session) |
//! | Beego | `beego` | [`connect_beego`](crate::guide::from_beego) of a provider |
//!
//! [`OldSessions`] is the contract of a reader. Implement it for sessions of your own making:
//!
//! ```
//! use cloakroom::migration::{MigrationSource, OldId, OldIds, OldSession, OldSessions};
//! use cloakroom::{Manager, MemoryProvider, Principal, Result, Visit};
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//! use std::time::{Duration, SystemTime};
//!
//! /// The sessions of an old application: a user's name under a random text, which the cookie `sid` holds.
//! struct Homemade(Mutex<HashMap<String, String>>);
//!
//! impl OldSessions for Homemade {
//!     fn find(&self, request: &Visit) -> OldIds {
//!         let mut found = OldIds::default();
//!         for header in request.headers().get_all("cookie") {
//!             for pair in header.to_str().unwrap_or_default().split(';') {
//!                 if let Some(id) = pair.trim().strip_prefix("sid=") {
//!                     found.push(OldId::new(id));
//!                 }
//!             }
//!         }
//!         found
//!     }
//!
//!     async fn load(&self, id: &OldId) -> Result<Option<OldSession>> {
//!         let Some(user) = self.0.lock().unwrap().get(id.as_str()).cloned() else { return Ok(None) };
//!         let mut session = OldSession::new(SystemTime::now() + Duration::from_secs(3600));
//!         session.set_principal(Principal::new(user)?);
//!         Ok(Some(session))
//!     }
//!
//!     async fn delete(&self, id: &OldId) -> Result<bool> {
//!         Ok(self.0.lock().unwrap().remove(id.as_str()).is_some())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let old = Homemade(Mutex::new(HashMap::from([("f00d".into(), "alice".into())])));
//! let sessions = Manager::builder(MemoryProvider::new()).migrate_from(MigrationSource::new(old)).build()?;
//!
//! let mut request = http::HeaderMap::new();
//! request.insert("cookie", "sid=f00d".parse().unwrap());
//! let session = sessions.start(&request).await?;
//! assert_eq!(session.principal().unwrap().as_str(), "alice");
//!
//! let mut response = http::HeaderMap::new();
//! let _ = session.release(&mut response).await?;
//! assert!(response["set-cookie"].to_str().unwrap().starts_with("__Host-id="));
//! # Ok::<(), cloakroom::Error>(()) }).unwrap();
//! ```

#[cfg(feature = "from-actix-session")]
mod actix_session;
mod adjusted;
#[cfg(feature = "from-axum-session")]
mod axum_session;
#[cfg(any(feature = "from-actix-session", feature = "from-axum-session", feature = "from-tower-sessions"))]
mod cookies;
mod id;
mod session;
mod source;
mod store;
#[cfg(feature = "from-tower-sessions")]
mod tower_sessions;
#[cfg(any(feature = "from-actix-session", feature = "from-axum-session", feature = "from-tower-sessions"))]
mod values;

use std::future::Future;

use crate::error::Result;
use crate::visit::Visit;

#[cfg(feature = "from-actix-session")]
pub use actix_session::ActixSessions;
pub use adjusted::Adjusted;
#[cfg(feature = "from-axum-session")]
pub use axum_session::AxumSessions;
#[cfg(any(
    feature = "from-actix-session",
    feature = "from-axum-session",
    feature = "from-tower-sessions"
))]
pub use cookies::CookieKey;
pub use id::{OldId, OldIds};
pub use session::OldSession;
pub use source::MigrationSource;
#[allow(unused_imports, reason = "the SQL providers use it, and they are features")]
pub(crate) use store::OldColumns;
pub use store::{OldBytes, OldRecords, OldStore, OldTable};
#[cfg(feature = "from-tower-sessions")]
pub use tower_sessions::{AxumLogin, TowerSessions};

/// A reader of another library's sessions.
///
/// The manager keeps the rules of a move; a reader only finds, loads and deletes:
///
/// - A request whose own session is alive is never looked up here.
/// - Of several requests with one old id, one moves the session. The others find it under its new id.
/// - The old id is blocked in the manager's store until [`OldSession::expires`], so a record that could not be deleted, or a copy of
///   a cookie, brings nothing back.
/// - The client is sent its new id with every response until it presents that.
pub trait OldSessions: Send + Sync + 'static {
    /// Returns the ids that the old library would accept from a request. It does no I/O.
    ///
    /// It checks signatures and lengths. A value that fails is [rejected](OldIds::reject), so that it becomes an event.
    fn find(&self, request: &Visit) -> OldIds;

    /// Returns the session under `id`; `None` if the old store has none or it has expired.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for stored bytes that cannot be read: the visitor is anonymous, and an event
    /// is reported. Any other error fails the request, so that an outage logs nobody out.
    fn load(&self, id: &OldId) -> impl Future<Output = Result<Option<OldSession>>> + Send;

    /// Deletes the session under `id`. Returns true if the old store had it.
    ///
    /// A failed delete is tried again by later requests and by garbage collection.
    fn delete(&self, id: &OldId) -> impl Future<Output = Result<bool>> + Send;

    /// Passes every session through `adjust` before it is moved: to bind its user, to give it a lifetime, or to leave it behind.
    ///
    /// A session for which `adjust` returns `None` is not moved, and its visitor is anonymous. An error fails the request.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, migration::OldSessions};
    /// # fn show(old: impl OldSessions) -> cloakroom::Result<Manager> {
    /// let old = old.adjusted_by(|mut session| async move {
    ///     session.set_principal_from("user_id");
    ///     session.remember();
    ///     Ok(Some(session))
    /// });
    /// Manager::builder(MemoryProvider::new()).migrate_from(old).build()
    /// # }
    /// ```
    fn adjusted_by<F>(self, adjust: impl Fn(OldSession) -> F + Send + Sync + 'static) -> Adjusted<Self>
    where
        Self: Sized,
        F: Future<Output = Result<Option<OldSession>>> + Send + 'static,
    {
        Adjusted::new(self, adjust)
    }
}
