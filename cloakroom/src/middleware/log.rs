//! Where errors that become responses are logged: once, and at a level that strangers cannot abuse.

use crate::error::{Error, ErrorKind};

impl Error {
    /// Logs `what` went wrong and why, unless this error was logged before.
    #[cold]
    pub(crate) fn log(&mut self, what: &str) {
        if !self.begin_to_log() {
            return;
        }
        let error = &*self;
        match self.kind() {
            // Any visitor who is not logged in can cause this, and mostly it is no fault at all.
            ErrorKind::Denied => tracing::debug!(%error, "{what}"),
            // A flood of new visitors fills the store; the answer is 503 all the same.
            ErrorKind::Full => tracing::info!(%error, "{what}"),
            _ if self.status().is_server_error() => tracing::error!(%error, "{what}"),
            _ => tracing::info!(%error, "{what}"),
        }
    }

    /// [`log`](Self::log) of an error on its way to become a response.
    #[cfg(feature = "axum")]
    pub(super) fn logged(mut self, what: &str) -> Self {
        self.log(what);
        self
    }
}
