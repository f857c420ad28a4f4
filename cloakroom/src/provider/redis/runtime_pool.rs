//! The connections of one tokio runtime to a server.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Id;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::RedisConnection;

/// The number of concurrent calls on each connection before another connection is opened.
const CALLS_BEFORE_ANOTHER: usize = 32;

/// The connections of one runtime. A connection works only while its runtime does, so no other runtime uses it.
pub(super) struct RuntimePool {
    pub(super) runtime: Id,
    pub(super) connections: Vec<Arc<RedisConnection>>,
    /// One permit for each connection that may be open.
    pub(super) permits: Arc<Semaphore>,
    /// Held while a connection is being opened, so that callers do not all connect at once when a server comes back.
    pub(super) opening: Arc<tokio::sync::Mutex<()>>,
}

/// The limits past which a connection is no longer used.
#[derive(Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// The longest time without a reply while calls wait.
    pub(super) silence: Duration,
    /// The longest time without a call.
    pub(super) idle: Option<Duration>,
}

/// The result of looking for a connection.
pub(super) enum Selection {
    Ready(Arc<RedisConnection>),
    /// It can be used, but a further connection would be faster.
    Busy(Arc<RedisConnection>),
    None,
}

impl RuntimePool {
    pub(super) fn new(runtime: Id, most: usize) -> RuntimePool {
        RuntimePool {
            runtime,
            connections: Vec::new(),
            permits: Arc::new(Semaphore::new(most)),
            opening: Arc::default(),
        }
    }

    /// Returns the usable connection with the fewest pending calls. Closes those that are no longer usable.
    pub(super) fn select(&mut self, now: Instant, limits: ConnectionLimits) -> Selection {
        let ConnectionLimits { silence, idle } = limits;
        // Calls wait on a silent connection: they check it themselves (`ServerPool::check_liveness`).
        let usable = |connection: &Arc<RedisConnection>| {
            connection.is_usable(now, idle)
                && (connection.pending_calls() > 0 || !connection.is_silent(now, silence))
        };
        if !self.connections.iter().all(usable) {
            self.connections
                .extract_if(.., |connection| !usable(connection))
                .for_each(|connection| connection.close());
        }
        let select = self
            .connections
            .iter()
            .min_by_key(|connection| (connection.is_silent(now, silence), connection.pending_calls()));
        let Some(select) = select.map(Arc::clone) else { return Selection::None };
        if self.permits.available_permits() == 0 {
            return Selection::Ready(select);
        }
        if select.is_silent(now, silence) {
            return Selection::None;
        }
        if select.pending_calls() < CALLS_BEFORE_ANOTHER {
            Selection::Ready(select)
        } else {
            Selection::Busy(select)
        }
    }

    /// Returns true if all connections are closed and none is being opened.
    pub(super) fn is_unused(&self) -> bool {
        self.connections.iter().all(|connection| connection.is_closed())
            && Arc::strong_count(&self.permits) == 1
            && Arc::strong_count(&self.opening) == 1
    }

    pub(super) fn close(&mut self) {
        for connection in self.connections.drain(..) {
            connection.close();
        }
    }
}
