//! The decision whether an anonymous session may begin. It keeps a flood of first visits from filling the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::storage::Storage;
use super::within::within;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Provider;
use crate::sync::Mutex;
use crate::visit::Visit;

/// The time for which a count of the store is used, in milliseconds. Sessions that this process begins meanwhile are added to it.
const COUNT_HOLDS: u64 = 1_000;

/// The share of the deadline for which a visitor waits for a new count if there is an older one.
const SHARE_FOR_COUNT: u32 = 4;

/// The deadline of a count. No visitor waits that long, but no other count begins before this one ends.
const LONGEST_COUNT: Duration = Duration::from_secs(60);

/// The application's `admit` callback.
pub(crate) type AdmitCallback = Arc<dyn Fn(&Visit) -> bool + Send + Sync>;

/// Admits anonymous sessions, by the application's callback and by the quota.
pub(crate) struct Admission {
    guard: Option<AdmitCallback>,
    quota: Option<u64>,
    storage: Storage,
    deadline: Duration,
    counts: Arc<Counts>,
}

/// The known size of the store. A count outlives the request that began it, so a store that counts slowly is counted once and not once
/// for every visitor.
#[derive(Default)]
struct Counts {
    known: Mutex<StoreSize>,
    /// Held by the task that counts.
    counting: Arc<tokio::sync::Mutex<()>>,
}

/// The last count of the store, and the anonymous sessions that were admitted since.
#[derive(Default)]
struct StoreSize {
    /// The time of the last count, and the number of sessions it found plus those admitted since.
    last: Option<(Millis, u64)>,
    /// The number of anonymous sessions that this process has admitted.
    admitted: u64,
}

impl Counts {
    /// Returns true and counts the session if the quota has room for it; `None` if `is_good` accepts no count.
    fn admit(&self, quota: u64, is_good: impl Fn(Millis) -> bool) -> Option<bool> {
        let mut known = self.known.lock();
        let (_, count) = known.last.as_mut().filter(|(at, _)| is_good(*at))?;
        let has_room = *count < quota;
        if has_room {
            *count += 1;
            known.admitted = known.admitted.wrapping_add(1);
        }
        Some(has_room)
    }
}

impl Admission {
    pub(crate) fn new(
        guard: Option<AdmitCallback>,
        quota: Option<u64>,
        storage: Storage,
        deadline: Duration,
    ) -> Self {
        Admission { guard, quota, storage, deadline, counts: Arc::default() }
    }

    /// Returns true if anything is checked before an anonymous session begins.
    #[inline]
    pub(crate) fn is_needed(&self) -> bool {
        self.guard.is_some() || self.quota.is_some()
    }

    /// Admits one anonymous session, which then counts towards the quota. Sessions of users need no admission.
    pub(crate) async fn admit(&self, visit: Option<&Visit>) -> Result<()> {
        if let (Some(guard), Some(visit)) = (&self.guard, visit)
            && !guard(visit)
        {
            return Err(Error::new(ErrorKind::Throttled, AdmissionError::Throttled));
        }
        let Some(quota) = self.quota else { return Ok(()) };
        if self.has_room(quota).await? {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Full, AdmissionError::Full { quota }))
        }
    }

    /// Returns true if the store has room for another session. It uses a count of the last second, or the one before while a new count
    /// takes long.
    async fn has_room(&self, quota: u64) -> Result<bool> {
        let now = self.storage.now();
        let counts = &self.counts;
        let is_fresh = |at: Millis| now.0.abs_diff(at.0) < COUNT_HOLDS;
        if let Some(has_room) = counts.admit(quota, is_fresh) {
            return Ok(has_room);
        }
        let counting = Arc::clone(&counts.counting);
        let turn = match Arc::clone(&counting).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                if let Some(has_room) = counts.admit(quota, |_| true) {
                    return Ok(has_room);
                }
                counting.lock_owned().await
            }
        };
        if let Some(has_room) = counts.admit(quota, is_fresh) {
            return Ok(has_room);
        }
        let patience = self.deadline / SHARE_FOR_COUNT;
        let has_older = counts.known.lock().last.is_some();
        let counting = self.count(now, turn);
        let counted = if has_older { within(patience, counting).await.0 } else { counting.await };
        match counted {
            Err(error) if has_older && error.kind() == ErrorKind::Timeout => {}
            counted => counted?,
        }
        // Other requests may have been admitted by this count already.
        counts
            .admit(quota, |_| true)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, AdmissionError::Uncounted))
    }

    /// Counts the store. The count is kept, and `turn` ends after it, even if the caller stops waiting.
    async fn count(&self, now: Millis, turn: OwnedMutexGuard<()>) -> Result<()> {
        let (provider, counts) = (self.storage.provider.clone(), Arc::clone(&self.counts));
        let before = counts.known.lock().admitted;
        let counting = async move {
            let count = within(LONGEST_COUNT, provider.count()).await.0?;
            let mut known = counts.known.lock();
            // The count may include the sessions that began meanwhile or not, so all of them are added.
            known.last = Some((now, count.saturating_add(known.admitted.wrapping_sub(before))));
            drop(known);
            drop(turn);
            Ok(())
        };
        match Handle::try_current() {
            Ok(runtime) => match runtime.spawn(counting).await {
                Ok(counted) => counted,
                Err(error) => Err(Error::new(ErrorKind::Unavailable, error)),
            },
            // A provider that is polled without a runtime needs none for this either.
            Err(_) => counting.await,
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("guard", &self.guard.is_some())
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum AdmissionError {
    #[error("the application's `admit` callback refused a new anonymous session; try again later")]
    Throttled,
    #[error(
        "session quota reached: the store holds {quota} sessions or more, so no anonymous one begins; try again later, or raise the quota"
    )]
    Full { quota: u64 },
    #[error("the store's sessions could not be counted")]
    Uncounted,
}
