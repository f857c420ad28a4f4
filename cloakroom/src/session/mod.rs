//! A visitor's session in one request: its data, its user, its lifetime and its id.
//!
//! | type | stands for |
//! |---|---|
//! | [`Session`] | the session in one request; the extractor and [`Manager::start`](crate::Manager::start) return it |
//! | [`SessionData`], [`Typed`] | a struct with a version, kept under one key |
//! | [`Flash`] | a message for the next page |
//! | [`SessionHandle`] | a session that nobody has asked for yet; the middleware puts it into the request |
//! | [`Released`] | what a commit has done |
//! | [`Outcome`], [`Replacement`] | the response after a commit, for [adapters](crate::middleware) |
//!
//! A handler calls [`Session::get`] and [`Session::set`] without waiting, since the record is already loaded. Changes are collected
//! in the request and committed together. The chapters [concepts](crate::guide::concepts) and [data](crate::guide::data) explain
//! the rest.

mod data;
mod denied;
mod flash;
mod form_secret;
mod handle;
mod response;
mod typed;
mod user;
mod watch;

use std::fmt;
use std::sync::Arc;

use crate::request::Exchange;
pub use crate::request::Released;
use denied::Denied;
pub use flash::Flash;
#[allow(unused_imports, reason = "the protection against forged requests uses it, and it is a feature")]
pub(crate) use form_secret::FormSecrets;
pub use handle::SessionHandle;
pub use response::{Outcome, Replacement};
pub use typed::{Fields, SessionData, Typed};

/// A visitor's session in one request.
///
/// A `Session` is a cheap clone of one shared handle. Reads and changes do not wait: the record was loaded when the session was
/// asked for. Changes are kept apart from the record until they are committed. The middleware commits them with
/// [`release`](Self::release) before the response head leaves. [`save`](Self::save) commits them at once. If another request
/// changed the session meanwhile, the changes are replayed on the newest record. So two requests that write different keys both
/// keep their changes.
///
/// A visitor who brings no live session gets an empty one. It has neither a record nor a cookie before the first change.
///
/// ```
/// # use cloakroom::{Manager, MemoryProvider, Released};
/// # use http::HeaderMap;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let (request, mut response) = (HeaderMap::new(), HeaderMap::new());
///
/// let session = sessions.start(&request).await?;
/// let visits = session.get::<u64>("visits")?.unwrap_or(0) + 1;
/// session.set("visits", visits)?;
/// assert_eq!(session.release(&mut response).await?, Released::Created);
/// assert!(response["set-cookie"].to_str().unwrap().starts_with("__Host-id="));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// # Methods by task
///
/// | you want to | call |
/// |---|---|
/// | read or write a value | [`get`](Self::get), [`set`](Self::set), [`delete`](Self::delete) |
/// | count, or change a value that others change too | [`update`](Self::update), [`try_update`](Self::try_update) |
/// | keep a struct | [`typed`](Self::typed) |
/// | log a user in or out | [`authenticate`](Self::authenticate), [`destroy`](Self::destroy) |
/// | check who it is before a step | [`principal`](Self::principal), [`require_level`](Self::require_level), [`require_recent`](Self::require_recent) |
/// | show a message after a redirect | [`flash`](Self::flash), [`take_flashes`](Self::take_flashes) |
/// | keep the session longer or shorter | [`set_lifetime`](Self::set_lifetime), [`end_by`](Self::end_by) |
/// | store before the response | [`save`](Self::save) |
/// | follow the session from a socket | [`revoked`](Self::revoked), [`reload`](Self::reload) |
///
/// # See also
///
/// - **Log out everywhere:** [`Manager::end_sessions`](crate::Manager::end_sessions) ends every session of a user, and
///   [`Manager::end_other_sessions`](crate::Manager::end_other_sessions) all but this one: [users](crate::guide::users#log-out).
/// - **WebSockets, streams and jobs:** [`Manager::session`](crate::Manager::session) gives a handle that outlives the request:
///   [sockets](crate::guide::sockets).
/// - **Structs and messages:** [data](crate::guide::data).
/// - **Timeouts, and requests that come too late:** [lifetimes](crate::guide::lifetimes).
pub struct Session(pub(crate) Arc<Exchange>, Origin);

/// The source of a `Session`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Handed out to the code that asked for the session.
    Asked,
    /// Cloned from another one.
    Cloned,
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Session(Arc::clone(&self.0), Origin::Cloned)
    }
}

impl Drop for Session {
    /// Drops the changes of a handler that panics. A layer inside the session layer may catch the panic and answer as if the
    /// handler had succeeded. A clone may belong to another task, whose panic is not the handler's.
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() && self.1 == Origin::Asked {
            self.0.roll_back();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stored", &self.0.stored(|_| ()).is_some()).finish_non_exhaustive()
    }
}
