//! One connection to a server. Many calls share it at a time, and it records its own health.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::atomic_instant::AtomicInstant;
use super::error::StoreError;
use super::failure::{Failure, first_error};

/// A connection that many calls share.
///
/// Replies arrive in the order of the commands. The reply to a call that was dropped is read and discarded, so no call
/// receives the reply to another one.
pub(super) struct RedisConnection {
    inner: MultiplexedConnection,
    driver: AbortHandle,
    health: Arc<Health>,
    /// Counts the connection against the limit of its pool.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// Commands that are sent together.
pub(super) enum Commands {
    /// The usual case. It costs less than a pipeline of one command.
    One(Cmd),
    Several(Pipeline),
}

impl Commands {
    /// Returns the same commands after `ASKING`, which a node of a cluster requires while it imports the slot.
    pub(super) fn with_asking(&self) -> Commands {
        let mut asking = Pipeline::new();
        asking.cmd("ASKING");
        match self {
            Commands::One(command) => {
                asking.add_command(command.clone());
            }
            Commands::Several(commands) => {
                for command in commands.cmd_iter() {
                    asking.add_command(command.clone());
                }
            }
        }
        Commands::Several(asking)
    }
}

/// The health of a connection. Its calls and its stream both update it.
pub(super) struct Health {
    closed: AtomicBool,
    checking: AtomicBool,
    /// The number of calls that wait for a reply.
    pending: AtomicUsize,
    /// The start of the first call since the last byte was read. Dropped calls count, since their replies are read too.
    unanswered_since: AtomicInstant,
    last_use: AtomicInstant,
}

impl Health {
    pub(super) fn new() -> Arc<Health> {
        let health = Health {
            closed: AtomicBool::new(false),
            checking: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
            unanswered_since: AtomicInstant::none(),
            last_use: AtomicInstant::none(),
        };
        health.last_use.set(Instant::now());
        Arc::new(health)
    }

    /// Records that the server has sent something.
    pub(super) fn note_bytes_read(&self) {
        self.unanswered_since.clear();
    }
}

/// Marks the connection as closed when its task ends, also when a runtime that shuts down drops the task.
struct CloseOnDrop(Arc<Health>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }
}

/// The right to check whether a silent connection is dead. One task at a time holds it.
pub(super) struct LivenessCheck(Arc<Health>);

impl Drop for LivenessCheck {
    fn drop(&mut self) {
        self.0.checking.store(false, Ordering::SeqCst);
    }
}

impl RedisConnection {
    /// Spawns the task that drives the connection on the current runtime.
    pub(super) fn new(
        inner: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
        health: Arc<Health>,
    ) -> RedisConnection {
        let close = CloseOnDrop(Arc::clone(&health));
        let driver = tokio::spawn(async move {
            let _close = close;
            driver.await;
        });
        RedisConnection { inner, driver: driver.abort_handle(), health, permit: Mutex::new(None) }
    }

    pub(super) fn attach_permit(&self, permit: OwnedSemaphorePermit) {
        *self.permit.lock() = Some(permit);
    }

    /// Sends `commands` and waits for their replies. `now` is the current time.
    ///
    /// An error reply of the server is a reply. Any other failure closes the connection.
    pub(super) async fn call(&self, commands: &Commands, now: Instant) -> RedisResult<Vec<Value>> {
        let _waiting = PendingCall::begin(&self.health, now);
        let mut inner = self.inner.clone();
        let answer = match commands {
            Commands::One(command) => inner.send_packed_command(command).await.map(|answer| vec![answer]),
            Commands::Several(commands) => inner.send_packed_commands(commands, 0, commands.len()).await,
        };
        if answer.as_ref().is_err_and(|error| error.code().is_none()) {
            self.close();
        }
        answer
    }

    /// Returns the reply to one command within `limit`. An error reply is an error.
    pub(super) async fn ask(&self, command: Cmd, limit: Duration) -> Result<Value, StoreError> {
        let answers = self.ask_all(&Commands::One(command), limit).await?;
        let answers = first_error(answers).map_err(Failure::into_error)?;
        answers.into_iter().next().ok_or(StoreError::Form { expected: "a reply" })
    }

    /// Returns the replies to several commands within `limit`. An error reply is a reply.
    pub(super) async fn ask_all(
        &self,
        commands: &Commands,
        limit: Duration,
    ) -> Result<Vec<Value>, StoreError> {
        match tokio::time::timeout(limit, self.call(commands, Instant::now())).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => Err(StoreError::of_call(&error)),
            Err(_) => Err(StoreError::Late { limit }),
        }
    }

    /// Subscribes to `channel`. The messages go to the sender that the connection was opened with.
    pub(super) async fn subscribe(&self, channel: &str, limit: Duration) -> Result<(), StoreError> {
        let mut inner = self.inner.clone();
        match tokio::time::timeout(limit, inner.subscribe(channel)).await {
            Ok(subscribed) => subscribed.map_err(|error| StoreError::of_call(&error)),
            Err(_) => Err(StoreError::Late { limit }),
        }
    }

    /// Returns the number of calls that wait for a reply.
    pub(super) fn pending_calls(&self) -> usize {
        self.health.pending.load(Ordering::SeqCst)
    }

    /// Returns true if it is open and was used within the last `idle`.
    pub(super) fn is_usable(&self, now: Instant, idle: Option<Duration>) -> bool {
        let stale =
            idle.is_some_and(|idle| self.pending_calls() == 0 && self.health.last_use.is_past(now, idle));
        !self.is_closed() && !stale
    }

    pub(super) fn is_closed(&self) -> bool {
        self.health.closed.load(Ordering::SeqCst)
    }

    /// Returns true if a call has waited for `time` or longer, and nothing was read since it began.
    pub(super) fn is_silent(&self, now: Instant, time: Duration) -> bool {
        self.health.unanswered_since.is_past(now, time)
    }

    /// Records that a call waits for a reply. The silence begins now, unless an earlier call waits too.
    pub(super) fn expect_answer(&self, now: Instant) {
        self.health.unanswered_since.set_if_none(now);
    }

    /// Returns the right to check whether the connection is dead, or `None` while another task has it.
    pub(super) fn begin_liveness_check(&self) -> Option<LivenessCheck> {
        let taken = self.health.checking.swap(true, Ordering::SeqCst);
        (!taken).then(|| LivenessCheck(Arc::clone(&self.health)))
    }

    /// Closes the connection at once. Calls that wait for a reply fail.
    pub(super) fn close(&self) {
        self.health.closed.store(true, Ordering::SeqCst);
        self.driver.abort();
        self.permit.lock().take();
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.close();
    }
}

/// Counts a call as pending for as long as its caller waits for the reply.
struct PendingCall<'a>(&'a Health);

impl<'a> PendingCall<'a> {
    fn begin(health: &'a Health, now: Instant) -> PendingCall<'a> {
        health.pending.fetch_add(1, Ordering::SeqCst);
        health.unanswered_since.set_if_none(now);
        health.last_use.set(now);
        PendingCall(health)
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}
