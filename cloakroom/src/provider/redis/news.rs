//! What the server tells of changes: client tracking, on a connection of its own.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::error::StoreError;
use super::failure::{Failure, first_error};
use super::link::{Commands, Link};
use super::store::Store;
use crate::id::StoreKey;
use crate::provider::Watcher;

/// Between two looks at whether the server still answers, and the most that an answer may take: a connection that has died without a
/// word is noticed within twice this.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Between two attempts to reach a server that was lost.
const AGAIN: Duration = Duration::from_millis(200);

/// Tells `watcher` of every change for as long as it lives. Done when the first connection listens; the rest goes on by itself.
pub(super) async fn follow(store: &Arc<Store>, watcher: Weak<dyn Watcher>) -> Result<(), StoreError> {
    let news = News::open(store).await?;
    listening(&watcher);
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let mut news = Some(news);
        while watcher.strong_count() > 0 {
            if let Some(mut open) = news.take() {
                open.hear(&store, &watcher).await;
                tell(&watcher, |watcher| watcher.deaf());
            }
            tokio::time::sleep(AGAIN).await;
            match News::open(&store).await {
                Ok(open) => {
                    listening(&watcher);
                    news = Some(open);
                }
                Err(error) => tracing::warn!(%error, "Redis tells of no changes: sessions are read from it"),
            }
        }
    });
    Ok(())
}

fn listening(watcher: &Weak<dyn Watcher>) {
    tell(watcher, |watcher| watcher.listening());
}

fn tell(watcher: &Weak<dyn Watcher>, what: impl FnOnce(&dyn Watcher)) {
    if let Some(watcher) = watcher.upgrade() {
        what(&*watcher);
    }
}

/// A connection on which the server names the keys that change.
struct News {
    link: Link,
    pushes: UnboundedReceiver<PushInfo>,
    /// What a session's key begins with.
    prefix: String,
}

impl News {
    async fn open(store: &Store) -> Result<News, StoreError> {
        let (sender, pushes) = unbounded_channel();
        let link = store.caller.open_for_news(sender).await?;
        let Some(place) = store.layout.numbered(0) else { return Err(StoreError::NoNode) };
        let prefix = place.sessions();
        let mut tracking = redis::cmd("CLIENT");
        // Broadcasting: the server need not remember who has read what, and whoever writes may use any connection.
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&prefix);
        match tokio::time::timeout(
            store.caller.timeout(),
            link.call(&Commands::One(tracking), Instant::now()),
        )
        .await
        {
            Ok(Ok(answers)) => {
                first_error(answers).map_err(Failure::into_error)?;
                Ok(News { link, pushes, prefix })
            }
            Ok(Err(error)) => Err(StoreError::of_call(&error)),
            Err(_) => Err(StoreError::Late { limit: store.caller.timeout() }),
        }
    }

    /// Passes on what comes, until the connection is lost or nobody listens any more.
    async fn hear(&mut self, store: &Store, watcher: &Weak<dyn Watcher>) {
        let mut lost = pin!(heartbeat(&self.link, watcher));
        loop {
            // What has come in is told before anything is given up.
            let push = match select(pin!(self.pushes.recv()), &mut lost).await {
                Either::Left((push, _)) => push,
                Either::Right(_) => return,
            };
            match push {
                Some(PushInfo { kind: PushKind::Invalidate, data }) => {
                    tell(watcher, |watcher| pass_on(data, &self.prefix, watcher));
                }
                None | Some(PushInfo { kind: PushKind::Disconnection, .. }) => {
                    tracing::warn!(
                        cluster = store.is_cluster,
                        "the connection on which Redis tells of changes is lost"
                    );
                    return;
                }
                Some(_) => {}
            }
        }
    }
}

/// Ends when the server has not answered in time, or when nobody listens any more.
async fn heartbeat(link: &Link, watcher: &Weak<dyn Watcher>) {
    let ping = Commands::One(redis::cmd("PING"));
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let answer = tokio::time::timeout(HEARTBEAT, link.call(&ping, Instant::now())).await;
        if watcher.strong_count() == 0 || !matches!(answer, Ok(Ok(_))) {
            return;
        }
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
