//! The sessions of axum_session 0.22.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::USER_AGENT;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cookies::{CookieKey, OldSeal, decrypted, each_value};
use super::values::{LARGEST, corrupt, insert_texts};
use super::{MigrationSource, OldId, OldIds, OldRecords, OldSession, OldSessions, OldStore};
use crate::error::Result;
use crate::visit::Visit;

/// The longest id, in bytes: that of the table's column.
const LONGEST_ID: usize = 128;

/// A reader of the sessions of axum_session, for [`ManagerBuilder::migrate_from`](crate::ManagerBuilder::migrate_from).
///
/// The old store may be Redis, PostgreSQL, MySQL or SQLite. The names of the cookie and the table are those of axum_session unless you
/// set others. [From axum_session](crate::guide::from_axum_session) shows the whole move.
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # async fn show(key: &[u8]) -> cloakroom::Result<()> {
/// use cloakroom::migration::{AxumSessions, CookieKey, OldTable};
/// use cloakroom::{Manager, PostgresProvider};
///
/// let url = "postgres://app@localhost/app";
/// let records = PostgresProvider::builder(url).connect_old(OldTable::axum_session()).await?;
/// let old = AxumSessions::new(records).signed(CookieKey::from_bytes(key)?);
/// let sessions = Manager::builder(PostgresProvider::connect(url).await?).migrate_from(old).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AxumSessions {
    records: OldRecords,
    cookie: Box<str>,
    seal: OldSeal,
    message: Option<Message>,
    prefix: Box<str>,
    database_key: Option<CookieKey>,
}

/// Returns the text that is signed behind an id.
type Message = Arc<dyn Fn(&Visit) -> String + Send + Sync>;

impl AxumSessions {
    /// Returns a reader of the sessions in Redis, under keys that begin with `sessions:`. The cookie is `session` and is not signed.
    pub fn redis(store: impl OldStore) -> Self {
        AxumSessions::new(store).key_prefix("sessions:")
    }

    /// Returns a reader of the sessions in a SQL database. The cookie is `session` and is not signed.
    pub fn new(store: impl OldStore) -> Self {
        AxumSessions {
            records: OldRecords::new(store),
            cookie: "session".into(),
            seal: OldSeal::Plain,
            message: None,
            prefix: "".into(),
            database_key: None,
        }
    }

    /// Sets the name of the old cookie, as `with_session_name` did. Write `__Host-` before it if `with_prefix_with_host` was on.
    #[must_use]
    pub fn cookie_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.cookie = name.into();
        self
    }

    /// Sets the text before an id in the store: in Redis, the name that `with_table_name` has set, and a colon.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Expects a signed cookie, as after `with_key`. The signature also covers the client's user agent.
    ///
    /// By default axum_session also signs the client's address, if the server knows it (`ConnectInfo`): see
    /// [`client_address`](Self::client_address).
    #[must_use]
    pub fn signed(mut self, key: CookieKey) -> Self {
        self.seal = OldSeal::Signed(key);
        if self.message.is_none() {
            self.message = Some(Arc::new(|visit| message_of(None, visit)));
        }
        self
    }

    /// Sets how the client's address is found that axum_session has signed with the cookie.
    ///
    /// ```
    /// # use cloakroom::migration::AxumSessions;
    /// use std::net::SocketAddr;
    ///
    /// #[derive(Clone)]
    /// struct ConnectInfo(SocketAddr); // that of `axum::extract`
    ///
    /// # fn show(old: AxumSessions) -> AxumSessions {
    /// old.client_address(|visit| visit.extensions().get::<ConnectInfo>().map(|info| info.0.ip()))
    /// # }
    /// ```
    #[must_use]
    pub fn client_address(self, address: impl Fn(&Visit) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.signed_message(move |visit| message_of(address(visit), visit))
    }

    /// Sets the text that is signed behind the id: the address, `X-Forwarded-For`, `Forwarded`, `X-Real-IP` and the user agent, joined by
    /// semicolons, where each that is off is empty.
    ///
    /// It is empty altogether if `with_ip_and_user_agent` was off:
    ///
    /// ```
    /// # use cloakroom::migration::AxumSessions;
    /// # fn show(old: AxumSessions) -> AxumSessions {
    /// old.signed_message(|_| String::new())
    /// # }
    /// ```
    #[must_use]
    pub fn signed_message(mut self, message: impl Fn(&Visit) -> String + Send + Sync + 'static) -> Self {
        self.message = Some(Arc::new(message));
        self
    }

    /// Expects encrypted records, as after `with_database_key`.
    #[must_use]
    pub fn database_key(mut self, key: CookieKey) -> Self {
        self.database_key = Some(key);
        self
    }

    fn key(&self, id: &OldId) -> String {
        format!("{}{}", self.prefix, id.as_str())
    }

    /// Parses a stored session.
    fn parse(&self, bytes: &[u8], id: &str, expires: SystemTime) -> Result<OldSession, AxumSessionError> {
        if bytes.len() > LARGEST {
            return Err(AxumSessionError::Size);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| AxumSessionError::Form)?;
        let opened = match &self.database_key {
            Some(key) => decrypted(key, id.as_bytes(), text).ok_or(AxumSessionError::Key)?,
            None => text.to_owned(),
        };
        let stored: StoredData = serde_json::from_str(&opened).map_err(|_| AxumSessionError::Form)?;
        let mut session = OldSession::new(expires);
        if !insert_texts(&mut session, &stored.data) {
            return Err(AxumSessionError::Value);
        }
        if stored.longterm {
            session.remember();
        }
        Ok(session)
    }
}

#[derive(Deserialize)]
struct StoredData {
    data: Map<String, Value>,
    longterm: bool,
}

/// Returns the message of axum_session's default settings.
fn message_of(address: Option<IpAddr>, visit: &Visit) -> String {
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    let agent = visit.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    format!("{address};;;;{agent}")
}

impl OldSessions for AxumSessions {
    fn find(&self, request: &Visit) -> OldIds {
        let mut found = OldIds::default();
        let message = self.message.as_ref().map(|message| message(request)).unwrap_or_default();
        each_value(request.headers(), &self.cookie, |value| {
            let id = self.seal.open(&self.cookie, value, message.as_bytes());
            let id = id.filter(|id| {
                (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
            });
            match id {
                Some(id) => found.push(OldId::new(id)),
                None => found.reject(value),
            }
        });
        found
    }

    async fn load(&self, id: &OldId) -> Result<Option<OldSession>> {
        let Some(stored) = self.records.load(&self.key(id)).await? else { return Ok(None) };
        let expires = stored.accepted_until();
        self.parse(stored.bytes(), id.as_str(), expires).map(Some).map_err(corrupt)
    }

    async fn delete(&self, id: &OldId) -> Result<bool> {
        self.records.delete(&self.key(id)).await
    }
}

impl From<AxumSessions> for MigrationSource {
    fn from(old: AxumSessions) -> Self {
        MigrationSource::new(old)
    }
}

impl fmt::Debug for AxumSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AxumSessions").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum AxumSessionError {
    #[error("a session of axum_session: expected at most {LARGEST} bytes, found more")]
    Size,
    #[error(
        "expected a session of axum_session in JSON, found something else; if its database key was set, set `database_key`"
    )]
    Form,
    #[error(
        "a session of axum_session does not open with this `database_key`; set the old application's key"
    )]
    Key,
    #[error("a value in a session of axum_session is no JSON text")]
    Value,
}
