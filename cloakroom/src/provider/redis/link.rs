//! One connection, shared by many calls at a time, and what is known of its health.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A connection. Calls share it: replies come in the order of the commands, and that of a call which nobody waits for any more is
/// read and dropped, so that none is ever taken for another's.
pub(super) struct Link {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    health: Arc<Health>,
    /// Its place among the connections there may be.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

struct Health {
    closed: AtomicBool,
    /// Calls that wait for a reply.
    waiting: AtomicUsize,
    /// Since when there has been something to wait for and no reply; a call that was given up still counts.
    silent_since: Mutex<Option<Instant>>,
    last_use: Mutex<Instant>,
}

impl Link {
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Link {
        let health = Arc::new(Health {
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            silent_since: Mutex::new(None),
            last_use: Mutex::new(Instant::now()),
        });
        let at_end = Arc::clone(&health);
        let driver = tokio::spawn(async move {
            driver.await;
            at_end.closed.store(true, Ordering::SeqCst);
        });
        Link { connection, driver: driver.abort_handle(), health, permit: Mutex::new(None) }
    }

    pub(super) fn hold(&self, permit: OwnedSemaphorePermit) {
        *self.permit.lock() = Some(permit);
    }

    /// Sends `commands` and waits for their replies.
    pub(super) async fn call(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let _waiting = Waiting::begin(&self.health);
        let answer = self.connection.clone().send_packed_commands(commands, 0, commands.len()).await;
        self.health.heard();
        answer
    }

    /// Calls that wait for a reply now.
    pub(super) fn load(&self) -> usize {
        self.health.waiting.load(Ordering::SeqCst)
    }

    /// Whether the next call may have it: the server has not closed it, has not been silent for `patience` while there was something
    /// to answer, and it has not lain idle for `idle`.
    pub(super) fn is_usable(&self, now: Instant, patience: Duration, idle: Option<Duration>) -> bool {
        let since_use = || now.saturating_duration_since(*self.health.last_use.lock());
        let stale = idle.is_some_and(|idle| self.load() == 0 && since_use() >= idle);
        !self.health.closed.load(Ordering::SeqCst) && !self.is_silent(now, patience) && !stale
    }

    /// Whether there has been something to answer for so long by `now`, and no answer.
    pub(super) fn is_silent(&self, now: Instant, time: Duration) -> bool {
        let since = *self.health.silent_since.lock();
        since.is_some_and(|since| now.saturating_duration_since(since) >= time)
    }

    /// Closes it at once. Calls that wait for a reply fail.
    pub(super) fn close(&self) {
        self.health.closed.store(true, Ordering::SeqCst);
        self.driver.abort();
        self.permit.lock().take();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Health {
    fn heard(&self) {
        // Replies come in order: whoever waits still, waits from now on.
        let others = self.waiting.load(Ordering::SeqCst) > 1;
        *self.silent_since.lock() = others.then(Instant::now);
    }
}

/// Counts a call for as long as somebody waits for it.
struct Waiting<'a>(&'a Health);

impl<'a> Waiting<'a> {
    fn begin(health: &'a Health) -> Waiting<'a> {
        let now = Instant::now();
        health.waiting.fetch_add(1, Ordering::SeqCst);
        health.silent_since.lock().get_or_insert(now);
        *health.last_use.lock() = now;
        Waiting(health)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
