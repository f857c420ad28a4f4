//! The sessions of one user: listed and ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::revocation::Revocation;
use super::within::within;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{AnyProvider, Cursor, Listed, Provider};
use crate::record::IndexEntry;

/// The page size: more sessions than nearly every user has, and a short step for every store.
const PAGE: usize = 500;

/// The largest number of pages of one user. At the smallest page of a built-in provider these are ten million sessions or more.
const MOST_PAGES: usize = 100_000;

/// The largest number of walks over a user's sessions while sessions are renamed.
const WALKS: u32 = 8;

/// Lists and ends the sessions of users.
#[derive(Debug)]
pub(crate) struct UserSessions {
    provider: AnyProvider,
    revocation: Arc<Revocation>,
    /// The deadline of each step.
    deadline: Duration,
}

impl UserSessions {
    pub(crate) fn new(provider: AnyProvider, revocation: Arc<Revocation>, deadline: Duration) -> Self {
        UserSessions { provider, revocation, deadline }
    }

    /// Returns the live sessions of `principal`, the most recently used one first.
    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<Listed>> {
        let mut all = self.all_of(principal).await?;
        all.sort_by_key(|listed| (Reverse(listed.meta.times.last_active), listed.key.clone()));
        Ok(all)
    }

    /// Ends those present sessions of `principal` for which `which` returns true. Returns their number.
    ///
    /// A session that takes another id meanwhile is followed. A session that begins meanwhile is later and stays. Each step has a deadline
    /// of its own, so that a user with very many sessions can be logged out. A session that cannot be ended does not keep the others
    /// alive: its error is returned after they have ended.
    pub(crate) async fn end(&self, principal: &Principal, which: impl Fn(&StoreKey) -> bool) -> Result<u64> {
        let all = self.all_of(principal).await?;
        self.end_each(all.into_iter().map(|listed| listed.key).filter(which)).await
    }

    /// Ends the present sessions of `principal` except the one under `own`, which may have taken another id since.
    pub(crate) async fn end_others(&self, principal: &Principal, own: Option<&StoreKey>) -> Result<u64> {
        let all = self.all_of(principal).await?;
        let live = match own {
            Some(own) => within(self.deadline, self.revocation.live(own)).await.0?.map(|(key, _)| key),
            None => None,
        };
        let is_other = |key: &StoreKey| Some(key) != own && Some(key) != live.as_ref();
        self.end_each(all.into_iter().map(|listed| listed.key).filter(is_other)).await
    }

    /// Ends every session of the user whose session is under `key`, or where its tombstones lead. Ends that session alone if it is
    /// anonymous or the store keeps no list.
    pub(crate) async fn end_all_of_session(&self, key: &StoreKey) -> Result<()> {
        let Some((key, record)) = self.revocation.live(key).await? else { return Ok(()) };
        match record.principal().filter(|_| self.provider.capabilities().lists) {
            Some(principal) => {
                self.end(&principal, |_| true).await?;
            }
            None => {
                self.revocation.end(&key).await?;
            }
        }
        Ok(())
    }

    async fn end_each(&self, keys: impl Iterator<Item = StoreKey>) -> Result<u64> {
        let (mut ended, mut failed) = (0, None);
        for key in keys {
            match within(self.deadline, self.revocation.end(&key)).await.0 {
                Ok(done) => ended += u64::from(done),
                // A store that hangs would hang at every session.
                Err(error) if error.kind() == ErrorKind::Timeout => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// Returns every live session of `user`, each once.
    ///
    /// A page is one consistent look at the store. Between two pages a session may be renamed past the cursor, so a list of several pages
    /// is walked until two walks find the same.
    pub(crate) async fn all_of(&self, user: &Principal) -> Result<Vec<Listed>> {
        let (mut all, mut pages) = self.walk(user).await?;
        let mut walks = 1;
        while pages > 1 && walks < WALKS {
            let (again, more) = self.walk(user).await?;
            let settled = again.keys().eq(all.keys());
            (all, pages, walks) = (again, more, walks + 1);
            if settled {
                break;
            }
        }
        Ok(all.into_values().collect())
    }

    /// Returns the sessions of `user` by their keys, and the number of pages they took.
    async fn walk(&self, user: &Principal) -> Result<(BTreeMap<StoreKey, Listed>, usize)> {
        let (mut found, mut pages) = (BTreeMap::new(), self.pages(user));
        while let Some(page) = pages.next().await? {
            found.extend(page.into_iter().map(|listed| (listed.key.clone(), listed)));
        }
        Ok((found, pages.read))
    }

    /// Begins a walk over the sessions of `user`.
    pub(crate) fn pages<'a>(&'a self, user: &'a Principal) -> Pages<'a> {
        Pages { users: self, user, next: Next::First, seen: HashSet::new(), read: 0 }
    }
}

/// A walk over the sessions of a user, page by page. It ends, even if the provider's cursors never do.
pub(crate) struct Pages<'a> {
    users: &'a UserSessions,
    user: &'a Principal,
    next: Next,
    /// The cursors that the provider has returned.
    seen: HashSet<Box<str>>,
    read: usize,
}

/// The page that a walk reads next.
enum Next {
    First,
    After(Cursor),
    None,
}

impl Pages<'_> {
    /// Returns the next page; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        let cursor = match std::mem::replace(&mut self.next, Next::None) {
            Next::First => None,
            Next::After(cursor) => Some(cursor),
            Next::None => return Ok(None),
        };
        let entry = IndexEntry::from(self.user);
        let page = self.users.provider.indexed(&entry, cursor, PAGE);
        let page = within(self.users.deadline, page).await.0?;
        self.read += 1;
        if let Some(cursor) = page.next {
            if !self.seen.insert(cursor.as_str().into()) || self.read == MOST_PAGES {
                let provider = self.users.provider.capabilities().name;
                return Err(Error::new(ErrorKind::Unavailable, EndlessList { provider }));
            }
            self.next = Next::After(cursor);
        }
        Ok(Some(page.entries))
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a last page of the user's sessions, found none; `indexed` of the provider \"{provider}\" repeats a cursor or never \
     ends, which is a fault of that provider"
)]
struct EndlessList {
    provider: &'static str,
}
