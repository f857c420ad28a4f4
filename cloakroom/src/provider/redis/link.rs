//! One connection, shared by many calls at a time, and what is known of its health.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::StoreError;
use super::failure::{Failure, first_error};

/// A connection. Calls share it: replies come in the order of the commands, and that of a call which nobody waits for any more is
/// read and dropped, so that none is ever taken for another's.
pub(super) struct Link {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    health: Arc<Health>,
    /// Its place among the connections there may be.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What is sent at once.
pub(super) enum Commands {
    /// As most is, which is less work.
    One(Cmd),
    Several(Pipeline),
}

impl Commands {
    /// The same for a node of a cluster that is to have the slot, and not by itself.
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

struct Health {
    closed: AtomicBool,
    /// Calls that wait for a reply.
    waiting: AtomicUsize,
    /// Since when there has been something to wait for and no reply; a call that was given up still counts.
    silent_since: Moment,
    last_use: Moment,
}

/// An instant or none, for many to read and write at a time: one more than the nanoseconds since `first`; 0 for none.
struct Moment {
    first: Instant,
    since: AtomicU64,
}

impl Link {
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Link {
        let now = Instant::now();
        let health = Arc::new(Health {
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            silent_since: Moment::new(now),
            last_use: Moment::new(now),
        });
        health.last_use.set(now);
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

    /// Sends `commands` at `now`, and waits for their replies; a server's error is one.
    pub(super) async fn call(&self, commands: &Commands, now: Instant) -> RedisResult<Vec<Value>> {
        let _waiting = Waiting::begin(&self.health, now);
        let mut connection = self.connection.clone();
        let answer = match commands {
            Commands::One(command) => {
                connection.send_packed_command(command).await.map(|answer| vec![answer])
            }
            Commands::Several(commands) => connection.send_packed_commands(commands, 0, commands.len()).await,
        };
        self.health.heard();
        answer
    }

    /// The answer to one command, within `limit`; a server's error is an error.
    pub(super) async fn ask(&self, command: Cmd, limit: Duration) -> Result<Value, StoreError> {
        let commands = Commands::One(command);
        let Ok(answers) = tokio::time::timeout(limit, self.call(&commands, Instant::now())).await else {
            return Err(StoreError::Late { limit });
        };
        let answers = answers.map_err(Failure::Call).and_then(first_error).map_err(Failure::into_error)?;
        answers.into_iter().next().ok_or(StoreError::Form { expected: "a reply" })
    }

    /// Calls that wait for a reply now.
    pub(super) fn load(&self) -> usize {
        self.health.waiting.load(Ordering::SeqCst)
    }

    /// Whether the next call may have it: the server has not closed it, has not been silent for `patience` while there was something
    /// to answer, and it has not lain idle for `idle`.
    pub(super) fn is_usable(&self, now: Instant, patience: Duration, idle: Option<Duration>) -> bool {
        let stale = idle.is_some_and(|idle| self.load() == 0 && self.health.last_use.is_past(now, idle));
        !self.health.closed.load(Ordering::SeqCst) && !self.is_silent(now, patience) && !stale
    }

    /// Whether there has been something to answer for so long by `now`, and no answer.
    pub(super) fn is_silent(&self, now: Instant, time: Duration) -> bool {
        self.health.silent_since.is_past(now, time)
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
        match self.waiting.load(Ordering::SeqCst) > 1 {
            true => self.silent_since.set(Instant::now()),
            false => self.silent_since.clear(),
        }
    }
}

impl Moment {
    fn new(first: Instant) -> Moment {
        Moment { first, since: AtomicU64::new(0) }
    }

    fn set(&self, now: Instant) {
        self.since.store(self.number(now), Ordering::Relaxed);
    }

    fn set_if_none(&self, now: Instant) {
        // Read first: to write takes the processor longer where others write, too.
        if self.since.load(Ordering::Relaxed) == 0 {
            let _ = self.since.compare_exchange(0, self.number(now), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Whether there is one, and it is so long ago by `now`.
    fn is_past(&self, now: Instant, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.number(now).saturating_sub(since) >= time.as_nanos() as u64
    }

    fn number(&self, at: Instant) -> u64 {
        // In 584 years.
        at.saturating_duration_since(self.first).as_nanos() as u64 + 1
    }
}

/// Counts a call for as long as somebody waits for it.
struct Waiting<'a>(&'a Health);

impl<'a> Waiting<'a> {
    fn begin(health: &'a Health, now: Instant) -> Waiting<'a> {
        health.waiting.fetch_add(1, Ordering::SeqCst);
        health.silent_since.set_if_none(now);
        health.last_use.set(now);
        Waiting(health)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
