//! The data of one Go session, apart from any store.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Envelope, GoTime, corrupt, parse};
use crate::codec::{Buffer, Codec, Limits};
use crate::error::{Error, ErrorKind, Result};

/// The data of one session that a Go program stored, for programs that move sessions themselves, and for tests.
///
/// [`Codec::GOB`] reads sessions of Beego and of gorilla/sessions' Redis store, and [`Codec::SCS`] those of scs. The rules of
/// the codec hold: an existing key keeps its Go type, and keys that are not set are written back unchanged.
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
    /// Returns a session without keys.
    pub fn empty(codec: Codec) -> Self {
        GoSession { codec, data: Vec::new() }
    }

    /// Reads a session from the bytes that Go stored. No bytes at all are a session without keys.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the bytes are not a gob of the codec's type.
    pub fn read(codec: Codec, data: &[u8]) -> Result<Self> {
        codec.check(data)?;
        Ok(GoSession { codec, data: data.to_vec() })
    }

    /// Returns the session with `key` set to `value`. A value of `None` deletes the key.
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

    /// Returns the value under `key`; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`Session::get`](crate::Session::get).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.one(key)?.map(|bytes| self.codec.decode(&bytes)).transpose()
    }

    /// Returns the value under `key` with its Go type, as a gob of a map of this one key.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the gob cannot be read.
    pub fn one(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.codec.find(&self.data, key)?.map(|bytes| bytes.into_owned()))
    }

    /// Returns every key, in the order of storage. Keys that are not strings in Go have the names of
    /// [`go_key`](crate::go::go_key).
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the gob cannot be read.
    pub fn keys(&self) -> Result<Vec<String>> {
        self.codec.keys(&self.data)
    }

    /// Returns the time at which a session of scs ends; `None` if it has no deadline, as no session of [`Codec::GOB`] has.
    ///
    /// A session past its deadline is readable like any other. The store decides whether it is still valid.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the field holds something other than a time.
    pub fn deadline(&self) -> Result<Option<GoTime>> {
        if self.codec != Codec::SCS {
            return Ok(None);
        }
        parse(&self.data, Envelope::Deadline)?.deadline().map_err(corrupt)
    }

    /// Returns the session of scs with this deadline. scs drops a session without one, so a new session needs it.
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
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for [`Codec::GOB`], which stores no deadline.
    pub fn with_deadline(&self, deadline: impl Into<GoTime>) -> Result<Self> {
        if self.codec != Codec::SCS {
            return Err(Error::new(ErrorKind::Unsupported, GoError::Deadline));
        }
        let mut session = parse(&self.data, Envelope::Deadline)?;
        session.set_deadline(deadline.into()).map_err(corrupt)?;
        Ok(GoSession { codec: self.codec, data: session.into_gob().map_err(corrupt)? })
    }

    /// Decodes the session and encodes it again.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the gob cannot be read.
    #[cfg(feature = "testkit")]
    pub fn rewritten(&self) -> Result<Self> {
        self.set("\0", &())
    }

    /// Returns true if both have the same keys with the same values of the same Go types, in the same order.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if a gob cannot be read.
    #[cfg(feature = "testkit")]
    pub fn means(&self, other: &Self) -> Result<bool> {
        self.codec.same(&self.data, &other.data)
    }

    /// Returns the gob.
    pub fn as_bytes(&self) -> &[u8] {
        &self.data
    }
}

#[derive(Debug, thiserror::Error)]
enum GoError {
    #[error(
        "expected a session of scs, found one of Codec::GOB, which stores no deadline; set the lifetime in the store"
    )]
    Deadline,
}
