//! Logs of errors that become responses: once each, and at a level that visitors cannot abuse to fill the log.

use crate::error::{Error, ErrorKind};

impl Error {
    /// Logs `what` failed and why, unless this error was logged before.
    #[cold]
    pub(crate) fn log(&mut self, what: &str) {
        if !self.begin_to_log() {
            return;
        }
        let error = &*self;
        match self.kind() {
            // Every visitor who is not logged in can cause this. Usually nothing is wrong.
            ErrorKind::Denied => tracing::debug!(%error, "{what}"),
            // A flood of new visitors can fill the store. The response is 503 all the same.
            ErrorKind::Full => tracing::info!(%error, "{what}"),
            _ if self.status().is_server_error() => tracing::error!(%error, "{what}"),
            _ => tracing::info!(%error, "{what}"),
        }
    }

    /// Logs an error that becomes a response, as [`log`](Self::log) does, and returns it.
    #[cfg(feature = "axum")]
    pub(super) fn logged(mut self, what: &str) -> Self {
        self.log(what);
        self
    }
}
