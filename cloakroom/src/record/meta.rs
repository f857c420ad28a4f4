//! The metadata of a session: everything in its record but the data.

use std::time::SystemTime;

use super::{Device, IndexEntry, IndexKind, Label, Lifetime};
use crate::clock::Millis;
use crate::principal::{Level, Principal};

/// The metadata of a session: version, times, user, labels and device.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub(crate) times: Times,
    pub(crate) principal: Option<Principal>,
    /// Of its own, where the manager's policy does not count.
    pub(crate) lifetime: Option<Lifetime>,
    /// The time by which the session ends though its policy would let it live longer, as an identity provider may ask.
    pub(crate) ends_by: Option<Millis>,
    pub(crate) level: Option<Level>,
    pub(crate) device: Option<Device>,
    pub(crate) labels: Vec<Label>,
    pub(crate) sealing: Sealing,
}

/// The form in which the data beside a [`Meta`] is stored. It does not count for equality.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sealing {
    Open,
    /// The key that sealed the record, as the sealed bytes name it.
    By([u8; 8]),
}

impl PartialEq for Sealing {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The numbers of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    pub(crate) version: u64,
    pub(crate) created: Millis,
    /// The time when the present id was issued.
    pub(crate) issued: Millis,
    pub(crate) last_active: Millis,
    pub(crate) idle_deadline: Millis,
    pub(crate) absolute_deadline: Millis,
    pub(crate) authenticated: Option<Millis>,
}

impl Meta {
    /// Returns the metadata of an anonymous session that begins `at` that time, at version 1. It ends at `ends`, used or not.
    ///
    /// [`Record::encode`](super::Record::encode) has an example.
    pub fn begin(at: SystemTime, ends: SystemTime) -> Meta {
        let (at, ends) = (at.into(), ends.into());
        let times = Times {
            version: 1,
            created: at,
            issued: at,
            last_active: at,
            idle_deadline: ends,
            absolute_deadline: ends,
            authenticated: None,
        };
        Meta::new(times, None)
    }

    /// Sets the version. Every change needs a higher one than the record that it was made from.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Meta {
        self.times.version = version;
        self
    }

    /// Sets the time of the last use.
    #[must_use]
    pub fn with_last_active(mut self, at: SystemTime) -> Meta {
        self.times.last_active = at.into();
        self
    }

    /// Sets the user, and the time of the login.
    #[must_use]
    pub fn with_principal(mut self, principal: Principal, authenticated: SystemTime) -> Meta {
        self.principal = Some(principal);
        self.times.authenticated = Some(authenticated.into());
        self
    }

    /// Returns the version, which every change increases. A provider compares it before it replaces the record.
    pub fn version(&self) -> u64 {
        self.times.version
    }

    /// Returns the time at which the session began.
    pub fn created(&self) -> SystemTime {
        self.times.created.into()
    }

    /// Returns [the time of last use](crate::guide::lifetimes#the-time-of-last-use) as it was last written. It may be up to 60 s too early.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Manager, MemoryProvider, Principal, testkit::TestSession};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # TestSession::new(&sessions).principal("alice").headers().await;
    /// for device in sessions.sessions_of(&Principal::new("alice")?).await? {
    ///     let unused = device.meta.last_active().elapsed().unwrap_or_default();
    ///     assert!(unused.as_secs() < 60, "last used less than a minute ago");
    /// }
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn last_active(&self) -> SystemTime {
        self.times.last_active.into()
    }

    /// Returns the earlier of the session's two deadlines. From this instant on it is expired.
    ///
    /// The other methods of the record count by the same instant: see [`Record::expires`](super::Record::expires).
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::system();
    /// let idle = testkit::record(&clock).idle(Duration::from_secs(60)).absolute(Duration::from_secs(3600)).build();
    /// let meta = idle.meta();
    /// assert_eq!(meta.expires(), meta.created() + Duration::from_secs(60));
    /// assert_eq!(meta.absolute_deadline(), Some(meta.created() + Duration::from_secs(3600)));
    /// # }
    /// ```
    pub fn expires(&self) -> SystemTime {
        self.times.deadline().into()
    }

    /// Returns the time at which the session ends even if it is used; `None` if the policy sets no such time.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let record = || testkit::record(&Clock::system());
    /// let meta = record().absolute(Duration::from_secs(8 * 60 * 60)).build().meta();
    /// assert_eq!(meta.absolute_deadline(), Some(meta.created() + Duration::from_secs(8 * 60 * 60)));
    /// assert_eq!(record().no_absolute().build().meta().absolute_deadline(), None);
    /// # }
    /// ```
    pub fn absolute_deadline(&self) -> Option<SystemTime> {
        let deadline = self.times.absolute_deadline;
        (deadline != Millis::NEVER).then(|| deadline.into())
    }

    /// Returns the time of the user's last login; `None` for an anonymous session.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    ///
    /// let record = || testkit::record(&Clock::system());
    /// assert!(record().build().meta().authenticated().is_none());
    /// let meta = record().principal("alice").build().meta();
    /// assert_eq!(meta.authenticated(), Some(meta.created()), "the session began with the login");
    /// # }
    /// ```
    pub fn authenticated(&self) -> Option<SystemTime> {
        self.times.authenticated.map(SystemTime::from)
    }

    /// Returns the user whom the session belongs to; `None` for an anonymous session.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Returns the level of authentication; `None` for an anonymous session.
    ///
    /// A session that [needs a higher one](crate::Session::require_level) asks the user to authenticate again.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Level, Manager, MemoryProvider, Principal, testkit::TestSession};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # TestSession::new(&sessions).principal("alice").level(Level::new(2)).headers().await;
    /// let list = sessions.sessions_of(&Principal::new("alice")?).await?;
    /// assert_eq!(list[0].meta.level(), Some(Level::new(2)));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn level(&self) -> Option<Level> {
        self.principal.as_ref().map(|_| self.level.unwrap_or_default())
    }

    /// Returns the device, if the application has set one.
    ///
    /// [`Session::set_device`](crate::Session::set_device) sets it at the login, for a list of the user's devices:
    ///
    /// ```
    /// # use cloakroom::{Device, Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # let mut request = http::HeaderMap::new();
    /// # request.insert("user-agent", "curl/8.5".parse().unwrap());
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_device(Device::of_request(&request))?;
    /// session.save().await?;
    /// let list = sessions.sessions_of(&Principal::new("alice")?).await?;
    /// assert_eq!(list[0].meta.device().and_then(Device::user_agent), Some("curl/8.5"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// Returns the labels by which the session is found, besides its user.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// Returns true if a store finds the session by `entry`.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, Principal, providers::IndexEntry, testkit};
    ///
    /// let meta = testkit::record(&Clock::system()).principal("alice").build().meta();
    /// assert!(meta.is_indexed_by(&IndexEntry::from(&Principal::new("alice")?)));
    /// assert!(!meta.is_indexed_by(&IndexEntry::from(&Principal::new("bob")?)));
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn is_indexed_by(&self, entry: &IndexEntry) -> bool {
        match entry.kind() {
            IndexKind::Principal => self.principal().is_some_and(|user| user.as_str() == entry.value()),
            IndexKind::Label => self.labels.iter().any(|label| label.as_str() == entry.value()),
        }
    }

    pub(crate) fn new(times: Times, principal: Option<Principal>) -> Meta {
        Meta {
            times,
            principal,
            lifetime: None,
            ends_by: None,
            level: None,
            device: None,
            labels: Vec::new(),
            sealing: Sealing::Open,
        }
    }
}

impl Times {
    pub(crate) fn deadline(&self) -> Millis {
        self.idle_deadline.min(self.absolute_deadline)
    }
}
