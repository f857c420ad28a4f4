//! The handle by which the middleware and the extractors reach a request's session.

use std::fmt;
use std::sync::Arc;

use super::Session;
use crate::error::Result;
use crate::request::Exchange;

/// A request's session that nobody has asked for yet. The middleware puts it into the request's extensions.
///
/// Nothing has been read. [`load`](Self::load) reads the record once per request, however often it is called. Extractors of other
/// frameworks are built on it.
#[derive(Clone)]
pub struct SessionHandle(pub(crate) Arc<Exchange>);

impl SessionHandle {
    /// Returns the session. The first call reads it from the provider.
    ///
    /// # Errors
    /// A failure is an error, never an empty session. The kinds are those of the provider:
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout),
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible).
    pub async fn load(&self) -> Result<Session> {
        self.0.load().await.map(|_| self.loaded())
    }

    /// Returns the session, which was loaded.
    #[inline]
    pub(crate) fn loaded(&self) -> Session {
        Session::new(Arc::clone(&self.0))
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionHandle")
    }
}
