//! Whether one anonymous session more may begin: what keeps a flood of first visits from filling the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::{Engine, within};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Provider;
use crate::sync::Mutex;

/// How long a count of the store is used, in milliseconds; what this process adds meanwhile is added to it.
const COUNT_HOLDS: u64 = 1_000;

/// The share of the deadline for which a visitor waits for a new count while there is an older one.
const SHARE_FOR_COUNT: u32 = 4;

/// The longest that a count may take. Nobody waits for it that long, but no other begins before it ends.
const LONGEST_COUNT: Duration = Duration::from_secs(60);

/// The request that would begin a session: what [`ManagerBuilder::admit`](crate::ManagerBuilder::admit) goes by.
pub struct Visit {
    headers: HeaderMap,
    extensions: Extensions,
}

impl Visit {
    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What layers outside the session layer have noted of the request, such as the client's address; empty without the
    /// layer.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").finish_non_exhaustive()
    }
}

/// Says whether an anonymous session may begin.
pub(crate) type Guard = Arc<dyn Fn(&Visit) -> bool + Send + Sync>;

/// Who asks before an anonymous session begins, and what is known of the store's size.
#[derive(Default)]
pub(crate) struct Admission {
    guard: Option<Guard>,
    counts: Arc<Counts>,
}

/// The store's size as far as it is known. A count outlives the request that began it, so that a store which counts slowly is counted once and
/// not once for every visitor.
#[derive(Default)]
struct Counts {
    known: Mutex<Known>,
    /// Held by whoever counts.
    counting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Known {
    /// When the store was counted last, and how many sessions it has by now.
    last: Option<(Millis, u64)>,
    /// How many anonymous sessions this process has let begin so far.
    admitted: u64,
}

impl Counts {
    /// True if the store has room for one session more, which then counts; `None` if there is no count that is good enough.
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
    pub(crate) fn new(guard: Option<Guard>) -> Self {
        Admission { guard, ..Admission::default() }
    }

    pub(super) fn has_guard(&self) -> bool {
        self.guard.is_some()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("guard", &self.guard.is_some()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Whether anything is asked before an anonymous session begins.
    #[inline]
    pub(crate) fn asks_before_creation(&self) -> bool {
        self.has_guard() || self.config.session_quota.is_some()
    }

    /// Whether the application is asked before an anonymous session begins.
    #[inline]
    pub(super) fn has_guard(&self) -> bool {
        self.admission.guard.is_some()
    }

    /// What is kept of a request for the guard, if there is one.
    pub(super) fn visit(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<Visit> {
        self.has_guard().then(|| Visit { headers: headers.clone(), extensions: extensions.clone() })
    }

    /// Lets an anonymous session begin, or says why not. Sessions of users are never asked.
    pub(crate) async fn admit_anonymous(&self, visit: Option<&Visit>) -> Result<()> {
        if let (Some(guard), Some(visit)) = (&self.admission.guard, visit)
            && !guard(visit)
        {
            return Err(Error::new(ErrorKind::Throttled, AdmissionError::Throttled));
        }
        let Some(quota) = self.config.session_quota else { return Ok(()) };
        match self.has_room(quota).await? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Full, AdmissionError::Full { quota })),
        }
    }

    /// True if the store has room for one session more: by a count of the last second or, while a newer one takes long, by the one before.
    async fn has_room(&self, quota: u64) -> Result<bool> {
        let now = self.now();
        let counts = &self.admission.counts;
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
        let patience = self.config.deadline / SHARE_FOR_COUNT;
        let has_older = counts.known.lock().last.is_some();
        let counting = self.count(now, turn);
        let counted = if has_older { within(patience, counting).await.0 } else { counting.await };
        match counted {
            Err(error) if has_older && error.kind() == ErrorKind::Timeout => {}
            counted => counted?,
        }
        // Others may have added to it since.
        counts
            .admit(quota, |_| true)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, AdmissionError::Uncounted))
    }

    /// Counts the store, whether or not anybody waits for it: what was counted is kept, and `turn` ends then.
    async fn count(&self, now: Millis, turn: OwnedMutexGuard<()>) -> Result<()> {
        let (provider, counts) = (self.provider.clone(), Arc::clone(&self.admission.counts));
        let before = counts.known.lock().admitted;
        let counting = async move {
            let count = within(LONGEST_COUNT, provider.count()).await.0?;
            let mut known = counts.known.lock();
            // Which of those that have begun meanwhile were counted, nobody knows.
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
            // Without a runtime the provider needs none either.
            Err(_) => counting.await,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum AdmissionError {
    #[error("the application's admit refused one more anonymous session; try again later")]
    Throttled,
    #[error(
        "session quota reached: the store holds {quota} sessions, and no anonymous one begins; try again later, or raise the quota"
    )]
    Full { quota: u64 },
    #[error("the store's sessions could not be counted")]
    Uncounted,
}
