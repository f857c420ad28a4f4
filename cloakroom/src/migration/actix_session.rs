//! The sessions of actix-session 0.10 and 0.11, and the logins of actix-identity 0.9.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::cookies::{CookieKey, OldSeal, each_value, unescaped};
use super::session::principal_of;
use super::values::{LARGEST, corrupt, insert_texts};
use super::{MigrationSource, OldId, OldIds, OldRecords, OldSession, OldSessions, OldStore};
use crate::cookie::CookieWriter;
use crate::error::Result;
use crate::visit::Visit;

/// The keys of actix-identity.
const ID_KEY: &str = "actix_identity.user_id";
const LOGIN_KEY: &str = "actix_identity.logged_in_at";

/// The longest session key of actix-session, in bytes.
const LONGEST_KEY: usize = 4064;

/// A reader of the sessions of actix-session, for [`ManagerBuilder::migrate_from`](crate::ManagerBuilder::migrate_from).
///
/// The old store may be Redis or the cookie itself. The user of actix-identity becomes the session's
/// [`Principal`](crate::Principal). [From actix-session](crate::guide::from_actix_session) shows the whole move.
///
/// ```no_run
/// # #[cfg(all(feature = "redis", unix))]
/// # async fn show(key: &[u8]) -> cloakroom::Result<()> {
/// use cloakroom::migration::{ActixSessions, CookieKey};
/// use cloakroom::{Manager, RedisProvider};
///
/// let records = RedisProvider::builder("redis://127.0.0.1/").connect_old().await?;
/// let old = ActixSessions::new(records, CookieKey::from_bytes(key)?);
/// let sessions = Manager::builder(RedisProvider::connect("redis://127.0.0.1/").await?).migrate_from(old).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ActixSessions {
    state: StateStore,
    cookie: Box<str>,
    seal: OldSeal,
    id_key: Box<str>,
    login_key: Box<str>,
}

/// The place where actix-session keeps a session's values.
#[derive(Clone)]
enum StateStore {
    Records { records: OldRecords, key_of: Arc<dyn Fn(&str) -> String + Send + Sync> },
    Cookie { key: CookieKey, until: SystemTime },
}

impl ActixSessions {
    /// Returns a reader of the sessions in `store`, whose cookie is `id` and is encrypted, as actix-session does by default.
    pub fn new(store: impl OldStore, key: CookieKey) -> Self {
        let key_of = Arc::new(|key: &str| key.to_owned());
        let state = StateStore::Records { records: OldRecords::new(store), key_of };
        ActixSessions::with(state, OldSeal::Private(key))
    }

    /// Returns a reader of encrypted cookies that hold the session itself: `CookieSessionStore`. They are accepted `until` a time.
    ///
    /// Such a cookie has no end of its own, so a copy of it could be moved again after its session has ended. Each cookie is therefore
    /// moved once, and blocked for 400 days. Choose a fixed day, the day of the change plus the lifetime of the old cookies, and no time that
    /// moves at each start.
    ///
    /// A *signed* cookie that holds the session cannot be moved: two visitors with the same values have the same cookie.
    ///
    /// ```
    /// # use cloakroom::migration::{ActixSessions, CookieKey};
    /// # use std::time::{Duration, SystemTime};
    /// # let key = CookieKey::from_bytes(&[1; 64])?;
    /// let first_of_february_2027 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_440_000);
    /// let old = ActixSessions::cookies(key, first_of_february_2027).cookie_name("shop");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn cookies(key: CookieKey, until: SystemTime) -> Self {
        ActixSessions::with(StateStore::Cookie { key: key.clone(), until }, OldSeal::Private(key))
    }

    fn with(state: StateStore, seal: OldSeal) -> Self {
        ActixSessions { state, cookie: "id".into(), seal, id_key: ID_KEY.into(), login_key: LOGIN_KEY.into() }
    }

    /// Sets the name of the old cookie, as `cookie_name` of actix-session did.
    #[must_use]
    pub fn cookie_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.cookie = name.into();
        self
    }

    /// Expects a signed cookie, as with `CookieContentSecurity::Signed`. It has no effect on [`cookies`](Self::cookies).
    #[must_use]
    pub fn signed(mut self) -> Self {
        if let (StateStore::Records { .. }, OldSeal::Private(key)) = (&self.state, &self.seal) {
            self.seal = OldSeal::Signed(key.clone());
        }
        self
    }

    /// Sets how a session's key becomes a key in the store, as `cache_keygen` did.
    ///
    /// ```
    /// # use cloakroom::migration::ActixSessions;
    /// # fn show(old: ActixSessions) -> ActixSessions {
    /// old.cache_keygen(|key| format!("session:{key}"))
    /// # }
    /// ```
    #[must_use]
    pub fn cache_keygen(mut self, keygen: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        if let StateStore::Records { key_of, .. } = &mut self.state {
            *key_of = Arc::new(keygen);
        }
        self
    }

    /// Sets the key of the user's id, as `id_key` of actix-identity did. By default it is `actix_identity.user_id`.
    #[must_use]
    pub fn id_key(mut self, key: impl Into<Box<str>>) -> Self {
        self.id_key = key.into();
        self
    }

    /// Sets the key of the login's time, as `login_unix_timestamp_key` of actix-identity did. By default it is
    /// `actix_identity.logged_in_at`.
    #[must_use]
    pub fn login_unix_timestamp_key(mut self, key: impl Into<Box<str>>) -> Self {
        self.login_key = key.into();
        self
    }

    /// Parses the values of a session, and binds the user of actix-identity.
    fn parse(&self, bytes: &[u8], expires: SystemTime) -> Result<OldSession, ActixError> {
        if bytes.len() > LARGEST {
            return Err(ActixError::Size);
        }
        let texts: Map<String, Value> = serde_json::from_slice(bytes).map_err(|_| ActixError::Form)?;
        let mut session = OldSession::new(expires);
        if !insert_texts(&mut session, &texts) {
            return Err(ActixError::Value);
        }
        let user = session.value(&self.id_key);
        if let Some(user) = user.and_then(principal_of) {
            session.set_principal(user);
            let at = session.value(&self.login_key).and_then(Value::as_u64);
            let at = at.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
            if let Some(at) = at {
                session.set_authenticated(at);
            }
        }
        Ok(session)
    }
}

impl OldSessions for ActixSessions {
    fn find(&self, request: &Visit) -> OldIds {
        let mut found = OldIds::default();
        each_value(request.headers(), &self.cookie, |value| {
            let text = self.seal.open(&self.cookie, value, b"");
            let id = match &self.state {
                // The encrypted value is different for each visitor, and the values inside need not be.
                // One value has many percent-encoded spellings, and must have one claim.
                StateStore::Cookie { .. } => text.and_then(|_| unescaped(value)).map(Cow::into_owned),
                StateStore::Records { .. } => text.filter(|key| {
                    (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
                }),
            };
            match id {
                Some(id) => found.push(OldId::new(id)),
                None => found.reject(value),
            }
        });
        found
    }

    async fn load(&self, id: &OldId) -> Result<Option<OldSession>> {
        let (bytes, expires) = match &self.state {
            StateStore::Records { records, key_of } => {
                let Some(stored) = records.load(&key_of(id.as_str())).await? else { return Ok(None) };
                let expires = stored.accepted_until();
                (stored.bytes().to_vec(), expires)
            }
            StateStore::Cookie { key, until } => {
                let seal = OldSeal::Private(key.clone());
                let Some(text) = seal.open(&self.cookie, id.as_str().as_bytes(), b"") else {
                    return Ok(None);
                };
                (text.into_bytes(), *until)
            }
        };
        let mut session = self.parse(&bytes, expires).map_err(corrupt)?;
        if let StateStore::Cookie { .. } = self.state {
            // The cookie itself never expires, and a later process may accept it until another time.
            session.block_until(SystemTime::now() + CookieWriter::LONGEST);
        }
        Ok(Some(session))
    }

    async fn delete(&self, id: &OldId) -> Result<bool> {
        match &self.state {
            StateStore::Records { records, key_of } => records.delete(&key_of(id.as_str())).await,
            // A copy of a cookie cannot be deleted.
            StateStore::Cookie { .. } => Ok(false),
        }
    }
}

impl From<ActixSessions> for MigrationSource {
    fn from(old: ActixSessions) -> Self {
        MigrationSource::new(old)
    }
}

impl fmt::Debug for ActixSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActixSessions").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum ActixError {
    #[error("a session of actix-session: expected at most {LARGEST} bytes, found more")]
    Size,
    #[error(
        "expected a session of actix-session, a JSON object of texts, found something else; see which library wrote the old store"
    )]
    Form,
    #[error("a value in a session of actix-session is no JSON text")]
    Value,
}
