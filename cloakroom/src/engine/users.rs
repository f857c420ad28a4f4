//! The sessions of one user: listed, ended, and kept to a number.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tokio::sync::MutexGuard;

use super::{Engine, within};
use crate::config::OverLimit;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{Cursor, Listed, Page, Provider};

/// Sessions of a user that are asked for at once: more than nearly every user has, and a short step for every store.
const PAGE: usize = 500;

/// The most walks over a user's sessions while renames go on beside them.
const WALKS: u32 = 8;

impl Engine {
    /// The live sessions of `principal`, the one used last first.
    pub(crate) async fn sessions_of(&self, principal: &Principal) -> Result<Vec<Listed>> {
        let mut all = self.all_of(principal).await?;
        all.sort_by_key(|listed| (Reverse(listed.meta.times.last_active), listed.key.clone()));
        Ok(all)
    }

    /// Ends those sessions of `principal` that are there now and that `which` names; says how many those were.
    ///
    /// One that takes another id meanwhile is followed there. One that is begun meanwhile is not looked for: it is later. Each step
    /// has the deadline for itself, so that a user with very many sessions can be logged out. One session that cannot be ended does not
    /// keep the others alive; the error comes after them.
    pub(crate) async fn end_sessions(
        &self,
        principal: &Principal,
        which: impl Fn(&StoreKey) -> bool,
    ) -> Result<u64> {
        let all = self.all_of(principal).await?;
        self.end_each(all.into_iter().map(|listed| listed.key).filter(which)).await
    }

    /// Ends those sessions of `principal` that are there now, but for the one under `own`, which may have taken another id since.
    pub(crate) async fn end_other_sessions(
        &self,
        principal: &Principal,
        own: Option<&StoreKey>,
    ) -> Result<u64> {
        let all = self.all_of(principal).await?;
        let present = match own {
            Some(own) => within(self.config.deadline, self.present(own)).await.0?.map(|(key, _)| key),
            None => None,
        };
        let is_other = |key: &StoreKey| Some(key) != own && Some(key) != present.as_ref();
        self.end_each(all.into_iter().map(|listed| listed.key).filter(is_other)).await
    }

    async fn end_each(&self, keys: impl Iterator<Item = StoreKey>) -> Result<u64> {
        let (mut ended, mut failed) = (0, None);
        for key in keys {
            match within(self.config.deadline, self.end(&key)).await.0 {
                Ok(done) => ended += u64::from(done),
                // A store that hangs would hang at each of them.
                Err(error) if error.kind() == ErrorKind::Timeout => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// The manager's limit on the sessions of a user and what to do at it, for one who is logging in.
    fn limit(&self, login: Option<&Principal>) -> Option<(Principal, usize, OverLimit)> {
        let (limit, over) = self.config.user_limit?;
        Some((login?.clone(), limit.get(), over))
    }

    /// Has those who log in as one user do so one after the other, where more sessions than a number are refused, and refuses
    /// them. `leaving` is the key that the login takes a session away from.
    pub(crate) async fn admit(
        &self,
        login: Option<&Principal>,
        leaving: Option<&StoreKey>,
    ) -> Result<Option<MutexGuard<'_, ()>>> {
        let Some((user, limit, OverLimit::Refuse)) = self.limit(login) else { return Ok(None) };
        let turn = self.queue_for(user.as_str().as_bytes()).await;
        match self.has_others(&user, leaving, limit).await? {
            false => Ok(Some(turn)),
            true => Err(Error::new(ErrorKind::Refused, LimitError { limit })),
        }
    }

    /// After a login under `key`: whether it stands. Ends the oldest sessions of the user where there are too many, or says no.
    ///
    /// Everyone who logs in looks after their own session is stored, so whoever comes last sees all of them. All that look agree on
    /// which are the oldest, so together they end just as many as there are too many.
    pub(crate) async fn settle(&self, login: Option<&Principal>, key: &StoreKey) -> Result<bool> {
        let Some((user, limit, over)) = self.limit(login) else { return Ok(true) };
        if over == OverLimit::Refuse {
            return Ok(!self.has_others(&user, Some(key), limit).await?);
        }
        let mut all = self.all_of(&user).await?;
        all.sort_by_key(|listed| Reverse((listed.meta.times.authenticated, listed.key.clone())));
        for listed in all.iter().skip(limit) {
            self.end(&listed.key).await?;
        }
        Ok(true)
    }

    /// Whether `user` has `limit` sessions or more besides the one under `than`.
    async fn has_others(&self, user: &Principal, than: Option<&StoreKey>, limit: usize) -> Result<bool> {
        let (mut found, mut cursor) = (0, None);
        loop {
            let page = self.page_of(user, cursor).await?;
            found += page.entries.iter().filter(|listed| Some(&listed.key) != than).count();
            cursor = page.next;
            if found >= limit || cursor.is_none() {
                return Ok(found >= limit);
            }
        }
    }

    /// Every live session of `user`, each once.
    ///
    /// One page is one consistent look at the store. Between pages a session may be renamed past the cursor, so several pages are walked
    /// again until two walks find the same.
    async fn all_of(&self, user: &Principal) -> Result<Vec<Listed>> {
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

    async fn page_of(&self, user: &Principal, cursor: Option<Cursor>) -> Result<Page> {
        within(self.config.deadline, self.provider.of_principal(user, cursor, PAGE)).await.0
    }

    /// The sessions of `user` by their keys, and how many pages they took.
    async fn walk(&self, user: &Principal) -> Result<(BTreeMap<StoreKey, Listed>, usize)> {
        let (mut found, mut pages, mut cursor) = (BTreeMap::new(), 0, None);
        loop {
            let page = self.page_of(user, cursor).await?;
            found.extend(page.entries.into_iter().map(|listed| (listed.key.clone(), listed)));
            (pages, cursor) = (pages + 1, page.next);
            if cursor.is_none() {
                return Ok((found, pages));
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("session limit reached: this user has {limit} sessions; have the user end one of them first")]
struct LimitError {
    limit: usize,
}
