//! Notifications: each change names its session on a channel, and a connection of its own listens there.
//!
//! A heartbeat is a notification too. The server delivers notifications in the order of their commits, so a heartbeat that has come back
//! proves that every change before it has been told.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_postgres::AsyncMessage;

use super::error::PostgresError;
use super::facts;
use super::settings::{OpenConnection, Settings};
use crate::provider::Watcher;
use crate::provider::sql::step::StepLimits;

/// The interval of heartbeats, and the longest that one may take.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The time for which a watcher may rely on its copies: two heartbeats, and time for a busy runtime.
const LEASE: Duration = Duration::from_secs(3);
/// The pause between two attempts to connect again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The first character of a heartbeat. No key begins with it.
const BEAT: char = '!';

/// The channel on which changes are told, and the way to it.
#[derive(Clone)]
pub(super) struct ChangeChannel {
    settings: Settings,
    name: Box<str>,
    limits: StepLimits,
}

/// A connection that listens.
struct ChangeListener {
    connection: OpenConnection,
    messages: UnboundedReceiver<AsyncMessage>,
    /// A number that tells its heartbeats from those of other listeners.
    number: u64,
    beats: u64,
}

/// Tells a watcher that changes are no longer told, when the task that tells them ends.
struct WatchGuard(Weak<dyn Watcher>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.tell(|watcher| watcher.deaf());
    }
}

impl WatchGuard {
    fn tell(&self, what: impl FnOnce(&dyn Watcher)) {
        if let Some(watcher) = self.0.upgrade() {
            what(&*watcher);
        }
    }
}

/// Returns the name of the channel of a table, whose lock has the number `lock`.
pub(super) fn channel_name(lock: i64) -> String {
    format!("cloakroom_{:016x}", lock.cast_unsigned())
}

impl ChangeChannel {
    pub(super) fn new(settings: Settings, lock: i64, limits: StepLimits) -> Self {
        ChangeChannel { settings, name: channel_name(lock).into(), limits }
    }

    /// Tells `watcher` of every change until it is dropped, on a task of the current runtime.
    pub(super) async fn watch(&self, watcher: Weak<dyn Watcher>) -> Result<(), PostgresError> {
        let (channel, guard) = (self.clone(), WatchGuard(watcher));
        let mut listener = self.limits.within_deadline(channel.listen(&guard)).await?;
        tokio::spawn(async move {
            loop {
                listener.forward(&channel.name, &guard).await;
                guard.tell(|watcher| watcher.deaf());
                listener = match channel.listen_again(&guard).await {
                    Some(listener) => listener,
                    None => return,
                };
            }
        });
        Ok(())
    }

    /// Listens again, however long it takes. Returns `None` once the watcher is dropped.
    async fn listen_again(&self, guard: &WatchGuard) -> Option<ChangeListener> {
        while guard.0.strong_count() > 0 {
            tokio::time::sleep(RETRY_PAUSE).await;
            match self.limits.within_deadline(self.listen(guard)).await {
                Ok(listener) => return Some(listener),
                Err(error) => {
                    tracing::warn!(%error, "no changes are told by the database: the near cache is bypassed");
                }
            }
        }
        None
    }

    /// Opens a connection that listens. The watcher is told of every change from then on.
    async fn listen(&self, guard: &WatchGuard) -> Result<ChangeListener, PostgresError> {
        let (connection, messages) = self.settings.open_listening().await?;
        if !facts::read(&connection.client).await?.direct {
            return Err(PostgresError::Pooled);
        }
        connection.client.batch_execute(&format!("LISTEN {}", self.name)).await?;
        let number = getrandom::u64().map_err(|_| PostgresError::Random)?;
        let mut listener = ChangeListener { connection, messages, number, beats: 0 };
        if !listener.beat(&self.name, guard).await {
            return Err(PostgresError::Unsent);
        }
        guard.tell(|watcher| watcher.listening());
        Ok(listener)
    }
}

impl ChangeListener {
    /// Forwards changes until the connection is lost or the watcher is dropped.
    async fn forward(&mut self, channel: &str, guard: &WatchGuard) {
        while guard.0.strong_count() > 0 {
            if !self.beat(channel, guard).await {
                tracing::warn!("the connection on which the database tells of changes was lost");
                return;
            }
        }
    }

    /// Sends a heartbeat and forwards changes for its interval. Returns false if the heartbeat has not come back.
    async fn beat(&mut self, channel: &str, guard: &WatchGuard) -> bool {
        let asked = Instant::now();
        let until = asked + HEARTBEAT;
        self.beats += 1;
        let beat = format!("{BEAT}{:x}.{}", self.number, self.beats);
        let notify = format!("NOTIFY {channel}, '{beat}'");
        let sent = tokio::time::timeout_at(until, self.connection.client.batch_execute(&notify)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return false;
        }
        let first = self.beats == 1;
        loop {
            let Ok(message) = tokio::time::timeout_at(until, self.messages.recv()).await else {
                return false;
            };
            match message {
                Some(AsyncMessage::Notification(told)) if told.payload() == beat => break,
                Some(message) => forward(&message, guard),
                None => return false,
            }
        }
        guard.tell(|watcher| watcher.heard_until(asked.into_std() + LEASE));
        if first {
            return true;
        }
        while let Ok(message) = tokio::time::timeout_at(until, self.messages.recv()).await {
            match message {
                Some(message) => forward(&message, guard),
                None => return false,
            }
        }
        true
    }
}

fn forward(message: &AsyncMessage, guard: &WatchGuard) {
    let AsyncMessage::Notification(told) = message else { return };
    if told.payload().starts_with(BEAT) {
        return;
    }
    match told.payload().parse() {
        Ok(key) => guard.tell(|watcher| watcher.changed(&key)),
        // Another program tells on this channel, so anything may have changed.
        Err(_) => guard.tell(|watcher| {
            watcher.deaf();
            watcher.listening();
        }),
    }
}
