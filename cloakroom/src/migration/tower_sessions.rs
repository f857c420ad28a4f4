//! The sessions of tower-sessions 0.14 and 0.15, and the logins of axum-login 0.18.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use rmp_serde::Deserializer;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cookies::{CookieKey, OldSeal, each_value};
use super::session::principal_of;
use super::values::{LARGEST, MAX_DEPTH, corrupt};
use super::{MigrationSource, OldId, OldIds, OldRecords, OldSession, OldSessions, OldStore};
use crate::error::Result;
use crate::visit::Visit;

/// The key under which axum-login keeps its user.
const AXUM_LOGIN: &str = "axum-login.data";

/// The length of an id in a cookie: 16 bytes in base64url.
const ID_LEN: usize = 22;

/// A reader of the sessions of tower-sessions, for [`ManagerBuilder::migrate_from`](crate::ManagerBuilder::migrate_from).
///
/// The old store may be Redis, PostgreSQL, MySQL or SQLite. The names of the cookie and the table are those of tower-sessions unless
/// you set others. [From tower-sessions](crate::guide::from_tower_sessions) shows the whole move.
///
/// ```no_run
/// # #[cfg(all(feature = "redis", unix))]
/// # async fn show(key: &[u8]) -> cloakroom::Result<()> {
/// use cloakroom::migration::{CookieKey, TowerSessions};
/// use cloakroom::{Manager, RedisProvider};
///
/// let records = RedisProvider::builder("redis://127.0.0.1/").connect_old().await?;
/// let old = TowerSessions::new(records).signed(CookieKey::from_bytes(key)?);
/// let sessions = Manager::builder(RedisProvider::connect("redis://127.0.0.1/").await?).migrate_from(old).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TowerSessions {
    records: OldRecords,
    cookie: Box<str>,
    seal: OldSeal,
    login: Option<(Box<str>, LoginCheck)>,
}

type LoginCheck = Arc<dyn Fn(AxumLogin) -> Pin<Box<dyn Future<Output = Result<bool>> + Send>> + Send + Sync>;

/// The login that axum-login keeps in a session.
#[derive(Clone)]
pub struct AxumLogin {
    user_id: Value,
    auth_hash: Vec<u8>,
}

impl AxumLogin {
    /// Returns the user's id, as JSON.
    pub fn user_id(&self) -> &Value {
        &self.user_id
    }

    /// Returns what `AuthUser::session_auth_hash` returned at the login.
    pub fn auth_hash(&self) -> &[u8] {
        &self.auth_hash
    }
}

impl fmt::Debug for AxumLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AxumLogin").finish_non_exhaustive()
    }
}

impl TowerSessions {
    /// Returns a reader of the sessions in `store`, whose cookie is `id` and is not signed.
    pub fn new(store: impl OldStore) -> Self {
        let records = OldRecords::new(store);
        TowerSessions { records, cookie: "id".into(), seal: OldSeal::Plain, login: None }
    }

    /// Sets the name of the old cookie, as `with_name` of tower-sessions did.
    #[must_use]
    pub fn cookie_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.cookie = name.into();
        self
    }

    /// Expects a signed cookie, as after `with_signed`.
    #[must_use]
    pub fn signed(mut self, key: CookieKey) -> Self {
        self.seal = OldSeal::Signed(key);
        self
    }

    /// Expects an encrypted cookie, as after `with_private`.
    #[must_use]
    pub fn private(mut self, key: CookieKey) -> Self {
        self.seal = OldSeal::Private(key);
        self
    }

    /// Binds the user of axum-login as the moved session's [`Principal`](crate::Principal), if `check` accepts the login. Otherwise the
    /// session is anonymous.
    ///
    /// axum-login compares the stored hash with the user's present one in every request, which ends sessions after a change of the
    /// password. `check` has to do it once, at the move:
    ///
    /// ```
    /// # #[derive(Clone)] struct Users;
    /// # impl Users { async fn auth_hash(&self, _: i64) -> cloakroom::Result<Option<Vec<u8>>> { Ok(None) } }
    /// # fn show(old: cloakroom::migration::TowerSessions, users: Users) -> cloakroom::migration::TowerSessions {
    /// old.axum_login(move |login| {
    ///     let users = users.clone();
    ///     async move {
    ///         let Some(id) = login.user_id().as_i64() else { return Ok(false) };
    ///         Ok(users.auth_hash(id).await?.is_some_and(|hash| hash == login.auth_hash()))
    ///     }
    /// })
    /// # }
    /// ```
    ///
    /// The principal is the text of the user's id.
    #[must_use]
    pub fn axum_login<F>(self, check: impl Fn(AxumLogin) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<bool>> + Send + 'static,
    {
        self.axum_login_under(AXUM_LOGIN, check)
    }

    /// Does what [`axum_login`](Self::axum_login) does, if axum-login was given another `data_key`.
    #[must_use]
    pub fn axum_login_under<F>(
        mut self,
        data_key: impl Into<Box<str>>,
        check: impl Fn(AxumLogin) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<bool>> + Send + 'static,
    {
        self.login = Some((data_key.into(), Arc::new(move |login| Box::pin(check(login)))));
        self
    }

    /// Binds the user whom axum-login has logged in, if the application accepts the login.
    async fn bind_login(&self, session: &mut OldSession) -> Result<()> {
        let Some((key, check)) = &self.login else { return Ok(()) };
        let Some(stored) = session.value(key) else { return Ok(()) };
        let Ok(StoredLogin { user_id: Some(user_id), auth_hash }) = StoredLogin::deserialize(stored) else {
            return Ok(());
        };
        let principal = principal_of(&user_id);
        let login = AxumLogin { user_id, auth_hash: auth_hash.unwrap_or_default() };
        if let Some(principal) = principal
            && check(login).await?
        {
            session.set_principal(principal);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct StoredLogin {
    user_id: Option<Value>,
    auth_hash: Option<Vec<u8>>,
}

impl OldSessions for TowerSessions {
    fn find(&self, request: &Visit) -> OldIds {
        let mut found = OldIds::default();
        each_value(request.headers(), &self.cookie, |value| {
            match self.seal.open(&self.cookie, value, b"").filter(|id| id_number(id).is_some()) {
                Some(id) => found.push(OldId::new(id)),
                None => found.reject(value),
            }
        });
        found
    }

    async fn load(&self, id: &OldId) -> Result<Option<OldSession>> {
        let Some(stored) = self.records.load(id.as_str()).await? else { return Ok(None) };
        let mut session = parse(stored.bytes(), id.as_str()).map_err(corrupt)?;
        self.bind_login(&mut session).await?;
        Ok(Some(session))
    }

    async fn delete(&self, id: &OldId) -> Result<bool> {
        self.records.delete(id.as_str()).await
    }
}

impl From<TowerSessions> for MigrationSource {
    fn from(old: TowerSessions) -> Self {
        MigrationSource::new(old)
    }
}

impl fmt::Debug for TowerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessions").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

/// Returns the number of an id, which a cookie holds with its lowest byte first.
fn id_number(text: &str) -> Option<i128> {
    if text.len() != ID_LEN {
        return None;
    }
    let bytes: [u8; 16] = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
    Some(i128::from_le_bytes(bytes))
}

/// Parses a stored record: MessagePack of the id, the data and the time of expiry.
fn parse(bytes: &[u8], id: &str) -> Result<OldSession, TowerError> {
    if bytes.len() > LARGEST {
        return Err(TowerError::Size);
    }
    let mut deserializer = Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    let (number, data, expiry): (i128, Map<String, Value>, ExpiryParts) =
        Deserialize::deserialize(&mut deserializer).map_err(|_| TowerError::Form)?;
    if Some(number) != id_number(id) {
        return Err(TowerError::OtherId);
    }
    let expires = time_of(expiry).ok_or(TowerError::Time)?;
    let mut session = OldSession::new(expires);
    for (key, value) in data {
        session.insert(key, value);
    }
    Ok(session)
}

/// Year, day of the year, hour, minute, second, nanosecond; then hours, minutes and seconds by which they are ahead of UTC.
type ExpiryParts = (i32, u16, u8, u8, u8, u32, i8, i8, i8);

fn time_of(parts: ExpiryParts) -> Option<SystemTime> {
    let (year, day, hour, minute, second, nano, hours, minutes, seconds) = parts;
    let is_valid = (-9999..=9999).contains(&year)
        && (1..=366).contains(&day)
        && (hour < 24 && minute < 60 && second < 60 && nano < 1_000_000_000)
        && (-25..=25).contains(&hours)
        && (-59..=59).contains(&minutes)
        && (-59..=59).contains(&seconds);
    if !is_valid {
        return None;
    }
    let years = i64::from(year) - 1;
    // Leap days of the Gregorian calendar before this year; 719,162 days lie between the year 1 and 1970.
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let days = years * 365 + leap_days + i64::from(day) - 1 - 719_162;
    let clock = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let ahead = (i64::from(hours) * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
    // A time before 1970 has expired as well as 1970 has.
    let seconds = u64::try_from(days * 86_400 + clock - ahead).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nano))
}

#[derive(Debug, thiserror::Error)]
enum TowerError {
    #[error("a record of tower-sessions: expected at most {LARGEST} bytes, found more")]
    Size,
    #[error(
        "expected a record of tower-sessions in MessagePack, found other bytes; see which library wrote the old store"
    )]
    Form,
    #[error("a record of tower-sessions is stored under the id of another one")]
    OtherId,
    #[error("a record of tower-sessions has no valid time of expiry")]
    Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record and the cookie that tower-sessions 0.14 wrote for `{"n":1}`, until 2026-12-01 12:34:56.789 UTC.
    const RECORD: &str = "93c4100102030405060708090a0b0c0d0e0f1081a16e0193";
    const COOKIE: &str = "EA8ODQwLCgkIBwYFBAMCAQ";

    fn sample() -> Vec<u8> {
        let hex = RECORD.strip_suffix("93").unwrap().to_owned() + "99cd07eacd014f0c2238ce2f072f40000000";
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_is_parsed_as_it_was_written() {
        let session = parse(&sample(), COOKIE).unwrap();
        assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
        let expires = session.expires().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(expires.as_millis(), 1_796_128_496_789);
    }

    #[test]
    fn times_are_computed_from_their_parts() {
        let seconds =
            |parts| time_of(parts).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds((1970, 1, 0, 0, 0, 0, 0, 0, 0)), Some(0));
        assert_eq!(seconds((2000, 366, 23, 59, 59, 0, 0, 0, 0)), Some(978_307_199));
        assert_eq!(seconds((2024, 60, 1, 0, 0, 0, 1, 0, 0)), Some(1_709_164_800), "an hour ahead of UTC");
        assert_eq!(seconds((1, 1, 0, 0, 0, 0, 0, 0, 0)), Some(0), "long ago");
        for bad in [
            (2026, 0, 0, 0, 0, 0, 0, 0, 0),
            (10_000, 1, 0, 0, 0, 0, 0, 0, 0),
            (2026, 1, 24, 0, 0, 0, 0, 0, 0),
        ] {
            assert_eq!(time_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_truncated_record_is_an_error() {
        let record = sample();
        for end in 0..record.len() {
            assert!(parse(&record[..end], COOKIE).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn the_record_of_another_id_is_an_error() {
        let other = COOKIE.replace("EA8O", "EA8P");
        assert!(matches!(parse(&sample(), &other), Err(TowerError::OtherId)));
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let mut record = sample()[..20].to_vec();
        assert_eq!(record.pop(), Some(0x81), "the map of one key");
        record.extend([0x81, 0xa1, b'n']);
        record.extend([0x91; 100_000]);
        assert!(matches!(parse(&record, COOKIE), Err(TowerError::Form)));
    }
}
