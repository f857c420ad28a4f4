//! Revocations of cookie sessions: marks in a store, one for each session that has ended and for each user.

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::SKEW;
use crate::clock::Millis;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::tokens::SealedTokens;
use crate::provider::{AnyProvider, Collected, Created, Provider, Touched, Updated};
use crate::record::{Meta, Record, Times};

/// The most version conflicts before a change of a mark fails.
const TRIES: u32 = 64;

/// Marks in a store, each an empty record.
///
/// A mark that a session has ended outlives every copy of its cookie. Under the manager's policy, a copy ends within `longest` of its
/// last use. A session with a longer lifetime of its own needs one more mark, its *reach*: the time until which its last copy may live. It
/// is stored before such a copy is sent.
#[derive(Clone, Debug)]
pub(super) struct Revocations {
    store: AnyProvider,
    longest: Duration,
}

impl Revocations {
    pub(super) fn new(store: impl Provider, longest: Duration) -> Self {
        Revocations { store: AnyProvider::new(store), longest }
    }

    /// Returns the latest end of a copy that was sent up to `now` under the manager's policy.
    fn covered(&self, tokens: &SealedTokens, now: Millis) -> Millis {
        now.after(self.longest.max(tokens.idle_timeout())).after(SKEW)
    }

    /// Stores that a copy of the session `id` may live as long as `record`. Call it before [`ended`](Self::ended), and before the copy is
    /// sent.
    ///
    /// The mark has the record's own idle time and absolute deadline, so that [`reach_on`](Self::reach_on) can prolong it with the copy.
    pub(super) async fn reach(
        &self,
        tokens: &SealedTokens,
        id: &[u8],
        now: Millis,
        record: &Record,
    ) -> Result<()> {
        let times = record.times();
        if times.deadline() <= self.covered(tokens, now) {
            return Ok(());
        }
        let reach = Reach {
            used: times.last_active,
            idle: times.idle_deadline.after(SKEW),
            absolute: times.absolute_deadline.after(SKEW),
        };
        self.raise(&key("reach", tokens.namespace(), id)?, now, reach).await
    }

    /// Stores that a copy of the session `id`, used at `at`, is sent. A copy without a stored reach ends by the manager's policy.
    pub(super) async fn reach_on(&self, tokens: &SealedTokens, id: &[u8], at: SystemTime) -> Result<()> {
        match self.store.touch(&key("reach", tokens.namespace(), id)?, at).await? {
            Touched::Done | Touched::Gone => Ok(()),
        }
    }

    /// Makes a mark exist at least as long as `reach` says.
    async fn raise(&self, key: &StoreKey, now: Millis, reach: Reach) -> Result<()> {
        for _ in 0..TRIES {
            let done = match self.store.load(key).await? {
                None => self.store.create(key, &reach.mark(1, now)).await? == Created::Done,
                Some(present) if reach.is_within(&present.times()) => true,
                Some(present) => {
                    let (times, version) = (present.times(), present.version().wrapping_add(1));
                    let next = reach.or(&times).mark(version, times.created);
                    self.store.update(key, &next, &present).await? == Updated::Done
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Conflict, Contended))
    }

    /// Returns the time at which the session `id` was ended. The end of all sessions of its user counts if it came after the login.
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
        // A login without a known time counts as earlier than every end.
        let covers = |until: &Millis| record.times().authenticated.is_none_or(|at| at <= *until);
        Ok(all_until.filter(covers))
    }

    /// Marks the session `id` as ended. Returns false if it was marked already, so that only one of two concurrent moves succeeds.
    pub(super) async fn end(&self, tokens: &SealedTokens, id: &[u8], now: Millis) -> Result<bool> {
        let namespace = tokens.namespace();
        let (ended, reach) = (key("ended", namespace, id)?, key("reach", namespace, id)?);
        let last_copy = async || Ok::<_, Error>(self.store.load(&reach).await?.map(|noted| noted.deadline()));
        let covered = self.covered(tokens, now);
        let until = last_copy().await?.map_or(covered, |last| last.max(covered));
        let created =
            self.store.create(&ended, &Reach::until(now, until).mark(1, now)).await? == Created::Done;
        // A request that stored a longer reach meanwhile did not see the mark.
        if let Some(later) = last_copy().await?.filter(|last| *last > until) {
            self.raise(&ended, now, Reach::until(now, later)).await?;
        }
        Ok(created)
    }

    /// Marks all sessions of `user` as ended that logged in up to `now`. There is one such mark for each user. It stays, since it is not known
    /// how long the copies of all these sessions may live.
    pub(super) async fn end_all_of(&self, namespace: &str, user: &Principal, now: Millis) -> Result<()> {
        let (key, always) =
            (key("user", namespace, user.as_str().as_bytes())?, Reach::until(now, Millis::NEVER));
        for _ in 0..TRIES {
            let done = match self.store.load(&key).await? {
                None => self.store.create(&key, &always.mark(1, now)).await? == Created::Done,
                Some(present) if present.times().created >= now => true,
                Some(present) => {
                    let next = always.mark(present.version().wrapping_add(1), now);
                    self.store.update(&key, &next, &present).await? == Updated::Done
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
}

/// The lifetime of a mark.
#[derive(Clone, Copy)]
struct Reach {
    used: Millis,
    idle: Millis,
    absolute: Millis,
}

impl Reach {
    /// Returns the reach of a mark that is never touched.
    fn until(now: Millis, until: Millis) -> Self {
        Reach { used: now, idle: until, absolute: until }
    }

    /// Returns true if a mark with `times` lives at least as long, also after any number of touches of both.
    fn is_within(&self, times: &Times) -> bool {
        let idle = |used: Millis, deadline: Millis| deadline.0.saturating_sub(used.0);
        times.deadline() >= self.idle.min(self.absolute)
            && times.absolute_deadline >= self.absolute
            && idle(times.last_active, times.idle_deadline) >= idle(self.used, self.idle)
    }

    /// Returns a reach that covers both, also after touches.
    fn or(&self, times: &Times) -> Reach {
        Reach {
            used: self.used.min(times.last_active),
            idle: self.idle.max(times.idle_deadline),
            absolute: self.absolute.max(times.absolute_deadline),
        }
    }

    fn mark(&self, version: u64, created: Millis) -> Record {
        let times = Times {
            version,
            created,
            issued: created,
            last_active: self.used,
            idle_deadline: self.idle,
            absolute_deadline: self.absolute,
            authenticated: None,
        };
        Record::new(&Meta::new(times, None), Codec::MESSAGE_PACK, b"")
    }
}

/// Returns the key of a mark: a digest, from which neither an id nor a user's name can be read. No session has the same key.
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
#[error("{TRIES} times in a row another process was first to change a mark of these sessions; try again")]
struct Contended;
