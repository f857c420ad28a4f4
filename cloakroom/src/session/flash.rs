//! Messages for the next page: kept until one request takes them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Session;
use super::changes::Changes;
use super::reserved::FLASH;
use super::state::Shared;
use crate::clock::Millis;
use crate::codec::{Change, Codec};
use crate::engine::{Engine, Stored};
use crate::error::{Error, ErrorKind, Result};

/// Messages that wait at the most: a client that collects and never shows them must not fill its session.
const MOST: usize = 32;

/// The hexadecimal digits of a message's time, and of the chance that follows.
const TIME: usize = 16;
const CHANCE: usize = 8;

/// A message that [`Session::flash`] left for a later request.
///
/// `Debug` shows neither name nor message.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flash<T = String> {
    /// What kind of message it is, such as `"success"` or `"error"`.
    pub name: String,
    /// The message.
    pub message: T,
}

impl<T> fmt::Debug for Flash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash").finish_non_exhaustive()
    }
}

impl Session {
    /// Leaves a message for the next page, as before a redirect: kept in the session until a request
    /// [takes](Self::take_flashes) it. `name` says what kind it is, such as `"success"` or `"error"`.
    ///
    /// Each message is kept apart, so that those of requests at the same time all stand. At most 32 wait; the oldest gives way
    /// to one more.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&HeaderMap::new()).await?;
    /// session.flash("success", "The address is changed.")?;
    /// # session.save().await?;
    ///
    /// // On the page that the redirect leads to:
    /// for flash in session.take_flashes::<String>().await? {
    ///     println!("{}: {}", flash.name, flash.message);
    /// }
    /// assert!(session.take_flashes::<String>().await?.is_empty());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`set`](Self::set), and [`ErrorKind::Random`] if the generator fails.
    #[doc(alias = "messages")]
    pub fn flash<T: Serialize>(&self, name: &str, message: T) -> Result<()> {
        self.0.flash(name, &message)
    }

    /// Takes the messages that wait, the oldest first: out of the store at once, so that of several requests one alone gets each.
    /// A message that does not decode to a `T` stays for whoever asks for its type. Without a message there is no I/O.
    ///
    /// If the request comes to nothing, because its handler answers 5xx, panics or is cancelled, or because its commit fails, the messages are put
    /// back in the background. What a [`release`](Self::release) or a [`save`](Self::save) has followed is taken for good, and so is what
    /// a detached handle takes.
    ///
    /// # Errors
    /// Those of [`update`](Self::update). Nothing is taken then, unless the store did so and its answer was lost.
    pub async fn take_flashes<T: DeserializeOwned + Send>(&self) -> Result<Vec<Flash<T>>> {
        self.0.take_flashes(|_| true).await
    }

    /// [`take_flashes`](Self::take_flashes) of one kind.
    pub async fn take_flashes_of<T: DeserializeOwned + Send>(&self, name: &str) -> Result<Vec<T>> {
        let taken = self.0.take_flashes(|found| found == name).await?;
        Ok(taken.into_iter().map(|flash| flash.message).collect())
    }
}

impl Shared {
    fn flash<T: Serialize>(&self, name: &str, message: &T) -> Result<()> {
        let waiting = self.flashes(|_| true)?;
        let key = key_after(waiting.last().map(String::as_str), self.engine.now(), name)?;
        self.set(&key, message)?;
        match waiting.get(..(waiting.len() + 1).saturating_sub(MOST)) {
            None | Some([]) => Ok(()),
            Some(oldest) => {
                self.change(|changes| oldest.iter().for_each(|key| changes.set(Change::deletion(key))))
            }
        }
    }

    /// The keys of the messages whose name is `wanted`, the oldest first, as this request sees them.
    fn flashes(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut keys = self.every_key()?;
        keys.retain(|key| name_of(key).is_some_and(&wanted));
        keys.sort_unstable();
        Ok(keys)
    }

    async fn take_flashes<T: DeserializeOwned + Send>(
        &self,
        wanted: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Vec<Flash<T>>> {
        if self.flashes(&wanted)?.is_empty() {
            return Ok(Vec::new());
        }
        let (mut taken, mut back) = (Vec::new(), Changes::default());
        let deletions = || {
            (taken, back) = (Vec::new(), Changes::default());
            let mut deletions = Changes::default();
            for key in self.flashes(&wanted)? {
                let Some((message, stored)) = self.message(&key)? else { continue };
                taken.push(Flash { name: name_of(&key).unwrap_or_default().to_owned(), message });
                deletions.set(Change::deletion(&key));
                if let Some(bytes) = stored {
                    back.set(Change::new(&key, |value| value.extend_from_slice(&bytes)));
                }
            }
            Ok(deletions)
        };
        self.change_newest(deletions).await?;
        let mut state = self.state();
        if let (false, Some(stored)) = (back.is_empty() || self.detached, state.stored.clone()) {
            let engine = Arc::clone(&self.engine);
            state.rare().undo.get_or_insert_default().add(move || give_back(engine, stored, back));
        }
        drop(state);
        Ok(taken)
    }

    /// The message under `key`, if it is a `T`; its encoded form, too, where it is stored.
    fn message<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Option<Vec<u8>>)>> {
        let stored = self.state().pending(key).is_none();
        self.with_value(key, |codec: Codec, value: Option<&[u8]>| {
            let Some(bytes) = value else { return Ok(None) };
            let Ok(message) = codec.decode(bytes) else { return Ok(None) };
            Ok(Some((message, stored.then(|| bytes.to_vec()))))
        })
    }
}

/// Puts back, in the background, what was taken from the session that is `stored`.
#[cold]
fn give_back(engine: Arc<Engine>, stored: Stored, changes: Changes) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(put_back(engine, stored, changes))),
        Err(_) => tracing::warn!("flash messages are lost: no runtime is there to put them back"),
    }
}

async fn put_back(engine: Arc<Engine>, stored: Stored, changes: Changes) {
    let shared = Shared::detached(engine, stored);
    shared.state().pending_changes().add(changes);
    if let Err(error) = shared.save().await {
        tracing::warn!(%error, "flash messages are lost: they could not be put back");
    }
}

/// A key that sorts behind `last` and by time, and that no other request makes.
fn key_after(last: Option<&str>, now: Millis, name: &str) -> Result<String> {
    let chance = getrandom::u32().map_err(|error| Error::new(ErrorKind::Random, error))?;
    // 44 bits of milliseconds last until the year 2527; the other 20 tell those of one millisecond apart.
    let last = last.and_then(|key| u64::from_str_radix(key.get(FLASH.len()..)?.get(..TIME)?, 16).ok());
    let time = (now.0 << 20).max(last.map_or(0, |last| last.saturating_add(1)));
    Ok(format!("{FLASH}{time:016x}{chance:08x}{name}"))
}

/// The name in a message's key; `None` for other keys.
fn name_of(key: &str) -> Option<&str> {
    key.strip_prefix(FLASH)?.get(TIME + CHANCE..)
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
