//! Invalidations: the server names the sessions that change, by client tracking on a separate connection.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::atomic_instant::AtomicInstant;
use super::client::RedisClient;
use super::connection::{Commands, RedisConnection};
use super::connector::Purpose;
use super::error::StoreError;
use super::failure::Failure;
use crate::id::StoreKey;
use crate::provider::Watcher;

/// The interval at which the server is asked for a sign of life, and the longest that its answer may take. A connection that
/// died silently is noticed within twice this time.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The time for which a watcher may rely on its copies: two heartbeats, and time for a busy runtime.
const LEASE: Duration = Duration::from_secs(3);

/// The pause between two attempts to connect again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// All watchers of this provider. A task of its own serves each. If the task's runtime has ended or is not being driven, the
/// next call from another runtime starts a new task.
pub(super) struct Subscribers {
    source: Arc<TrackingSource>,
    /// True once there was a watcher. Calls read it without the lock.
    any: AtomicBool,
    all: Mutex<Vec<Arc<Subscriber>>>,
}

/// The source of the invalidations.
struct TrackingSource {
    client: Arc<RedisClient>,
    /// The prefix of every session's key.
    prefix: String,
}

/// One watcher, and the state of its task.
struct Subscriber {
    watcher: Weak<dyn Watcher>,
    /// The number of its current task. Earlier tasks no longer call the watcher.
    task: AtomicU64,
    /// The time at which the current task was last active.
    last_active: AtomicInstant,
}

impl Subscribers {
    /// Returns an empty set. `prefix` is the prefix of every session's key.
    pub(super) fn new(client: Arc<RedisClient>, prefix: String) -> Subscribers {
        let source = Arc::new(TrackingSource { client, prefix });
        Subscribers { source, any: AtomicBool::new(false), all: Mutex::default() }
    }

    /// Starts a new task for each watcher whose task is no longer active.
    pub(super) fn restart_stopped(&self) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut all = self.all.lock();
        all.retain(|subscriber| subscriber.watcher.strong_count() > 0);
        for subscriber in all.iter().filter(|subscriber| !subscriber.last_active.is_within(now, LEASE)) {
            subscriber.next_task().start(&self.source, None);
        }
    }

    /// Tells `watcher` of every change until it is dropped. Returns once the first connection listens; a task does the rest.
    pub(super) async fn subscribe(&self, watcher: Weak<dyn Watcher>) -> Result<(), StoreError> {
        let subscriber =
            Arc::new(Subscriber { watcher, task: AtomicU64::new(0), last_active: AtomicInstant::none() });
        let task = subscriber.next_task();
        let connection = TrackingConnection::open(&self.source, &task).await?;
        task.start(&self.source, Some(connection));
        self.all.lock().push(subscriber);
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Subscriber {
    /// Returns a new task, which replaces the current one.
    fn next_task(self: &Arc<Self>) -> ListenTask {
        self.last_active.set(Instant::now());
        let number = self.task.fetch_add(1, Ordering::SeqCst) + 1;
        ListenTask { subscriber: Arc::clone(self), number }
    }
}

/// The task that serves a watcher. When it ends or is dropped, the watcher is told that invalidations have stopped.
struct ListenTask {
    subscriber: Arc<Subscriber>,
    number: u64,
}

impl ListenTask {
    /// Spawns the task on the current runtime.
    fn start(self, source: &Arc<TrackingSource>, mut connection: Option<TrackingConnection>) {
        let source = Arc::clone(source);
        tokio::spawn(async move {
            while self.is_wanted() {
                if let Some(open) = connection.take() {
                    open.forward_all(&source, &self).await;
                    self.tell(|watcher| watcher.deaf());
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                self.subscriber.last_active.set(Instant::now());
                match TrackingConnection::open(&source, &self).await {
                    Ok(open) => connection = Some(open),
                    Err(error) => {
                        tracing::warn!(%error, "no invalidations arrive from Redis: the near cache is bypassed");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        });
    }

    fn is_current(&self) -> bool {
        self.subscriber.task.load(Ordering::SeqCst) == self.number
    }

    fn is_wanted(&self) -> bool {
        self.is_current() && self.subscriber.watcher.strong_count() > 0
    }

    fn tell(&self, what: impl FnOnce(&dyn Watcher)) {
        if let Some(watcher) = self.subscriber.watcher.upgrade().filter(|_| self.is_current()) {
            what(&*watcher);
        }
    }

    /// Extends the watcher's lease. The server has answered a question that was sent at `asked`.
    fn renew(&self, asked: Instant) {
        self.subscriber.last_active.set(Instant::now());
        self.tell(|watcher| watcher.heard_until(asked.into_std() + LEASE));
    }
}

impl Drop for ListenTask {
    fn drop(&mut self) {
        if self.is_current() {
            self.tell(|watcher| watcher.deaf());
            self.subscriber.last_active.clear();
        }
    }
}

/// A connection on which the server sends the keys that change.
struct TrackingConnection {
    connection: Arc<RedisConnection>,
    pushes: UnboundedReceiver<PushInfo>,
}

impl TrackingConnection {
    /// Opens the connection. The watcher receives every change from then on.
    async fn open(source: &TrackingSource, task: &ListenTask) -> Result<TrackingConnection, StoreError> {
        let pool = source.client.for_invalidations()?;
        let (sender, pushes) = unbounded_channel();
        let deadline = source.client.deadline();
        let opening = async {
            let opened = pool.connect(Purpose::Invalidations(sender)).await?;
            let mut tracking = redis::cmd("CLIENT");
            // In broadcasting mode the server keeps no list of the keys that each client has read.
            tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&source.prefix);
            let asked = Instant::now();
            opened.connection.ask(tracking, source.client.timeout()).await?;
            let listen = || {
                task.renew(asked);
                task.tell(|watcher| watcher.listening());
            };
            pool.add_invalidations(opened, &task.subscriber.watcher, listen)
        };
        let connection = deadline.wait_for(opening).await.map_err(Failure::into_error)??;
        Ok(TrackingConnection { connection, pushes })
    }

    /// Forwards invalidations until the connection is lost or the watcher is dropped.
    async fn forward_all(mut self, source: &TrackingSource, task: &ListenTask) {
        let mut lost = pin!(heartbeat(&self.connection, source, task));
        loop {
            // `select` polls the first future first: invalidations that have arrived are forwarded before the loop ends.
            let push = match select(pin!(self.pushes.recv()), &mut lost).await {
                Either::Left((push, _)) => push,
                Either::Right(_) => return,
            };
            match push {
                Some(PushInfo { kind: PushKind::Invalidate, data }) => {
                    task.tell(|watcher| forward(data, &source.prefix, watcher));
                }
                None | Some(PushInfo { kind: PushKind::Disconnection, .. }) => {
                    tracing::warn!("the connection for invalidations from Redis was lost");
                    return;
                }
                Some(_) => {}
            }
        }
    }
}

/// Extends the lease at each heartbeat. Returns when the server does not answer in time or is no longer the primary, and when
/// the task is no longer needed.
async fn heartbeat(connection: &RedisConnection, source: &TrackingSource, task: &ListenTask) {
    let ping = Commands::One(redis::cmd("PING"));
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let asked = Instant::now();
        let answer = tokio::time::timeout(HEARTBEAT, async {
            if let Ok(pool) = source.client.for_invalidations() {
                pool.confirm().await.ok()?;
            }
            connection.call(&ping, Instant::now()).await.ok()
        });
        let answered = matches!(answer.await, Ok(Some(_)));
        if !answered || !task.is_wanted() || connection.is_closed() {
            return;
        }
        task.renew(asked);
    }
}

fn forward(data: Vec<Value>, prefix: &str, watcher: &dyn Watcher) {
    for keys in data {
        let Value::Array(keys) = keys else {
            // The server sends no list after it has deleted all keys at once (`FLUSHALL`).
            watcher.deaf();
            watcher.listening();
            return;
        };
        for key in keys {
            match key_of(&key, prefix) {
                Some(key) => watcher.changed(&key),
                // The key is not a session's name. Another program writes there, so anything may have changed.
                None => {
                    watcher.deaf();
                    watcher.listening();
                }
            }
        }
    }
}

fn key_of(key: &Value, prefix: &str) -> Option<StoreKey> {
    let Value::BulkString(bytes) = key else { return None };
    std::str::from_utf8(bytes).ok()?.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Recorded(Mutex<Vec<String>>);

    impl Watcher for Recorded {
        fn listening(&self) {
            self.0.lock().push("listening".to_owned());
        }

        fn heard_until(&self, _: std::time::Instant) {
            self.0.lock().push("heard".to_owned());
        }

        fn changed(&self, key: &StoreKey) {
            self.0.lock().push(key.as_str().to_owned());
        }

        fn deaf(&self) {
            self.0.lock().push("deaf".to_owned());
        }
    }

    fn recorded(data: Vec<Value>) -> Vec<String> {
        let watcher = Recorded::default();
        forward(data, "p:{0}:session:", &watcher);
        watcher.0.into_inner()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn each_changed_key_is_forwarded_without_its_prefix() {
        let keys = Value::Array(vec![text("p:{0}:session:abc"), text("p:{0}:session:def")]);
        assert_eq!(recorded(vec![keys]), ["abc", "def"]);
    }

    #[test]
    fn an_unreadable_invalidation_drops_all_copies() {
        assert_eq!(recorded(vec![Value::Nil]), ["deaf", "listening"]);
        assert_eq!(recorded(vec![Value::Array(vec![text("p:{0}:session:../x")])]), ["deaf", "listening"]);
        assert_eq!(recorded(vec![Value::Array(vec![Value::Int(1)])]), ["deaf", "listening"]);
    }
}
