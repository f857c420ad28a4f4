//! A session's own lifetime, in place of the manager's policy.

use std::time::Duration;

use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};

/// The lifetime of one session, in place of the manager's policy: see [`Session::set_lifetime`](crate::Session::set_lifetime).
///
/// ```
/// use cloakroom::Lifetime;
/// use std::time::Duration;
///
/// // "Remember me": for 30 days, and over the end of the browser.
/// let remembered = Lifetime::remembered(Duration::from_secs(30 * 24 * 60 * 60));
/// assert!(remembered.is_persistent());
///
/// // A kiosk: 2 minutes unused, 20 at most.
/// let kiosk = Lifetime::idle(Duration::from_secs(120)).at_most(Duration::from_secs(20 * 60));
/// assert_eq!(kiosk.absolute_timeout(), Some(Duration::from_secs(20 * 60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub(crate) idle: Duration,
    pub(crate) absolute: Option<Duration>,
    pub(crate) persistent: bool,
}

impl Lifetime {
    /// Lives as long as it is used every `timeout`, without an absolute timeout.
    pub fn idle(timeout: Duration) -> Self {
        Lifetime { idle: timeout, absolute: None, persistent: false }
    }

    /// Lives for `time`, used or not, in a cookie that outlives the browser: "remember me".
    pub fn remembered(time: Duration) -> Self {
        Lifetime { idle: time, absolute: Some(time), persistent: true }
    }

    /// Ends `time` after the login, or after the beginning of an anonymous session, however much it is used.
    pub fn at_most(mut self, time: Duration) -> Self {
        self.absolute = Some(time);
        self
    }

    /// Sets whether the cookie outlives the browser. It never outlives the session.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Returns how long the session lives unused.
    pub fn idle_timeout(&self) -> Duration {
        self.idle
    }

    /// Returns how long it lives at most; `None`: as long as it is used.
    pub fn absolute_timeout(&self) -> Option<Duration> {
        self.absolute
    }

    /// Returns true if the cookie outlives the browser.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    pub(crate) fn check(&self) -> Result<()> {
        let range = Self::SHORTEST..=Self::LONGEST;
        let times = [Some(self.idle), self.absolute];
        match times.into_iter().flatten().find(|time| !range.contains(time)) {
            Some(found) => Err(Error::new(ErrorKind::Value, LifetimeError { found })),
            None => Ok(()),
        }
    }

    /// The times that a session may be given: what the manager's policy is bounded by, too.
    pub(crate) const SHORTEST: Duration = Duration::from_secs(1);
    pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

    /// The bytes of a field.
    pub(super) const LEN: usize = 17;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&Millis::of(self.idle).to_be_bytes());
        let absolute = self.absolute.map_or(u64::MAX, Millis::of);
        bytes[8..16].copy_from_slice(&absolute.to_be_bytes());
        bytes[16] = u8::from(self.persistent);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let (idle, rest) = bytes.split_first_chunk()?;
        let (absolute, flag) = rest.split_first_chunk()?;
        let absolute = u64::from_be_bytes(*absolute);
        Some(Lifetime {
            idle: Duration::from_millis(u64::from_be_bytes(*idle)),
            absolute: (absolute != u64::MAX).then(|| Duration::from_millis(absolute)),
            persistent: match flag {
                [0] => false,
                [1] => true,
                _ => return None,
            },
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected a lifetime of {:?} to {:?}, found {found:?}", Lifetime::SHORTEST, Lifetime::LONGEST)]
struct LifetimeError {
    found: Duration,
}
