//! Every setting in one place: what both doors fill, and what is checked before anything runs.

mod advice;
mod format;
mod json;
mod policy;

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

pub use crate::codec::Codec;
pub use crate::cookie::{CookieConfig, SameSite};
pub use crate::id::HashFunc;
pub use advice::Advice;
pub use format::Format;
pub use policy::{OverLimit, Policy};

/// The effective settings of a manager.
///
/// Filled by [`Manager::builder`](crate::Manager::builder) or read from a configuration text, checked as a whole, then fixed.
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
    pub(crate) limits: Limits,
    pub(crate) commit_on_server_error: bool,
    pub(crate) event_key: EventKey,
    pub(crate) provider_config: ProviderConfig,
    pub(crate) durability: Option<Box<str>>,
    /// The keys that seal what is stored, where it is to be sealed.
    pub(crate) seal: Option<KeyRing>,
    /// Until when records are taken that are not sealed.
    pub(crate) unsealed_until: Option<Millis>,
    /// Until when sessions are found that are stored under their plain ids.
    pub(crate) plain_ids_until: Option<Millis>,
}

/// A provider's own string. It may hold a password, so `Debug` hides it.
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

/// How ids are made.
#[derive(Clone, PartialEq)]
pub(crate) struct IdConfig {
    pub(crate) func: HashFunc,
    /// Empty: a random one for the process.
    pub(crate) key: Box<str>,
    pub(crate) prefix: Box<str>,
    /// Bytes; the id is their hex.
    pub(crate) length: Option<usize>,
}

impl fmt::Debug for IdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdConfig").field("func", &self.func).finish_non_exhaustive()
    }
}

impl Default for Config {
    /// The builder's defaults.
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
    /// The settings of the string door: every key of the seed's documentation, and ours. Keys match without regard
    /// to case; an unknown one is an error that names the nearest known.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the key, what was found and what is expected.
    pub fn from_json(text: &str) -> Result<Self> {
        let config = json::parse(text)?;
        config.check()?;
        Ok(config)
    }

    /// The cookie's settings.
    pub fn cookie(&self) -> &CookieConfig {
        &self.cookie
    }

    /// How long a session lives unused.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// How long the session of a visitor who has not logged in lives unused: at most the idle timeout.
    pub fn anonymous_timeout(&self) -> Duration {
        self.anonymous_timeout.map_or(self.idle_timeout, |timeout| timeout.min(self.idle_timeout))
    }

    /// How many sessions the store may hold before no anonymous one begins any more; `None`: any number.
    pub fn session_quota(&self) -> Option<u64> {
        self.session_quota
    }

    /// How long a session lives at most; `None`: as long as it is used.
    pub fn absolute_timeout(&self) -> Option<Duration> {
        self.absolute_timeout
    }

    /// How old an id may grow before it is replaced in passing; `None`: never.
    pub fn rotate_every(&self) -> Option<Duration> {
        self.rotate_every
    }

    /// How long a rotated id still leads to its session, for the requests that were under way.
    pub fn rotation_grace(&self) -> Duration {
        self.rotation_grace
    }

    /// Whether the use of a rotated id after its grace ends every session of its user.
    pub fn end_user_on_reuse(&self) -> bool {
        self.end_user_on_reuse
    }

    /// How long an id that was replaced, or whose session was ended, is remembered as such.
    pub fn longest_request(&self) -> Duration {
        self.longest_request
    }

    /// The most sessions that a user may have, and what happens to one more; `None`: as many as they like.
    pub fn user_limit(&self) -> Option<(NonZeroUsize, OverLimit)> {
        self.user_limit
    }

    /// How long after a login has replaced an id a change under that id is refused, since the browser may just be receiving
    /// the login's cookie: 5 s, and never longer than the longest request.
    pub fn arrival_grace(&self) -> Duration {
        const ARRIVAL_GRACE: Duration = Duration::from_secs(5);
        ARRIVAL_GRACE.min(self.longest_request)
    }

    /// The time between two rounds of garbage collection.
    pub fn gc_interval(&self) -> Duration {
        self.gc_interval
    }

    /// The longest that one load or one commit may wait for the provider.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The codec of new records.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// In whose layout the provider is to keep sessions.
    pub fn format(&self) -> Format {
        self.format
    }

    /// In whose layout sessions may lie that are to be moved to this manager's: `"migrateFrom"` at the string door.
    pub fn migrate_from(&self) -> Option<Format> {
        self.migrate_from
    }

    /// Whether a persistent provider is given hashes of ids and never the ids.
    pub fn hash_ids(&self) -> bool {
        self.hash_ids
    }

    /// What separates this manager's sessions from another's in the same store; the cookie's name where none was given.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.cookie.name)
    }

    /// The keys that seal what is stored; `None` where it is not sealed.
    pub fn seal(&self) -> Option<&KeyRing> {
        self.seal.as_ref()
    }

    /// The provider's own configuration string, from the string door.
    pub fn provider_config(&self) -> &str {
        &self.provider_config.0
    }

    /// The value of `"durability"`, from the string door.
    pub fn durability(&self) -> Option<&str> {
        self.durability.as_deref()
    }

    /// The least time between two notes of a use. It is a twentieth of `shortest`, the shortest time that a use renews, and a minute
    /// at most.
    pub(crate) fn touch_interval(shortest: Duration) -> Duration {
        (shortest / 20).min(Duration::from_secs(60))
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
    /// The settings for the provider whose sessions are to be moved to this one's.
    #[cfg(feature = "beego")]
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

    /// What another library's layout has no place for, or what cannot be moved from it.
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
        let homeless = [
            ("hashIds", "a key other than the id", self.hash_ids),
            ("absoluteTimeout", "the time when a session began", self.absolute_timeout.is_some()),
            ("rotateEvery", "a trace of an id that was replaced", self.rotate_every.is_some()),
            ("sessionsPerUser", "the user of a session", self.user_limit.is_some()),
            ("namespace", "a key other than the id", self.namespace.is_some()),
        ];
        let found = homeless.into_iter().find(|(_, _, found)| *found);
        found.map(|(key, what, _)| ConfigError::Homeless { key, format: self.format, what })
    }
}

#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error(
        "{key}: the format {format} has no place for {what}; drop the setting, or take the format native"
    )]
    Homeless { key: &'static str, format: Format, what: &'static str },
    #[error("migrateFrom: expected another format than native, to which sessions are moved")]
    MigrateFrom,
    #[error("migrateFrom: sessions are moved to native ones, and format is {format}; drop one of the two")]
    MigrateTo { format: Format },
    #[error(
        "migrateFrom: sessions of {from} lie under their ids, and those moved would, too; set \"hashIds\": true, which keeps them apart"
    )]
    MigrateInClear { from: Format },
    #[error("{what}: expected {least:?} to {longest:?}, found {found:?}")]
    Time { what: &'static str, found: Duration, least: Duration, longest: Duration },
    #[error("the limit on {what}: expected 1 to {most}, found {found}")]
    Limit { what: &'static str, found: usize, most: usize },
    #[error(
        "sessionIdLength: expected 16 to 64 bytes (128 bits are the least that OWASP ASVS 7.2.3 takes), found {found}"
    )]
    IdLength { found: usize },
    #[error(
        "sessionIDPrefix: expected at most 32 letters, digits, - and _, found another character or more of them"
    )]
    IdPrefix,
    #[error("the event key (eventKey): expected at least {least} bytes, or none for a random one, found {found}", least = EventKey::MIN_LEN)]
    EventKey { found: usize },
    #[error("the namespace: expected at most 128 bytes without control characters, found others or more")]
    Namespace,
    #[error(
        "cookieLifeTime is set but enableSetCookie is false: no cookie would carry it; drop one of the two"
    )]
    LifetimeWithoutCookie,
}
