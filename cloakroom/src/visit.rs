//! The head of a request, as callbacks of the application see it.

use std::fmt;

use http::{Extensions, HeaderMap};

/// The head of a request: its headers, and what outer layers have put beside them.
///
/// [`ManagerBuilder::admit`](crate::ManagerBuilder::admit) decides by it whether an anonymous session may begin. A
/// [migration](crate::migration) finds another library's cookie in it.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, Visit};
///
/// let sessions = Manager::builder(MemoryProvider::new())
///     .admit(|visit: &Visit| !visit.headers().contains_key("x-bot"))
///     .build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
pub struct Visit {
    headers: HeaderMap,
    extensions: Extensions,
}

impl Visit {
    /// Copies the head of a request, for tests of callbacks.
    ///
    /// ```
    /// use cloakroom::Visit;
    /// use http::{Extensions, HeaderMap};
    ///
    /// let visit = Visit::new(HeaderMap::new(), Extensions::new());
    /// assert!(visit.headers().is_empty());
    /// ```
    pub fn new(headers: HeaderMap, extensions: Extensions) -> Self {
        Visit { headers, extensions }
    }

    /// Returns the request's headers.
    ///
    /// ```
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider, Visit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .admit(|visit: &Visit| visit.headers().contains_key("user-agent"))
    ///     .build()?;
    /// let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Throttled);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the request's extensions. Layers outside the session layer may have put the client's address there. Without the
    /// session layer they are empty.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider, Visit};
    /// use std::net::IpAddr;
    ///
    /// /// The client's address, which a layer of the application takes from the proxy's header.
    /// #[derive(Clone)]
    /// struct Client(IpAddr);
    ///
    /// let blocked: IpAddr = "203.0.113.7".parse()?;
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .admit(move |visit: &Visit| visit.extensions().get::<Client>().is_none_or(|client| client.0 != blocked))
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").finish_non_exhaustive()
    }
}
