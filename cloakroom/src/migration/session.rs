//! A session of the old library, on its way to a record of this one.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock::Millis;
use crate::codec::{Buffer, Codec, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::principal::{Level, Principal};
use crate::record::{Lifetime, Meta, Record, Times};

/// A session as the old store has it: its values, its user, and the time until which the old library would accept it.
///
/// A reader ([`OldSessions`](super::OldSessions)) makes it from stored bytes. The manager makes a record of it, with the manager's own
/// timeouts unless [`set_lifetime`](Self::set_lifetime) or [`end_by`](Self::end_by) says otherwise. `Debug` shows no values.
///
/// ```
/// use cloakroom::{Principal, migration::OldSession};
/// use std::time::{Duration, SystemTime};
///
/// let mut session = OldSession::new(SystemTime::now() + Duration::from_secs(3600));
/// session.set("cart", &["tea", "milk"])?;
/// session.set_principal(Principal::new("user-4711")?);
/// assert_eq!(session.get::<Vec<String>>("cart")?.unwrap()[0], "tea");
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct OldSession {
    values: serde_json::Map<String, Value>,
    expires: Millis,
    blocked_until: Option<Millis>,
    principal: Option<Principal>,
    authenticated: Option<Millis>,
    level: Option<Level>,
    lifetime: Option<Lifetime>,
    ends_by: Option<Millis>,
}

/// The login time of a moved session whose login time nobody knows: long ago, so that no recent login is assumed. It is not 0, which stands
/// for no login in a record.
const UNKNOWN: Millis = Millis(1);

impl OldSession {
    /// Returns a session without values that the old library accepts until `expires`.
    ///
    /// A session that has expired is not moved. After the move, the old id stays blocked until `expires`, or longer with
    /// [`block_until`](Self::block_until).
    pub fn new(expires: SystemTime) -> Self {
        OldSession {
            values: serde_json::Map::new(),
            expires: expires.into(),
            blocked_until: None,
            principal: None,
            authenticated: None,
            level: None,
            lifetime: None,
            ends_by: None,
        }
    }

    /// Returns the value under `key`; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if the value does not have this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.values.get(key).map(T::deserialize);
        value.transpose().map_err(|_| Error::new(ErrorKind::Value, OldValueError::Type))
    }

    /// Returns the value under `key` as JSON; `None` if there is none.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if JSON cannot express the value.
    pub fn set<T: Serialize + ?Sized>(&mut self, key: impl Into<String>, value: &T) -> Result<()> {
        let value = serde_json::to_value(value);
        self.insert(key, value.map_err(|_| Error::new(ErrorKind::Value, OldValueError::NotJson))?);
        Ok(())
    }

    /// Sets `key` to a JSON value.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        self.values.insert(key.into(), value);
    }

    /// Removes `key`, and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key)
    }

    /// Returns every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Returns the time until which the old library accepts the session.
    pub fn expires(&self) -> SystemTime {
        self.expires.into()
    }

    /// Returns the user; `None` for an anonymous session.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Sets the user whom the old application has logged in.
    ///
    /// Without [`set_authenticated`](Self::set_authenticated), the login counts as long past:
    /// [`Session::require_recent`](crate::Session::require_recent) fails until the next login.
    pub fn set_principal(&mut self, principal: Principal) {
        self.principal = Some(principal);
    }

    /// Sets the user whose id the old application keeps under `key`: a text or a whole number. Returns false if there is none.
    ///
    /// ```
    /// # use cloakroom::migration::OldSession;
    /// # use std::time::{Duration, SystemTime};
    /// # let mut session = OldSession::new(SystemTime::now() + Duration::from_secs(3600));
    /// session.set("user_id", &4711)?;
    /// assert!(session.set_principal_from("user_id"));
    /// assert_eq!(session.principal().unwrap().as_str(), "4711");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn set_principal_from(&mut self, key: &str) -> bool {
        let found = self.value(key).and_then(principal_of);
        found.map(|principal| self.set_principal(principal)).is_some()
    }

    /// Makes the session anonymous.
    pub fn clear_principal(&mut self) {
        (self.principal, self.authenticated, self.level) = (None, None, None);
    }

    /// Sets the time of the user's login.
    pub fn set_authenticated(&mut self, at: SystemTime) {
        self.authenticated = Some(at.into());
    }

    /// Sets the level at which the user proved who they are. It counts only with a user.
    pub fn set_level(&mut self, level: Level) {
        self.level = Some(level);
    }

    /// Gives the session a lifetime of its own, as [`Session::set_lifetime`](crate::Session::set_lifetime) does. It begins at the move.
    ///
    /// ```
    /// # use cloakroom::{Lifetime, migration::OldSession};
    /// # use std::time::{Duration, SystemTime};
    /// # let mut session = OldSession::new(SystemTime::now() + Duration::from_secs(3600));
    /// session.set_lifetime(Lifetime::remembered(Duration::from_secs(30 * 24 * 3600)));
    /// ```
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = Some(lifetime);
    }

    /// Keeps the session until [`expires`](Self::expires) with a lasting cookie, also where the manager's timeouts are shorter. Each use
    /// then prolongs it by as much as is left at the move.
    pub fn remember(&mut self) {
        let left = self.expires().duration_since(SystemTime::now()).unwrap_or_default();
        self.set_lifetime(Lifetime::remembered(left));
    }

    /// Sets a time at which the moved session ends, however much it is used.
    pub fn end_by(&mut self, at: SystemTime) {
        self.ends_by = Some(at.into());
    }

    /// Blocks the old id until `at` after the move, if that is later than [`expires`](Self::expires). It must be a time after which no copy
    /// of the old session is accepted, whatever this process or a later one is configured to accept.
    ///
    /// ```
    /// # use cloakroom::migration::OldSession;
    /// # use std::time::{Duration, SystemTime};
    /// let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_440_000);
    /// let mut session = OldSession::new(expires);
    /// session.block_until(expires + Duration::from_secs(30 * 24 * 3600));
    /// assert_eq!(session.expires(), expires);
    /// ```
    pub fn block_until(&mut self, at: SystemTime) {
        self.blocked_until = Some(at.into());
    }

    pub(crate) fn deadline(&self) -> Millis {
        self.expires
    }

    pub(crate) fn blocked_until(&self) -> Millis {
        self.blocked_until.map_or(self.expires, |at| at.max(self.expires))
    }

    /// Returns the time of the login; `None` for an anonymous session.
    pub(crate) fn authenticated(&self, now: Millis) -> Option<Millis> {
        // A login of the future would never be old.
        self.principal.as_ref().map(|_| self.authenticated.unwrap_or(UNKNOWN).min(now).max(UNKNOWN))
    }

    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    pub(crate) fn ends_by(&self) -> Option<Millis> {
        self.ends_by
    }

    /// Returns the record of this session with the given `times`.
    ///
    /// Keys that begin with U+0001 are left out, since the library reserves them for itself.
    pub(crate) fn record(&self, times: Times, codec: Codec, limits: &Limits) -> Result<Record> {
        let meta = Meta {
            lifetime: self.lifetime,
            ends_by: self.ends_by,
            level: self.principal.as_ref().and(self.level),
            ..Meta::new(times, self.principal.clone())
        };
        let own = self.values.iter().filter(|(key, _)| !key.starts_with('\u{1}'));
        let changes = own.map(|(key, value)| codec.encode(key, value, limits)).collect::<Result<Vec<_>>>()?;
        let mut data = Buffer::new();
        codec.merge(b"", &changes, limits, &mut data)?;
        Ok(Record::new(&meta, codec, &data))
    }
}

impl fmt::Debug for OldSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldSession")
            .field("keys", &self.values.len())
            .field("principal", &self.principal)
            .field("expires", &self.expires())
            .finish_non_exhaustive()
    }
}

/// Returns the principal of a user's id in JSON: a text or a whole number.
pub(crate) fn principal_of(id: &Value) -> Option<Principal> {
    match id {
        Value::String(text) => Principal::new(text).ok(),
        Value::Number(number) if !number.is_f64() => Principal::new(number.to_string()).ok(),
        _ => None,
    }
}

#[derive(Debug, thiserror::Error)]
enum OldValueError {
    #[error(
        "an old session's value does not have the type that was asked for; see which type the old application stored"
    )]
    Type,
    #[error("expected a value that JSON can express; use text keys in maps")]
    NotJson,
}
