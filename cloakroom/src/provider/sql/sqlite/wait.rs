//! The time limit of a call.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;

use super::error::SqliteError;
use crate::provider::sql::step::{DeadlineError, within};

impl DeadlineError for SqliteError {
    fn timeout(limit: Duration) -> Self {
        SqliteError::Timeout { limit }
    }
}

/// Awaits `call` within `limit`. Without tokio there is no timer, and the thread that answers keeps the limit.
pub(super) async fn bounded<T>(
    limit: Option<Duration>,
    call: impl Future<Output = Result<T, SqliteError>>,
) -> Result<T, SqliteError> {
    match Handle::try_current() {
        Ok(_) => within(limit, call).await,
        Err(_) => call.await,
    }
}
