//! One connection, shared by many calls at a time, and its health.

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

use super::error::StoreError;
use super::failure::{Failure, first_error};
use super::moment::Moment;

/// A connection. Calls share it: replies come in the order of the commands, and the reply to a call that was dropped is
/// read and thrown away, so that none is ever taken for another's.
pub(super) struct Link {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    health: Arc<Health>,
    /// Its place among the connections there may be.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What is sent at once.
pub(super) enum Commands {
    /// The usual case, which is less work.
    One(Cmd),
    Several(Pipeline),
}

impl Commands {
    /// The same for a node of a cluster that is importing the slot.
    pub(super) fn after_asking(&self) -> Commands {
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

/// The health of a connection, which its stream keeps up to date as well.
pub(super) struct Health {
    closed: AtomicBool,
    judged: AtomicBool,
    /// Calls that wait for a reply.
    waiting: AtomicUsize,
    /// When the first call began after the last byte had been read. A call that was dropped counts: its reply is read all the same.
    unanswered_since: Moment,
    last_use: Moment,
}

impl Health {
    pub(super) fn new() -> Arc<Health> {
        let health = Health {
            closed: AtomicBool::new(false),
            judged: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            unanswered_since: Moment::none(),
            last_use: Moment::none(),
        };
        health.last_use.set(Instant::now());
        Arc::new(health)
    }

    /// The server has sent something.
    pub(super) fn heard(&self) {
        self.unanswered_since.clear();
    }
}

/// Marks the connection as closed when its task ends, however that happens: a runtime that shuts down drops its tasks.
struct Ended(Arc<Health>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }
}

/// Held by the one who finds out whether a silent connection is dead.
pub(super) struct Judging(Arc<Health>);

impl Drop for Judging {
    fn drop(&mut self) {
        self.0.judged.store(false, Ordering::SeqCst);
    }
}

impl Link {
    /// Drives the connection by a task of the current runtime.
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
        health: Arc<Health>,
    ) -> Link {
        let ended = Ended(Arc::clone(&health));
        let driver = tokio::spawn(async move {
            let _ended = ended;
            driver.await;
        });
        Link { connection, driver: driver.abort_handle(), health, permit: Mutex::new(None) }
    }

    pub(super) fn hold(&self, permit: OwnedSemaphorePermit) {
        *self.permit.lock() = Some(permit);
    }

    /// Sends `commands` at `now`, and waits for their replies; a server's error is one. Whatever else goes wrong closes the
    /// connection.
    pub(super) async fn call(&self, commands: &Commands, now: Instant) -> RedisResult<Vec<Value>> {
        let _waiting = Waiting::begin(&self.health, now);
        let mut connection = self.connection.clone();
        let answer = match commands {
            Commands::One(command) => {
                connection.send_packed_command(command).await.map(|answer| vec![answer])
            }
            Commands::Several(commands) => connection.send_packed_commands(commands, 0, commands.len()).await,
        };
        if answer.as_ref().is_err_and(|error| error.code().is_none()) {
            self.close();
        }
        answer
    }

    /// The answer to one command, within `limit`; a server's error is an error.
    pub(super) async fn ask(&self, command: Cmd, limit: Duration) -> Result<Value, StoreError> {
        let answers = self.ask_all(&Commands::One(command), limit).await?;
        let answers = first_error(answers).map_err(Failure::into_error)?;
        answers.into_iter().next().ok_or(StoreError::Form { expected: "a reply" })
    }

    /// The answers to several commands, within `limit`; a server's error is an answer.
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

    /// Has the server send what is published on `channel`, to the sender that the connection was opened with.
    pub(super) async fn subscribe(&self, channel: &str, limit: Duration) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        match tokio::time::timeout(limit, connection.subscribe(channel)).await {
            Ok(subscribed) => subscribed.map_err(|error| StoreError::of_call(&error)),
            Err(_) => Err(StoreError::Late { limit }),
        }
    }

    /// Calls that wait for a reply now.
    pub(super) fn load(&self) -> usize {
        self.health.waiting.load(Ordering::SeqCst)
    }

    /// True if it is open, and has not lain idle for `idle`.
    pub(super) fn is_usable(&self, now: Instant, idle: Option<Duration>) -> bool {
        let stale = idle.is_some_and(|idle| self.load() == 0 && self.health.last_use.is_past(now, idle));
        !self.is_closed() && !stale
    }

    pub(super) fn is_closed(&self) -> bool {
        self.health.closed.load(Ordering::SeqCst)
    }

    /// True if something has been asked for so long by `now`, and nothing was read since.
    pub(super) fn is_silent(&self, now: Instant, time: Duration) -> bool {
        self.health.unanswered_since.is_past(now, time)
    }

    /// A call waits: if nothing has been asked since the last byte, its silence begins now.
    pub(super) fn expect_answer(&self, now: Instant) {
        self.health.unanswered_since.set_if_none(now);
    }

    /// The right to find out whether it is dead; none while another has it.
    pub(super) fn judge(&self) -> Option<Judging> {
        let taken = self.health.judged.swap(true, Ordering::SeqCst);
        (!taken).then(|| Judging(Arc::clone(&self.health)))
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

/// Counts a call for as long as somebody waits for it.
struct Waiting<'a>(&'a Health);

impl<'a> Waiting<'a> {
    fn begin(health: &'a Health, now: Instant) -> Waiting<'a> {
        health.waiting.fetch_add(1, Ordering::SeqCst);
        health.unanswered_since.set_if_none(now);
        health.last_use.set(now);
        Waiting(health)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
