//! The limit on the number of a user's sessions.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::sync::MutexGuard;

use super::locks::KeyedLocks;
use super::revocation::Revocation;
use super::users::UserSessions;
use crate::config::{Config, OverLimit};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;

/// Keeps the sessions of each user at or below the configured number.
#[derive(Debug)]
pub(crate) struct UserLimit {
    limit: Option<(usize, OverLimit)>,
    users: Arc<UserSessions>,
    revocation: Arc<Revocation>,
    /// The locks of users who are logging in. They are separate from the locks of sessions to avoid deadlock: a login may hold one of
    /// each.
    logins: KeyedLocks,
}

impl UserLimit {
    pub(crate) fn new(config: &Config, users: Arc<UserSessions>, revocation: Arc<Revocation>) -> Self {
        let limit = config.user_limit.map(|(limit, over)| (limit.get(), over));
        UserLimit { limit, users, revocation, logins: KeyedLocks::new() }
    }

    /// Refuses a login of a user who has as many sessions as allowed, if the configuration says so.
    ///
    /// `leaving` is the key of the session that the login replaces. The returned guard makes other logins of that user wait until the new
    /// session is stored.
    pub(crate) async fn admit(
        &self,
        login: Option<&Principal>,
        leaving: Option<&StoreKey>,
    ) -> Result<Option<MutexGuard<'_, ()>>> {
        let (Some(user), Some((limit, OverLimit::Refuse))) = (login, self.limit) else { return Ok(None) };
        let turn = self.logins.lock(user.as_str().as_bytes()).await;
        if self.has_others(user, leaving, limit).await? {
            return Err(Error::new(ErrorKind::Refused, UserLimitError { limit }));
        }
        Ok(Some(turn))
    }

    /// Checks the limit after a login was stored under `key`: ends the user's oldest sessions that exceed it. Returns false if instead the
    /// login has to be withdrawn.
    ///
    /// Every login checks after its own session is stored, so the last one sees all sessions. All of them agree on which are the oldest,
    /// so together they end exactly those that are too many.
    pub(crate) async fn enforce(&self, login: Option<&Principal>, key: &StoreKey) -> Result<bool> {
        let (Some(user), Some((limit, over))) = (login, self.limit) else { return Ok(true) };
        if over == OverLimit::Refuse {
            return Ok(!self.has_others(user, Some(key), limit).await?);
        }
        let mut all = self.users.all_of(user).await?;
        all.sort_by_key(|listed| Reverse((listed.meta.times.authenticated, listed.key.clone())));
        for listed in all.iter().skip(limit) {
            self.revocation.end(&listed.key).await?;
        }
        Ok(true)
    }

    /// Returns true if `user` has `limit` sessions or more besides the one under `own`.
    async fn has_others(&self, user: &Principal, own: Option<&StoreKey>, limit: usize) -> Result<bool> {
        let (mut found, mut pages) = (0, self.users.pages(user));
        while let Some(page) = pages.next().await? {
            found += page.iter().filter(|listed| Some(&listed.key) != own).count();
            if found >= limit {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("session limit reached: {limit} sessions for this user; have the user end one of them first")]
struct UserLimitError {
    limit: usize,
}
