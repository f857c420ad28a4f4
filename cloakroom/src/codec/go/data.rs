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
    /// Returns a session without keys. A session of [`Codec::SCS`] also needs a [deadline](Self::with_deadline).
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    ///
    /// assert!(GoSession::empty(Codec::GOB).keys()?.is_empty());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn empty(codec: Codec) -> Self {
        GoSession { codec, data: Vec::new() }
    }

    /// Reads a session from the bytes that Go stored. No bytes at all are a session without keys.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, config::Codec, go::GoSession};
    ///
    /// let error = GoSession::read(Codec::GOB, b"not a gob").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Corrupt);
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the bytes are not a gob of the codec's type.
    pub fn read(codec: Codec, data: &[u8]) -> Result<Self> {
        codec.check(data)?;
        Ok(GoSession { codec, data: data.to_vec() })
    }

    /// Returns the session with `key` set to `value`. A value of `None` deletes the key.
    ///
    /// A key that exists keeps its Go type if the new value fits it. A new key gets the type that the chapter [from
    /// Beego](crate::guide::from_beego#types-of-values) lists.
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("name", "alice")?.set("visits", &3)?;
    /// let without = session.set("name", &None::<String>)?;
    /// assert_eq!(without.keys()?, ["visits"]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Session::set`](crate::Session::set).
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Self> {
        let limits = Limits { bytes: usize::MAX, keys: usize::MAX, ..Limits::DEFAULT };
        let change = self.codec.encode(key, value, &limits)?;
        let mut data = Buffer::new();
        self.codec.merge(&self.data, &[change], &limits, &mut data)?;
        Ok(GoSession { codec: self.codec, data: data.to_vec() })
    }

    /// Returns the value under `key`, or `None` if the session has no such key.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, config::Codec, go::GoSession};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("visits", &3)?;
    /// assert_eq!(session.get::<u32>("visits")?, Some(3));
    /// assert_eq!(session.get::<u32>("clicks")?, None);
    /// assert_eq!(session.get::<Vec<u8>>("visits").unwrap_err().kind(), ErrorKind::Value);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Session::get`](crate::Session::get).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.one(key)?.map(|bytes| self.codec.decode(&bytes)).transpose()
    }

    /// Returns the value under `key` with its Go type, as a gob of a map of this one key.
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("name", "alice")?.set("visits", &3)?;
    /// let one = session.one("visits")?.expect("a value");
    /// assert_eq!(GoSession::read(Codec::GOB, &one)?.keys()?, ["visits"]);
    /// assert!(session.one("clicks")?.is_none());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the gob cannot be read.
    pub fn one(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.codec.find(&self.data, key)?.map(|bytes| bytes.into_owned()))
    }

    /// Returns every key, in the order of storage. A key that is not a string in Go has the name that [`go_key`](crate::go::go_key)
    /// gives.
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::{GoSession, go_key}};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("name", "alice")?.set(&go_key("int", 5), "five")?;
    /// assert_eq!(session.keys()?.len(), 2);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    /// use std::time::{Duration, SystemTime};
    ///
    /// let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200);
    /// let session = GoSession::empty(Codec::SCS).with_deadline(end)?;
    /// assert_eq!(session.deadline()?.map(SystemTime::from), Some(end));
    /// assert!(GoSession::empty(Codec::GOB).deadline()?.is_none());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("visits", &3)?;
    /// assert!(session.rewritten()?.means(&session)?);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the gob cannot be read.
    #[cfg(feature = "testkit")]
    pub fn rewritten(&self) -> Result<Self> {
        self.set("\0", &())
    }

    /// Returns true if both have the same keys with the same values of the same Go types, in the same order.
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("visits", &3)?;
    /// assert!(session.means(&session.clone())?);
    /// assert!(!session.means(&session.set("visits", "3")?)?, "a string is no number");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if a gob cannot be read.
    #[cfg(feature = "testkit")]
    pub fn means(&self, other: &Self) -> Result<bool> {
        self.codec.same(&self.data, &other.data)
    }

    /// Returns the gob, for a store to keep.
    ///
    /// ```
    /// use cloakroom::{config::Codec, go::GoSession};
    ///
    /// let session = GoSession::empty(Codec::GOB).set("visits", &3)?;
    /// let again = GoSession::read(Codec::GOB, session.as_bytes())?;
    /// assert_eq!(again.get::<u32>("visits")?, Some(3));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
