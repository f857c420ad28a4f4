//! Session ids: made, recognised in what a request presents, and turned into store keys.

use http::HeaderValue;

use super::presented::Presented;
use super::stored::{By, Stored};
use crate::cookie::each_token;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventKind, Events, IdHash};
use crate::id::{HashFunc, IdMaker, Keying, MAX_ID_LEN, Named, SessionId, StoreKey};
use crate::provider::SealedTokens;
use crate::record::Record;

/// The number of taken ids in a row that a commit tolerates. One more means that the random generator is broken.
pub(crate) const COLLISIONS: u32 = 3;

/// Makes and recognises the ids of one manager.
#[derive(Debug)]
pub(crate) struct Ids {
    maker: IdMaker,
    keying: Keying,
    /// Set if a session's token is its sealed record instead of its id.
    tokens: Option<SealedTokens>,
    /// The mark in this manager's records if their keys are plain ids, which do not tell namespaces apart.
    namespace: Option<[u8; 8]>,
    /// The session cookie's name and `=`.
    cookie: Box<[u8]>,
}

/// The ids of a request that may be alive.
#[derive(Default)]
pub(crate) struct Candidates {
    pub(crate) first: Option<Named>,
    pub(crate) others: Vec<Named>,
    /// Hashes of the presented values that are no ids; empty if no listener wants their event.
    pub(crate) malformed: Vec<IdHash>,
}

impl Candidates {
    /// The largest number of ids that are looked up for one request.
    pub(crate) const MOST: usize = 4;

    fn add(&mut self, name: Named) {
        let Some(first) = &self.first else {
            self.first = Some(name);
            return;
        };
        let known = first.key() == name.key() || self.others.iter().any(|other| other.key() == name.key());
        // One id over the limit is enough to know that there are too many.
        if !known && self.others.len() < Self::MOST {
            self.others.push(name);
        }
    }

    /// Returns true if the request takes at most one lookup.
    pub(crate) fn are_plain(&self) -> bool {
        self.others.is_empty() && self.malformed.is_empty()
    }
}

impl Ids {
    pub(crate) fn new(
        maker: IdMaker,
        keying: Keying,
        tokens: Option<SealedTokens>,
        namespace: Option<[u8; 8]>,
        cookie_name: &str,
    ) -> Self {
        let cookie = [cookie_name.as_bytes(), b"="].concat().into();
        Ids { maker, keying, tokens, namespace, cookie }
    }

    /// Returns a fresh id and its key.
    pub(crate) fn new_name(&self) -> Result<Named> {
        let mut text = [0; MAX_ID_LEN];
        let id = self.maker.write(&mut text)?;
        Ok(self.keying.named(id))
    }

    /// Makes ids with `func` from now on.
    pub(crate) fn switch_hash(&self, func: HashFunc, key: &[u8]) -> Result<()> {
        self.maker.switch(func, key)
    }

    /// Returns `id` and its key.
    pub(crate) fn name_of(&self, id: &SessionId) -> Named {
        self.keying.named(id.expose().as_bytes())
    }

    /// Returns the key of the session in `record`; `None` unless the token is the record, which then contains its own id.
    pub(crate) fn own_key(&self, record: &Record) -> Option<StoreKey> {
        self.tokens.as_ref()?;
        record.token_id().map(|id| self.name_of(&id).key().clone())
    }

    /// Returns true if a session's token is its sealed record.
    pub(crate) fn token_is_record(&self) -> bool {
        self.tokens.is_some()
    }

    /// Returns the key of `name` from before ids were hashed, and `name` under its hashed key. `None` if ids are not hashed, or if the
    /// id may be a hash itself.
    pub(crate) fn plain_key(&self, name: &Named) -> Option<(StoreKey, Named)> {
        let plain = self.keying.plain_key(name)?;
        Some((plain, self.keying.named(name.id_bytes())))
    }

    /// Returns the id of a request whose only cookie is the session's, as most requests have it. Faster than
    /// [`candidates`](Self::candidates), and with the same result.
    pub(crate) fn only_candidate(&self, presented: &Presented) -> Option<Named> {
        let token = presented.only_cookie()?.as_bytes().strip_prefix(&*self.cookie)?;
        // A recognised token contains no semicolon, so the header has no second cookie.
        self.recognised(token)
    }

    /// Returns the distinct ids that a request presents. If there are too many, `first` is `None` and all are in `others`.
    ///
    /// Tokens with a length or an alphabet that this manager's ids never have are dropped here, before any I/O.
    pub(crate) fn candidates(&self, presented: &Presented, events: &Events) -> Candidates {
        let mut found = Candidates::default();
        if presented.is_blank() {
            return found;
        }
        // A malformed token is kept and reported later: the caller may hold a lock, and a listener may call anything.
        let keeps_malformed = events.wanted(EventKind::MalformedId);
        let mut add = |token: &[u8], name: Option<Named>| match name {
            Some(name) => found.add(name),
            None if keeps_malformed && found.malformed.len() < Candidates::MOST => {
                found.malformed.push(events.hash_of_token(token));
            }
            None => {}
        };
        let mut cookies = 0;
        each_token(presented.cookies(), self.cookie_name(), |token| {
            cookies += 1;
            let unescaped = || self.maker.unescaped(token).map(|id| self.keying.named(&id));
            add(token, self.recognised(token).or_else(unescaped));
        });
        if let (0, Some(token)) = (cookies, presented.id().map(HeaderValue::as_bytes)) {
            add(token, self.recognised(token));
        }
        if found.others.len() >= Candidates::MOST {
            found.others.extend(found.first.take());
        }
        found
    }

    /// Returns true if a request presents any value as its session, whether it is alive or not.
    #[allow(dead_code, reason = "the protection against forged requests calls this, and it is a feature")]
    pub(crate) fn are_presented(&self, presented: &Presented) -> bool {
        let mut found = presented.id().is_some();
        each_token(presented.cookies(), self.cookie_name(), |_| found = true);
        found
    }

    fn cookie_name(&self) -> &[u8] {
        self.cookie.strip_suffix(b"=").unwrap_or(&self.cookie)
    }

    /// Returns the name to ask the provider for, if `token` can be one of this manager's.
    #[inline]
    fn recognised(&self, token: &[u8]) -> Option<Named> {
        match &self.tokens {
            None => self.maker.recognises(token).then(|| self.keying.named(token)),
            Some(tokens) => recognised_record(tokens, token),
        }
    }

    /// Returns the session that `name` has led to.
    #[inline(always)]
    pub(crate) fn stored(&self, name: Named, record: Record) -> Stored {
        match &self.tokens {
            None => Stored { name, record, by: By::Own },
            Some(_) => self.stored_record(name, record),
        }
    }

    #[cold]
    fn stored_record(&self, name: Named, record: Record) -> Stored {
        let name = record.token_id().map_or(name, |id| self.name_of(&id));
        Stored { name, record, by: By::Own }
    }

    /// Returns the name to look up for the newest state of `stored`: its own, or its token where that is the record.
    pub(crate) fn name_again(&self, stored: &Stored) -> Result<Named> {
        match &self.tokens {
            None => Ok(stored.name.clone()),
            Some(tokens) => Ok(Keying::Clear.named(&tokens.seal(&stored.name.id(), &stored.record)?)),
        }
    }

    /// Returns the new `record` with the mark of this manager's namespace, if its records need one.
    pub(crate) fn marked(&self, record: Record) -> Record {
        match &self.namespace {
            Some(mark) => record.with_namespace(mark),
            None => record,
        }
    }

    /// Returns true if `record` has the mark of another namespace.
    #[inline]
    pub(crate) fn is_foreign(&self, record: &Record) -> bool {
        self.namespace.as_ref().is_some_and(|mark| record.is_of_another_namespace(mark))
    }
}

/// Returns the name of `token` if it can be a sealed record. Cold, so that `Ids::recognised` stays small enough to be inlined.
#[cold]
fn recognised_record(tokens: &SealedTokens, token: &[u8]) -> Option<Named> {
    tokens.recognises(token).then(|| Keying::Clear.named(token))
}

/// Returns the error of a commit that has drawn more than [`COLLISIONS`] taken ids.
#[cold]
pub(crate) fn repeats_itself() -> Error {
    Error::new(ErrorKind::Random, Collisions)
}

#[derive(Debug, thiserror::Error)]
#[error("expected a fresh id, found {} in a row that are taken; the random generator repeats itself", COLLISIONS + 1)]
struct Collisions;
