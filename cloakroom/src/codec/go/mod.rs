//! One session of Go's, apart from any store, and how it travels in a cookie.

mod cookie;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::gob::{self, Envelope, GoTime};
use super::{Buffer, Codec, Limits, MapError, corrupt};
use crate::error::{Error, ErrorKind, Result};

pub use cookie::BeegoCookies;

/// The data of one session as a Go service has stored it: [`Codec::GOB`] is that of Beego and of gorilla/sessions' Redis store,
/// [`Codec::SCS`] that of scs. For those who move sessions themselves, and for tests; `docs/from-go.md` shows how.
///
/// It keeps the rules of the codec: a key that is there keeps its Go type, and what is not set goes back as it came.
///
/// ```
/// use cloakroom::{config::Codec, go::GoSession};
///
/// let session = GoSession::empty(Codec::GOB).set("n", &1)?;
/// let read = GoSession::read(Codec::GOB, session.as_bytes())?;
/// assert_eq!((read.keys()?, read.get::<u8>("n")?), (vec!["n".to_owned()], Some(1)));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoSession {
    codec: Codec,
    data: Vec<u8>,
}

impl GoSession {
    /// A session without keys.
    pub fn empty(codec: Codec) -> Self {
        GoSession { codec, data: Vec::new() }
    }

    /// The session that `data` is.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if it is none.
    pub fn read(codec: Codec, data: &[u8]) -> Result<Self> {
        codec.check(data)?;
        Ok(GoSession { codec, data: data.to_vec() })
    }

    /// The session with `value` under `key`.
    ///
    /// # Errors
    /// Those of [`Session::set`](crate::Session::set).
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Self> {
        let limits = Limits { bytes: usize::MAX, keys: usize::MAX, ..Limits::DEFAULT };
        let change = self.codec.encode(key, value, &limits)?;
        let mut data = Buffer::new();
        self.codec.merge(&self.data, &[change], &limits, &mut data)?;
        Ok(GoSession { codec: self.codec, data: data.to_vec() })
    }

    /// What is under `key`.
    ///
    /// # Errors
    /// Those of [`Session::get`](crate::Session::get).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.one(key)?.map(|bytes| self.codec.decode(&bytes)).transpose()
    }

    /// What is under `key`, with its Go type: as a gob of a map of this one key.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub fn one(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.codec.find(&self.data, key)?.map(|bytes| bytes.into_owned()))
    }

    /// Every key.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub fn keys(&self) -> Result<Vec<String>> {
        self.codec.keys(&self.data)
    }

    /// When a session of scs ends at the latest, used or not; `None` where it does not say, as one of [`Codec::GOB`] never does.
    /// An expired one is read like any other: whether it still counts is the store's to say.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) where what stands there is no time.
    pub fn deadline(&self) -> Result<Option<GoTime>> {
        let found = match self.codec {
            Codec::SCS => gob::deadline(&self.data, Envelope::Deadline),
            _ => Ok(None),
        };
        found.map_err(|error| corrupt(MapError::Gob(error)))
    }

    /// The session of scs with this deadline. scs drops one without: set it on what is to be a new session there.
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    /// use std::time::{Duration, SystemTime};
    ///
    /// let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200);
    /// let session = GoSession::empty(Codec::SCS).set("userID", "42")?.with_deadline(end)?;
    /// assert_eq!(session.deadline()?.map(SystemTime::from), Some(end));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for [`Codec::GOB`], which has no place for it.
    pub fn with_deadline(&self, deadline: impl Into<GoTime>) -> Result<Self> {
        if self.codec != Codec::SCS {
            return Err(Error::new(ErrorKind::Unsupported, GoError::Deadline));
        }
        let data = gob::with_deadline(&self.data, deadline.into(), Envelope::Deadline)
            .map_err(|error| corrupt(MapError::Gob(error)))?;
        Ok(GoSession { codec: self.codec, data })
    }

    /// The same session, decoded and encoded anew.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    #[cfg(feature = "testkit")]
    pub fn rewritten(&self) -> Result<Self> {
        self.set("\0", &())
    }

    /// Whether the two are equal in meaning: the same keys with the same values of the same Go types, in the same order.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    #[cfg(feature = "testkit")]
    pub fn means(&self, other: &Self) -> Result<bool> {
        self.codec.same(&self.data, &other.data)
    }

    /// The gob.
    pub fn as_bytes(&self) -> &[u8] {
        &self.data
    }
}

#[derive(Debug, thiserror::Error)]
enum GoError {
    #[error(
        "expected a session of scs, which holds its deadline, found one of another library; it lies with the store there"
    )]
    Deadline,
}
