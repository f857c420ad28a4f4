//! The handle by which the middleware and the extractors reach a request's session.

use std::fmt;
use std::sync::Arc;

use super::Session;
use crate::error::Result;
use crate::request::Exchange;

/// A request's session before anyone has asked for it: in the request's extensions, put there by the middleware.
///
/// Nothing has been read. [`load`](Self::load) does that, once a request however often it is called.
#[derive(Clone)]
pub struct SessionHandle(pub(crate) Arc<Exchange>);

impl SessionHandle {
    /// The session, read from the provider at the first call.
    ///
    /// # Errors
    /// Those of the provider: [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout),
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible). Never an empty
    /// session instead.
    pub async fn load(&self) -> Result<Session> {
        match self.load_at_once() {
            Some(loaded) => loaded,
            None => self.load_waiting().await,
        }
    }

    /// Loads the session by awaiting the provider, where [`load_at_once`](Self::load_at_once) does not do.
    pub(crate) async fn load_waiting(&self) -> Result<Session> {
        // Boxed, since it is large, and so would be every future that loads a session.
        Box::pin(self.0.load_waiting()).await.map(|()| Session::new(Arc::clone(&self.0)))
    }

    /// [`load`](Self::load) where nobody has to wait for it.
    #[inline]
    pub(crate) fn load_at_once(&self) -> Option<Result<Session>> {
        let loaded = self.0.load_at_once()?;
        Some(loaded.map(|()| Session::new(Arc::clone(&self.0))))
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionHandle")
    }
}
