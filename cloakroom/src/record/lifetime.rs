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
    /// Returns a lifetime that ends when the session was unused for `timeout`. It has no absolute timeout.
    ///
    /// ```
    /// use cloakroom::Lifetime;
    /// use std::time::Duration;
    ///
    /// let quarter = Lifetime::idle(Duration::from_secs(15 * 60));
    /// assert_eq!(quarter.idle_timeout(), Duration::from_secs(15 * 60));
    /// assert_eq!((quarter.absolute_timeout(), quarter.is_persistent()), (None, false));
    /// ```
    pub fn idle(timeout: Duration) -> Self {
        Lifetime { idle: timeout, absolute: None, persistent: false }
    }

    /// Returns a lifetime that ends after `time`, used or not, with a cookie that outlives the browser: "remember me".
    ///
    /// ```
    /// use cloakroom::Lifetime;
    /// use std::time::Duration;
    ///
    /// let month = Duration::from_secs(30 * 24 * 60 * 60);
    /// let remembered = Lifetime::remembered(month);
    /// assert_eq!((remembered.absolute_timeout(), remembered.is_persistent()), (Some(month), true));
    /// ```
    pub fn remembered(time: Duration) -> Self {
        Lifetime { idle: time, absolute: Some(time), persistent: true }
    }

    /// Sets the absolute timeout: the session ends `time` after the login, however much it is used. For an anonymous session, the
    /// time counts from its beginning.
    ///
    /// 1 s to 100 years. [`Session::set_lifetime`](crate::Session::set_lifetime) refuses another time.
    ///
    /// ```
    /// use cloakroom::Lifetime;
    /// use std::time::Duration;
    ///
    /// // A till: logged out after five unused minutes, and at the end of the shift.
    /// let till = Lifetime::idle(Duration::from_secs(5 * 60)).at_most(Duration::from_secs(8 * 60 * 60));
    /// assert_eq!(till.absolute_timeout(), Some(Duration::from_secs(8 * 60 * 60)));
    /// ```
    pub fn at_most(mut self, time: Duration) -> Self {
        self.absolute = Some(time);
        self
    }

    /// Sets whether the cookie outlives the browser. It never outlives the session. Default: false.
    ///
    /// ```
    /// use cloakroom::Lifetime;
    /// use std::time::Duration;
    ///
    /// // An app on a phone: logged in as long as it is used once a week.
    /// let app = Lifetime::idle(Duration::from_secs(7 * 24 * 60 * 60)).persistent(true);
    /// assert!(app.is_persistent());
    /// ```
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Returns the time for which the session lives unused.
    pub fn idle_timeout(&self) -> Duration {
        self.idle
    }

    /// Returns the time after which the session ends even if it is used. `None` means that it lives as long as it is used.
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

    /// The shortest time that a session may be given. The manager's policy has the same bounds.
    pub(crate) const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest time that a session may be given.
    pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

    /// The length of the stored field in bytes.
    pub(super) const LEN: usize = 17;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&Millis::count_in(self.idle).to_be_bytes());
        let absolute = self.absolute.map_or(u64::MAX, Millis::count_in);
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
