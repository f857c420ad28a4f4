//! What the server tells of changes: client tracking, on a connection of its own.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::call::Caller;
use super::connect::Purpose;
use super::error::StoreError;
use super::failure::Failure;
use super::link::{Commands, Link};
use super::moment::Moment;
use crate::id::StoreKey;
use crate::provider::Watcher;

/// Between two looks at whether the server still answers, and the most that an answer may take: a connection that has died without a
/// word is noticed within twice this.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a watcher may rely on what it has heard: two heartbeats, and time for a busy runtime.
const LEASE: Duration = Duration::from_secs(3);

/// Between two attempts to reach a server that was lost.
const AGAIN: Duration = Duration::from_millis(200);

/// All who are told of changes. Each is told by a task of its own; where that has ended with its runtime, or stands still with it, the next
/// call of another runtime starts a new one.
pub(super) struct Followers {
    source: Arc<Source>,
    /// Set while there are any, for calls to look at.
    any: AtomicBool,
    all: Mutex<Vec<Arc<Follower>>>,
}

/// Where the news come from.
struct Source {
    caller: Arc<Caller>,
    /// The beginning of every session's key.
    prefix: String,
}

/// One who is told of changes.
struct Follower {
    watcher: Weak<dyn Watcher>,
    /// The number of its present task. Those before it have no say any more.
    task: AtomicU64,
    /// When that was last at work.
    at_work: Moment,
}

impl Followers {
    /// None yet. `prefix` is what a session's key begins with.
    pub(super) fn new(caller: Arc<Caller>, prefix: String) -> Followers {
        let source = Arc::new(Source { caller, prefix });
        Followers { source, any: AtomicBool::new(false), all: Mutex::default() }
    }

    /// Starts a new task for each whose task is no longer at work.
    pub(super) fn tend(&self) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut all = self.all.lock();
        all.retain(|follower| follower.watcher.strong_count() > 0);
        for follower in all.iter().filter(|follower| !follower.at_work.is_within(now, LEASE)) {
            follower.next_task().start(&self.source, None);
        }
    }

    /// Tells `watcher` of every change for as long as it lives. Done when the first connection listens; the rest goes on by itself.
    pub(super) async fn follow(&self, watcher: Weak<dyn Watcher>) -> Result<(), StoreError> {
        let follower = Arc::new(Follower { watcher, task: AtomicU64::new(0), at_work: Moment::none() });
        let task = follower.next_task();
        let news = News::open(&self.source, &task).await?;
        task.start(&self.source, Some(news));
        self.all.lock().push(follower);
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Follower {
    /// Takes the word from the task that has it.
    fn next_task(self: &Arc<Self>) -> Task {
        self.at_work.set(Instant::now());
        let number = self.task.fetch_add(1, Ordering::SeqCst) + 1;
        Task { follower: Arc::clone(self), number }
    }
}

/// The task that tells a follower. When it ends, in whatever way, the follower hears nothing.
struct Task {
    follower: Arc<Follower>,
    number: u64,
}

impl Task {
    /// Goes to work on the current runtime.
    fn start(self, source: &Arc<Source>, mut news: Option<News>) {
        let source = Arc::clone(source);
        tokio::spawn(async move {
            while self.is_wanted() {
                if let Some(open) = news.take() {
                    open.hear(&source, &self).await;
                    self.tell(|watcher| watcher.deaf());
                    tokio::time::sleep(AGAIN).await;
                }
                self.follower.at_work.set(Instant::now());
                match News::open(&source, &self).await {
                    Ok(open) => news = Some(open),
                    Err(error) => {
                        tracing::warn!(%error, "Redis tells of no changes: sessions are read from it");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }

    fn is_present(&self) -> bool {
        self.follower.task.load(Ordering::SeqCst) == self.number
    }

    fn is_wanted(&self) -> bool {
        self.is_present() && self.follower.watcher.strong_count() > 0
    }

    fn tell(&self, what: impl FnOnce(&dyn Watcher)) {
        if let Some(watcher) = self.follower.watcher.upgrade().filter(|_| self.is_present()) {
            what(&*watcher);
        }
    }

    /// The server has answered: the watcher may rely on what it has heard for a while longer.
    fn renew(&self, asked: Instant) {
        self.follower.at_work.set(Instant::now());
        self.tell(|watcher| watcher.heard_until(asked.into_std() + LEASE));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.is_present() {
            self.tell(|watcher| watcher.deaf());
            self.follower.at_work.clear();
        }
    }
}

/// A connection on which the server names the keys that change.
struct News {
    link: Arc<Link>,
    pushes: UnboundedReceiver<PushInfo>,
}

impl News {
    /// Opens one; the watcher listens from then on.
    async fn open(source: &Source, task: &Task) -> Result<News, StoreError> {
        let pool = source.caller.for_news()?;
        let (sender, pushes) = unbounded_channel();
        let deadline = source.caller.deadline();
        let opening = async {
            let opened = pool.open_for(Purpose::News(sender)).await?;
            let mut tracking = redis::cmd("CLIENT");
            // Broadcasting: the server need not remember who has read what, and whoever writes may use any connection.
            tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&source.prefix);
            let asked = Instant::now();
            opened.link.ask(tracking, source.caller.timeout()).await?;
            let listen = || {
                task.renew(asked);
                task.tell(|watcher| watcher.listening());
            };
            pool.admit_news(opened, &task.follower.watcher, listen)
        };
        let link = deadline.wait_for(opening).await.map_err(Failure::into_error)??;
        Ok(News { link, pushes })
    }

    /// Passes on what comes, until the connection is lost or nobody listens any more.
    async fn hear(mut self, source: &Source, task: &Task) {
        let mut lost = pin!(heartbeat(&self.link, source, task));
        loop {
            // What has come in is told before anything is given up.
            let push = match select(pin!(self.pushes.recv()), &mut lost).await {
                Either::Left((push, _)) => push,
                Either::Right(_) => return,
            };
            match push {
                Some(PushInfo { kind: PushKind::Invalidate, data }) => {
                    task.tell(|watcher| pass_on(data, &source.prefix, watcher));
                }
                None | Some(PushInfo { kind: PushKind::Disconnection, .. }) => {
                    tracing::warn!("the connection on which Redis tells of changes is lost");
                    return;
                }
                Some(_) => {}
            }
        }
    }
}

/// Ends when the server has not answered in time, when it is no longer the primary, or when nobody listens any more.
async fn heartbeat(link: &Link, source: &Source, task: &Task) {
    let ping = Commands::One(redis::cmd("PING"));
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let asked = Instant::now();
        let answer = tokio::time::timeout(HEARTBEAT, async {
            if let Ok(pool) = source.caller.for_news() {
                pool.confirm().await.ok()?;
            }
            link.call(&ping, Instant::now()).await.ok()
        });
        let answered = matches!(answer.await, Ok(Some(_)));
        if !answered || !task.is_wanted() || link.is_closed() {
            return;
        }
        task.renew(asked);
    }
}

fn pass_on(data: Vec<Value>, prefix: &str, watcher: &dyn Watcher) {
    for keys in data {
        let Value::Array(keys) = keys else {
            // No list: everything was thrown away at once.
            watcher.deaf();
            watcher.listening();
            return;
        };
        for key in keys {
            match key_of(&key, prefix) {
                Some(key) => watcher.changed(&key),
                // Nobody but us writes there; if somebody does, we know not what.
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
    struct Heard(Mutex<Vec<String>>);

    impl Watcher for Heard {
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

    fn heard(data: Vec<Value>) -> Vec<String> {
        let watcher = Heard::default();
        pass_on(data, "p:{0}:session:", &watcher);
        watcher.0.into_inner()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn each_key_is_told_without_its_prefix() {
        let keys = Value::Array(vec![text("p:{0}:session:abc"), text("p:{0}:session:def")]);
        assert_eq!(heard(vec![keys]), ["abc", "def"]);
    }

    #[test]
    fn what_cannot_be_understood_may_have_been_anything() {
        assert_eq!(heard(vec![Value::Nil]), ["deaf", "listening"]);
        assert_eq!(heard(vec![Value::Array(vec![text("p:{0}:session:../x")])]), ["deaf", "listening"]);
        assert_eq!(heard(vec![Value::Array(vec![Value::Int(1)])]), ["deaf", "listening"]);
    }
}
