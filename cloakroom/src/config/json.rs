//! The configuration string: JSON with the keys that Beego documents, and more of our own.
//!
//! Beego's users bring strings that work today, so the reader follows Go's decoder where that is harmless and is stricter where a mistake
//! would stay hidden:
//!
//! | in the string | here | in Beego |
//! |---|---|---|
//! | a key in another letter case | accepted | accepted |
//! | `null` | as if the key were absent | the same |
//! | a time of 0 | as if the key were absent, as Beego documents it | the same |
//! | the key `"enableSetCookie,omitempty"` of Beego's own example | accepted | ignored |
//! | an unknown key | an error that names the nearest key, or the key for another library's word | ignored |
//! | a key given twice | an error | the last one counts |
//!
//! No error shows a value that may be a secret: for those it gives the kind of value alone.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::header::HeaderName;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroizing;

use super::old::json as old_json;
use super::{Config, Format, OverLimit, Policy};
use crate::clock::Millis;
use crate::codec::Codec;
use crate::cookie::SameSite;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKey;
use crate::id::HashFunc;
use crate::seal::KeyRing;

/// The example of Beego's documentation, verbatim.
#[cfg(test)]
const BEEGO_EXAMPLE: &str = r#"{"cookieName":"gosessionid", "enableSetCookie,omitempty": true, "gclifetime":3600, "maxLifetime": 3600,
 "secure": false, "sessionIDHashFunc": "sha1", "sessionIDHashKey": "", "cookieLifeTime": 3600,
 "providerConfig": ""}"#;

/// Every key in its documented spelling.
const KEYS: &[&str] = &[
    "cookieName",
    "enableSetCookie",
    "enableSetCookie,omitempty",
    "gclifetime",
    "maxLifetime",
    "secure",
    "sessionIDHashFunc",
    "sessionIDHashKey",
    "cookieLifeTime",
    "providerConfig",
    "domain",
    "sessionIdLength",
    "sessionIDPrefix",
    "enableSidInHTTPHeader",
    "sessionNameInHTTPHeader",
    "enableSidInURLQuery",
    "disableHTTPOnly",
    "cookieSameSite",
    "hashIds",
    "format",
    "migrateFrom",
    "namespace",
    "absoluteTimeout",
    "rotateEvery",
    "rotationGrace",
    "endUserOnReuse",
    "longestRequest",
    "policy",
    "sessionsPerUser",
    "overLimit",
    "deadline",
    "durability",
    "eventKey",
    "anonymousTimeout",
    "sessionQuota",
    "sealKeys",
    "acceptUnsealedUntil",
    "acceptPlainIdsUntil",
];

/// The values of `cookieSameSite`.
const SAME_SITE: &str = "1 (unspecified), 2 (Lax), 3 (Strict) or 4 (None)";

/// Names of settings in other libraries, in lower case, each with the key for it here.
const SYNONYMS: &[(&str, &str)] = &[
    ("idletimeout", "maxLifetime"),
    ("timeout", "maxLifetime"),
    ("sessiontimeout", "maxLifetime"),
    ("sessionlifetime", "maxLifetime"),
    ("maxinactiveinterval", "maxLifetime"),
    ("ttl", "maxLifetime"),
    ("expiry", "maxLifetime"),
    ("expires", "maxLifetime"),
    ("lifetime", "absoluteTimeout"),
    ("absolutelifetime", "absoluteTimeout"),
    ("maxsessionage", "absoluteTimeout"),
    ("maxage", "cookieLifeTime"),
    ("cookiemaxage", "cookieLifeTime"),
    ("cookieexpires", "cookieLifeTime"),
    ("cookiedomain", "domain"),
    ("cookiesecure", "secure"),
    ("samesite", "cookieSameSite"),
    ("httponly", "disableHTTPOnly"),
    ("cookiehttponly", "disableHTTPOnly"),
    ("name", "cookieName"),
    ("sessionname", "cookieName"),
    ("gcinterval", "gclifetime"),
    ("secret", "sealKeys"),
    ("secretkey", "sealKeys"),
    ("encryptionkey", "sealKeys"),
    ("codec", "format"),
    ("savepath", "providerConfig"),
    ("url", "providerConfig"),
    ("maxsessions", "sessionQuota"),
    ("rotation", "rotateEvery"),
];

/// Reads the settings from a configuration string: see [`Config::from_json`].
pub(super) fn from_text(text: &str) -> Result<Config> {
    let config = read(text).map_err(|error| Error::new(ErrorKind::Config, error))?;
    config.check()?;
    Ok(config)
}

fn read(text: &str) -> Result<Config, JsonError> {
    let object: Object = serde_json::from_str(text).map_err(JsonError::Syntax)?;
    let settings = JsonSettings::new(object)?;
    let mut config = Config {
        hash_ids: false,
        absolute_timeout: None,
        idle_timeout: Duration::from_secs(3600),
        gc_interval: Duration::from_secs(3600),
        ..Config::default()
    };
    config.ids.func = HashFunc::Sha1;
    settings.cookie(&mut config)?;
    settings.ids(&mut config)?;
    settings.times(&mut config)?;
    settings.users(&mut config)?;
    settings.store(&mut config)?;
    settings.at_rest(&mut config)?;
    Ok(config)
}

/// The given keys in their documented spelling, each at most once.
struct JsonSettings(Vec<(&'static str, Value)>);

impl JsonSettings {
    fn new(Object(entries): Object) -> Result<Self, JsonError> {
        let mut known: Vec<(&'static str, Value)> = Vec::new();
        for (key, value) in entries {
            let name = canonical(&key)?;
            if known.iter().any(|(earlier, _)| *earlier == name) {
                return Err(JsonError::Twice { key: name });
            }
            known.push((name, value));
        }
        Ok(JsonSettings(known))
    }

    fn cookie(&self, config: &mut Config) -> Result<(), JsonError> {
        config.cookie.name = self.text("cookieName")?.unwrap_or_default().into();
        config.send_cookie = self.flag("enableSetCookie")?.unwrap_or(true);
        config.cookie.secure = self.flag("secure")?.unwrap_or(true);
        config.cookie.http_only = !self.flag("disableHTTPOnly")?.unwrap_or(false);
        config.cookie.lifetime = self.seconds("cookieLifeTime")?;
        // Go writes the domain without its leading dot (net/http, Cookie.String).
        let domain = self.text("domain")?.map(|domain| domain.strip_prefix('.').unwrap_or(domain));
        config.cookie.domain = domain.filter(|domain| !domain.is_empty()).map(Box::from);
        // The numbers of Go's http.SameSite; 0 is an absent key.
        let same_site = self.value("cookieSameSite", SAME_SITE, Value::as_u64)?;
        config.cookie.same_site = match same_site.unwrap_or(0) {
            0 | 2 => SameSite::Lax,
            1 => SameSite::Unspecified,
            3 => SameSite::Strict,
            4 => SameSite::None,
            found => return Err(JsonError::SameSite { found }),
        };
        if self.flag("enableSidInURLQuery")?.unwrap_or(false) {
            return Err(JsonError::UrlQuery);
        }
        let header = self.text("sessionNameInHTTPHeader")?.unwrap_or_default();
        if self.flag("enableSidInHTTPHeader")?.unwrap_or(false) {
            config.id_header = Some(HeaderName::try_from(header).map_err(|_| JsonError::Header)?);
        }
        Ok(())
    }

    fn ids(&self, config: &mut Config) -> Result<(), JsonError> {
        if let Some(name) = self.text("sessionIDHashFunc")?.filter(|name| !name.is_empty()) {
            config.ids.func = name.parse().map_err(JsonError::Named)?;
        }
        config.ids.key = self.text("sessionIDHashKey")?.unwrap_or_default().into();
        config.ids.prefix = self.text("sessionIDPrefix")?.unwrap_or_default().into();
        config.ids.length =
            self.number("sessionIdLength")?.filter(|bytes| *bytes != 0).map(|bytes| bytes as usize);
        config.hash_ids = self.flag("hashIds")?.unwrap_or(false);
        config.event_key = EventKey::new(self.text("eventKey")?.unwrap_or_default().as_bytes());
        Ok(())
    }

    fn times(&self, config: &mut Config) -> Result<(), JsonError> {
        let collection = self.seconds("gclifetime")?;
        config.gc_interval = collection.unwrap_or(config.gc_interval);
        let policy = self.text("policy")?.map(str::parse::<Policy>).transpose().map_err(JsonError::Named)?;
        // An explicit timeout overrides the policy. The collection interval, which is the fallback for one, does not.
        let (idle, absolute) = policy.map(|policy| (policy.idle, policy.absolute)).unzip();
        config.idle_timeout =
            self.seconds("maxLifetime")?.or(idle).or(collection).unwrap_or(config.idle_timeout);
        config.absolute_timeout = self.seconds("absoluteTimeout")?.or(absolute);
        config.rotate_every = self.seconds("rotateEvery")?;
        config.anonymous_timeout = self.seconds("anonymousTimeout")?;
        config.rotation_grace = self.seconds("rotationGrace")?.unwrap_or(config.rotation_grace);
        config.deadline = self.seconds("deadline")?.unwrap_or(config.deadline);
        config.longest_request = self.seconds("longestRequest")?.unwrap_or(config.longest_request);
        Ok(())
    }

    fn users(&self, config: &mut Config) -> Result<(), JsonError> {
        let limit = self.number("sessionsPerUser")?.and_then(|limit| NonZeroUsize::new(limit as usize));
        let over = match self.text("overLimit")?.unwrap_or("endOldest") {
            "endOldest" => OverLimit::EndOldest,
            "refuse" => OverLimit::Refuse,
            found => return Err(JsonError::OverLimit { found: quote(found) }),
        };
        config.user_limit = limit.map(|limit| (limit, over));
        config.session_quota = self.number("sessionQuota")?.filter(|sessions| *sessions != 0);
        config.end_user_on_reuse = self.flag("endUserOnReuse")?.unwrap_or(false);
        Ok(())
    }

    fn store(&self, config: &mut Config) -> Result<(), JsonError> {
        config.provider_config = self.text("providerConfig")?.unwrap_or_default().into();
        config.durability = self.text("durability")?.map(Box::from);
        config.namespace = self.text("namespace")?.map(Box::from);
        (config.format, config.codec) = match self.text("format")?.unwrap_or("native") {
            "native" => (Format::Native, Codec::MESSAGE_PACK),
            "json" => (Format::Native, Codec::JSON),
            other => foreign("format", other)?,
        };
        let from = self.value("migrateFrom", "a text or an object", Some)?;
        match from {
            Some(Value::Object(old)) => {
                config.old_library = Some(Box::new(old_json::read(old).map_err(JsonError::Old)?));
            }
            Some(_) => {
                let name = self.text("migrateFrom")?.unwrap_or_default();
                config.migrate_from = Some(foreign("migrateFrom", name)?.0);
            }
            None => {}
        }
        Ok(())
    }

    fn at_rest(&self, config: &mut Config) -> Result<(), JsonError> {
        let texts = |value: &'_ Value| -> Option<Vec<String>> {
            let texts = value.as_array()?.iter();
            texts.map(|text| text.as_str().map(str::to_owned)).collect()
        };
        if let Some(keys) = self.value("sealKeys", "a list of texts, the newest key first", texts)? {
            let keys = Zeroizing::new(keys);
            let ring = KeyRing::from_texts(keys.iter().map(String::as_str)).map_err(JsonError::SealKeys)?;
            config.seal = Some(ring);
        }
        config.unsealed_until = self.time("acceptUnsealedUntil")?;
        config.plain_ids_until = self.time("acceptPlainIdsUntil")?;
        Ok(())
    }

    fn time(&self, key: &'static str) -> Result<Option<Millis>, JsonError> {
        let time = |value: &Value| humantime::parse_rfc3339(value.as_str()?).ok();
        Ok(self.value(key, "a time such as \"2030-01-31T00:00:00Z\"", time)?.map(Millis::from))
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>, JsonError> {
        self.value(key, "a text", Value::as_str)
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, JsonError> {
        self.value(key, "true or false", Value::as_bool)
    }

    fn number(&self, key: &'static str) -> Result<Option<u64>, JsonError> {
        self.value(key, "a whole number from 0 on", Value::as_u64)
    }

    /// Reads a number of seconds. As in Beego, 0 means that the key is absent.
    fn seconds(&self, key: &'static str) -> Result<Option<Duration>, JsonError> {
        let seconds = self.value(key, "a whole number of seconds from 0 on", Value::as_u64)?;
        Ok(seconds.filter(|seconds| *seconds != 0).map(Duration::from_secs))
    }

    /// Reads a value. As in Go's decoder, null means that the key is absent.
    fn value<'a, T>(
        &'a self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, JsonError> {
        let found = self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
        match found.filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or(JsonError::Type { key, expected, found: kind(value) }),
        }
    }
}

/// Returns the format of another library with its codec.
fn foreign(key: &'static str, name: &str) -> Result<(Format, Codec), JsonError> {
    let format = [Format::Beego].into_iter().find(|format| format.to_string() == name);
    let format = format.ok_or_else(|| JsonError::Format { key, found: quote(name) })?;
    format.codec().map(|codec| (format, codec)).ok_or(JsonError::NotBuilt { key, format })
}

/// Returns the documented spelling of `key`, which may differ in case.
fn canonical(key: &str) -> Result<&'static str, JsonError> {
    let spelled = KEYS.iter().find(|known| known.eq_ignore_ascii_case(key));
    match spelled {
        Some(&"enableSetCookie,omitempty") => Ok("enableSetCookie"),
        Some(known) => Ok(known),
        None => {
            let lower = key.to_lowercase();
            let distance = |known: &&&str| strsim::damerau_levenshtein(&known.to_lowercase(), &lower);
            // The distance takes quadratic time, and a key of more than 100 bytes is not a typing error.
            let nearest = if key.len() > 100 { None } else { KEYS.iter().min_by_key(distance) };
            let plain = lower.replace(['_', '-'], "");
            let meant = SYNONYMS.iter().find(|(synonym, _)| *synonym == plain).map(|(_, known)| known);
            let nearest = meant.or(nearest);
            Err(JsonError::Unknown { key: quote(key), nearest: nearest.unwrap_or(&"cookieName") })
        }
    }
}

/// Quotes the found text, cut to fit a line of a log.
fn quote(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

/// Returns the kind of a value, since the value itself may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(number) if number.is_i64() && !number.is_u64() => "a negative number",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A JSON object that keeps the order of its keys, and repeated ones.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[derive(Debug, thiserror::Error)]
enum JsonError {
    #[error("expected a JSON object of settings, found other text (line {}, column {})", .0.line(), .0.column())]
    Syntax(#[source] serde_json::Error),
    #[error("unknown key {key}; did you mean {nearest:?}?")]
    Unknown { key: String, nearest: &'static str },
    #[error("{key} is given twice; remove one")]
    Twice { key: &'static str },
    #[error("{key}: expected {expected}, found {found}")]
    Type { key: &'static str, expected: &'static str, found: &'static str },
    #[error("cookieSameSite: expected {SAME_SITE}, found {found}")]
    SameSite { found: u64 },
    #[error(
        "enableSidInURLQuery is refused: an id in a URL leaks through histories, logs and Referer headers; use the cookie"
    )]
    UrlQuery,
    #[error(
        "sessionNameInHTTPHeader: expected the name of a header, since enableSidInHTTPHeader is true; found none"
    )]
    Header,
    #[error("{}", without_headline(.0))]
    Named(Error),
    #[error("sealKeys: {}", without_headline(.0))]
    SealKeys(Error),
    #[error("overLimit: expected endOldest or refuse, found {found}")]
    OverLimit { found: String },
    #[error("{key}: expected {}, found {found}", if *key == "format" { "native, json or beego" } else { "beego" })]
    Format { key: &'static str, found: String },
    #[error(transparent)]
    Old(old_json::OldJsonError),
    #[error("{key}: the format {format} needs the feature beego; enable it")]
    NotBuilt { key: &'static str, format: Format },
}

/// Returns the reason of an error without its headline, to nest it in another error of its kind.
fn without_headline(error: &Error) -> String {
    let text = error.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, reason)| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::from_json(text).unwrap_err().to_string()
    }

    #[test]
    fn the_example_of_beego_works_verbatim() {
        let config = Config::from_json(BEEGO_EXAMPLE).unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!(config.cookie.name(), "gosessionid");
        assert!(config.send_cookie && config.cookie.http_only && !config.cookie.secure && !config.hash_ids);
        assert_eq!(
            (config.idle_timeout, config.gc_interval, config.cookie.lifetime),
            (hour, hour, Some(hour))
        );
        assert_eq!(config.ids.func, HashFunc::Sha1);
        assert_eq!(config.absolute_timeout, None);
    }

    #[test]
    fn keys_match_in_any_case_and_absent_ones_have_defaults() {
        let config = Config::from_json(r#"{"COOKIENAME":"id","GcLifetime":60,"maxlifetime":0}"#).unwrap();
        assert_eq!(config.cookie.name(), "id");
        assert_eq!(config.idle_timeout, Duration::from_secs(60), "gclifetime where maxLifetime is 0");
        assert!(config.cookie.secure && config.cookie.same_site == SameSite::Lax);
        assert_eq!(
            Config::from_json(r#"{"cookieName":"id"}"#).unwrap().idle_timeout,
            Duration::from_secs(3600)
        );
    }

    #[test]
    fn every_other_key_sets_its_setting() {
        let config = Config::from_json(
            r#"{"cookieName":"id","domain":".example.com","sessionIdLength":20,"sessionIDPrefix":"s-",
                "enableSidInHTTPHeader":true,"sessionNameInHTTPHeader":"X-Session","disableHTTPOnly":true,
                "cookieSameSite":3,"enableSetCookie":false,"hashIds":true,"format":"json","namespace":"shop",
                "absoluteTimeout":28800,"rotateEvery":900,"durability":"durable","enableSidInURLQuery":false,
                "sealKeys":["2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff"],
                "acceptUnsealedUntil":"2030-01-31T00:00:00Z","acceptPlainIdsUntil":"1970-01-01T00:00:01Z"}"#,
        )
        .unwrap();
        assert_eq!(config.cookie.domain(), Some("example.com"));
        assert_eq!((config.ids.length, &*config.ids.prefix), (Some(20), "s-"));
        assert_eq!(config.id_header.as_ref().unwrap().as_str(), "x-session");
        assert_eq!(config.cookie.same_site, SameSite::Strict);
        assert!(!config.cookie.http_only && !config.send_cookie && config.hash_ids);
        assert_eq!((config.codec, config.namespace()), (Codec::JSON, "shop"));
        assert_eq!(config.absolute_timeout, Some(Duration::from_secs(28_800)));
        assert_eq!(config.rotate_every, Some(Duration::from_secs(900)));
        assert_eq!(config.durability(), Some("durable"));
        assert_eq!(format!("{:?}", config.seal().unwrap()), "KeyRing([ba6b34aa3555477f])");
        let until = (config.unsealed_until, config.plain_ids_until);
        assert_eq!(until, (Some(Millis(1_896_048_000_000)), Some(Millis(1000))));
    }

    #[test]
    fn a_policy_sets_both_timeouts_and_a_key_overrides_one() {
        let config = Config::from_json(
            r#"{"cookieName":"id","gclifetime":60,"policy":"NIST-AAL3","rotationGrace":5,"longestRequest":120,
                "endUserOnReuse":true,"sessionsPerUser":3,"overLimit":"refuse"}"#,
        )
        .unwrap();
        assert_eq!(config.idle_timeout, Duration::from_secs(15 * 60));
        assert_eq!(config.absolute_timeout, Some(Duration::from_secs(12 * 3600)));
        assert_eq!((config.rotation_grace.as_secs(), config.longest_request.as_secs()), (5, 120));
        assert!(config.end_user_on_reuse);
        assert_eq!(config.user_limit(), NonZeroUsize::new(3).map(|limit| (limit, OverLimit::Refuse)));
        let text = r#"{"cookieName":"id","policy":"nist-aal3","maxLifetime":60,"absoluteTimeout":600}"#;
        let config = Config::from_json(text).unwrap();
        assert_eq!((config.idle_timeout.as_secs(), config.absolute_timeout.unwrap().as_secs()), (60, 600));
        assert_eq!(config.user_limit, None);
    }

    #[test]
    fn an_error_names_the_key_the_found_and_the_expected() {
        for (text, expected) in [
            ("", "expected a JSON object of settings"),
            ("[]", "expected a JSON object of settings"),
            ("{}", "cookieName is required"),
            (r#"{"cookieNme":"id"}"#, r#"unknown key "cookieNme"; did you mean "cookieName"?"#),
            (r#"{"cookieName":"id","gcLifeTme":1}"#, r#"did you mean "gclifetime"?"#),
            (r#"{"cookieName":5}"#, "cookieName: expected a text, found a number"),
            (r#"{"cookieName":"id","idleTimeout":60}"#, r#"did you mean "maxLifetime"?"#),
            (r#"{"cookieName":"id","idle_timeout":60}"#, r#"did you mean "maxLifetime"?"#),
            (r#"{"cookieName":"id","ttl":60}"#, r#"did you mean "maxLifetime"?"#),
            (r#"{"cookieName":"id","cookieDomain":"a.b"}"#, r#"did you mean "domain"?"#),
            (r#"{"cookieName":"id","absoluteTimout":60}"#, r#"did you mean "absoluteTimeout"?"#),
            (
                r#"{"cookieName":"id","cookieSameSite":"none"}"#,
                "cookieSameSite: expected 1 (unspecified), 2 (Lax), 3 (Strict) or 4 (None), found a text",
            ),
            (
                r#"{"cookieName":"id","gclifetime":1.5}"#,
                "gclifetime: expected a whole number of seconds from 0 on, found a fraction",
            ),
            (r#"{"cookieName":"id","maxLifetime":-1}"#, "found a negative number"),
            (r#"{"cookieName":"id","secure":"yes"}"#, "secure: expected true or false, found a text"),
            (r#"{"cookieName":"id","CookieName":"id"}"#, "cookieName is given twice"),
            (
                r#"{"cookieName":"id","sessionIDHashFunc":"crc"}"#,
                r#"sessionIDHashFunc: expected sha1, md5, sha256 or random, found "crc""#,
            ),
            (r#"{"cookieName":"id","enableSidInURLQuery":true}"#, "enableSidInURLQuery is refused"),
            (r#"{"cookieName":"id","enableSidInHTTPHeader":true}"#, "sessionNameInHTTPHeader: expected"),
            (r#"{"cookieName":"id","cookieSameSite":5}"#, "cookieSameSite: expected"),
            (r#"{"cookieName":"id","cookieSameSite":4,"secure":false}"#, "SameSite=None needs Secure"),
            (r#"{"cookieName":"__Host-id","domain":"a.b"}"#, "__Host-"),
            (r#"{"cookieName":"id","format":"gob"}"#, "format: expected native, json or beego"),
            (r#"{"cookieName":"id","policy":"aal2"}"#, "policy: expected nist-aal1"),
            (r#"{"cookieName":"id","overLimit":"drop"}"#, "overLimit: expected endOldest or refuse"),
            (r#"{"cookieName":"id","sessionIdLength":8}"#, "sessionIdLength: expected 16 to 64"),
            (r#"{"cookieName":"id","sessionIDPrefix":"a/b"}"#, "sessionIDPrefix: expected"),
            (
                r#"{"cookieName":"id","sealKeys":"hunter2"}"#,
                "sealKeys: expected a list of texts, the newest key first, found a text",
            ),
            (
                r#"{"cookieName":"id","sealKeys":[]}"#,
                "sealKeys: expected at least one key to seal with, found none",
            ),
            (
                r#"{"cookieName":"id","sealKeys":["c2hvcnQ="]}"#,
                "sealKeys: expected a sealing key of at least 32 random bytes, found 5",
            ),
            (
                r#"{"cookieName":"id","acceptUnsealedUntil":"soon"}"#,
                "acceptUnsealedUntil: expected a time such as",
            ),
            (
                r#"{"cookieName":"id","maxLifetime":18446744073709551615}"#,
                "the idle timeout (maxLifetime): expected",
            ),
        ] {
            let found = error(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn every_synonym_names_an_existing_key() {
        for (synonym, key) in SYNONYMS {
            assert!(
                KEYS.contains(key) && KEYS.iter().all(|known| !known.eq_ignore_ascii_case(synonym)),
                "{synonym}"
            );
        }
    }

    #[test]
    fn endlessly_nested_settings_are_an_error() {
        let deep = "[".repeat(100_000);
        let found = error(&format!(r#"{{"cookieName":"id","sealKeys":{deep}}}"#));
        assert!(found.contains("expected a JSON object of settings"), "{found}");
    }

    #[test]
    fn the_example_of_beego_has_these_weaknesses() {
        let config = Config::from_json(BEEGO_EXAMPLE).unwrap();
        let settings = |persistent| -> Vec<_> {
            config.advice(persistent, &[]).iter().map(|advice| advice.setting().to_owned()).collect()
        };
        assert_eq!(
            settings(true),
            [
                "secure",
                "cookieName",
                "cookieLifeTime",
                "hashIds",
                "maxLifetime",
                "absoluteTimeout",
                "sessionIDHashFunc"
            ]
        );
        assert!(!settings(false).contains(&"hashIds".to_owned()), "memory is not persistent");
    }

    #[test]
    fn an_error_shows_no_secret() {
        let text = error(r#"{"cookieName":"id","sessionIDHashKey":["hunter2"]}"#);
        assert!(
            text.contains("sessionIDHashKey: expected a text, found an array") && !text.contains("hunter2")
        );
    }
}
