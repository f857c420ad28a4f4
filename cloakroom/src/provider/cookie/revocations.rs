//! What of a cookie session can be ended from the server's side: marks in a store, for those that ended and for users.

use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::SKEW;
use crate::clock::Millis;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{AnyProvider, Collected, Created, Provider, Updated};
use crate::record::{Meta, Record, Times};

/// Lost races before the end of a user's sessions gives up.
const TRIES: u32 = 64;

/// Marks in a store, each an empty record that is remembered as long as a cookie may live.
#[derive(Clone, Debug)]
pub(super) struct Revocations {
    store: AnyProvider,
    longest: Duration,
}

impl Revocations {
    pub(super) fn new(store: impl Provider, longest: Duration) -> Self {
        Revocations { store: AnyProvider::new(store), longest }
    }

    /// When the session `id` was ended, or all of its user's were since it logged in.
    pub(super) async fn ended(
        &self,
        namespace: &str,
        id: &[u8],
        record: Option<&Record>,
    ) -> Result<Option<Millis>> {
        if let Some(mark) = self.store.load(&key("ended", namespace, id)?).await? {
            return Ok(Some(mark.times().created));
        }
        let Some((record, user)) = record.and_then(|record| Some((record, record.user()?))) else {
            return Ok(None);
        };
        let mark = self.store.load(&key("user", namespace, user)?).await?;
        let all_until = mark.map(|mark| mark.times().created);
        // A user who was bound at no known time was bound before any.
        let covers = |until: &Millis| record.times().authenticated.is_none_or(|at| at <= *until);
        Ok(all_until.filter(covers))
    }

    /// Marks the session `id` as ended; false if it was already, so that of two who end it by taking it over one does.
    pub(super) async fn end(&self, namespace: &str, id: &[u8], now: Millis) -> Result<bool> {
        let created = self.store.create(&key("ended", namespace, id)?, &self.mark(1, now)).await?;
        Ok(created == Created::Done)
    }

    /// Marks all sessions of `user` as ended whose login was not after `now`.
    pub(super) async fn end_all_of(&self, namespace: &str, user: &Principal, now: Millis) -> Result<()> {
        let key = key("user", namespace, user.as_str().as_bytes())?;
        for _ in 0..TRIES {
            let done = match self.store.load(&key).await? {
                None => self.store.create(&key, &self.mark(1, now)).await? == Created::Done,
                Some(mark) if mark.times().created >= now => true,
                Some(mark) => {
                    let next = self.mark(mark.version().wrapping_add(1), now);
                    self.store.update(&key, &next, mark.version()).await? == Updated::Done
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Conflict, Contended))
    }

    pub(super) async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.store.delete_expired(limit).await
    }

    fn mark(&self, version: u64, now: Millis) -> Record {
        let forgotten = now.after(self.longest).after(SKEW);
        let times = Times {
            version,
            created: now,
            issued: now,
            last_active: now,
            idle_deadline: forgotten,
            absolute_deadline: forgotten,
            authenticated: None,
        };
        Record::new(&Meta::new(times, None), Codec::MESSAGE_PACK, b"")
    }
}

/// Where a mark lies: neither an id nor a user's name can be read from it, and no session's key is the same.
fn key(what: &str, namespace: &str, of: &[u8]) -> Result<StoreKey> {
    let digest = Sha256::new()
        .chain_update(b"cloakroom/cookie-mark/1\0")
        .chain_update(what)
        .chain_update(b"\0")
        .chain_update(namespace)
        .chain_update(b"\0")
        .chain_update(of)
        .finalize();
    HEXLOWER.encode(&digest).parse()
}

#[derive(Debug, thiserror::Error)]
#[error("{TRIES} times in a row another process was first to end this user's sessions; try again")]
struct Contended;
