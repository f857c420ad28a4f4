//! The settings of a manager, from the builder or the configuration string, and their checks.
//!
//! Both ways fill one [`Config`]. The builder starts from secure defaults, and [`Config::from_json`] from those of Beego. A setting
//! is checked when the manager is built, so a request never meets a configuration that cannot work. Provider constructors read a
//! `Config` too: see [`register`](crate::register).
//!
//! | type | setting |
//! |---|---|
//! | [`Policy`] | the idle and the absolute timeout that an authority recommends |
//! | [`CookieConfig`], [`SameSite`] | the session cookie |
//! | [`Codec`], [`Format`] | the encoding of values, and the layout of records |
//! | [`HashFunc`] | the form of new ids |
//! | [`OverLimit`] | the answer to one session more than a user may have |
//! | [`Advice`] | a setting that is weaker than the builder's default |
//!
//! # When a setting is judged
//!
//! | moment | what is judged | result |
//! |---|---|---|
//! | a setter of the builder | nothing: setters never fail | |
//! | [`Config::from_json`] | the keys, their types, and all values together | an error of the kind [`Config`](ErrorKind::Config) that names the key |
//! | `build`, [`Manager::new`](crate::Manager::new) | all values together, and with the capabilities of the provider | an error of the kind [`Config`](ErrorKind::Config) that names the setting |
//! | the same | settings that work but are weaker than the builder's defaults | a warning each, and [`Manager::advice`](crate::Manager::advice) |
//! | a request | nothing | |
//!
//! So the order of the setters makes no difference, and one `?` after `build` reports every mistake.

mod advice;
mod error;
mod explain;
mod format;
#[cfg(feature = "config-string")]
mod json;
mod old;
mod policy;
mod touch;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::header::HeaderName;

use crate::clock::Millis;
use crate::codec::{Limits, MAX_DEPTH};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKey;
use crate::id::{MAX_ID_LEN, are_base64url};
use crate::record::Lifetime;
use crate::seal::KeyRing;
use error::ConfigError;

pub use crate::codec::Codec;
pub use crate::cookie::{CookieConfig, SameSite};
pub use crate::id::HashFunc;
pub use advice::Advice;
pub use format::Format;
#[allow(unused_imports, reason = "the readers are made from it, and they are features")]
pub(crate) use old::{OldCookieKind, OldLibrary, OldLibraryName};
pub use policy::Policy;
pub(crate) use touch::touch_interval;

/// The reaction to a login of a user who already has the maximum number of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverLimit {
    /// Ends the session whose login is the oldest.
    EndOldest,
    /// Refuses the login with an error of kind [`ErrorKind::Refused`].
    Refuse,
}

/// The effective settings of a manager.
///
/// [`Manager::builder`](crate::Manager::builder) fills it, or [`from_json`](Self::from_json) reads it from a configuration
/// string. It is checked as a whole, and does not change afterwards. All times are [`Duration`]s.
///
/// ```
/// use cloakroom::config::Config;
/// use std::time::Duration;
///
/// let config = Config::from_json(r#"{"cookieName":"gosessionid","gclifetime":3600,"secure":false}"#)?;
/// assert_eq!(config.cookie().name(), "gosessionid");
/// assert_eq!(config.idle_timeout(), Duration::from_secs(3600));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(crate) cookie: CookieConfig,
    pub(crate) send_cookie: bool,
    pub(crate) id_header: Option<HeaderName>,
    pub(crate) ids: IdConfig,
    pub(crate) hash_ids: bool,
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) idle_timeout: Duration,
    pub(crate) anonymous_timeout: Option<Duration>,
    pub(crate) session_quota: Option<u64>,
    pub(crate) absolute_timeout: Option<Duration>,
    pub(crate) rotate_every: Option<Duration>,
    pub(crate) rotation_grace: Duration,
    pub(crate) end_user_on_reuse: bool,
    pub(crate) longest_request: Duration,
    pub(crate) user_limit: Option<(NonZeroUsize, OverLimit)>,
    pub(crate) gc_interval: Duration,
    pub(crate) deadline: Duration,
    pub(crate) codec: Codec,
    pub(crate) format: Format,
    pub(crate) migrate_from: Option<Format>,
    pub(crate) old_library: Option<Box<OldLibrary>>,
    pub(crate) limits: Limits,
    pub(crate) commit_on_server_error: bool,
    pub(crate) event_key: EventKey,
    pub(crate) provider_config: ProviderConfig,
    pub(crate) durability: Option<Box<str>>,
    /// The keys that seal stored records, if sealing is on.
    pub(crate) seal: Option<KeyRing>,
    /// The time until which unsealed records are accepted.
    pub(crate) unsealed_until: Option<Millis>,
    /// The time until which sessions under their plain ids are found.
    pub(crate) plain_ids_until: Option<Millis>,
}

/// The configuration string of a provider. It may contain a password, so `Debug` hides it.
#[derive(Clone, PartialEq)]
pub(crate) struct ProviderConfig(Box<str>);

impl From<&str> for ProviderConfig {
    fn from(text: &str) -> Self {
        ProviderConfig(text.into())
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderConfig({} bytes)", self.0.len())
    }
}

/// The form of new ids.
#[derive(Clone, PartialEq)]
pub(crate) struct IdConfig {
    pub(crate) func: HashFunc,
    /// The key of the hash function; empty for a random one per process.
    pub(crate) key: Box<str>,
    pub(crate) prefix: Box<str>,
    /// The number of random bytes whose hex is the id; `None` for the output of `func`.
    pub(crate) length: Option<usize>,
}

impl fmt::Debug for IdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdConfig").field("func", &self.func).finish_non_exhaustive()
    }
}

impl Default for Config {
    /// Returns the defaults of the builder.
    fn default() -> Self {
        Config {
            cookie: CookieConfig::default(),
            send_cookie: true,
            id_header: None,
            ids: IdConfig { func: HashFunc::Random, key: "".into(), prefix: "".into(), length: None },
            hash_ids: true,
            namespace: None,
            idle_timeout: Duration::from_secs(30 * 60),
            anonymous_timeout: None,
            session_quota: None,
            absolute_timeout: Some(Duration::from_secs(8 * 60 * 60)),
            rotate_every: None,
            rotation_grace: Duration::from_secs(30),
            end_user_on_reuse: false,
            longest_request: Duration::from_secs(60),
            user_limit: None,
            gc_interval: Duration::from_secs(60),
            deadline: Duration::from_secs(2),
            codec: Codec::MESSAGE_PACK,
            format: Format::Native,
            migrate_from: None,
            old_library: None,
            limits: Limits::DEFAULT,
            commit_on_server_error: false,
            event_key: EventKey::default(),
            provider_config: "".into(),
            durability: None,
            seal: None,
            unsealed_until: None,
            plain_ids_until: None,
        }
    }
}

impl Config {
    /// Reads the settings from a configuration string: JSON with the keys that Beego documents, and more of our own.
    ///
    /// Keys match in any letter case. A time is a whole number of seconds, and 0 means that the key is absent. The chapter
    /// [configuration](crate::guide::configuration) lists every key. [`Manager::new`](crate::Manager::new) calls this; call it
    /// yourself in the constructor of a provider that you [register](crate::register).
    ///
    /// ```
    /// use cloakroom::{ErrorKind, config::Config};
    /// use std::time::Duration;
    ///
    /// let config = Config::from_json(r#"{"cookieName": "id", "maxLifetime": 1800, "rotateEvery": 900}"#)?;
    /// assert_eq!(config.cookie().name(), "id");
    /// assert_eq!((config.idle_timeout(), config.rotate_every()), (Duration::from_secs(1800), Some(Duration::from_secs(900))));
    ///
    /// let error = Config::from_json(r#"{"cookieName": "id", "maxLifetme": 1800}"#).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("maxLifetime"), "it names the nearest key: {error}");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the text names the key, what was found and what is expected. An unknown key is an error that names the
    /// nearest known one.
    #[cfg(feature = "config-string")]
    pub fn from_json(text: &str) -> Result<Self> {
        json::from_text(text)
    }

    /// Returns the settings of the cookie.
    pub fn cookie(&self) -> &CookieConfig {
        &self.cookie
    }

    /// Returns the time without a request after which a session ends: 30 minutes by default.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Returns the idle timeout of anonymous sessions. It is at most the idle timeout.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// use std::time::Duration;
    ///
    /// let hour = Duration::from_secs(60 * 60);
    /// let builder = Manager::builder(MemoryProvider::new()).anonymous_timeout(hour);
    /// let sessions = builder.idle_timeout(hour / 2).build()?;
    /// assert_eq!(sessions.config().anonymous_timeout(), hour / 2, "never longer than a user's");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn anonymous_timeout(&self) -> Duration {
        self.anonymous_timeout.map_or(self.idle_timeout, |timeout| timeout.min(self.idle_timeout))
    }

    /// Returns the number of stored sessions from which no anonymous session begins; `None` for no limit.
    pub fn session_quota(&self) -> Option<u64> {
        self.session_quota
    }

    /// Returns the time after which a session ends even if it is used: 8 hours by default; `None` for no limit.
    ///
    /// A configuration string that does not name it has no limit, as in Beego.
    ///
    /// ```
    /// # #[cfg(feature = "config-string")] {
    /// use cloakroom::config::Config;
    ///
    /// assert_eq!(Config::default().absolute_timeout().map(|time| time.as_secs()), Some(8 * 60 * 60));
    /// assert_eq!(Config::from_json(r#"{"cookieName": "id"}"#)?.absolute_timeout(), None);
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn absolute_timeout(&self) -> Option<Duration> {
        self.absolute_timeout
    }

    /// Returns the age from which routine rotation replaces an id; `None` for no rotation.
    pub fn rotate_every(&self) -> Option<Duration> {
        self.rotate_every
    }

    /// Returns how long a rotated id still reaches its session, for requests that are running: 30 seconds by default.
    pub fn rotation_grace(&self) -> Duration {
        self.rotation_grace
    }

    /// Returns true if the use of a rotated id after its grace ends every session of the user.
    pub fn end_user_on_reuse(&self) -> bool {
        self.end_user_on_reuse
    }

    /// Returns how long the tombstone of a replaced or ended id is kept: 60 seconds by default.
    pub fn longest_request(&self) -> Duration {
        self.longest_request
    }

    /// Returns the limit of sessions per user, and what happens at one more; `None` for no limit.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, config::OverLimit};
    /// use std::num::NonZeroUsize;
    ///
    /// let three = NonZeroUsize::new(3).unwrap();
    /// let builder = Manager::builder(MemoryProvider::new()).sessions_per_user(three, OverLimit::EndOldest);
    /// assert_eq!(builder.build()?.config().user_limit(), Some((three, OverLimit::EndOldest)));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn user_limit(&self) -> Option<(NonZeroUsize, OverLimit)> {
        self.user_limit
    }

    /// Returns how long changes under an id are refused after a login has replaced it.
    ///
    /// It is 5 seconds, and at most the longest request. In that time the browser may still be receiving the new cookie.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// use std::time::Duration;
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).longest_request(Duration::from_secs(3)).build()?;
    /// assert_eq!(sessions.config().arrival_grace(), Duration::from_secs(3));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn arrival_grace(&self) -> Duration {
        const ARRIVAL_GRACE: Duration = Duration::from_secs(5);
        ARRIVAL_GRACE.min(self.longest_request)
    }

    /// Returns the time between two rounds of garbage collection: 60 seconds by default.
    pub fn gc_interval(&self) -> Duration {
        self.gc_interval
    }

    /// Returns the longest time that one load or one commit waits for the provider: 2 seconds by default.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns the codec of new records.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the layout in which the provider stores sessions.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the layout of older sessions that are moved to this manager's, set by `"migrateFrom"`.
    pub fn migrate_from(&self) -> Option<Format> {
        self.migrate_from
    }

    /// Returns true if a persistent provider stores hashes of ids, and never the ids.
    ///
    /// The builder hashes ids by default. A configuration string does so with `"hashIds": true`.
    ///
    /// ```
    /// # #[cfg(feature = "config-string")] {
    /// use cloakroom::config::Config;
    ///
    /// assert!(Config::default().hash_ids());
    /// assert!(!Config::from_json(r#"{"cookieName": "id"}"#)?.hash_ids());
    /// assert!(Config::from_json(r#"{"cookieName": "id", "hashIds": true}"#)?.hash_ids());
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn hash_ids(&self) -> bool {
        self.hash_ids
    }

    /// Returns the namespace, which separates the sessions of managers that share a store. The default is the cookie's name.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("__Host-shop").build()?;
    /// assert_eq!(sessions.config().namespace(), "__Host-shop");
    /// let sessions = Manager::builder(MemoryProvider::new()).namespace("shop").build()?;
    /// assert_eq!(sessions.config().namespace(), "shop");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.cookie.name)
    }

    /// Returns the keys that seal stored records; `None` if sealing is off.
    pub fn seal(&self) -> Option<&KeyRing> {
        self.seal.as_ref()
    }

    /// Returns the configuration string of the provider, set by `"providerConfig"`.
    ///
    /// It may hold a password. The constructor of a provider that you [register](crate::register) parses it:
    ///
    /// ```
    /// # #[cfg(feature = "config-string")] {
    /// use cloakroom::config::Config;
    ///
    /// let config = Config::from_json(r#"{"cookieName": "id", "providerConfig": "db.internal:4000"}"#)?;
    /// assert_eq!(config.provider_config(), "db.internal:4000");
    /// assert!(!format!("{config:?}").contains("db.internal"), "Debug hides it");
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn provider_config(&self) -> &str {
        &self.provider_config.0
    }

    /// Returns the value of `"durability"`.
    pub fn durability(&self) -> Option<&str> {
        self.durability.as_deref()
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.cookie.check()?;
        let problem = self.problem();
        problem.map_or(Ok(()), |problem| Err(Error::new(ErrorKind::Config, problem)))
    }

    fn problem(&self) -> Option<ConfigError> {
        let (second, longest) = (Lifetime::SHORTEST, Lifetime::LONGEST);
        let times = [
            ("the idle timeout (maxLifetime)", Some(self.idle_timeout), second),
            ("the timeout of anonymous sessions (anonymousTimeout)", self.anonymous_timeout, second),
            ("the absolute timeout", self.absolute_timeout, second),
            ("rotate_every (rotateEvery)", self.rotate_every, second),
            ("the grace of a rotated id (rotationGrace)", Some(self.rotation_grace), Duration::ZERO),
            ("the longest request (longestRequest)", Some(self.longest_request), second),
            ("the garbage collection interval (gclifetime)", Some(self.gc_interval), second),
            ("the deadline", Some(self.deadline), Duration::from_millis(1)),
            ("the cookie's lifetime (cookieLifeTime)", self.cookie.lifetime, second),
        ];
        let out_of_range = |&(_, time, least): &(&str, Option<Duration>, Duration)| {
            time.is_some_and(|time| time < least || time > longest)
        };
        if let Some(&(what, Some(found), least)) = times.iter().find(|time| out_of_range(time)) {
            return Some(ConfigError::Time { what, found, least, longest });
        }
        let limits = [
            ("bytes of a record", self.limits.bytes, 16 << 20),
            ("keys of a record", self.limits.keys, 65_535),
            ("levels of nesting", self.limits.depth, MAX_DEPTH),
        ];
        if let Some(&(what, found, most)) =
            limits.iter().find(|(_, found, most)| !(1..=*most).contains(found))
        {
            return Some(ConfigError::Limit { what, found, most });
        }
        if let Some(found) = self.ids.length.filter(|bytes| !(16..=64).contains(bytes)) {
            return Some(ConfigError::IdLength { found });
        }
        let prefix = &self.ids.prefix;
        if prefix.len() > MAX_ID_LEN - 128 || !are_base64url(prefix.as_bytes()) {
            return Some(ConfigError::IdPrefix);
        }
        if let Some(found) = self.event_key.too_short() {
            return Some(ConfigError::EventKey { found });
        }
        let namespace = self.namespace();
        if namespace.len() > 128 || namespace.bytes().any(|byte| byte.is_ascii_control()) {
            return Some(ConfigError::Namespace);
        }
        if let Some(problem) = self.problem_with_format() {
            return Some(problem);
        }
        (!self.send_cookie && self.id_header.is_none() && self.cookie.lifetime.is_some())
            .then_some(ConfigError::LifetimeWithoutCookie)
    }
}

impl Config {
    /// Returns the settings for the provider whose sessions are moved to this one's.
    #[cfg(all(feature = "beego", feature = "config-string"))]
    pub(crate) fn as_it_was(&self) -> Option<Config> {
        let format = self.migrate_from?;
        Some(Config {
            codec: format.codec()?,
            format,
            migrate_from: None,
            hash_ids: false,
            absolute_timeout: None,
            ..self.clone()
        })
    }

    /// Returns a setting that the layout of another library cannot store, or a migration that cannot work.
    fn problem_with_format(&self) -> Option<ConfigError> {
        if let Some(from) = self.migrate_from {
            return match self.format {
                _ if from == Format::Native => Some(ConfigError::MigrateFrom),
                Format::Native if self.hash_ids => None,
                Format::Native => Some(ConfigError::MigrateInClear { from }),
                format => Some(ConfigError::MigrateTo { format }),
            };
        }
        self.format.codec()?;
        let unstorable = [
            ("hashIds", "a key other than the id", self.hash_ids),
            ("absoluteTimeout", "the time when a session began", self.absolute_timeout.is_some()),
            ("rotateEvery", "the tombstone of a replaced id", self.rotate_every.is_some()),
            ("sessionsPerUser", "the user of a session", self.user_limit.is_some()),
            ("namespace", "a key other than the id", self.namespace.is_some()),
        ];
        let found = unstorable.into_iter().find(|(_, _, found)| *found);
        found.map(|(key, what, _)| ConfigError::Unstorable { key, format: self.format, what })
    }
}
