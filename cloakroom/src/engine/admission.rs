//! Whether one anonymous session more may begin: what keeps a flood of first visits from filling the store.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap};
use tokio::sync::Mutex;

use super::Engine;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Provider;

/// How long a count of the store is gone by, in milliseconds; what this process adds meanwhile is added to it.
const COUNT_HOLDS: u64 = 1_000;

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
    /// When the store was counted last, and how many sessions it has by now.
    counted: Mutex<Option<(Millis, u64)>>,
}

impl Admission {
    pub(crate) fn new(guard: Option<Guard>) -> Self {
        Admission { guard, ..Admission::default() }
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
        match self.count_with_one_more().await? <= quota {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Full, AdmissionError::Full { quota })),
        }
    }

    async fn count_with_one_more(&self) -> Result<u64> {
        let now = self.now();
        // Held while the store counts: those who come meanwhile go by what it says.
        let mut counted = self.admission.counted.lock().await;
        let count = match *counted {
            Some((at, count)) if now.0.abs_diff(at.0) < COUNT_HOLDS => {
                *counted = Some((at, count.saturating_add(1)));
                return Ok(count.saturating_add(1));
            }
            _ => self.provider.count().await?.saturating_add(1),
        };
        *counted = Some((now, count));
        Ok(count)
    }
}

#[derive(Debug, thiserror::Error)]
enum AdmissionError {
    #[error(
        "expected leave for one anonymous session more, found that the application's admit refuses it; try later"
    )]
    Throttled,
    #[error(
        "expected fewer than {quota} sessions in the store, found as many: no anonymous one begins; try later, or raise the quota"
    )]
    Full { quota: u64 },
}
