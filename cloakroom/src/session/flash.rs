//! Flash messages: kept until one request takes them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Millis;
use crate::codec::{Change, Codec};
use crate::engine::{Engine, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::request::{Changes, Exchange, FLASH};

/// The maximum number of waiting messages. A client that never shows them must not fill its session.
const MAX_WAITING: usize = 32;

/// The number of hexadecimal digits of a message's time in its key.
const TIME_LEN: usize = 16;
/// The number of random hexadecimal digits that follow.
const RANDOM_LEN: usize = 8;

/// A message that [`Session::flash`](crate::Session::flash) left for a later request.
///
/// `Debug` shows neither name nor message.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flash<T = String> {
    /// The kind of the message, such as `"success"` or `"error"`.
    pub name: String,
    /// The message.
    pub message: T,
}

impl<T> fmt::Debug for Flash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash").finish_non_exhaustive()
    }
}

pub(super) fn leave<T: Serialize>(exchange: &Exchange, name: &str, message: &T) -> Result<()> {
    let waiting = keys_of(exchange, |_| true)?;
    let key = key_after(waiting.last().map(String::as_str), exchange.engine.now(), name)?;
    exchange.set(&key, message)?;
    match waiting.get(..(waiting.len() + 1).saturating_sub(MAX_WAITING)) {
        None | Some([]) => Ok(()),
        Some(oldest) => {
            exchange.change(|changes| oldest.iter().for_each(|key| changes.set(Change::deletion(key))))
        }
    }
}

/// Returns the keys of the messages whose name is `wanted`, the oldest first, as this request sees them.
fn keys_of(exchange: &Exchange, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut keys = exchange.state().every_key(exchange.engine.config.codec)?;
    keys.retain(|key| name_of(key).is_some_and(&wanted));
    keys.sort_unstable();
    Ok(keys)
}

pub(super) async fn take<T: DeserializeOwned + Send>(
    exchange: &Exchange,
    wanted: impl Fn(&str) -> bool + Send + Sync,
) -> Result<Vec<Flash<T>>> {
    if keys_of(exchange, &wanted)?.is_empty() {
        return Ok(Vec::new());
    }
    let (mut taken, mut back) = (Vec::new(), Changes::default());
    let deletions = || {
        (taken, back) = (Vec::new(), Changes::default());
        let mut deletions = Changes::default();
        for key in keys_of(exchange, &wanted)? {
            let Some((message, stored)) = message(exchange, &key)? else { continue };
            taken.push(Flash { name: name_of(&key).unwrap_or_default().to_owned(), message });
            deletions.set(Change::deletion(&key));
            if let Some(bytes) = stored {
                back.set(Change::new(&key, |value| value.extend_from_slice(&bytes)));
            }
        }
        Ok(deletions)
    };
    exchange.change_newest(deletions).await?;
    // A detached session has no response that could fail.
    if !back.is_empty() && !exchange.detached {
        let mut state = exchange.state();
        if let Some(stored) = state.stored_session() {
            let engine = Arc::clone(&exchange.engine);
            state.rare().undo.get_or_insert_default().add(move || put_back(engine, stored, back));
        }
    }
    Ok(taken)
}

/// Returns the message under `key`, if it is a `T`, with its encoded form if it is stored.
fn message<T: DeserializeOwned>(exchange: &Exchange, key: &str) -> Result<Option<(T, Option<Vec<u8>>)>> {
    let stored = exchange.state().pending(key).is_none();
    exchange.with_value(key, |codec: Codec, value: Option<&[u8]>| {
        let Some(bytes) = value else { return Ok(None) };
        let Ok(message) = codec.decode(bytes) else { return Ok(None) };
        Ok(Some((message, stored.then(|| bytes.to_vec()))))
    })
}

/// Starts a task that puts back the messages that were taken from the session `stored`.
#[cold]
fn put_back(engine: Arc<Engine>, stored: Stored, changes: Changes) {
    let back = async move {
        let exchange = Exchange::detached(engine, stored);
        exchange.state().pending_changes().add(changes);
        if let Err(error) = exchange.save().await {
            tracing::warn!(%error, "flash messages are lost: they could not be put back");
        }
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(back)),
        Err(_) => tracing::warn!("flash messages are lost: there is no runtime to put them back"),
    }
}

/// Makes a key that sorts by time and after `last`, and that no other request makes.
fn key_after(last: Option<&str>, now: Millis, name: &str) -> Result<String> {
    let random = getrandom::u32().map_err(|error| Error::new(ErrorKind::Random, error))?;
    // 44 bits of milliseconds last until the year 2527. The other 20 bits order the messages of one millisecond.
    let last = last.and_then(|key| u64::from_str_radix(key.get(FLASH.len()..)?.get(..TIME_LEN)?, 16).ok());
    let time = (now.0 << 20).max(last.map_or(0, |last| last.saturating_add(1)));
    Ok(format!("{FLASH}{time:016x}{random:08x}{name}"))
}

/// Returns the name in a message's key; `None` for other keys.
fn name_of(key: &str) -> Option<&str> {
    key.strip_prefix(FLASH)?.get(TIME_LEN + RANDOM_LEN..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_time_and_then_by_order_and_tell_their_name() {
        let first = key_after(None, Millis(9), "z").unwrap();
        let second = key_after(Some(&first), Millis(9), "b").unwrap();
        let third = key_after(Some(&second), Millis(10), "a").unwrap();
        let earlier = key_after(Some(&third), Millis(3), "").unwrap();
        let keys = [first, second, third, earlier];
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(keys.each_ref().map(|key| name_of(key).unwrap()), ["z", "b", "a", ""]);
        assert_eq!(name_of("\u{1}csrf"), None);
        assert_eq!(name_of("\u{1}flash/too-short"), None);
        let key = || key_after(None, Millis(9), "z").unwrap();
        assert_ne!(key(), key(), "two requests in one millisecond");
        let far = key_after(None, Millis::NEVER, "z").unwrap();
        assert!(name_of(&key_after(Some(&far), Millis::NEVER, "z").unwrap()).is_some());
    }
}
