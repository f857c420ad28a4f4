//! The `cookie` provider in a configuration string, with Beego's keys.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::CookieProvider;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::seal::{KeyRing, SealKey};

/// The keys that Beego documents. Beego 2.x also has `secure`, which is a key of the manager here.
const KEYS: [&str; 6] = ["cookieName", "securityKey", "blockKey", "securityName", "maxage", "secure"];

/// Builds the provider from a `providerConfig` such as
/// `{"securityKey": "...", "blockKey": "...", "securityName": "shop", "maxage": 3600}`. If that holds no key, it takes the manager's
/// `sealKeys`.
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<CookieProvider> {
    provider(&config)
}

fn provider(config: &Config) -> Result<CookieProvider> {
    let settings = CookieSettings::read(config.provider_config())?;
    if let Some(name) = settings.text("cookieName")?.filter(|name| *name != config.cookie().name()) {
        return Err(problem(CookieConfigError::Name {
            inner: name.len(),
            outer: config.cookie().name().len(),
        }));
    }
    if let Some(secure) = settings.flag("secure")?.filter(|secure| *secure != config.cookie().secure()) {
        return Err(problem(CookieConfigError::Secure { found: secure }));
    }
    let ring = match (settings.key()?, config.seal()) {
        (Some(key), None) => KeyRing::new(key),
        (None, Some(ring)) => ring.clone(),
        (Some(_), Some(_)) => return Err(problem(CookieConfigError::TwoKeys)),
        (None, None) => return Err(problem(CookieConfigError::NoKey)),
    };
    let mut builder = CookieProvider::builder(ring).label(settings.text("securityName")?.unwrap_or_default());
    if let Some(age) = settings.seconds("maxage")? {
        builder = builder.max_age(age);
    }
    Ok(builder.build())
}

/// The text's settings, under their documented spelling.
struct CookieSettings(Vec<(&'static str, Value)>);

impl CookieSettings {
    fn read(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(CookieSettings(Vec::new()));
        }
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| problem(CookieConfigError::Syntax))?;
        let known = object.into_iter().map(|(key, value)| {
            let known = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&key));
            known.map(|known| (*known, value)).ok_or_else(|| problem(CookieConfigError::Unknown(KnownKeys)))
        });
        known.collect::<Result<_>>().map(CookieSettings)
    }

    fn find<'a, T>(
        &'a self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let found = self.0.iter().find(|(name, value)| *name == key && !value.is_null());
        let wrong = || problem(CookieConfigError::Type { key, expected });
        found.map(|(_, value)| read(value).ok_or_else(wrong)).transpose()
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>> {
        Ok(self.find(key, "a text", Value::as_str)?.filter(|text| !text.is_empty()))
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        self.find(key, "true or false", Value::as_bool)
    }

    /// Reads a number of seconds, at least 60. As in Beego, 0 means that the key is absent.
    fn seconds(&self, key: &'static str) -> Result<Option<Duration>> {
        let seconds = |value: &Value| value.as_u64().filter(|seconds| *seconds == 0 || *seconds >= 60);
        let found = self.find(key, "0 or a whole number of seconds from 60 on", seconds)?;
        Ok(found.filter(|seconds| *seconds != 0).map(Duration::from_secs))
    }

    /// Makes the sealing key from Beego's two keys, or from one. Beego uses one for an HMAC and the other for AES.
    fn key(&self) -> Result<Option<SealKey>> {
        let block = self.text("blockKey")?;
        if block.is_some_and(|block| !matches!(block.len(), 16 | 24 | 32)) {
            return Err(problem(CookieConfigError::BlockKey));
        }
        let Some(security) = self.text("securityKey")? else {
            return if block.is_some() { Err(problem(CookieConfigError::NoKey)) } else { Ok(None) };
        };
        let told = |error: Error| {
            let text = error.to_string();
            let reason = text.split_once(": ").map_or(&*text, |(_, reason)| reason).to_owned();
            problem(CookieConfigError::Weak { reason })
        };
        let alone = SealKey::from_bytes(security.as_bytes()).map_err(told)?;
        let Some(block) = block else { return Ok(Some(alone)) };
        let both = Zeroizing::new([security.as_bytes(), b"\0", block.as_bytes()].concat());
        SealKey::from_bytes(&both).map(Some).map_err(told)
    }
}

fn problem(error: CookieConfigError) -> Error {
    Error::new(ErrorKind::Config, error)
}

/// The known keys, as an error lists them.
#[derive(Debug)]
struct KnownKeys;

impl fmt::Display for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&KEYS.join(", "))
    }
}

#[derive(Debug, thiserror::Error)]
enum CookieConfigError {
    #[error(
        "providerConfig: expected a JSON object such as {{\"securityKey\": \"...\"}} for the cookie provider, found another text"
    )]
    Syntax,
    #[error("providerConfig: expected the keys {0}, found another one")]
    Unknown(KnownKeys),
    #[error("providerConfig: {key}: expected {expected}, found something else")]
    Type { key: &'static str, expected: &'static str },
    #[error(
        "providerConfig: cookieName has {inner} characters and is not the manager's of {outer}; the sealed session is in the one cookie, so give one name, or leave it out here"
    )]
    Name { inner: usize, outer: usize },
    #[error(
        "providerConfig: secure is {found}, which is not what the manager's secure says; leave it out here"
    )]
    Secure { found: bool },
    #[error(
        "the cookie provider needs a key: give securityKey in providerConfig, or sealKeys; there is no default. `openssl rand -base64 32` makes one"
    )]
    NoKey,
    #[error("expected securityKey in providerConfig or sealKeys, found both; keep one")]
    TwoKeys,
    #[error("providerConfig: securityKey: {reason}")]
    Weak { reason: String },
    #[error("providerConfig: blockKey: expected 16, 24 or 32 bytes, found another number")]
    BlockKey,
}
