//! `"migrateFrom"` in the configuration string, where it is an object.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use serde_json::{Map, Value};

use super::{OldCookieKind, OldLibrary, OldLibraryName, OldSecret};
use crate::clock::Millis;

/// Every key of the object.
const OLD_KEYS: [&str; 13] = [
    "library",
    "store",
    "address",
    "table",
    "cookieName",
    "cookie",
    "cookieKey",
    "databaseKey",
    "keyPrefix",
    "userKey",
    "dangerTrustAxumLogin",
    "remember",
    "until",
];

/// Reads the settings of an old library.
pub(crate) fn read(object: &Map<String, Value>) -> Result<OldLibrary, OldJsonError> {
    if let Some(unknown) = object.keys().find(|key| !OLD_KEYS.contains(&key.as_str())) {
        let distance = |known: &&&str| strsim::damerau_levenshtein(known, unknown);
        let nearest = if unknown.len() > 100 { None } else { OLD_KEYS.iter().min_by_key(distance) };
        let key = unknown.chars().take(40).collect();
        return Err(OldJsonError::Unknown { key, nearest: nearest.unwrap_or(&"library") });
    }
    let object = OldObject(object);
    let name = object.text("library")?.unwrap_or_default();
    let library = OldLibraryName::ALL.into_iter().find(|library| library.as_str() == name);
    let library = library.ok_or(OldJsonError::Library)?;
    let default = if library == OldLibraryName::ActixSession { "private" } else { "plain" };
    let kind = object.text("cookie")?.unwrap_or(default);
    let cookie = OldCookieKind::ALL.into_iter().find(|(name, _)| *name == kind).map(|(_, kind)| kind);
    let settings = OldLibrary {
        library,
        store: object.text("store")?.unwrap_or_default().into(),
        address: OldSecret::new(object.text("address")?.unwrap_or_default().as_bytes()),
        table: object.boxed("table")?,
        cookie_name: object.boxed("cookieName")?,
        cookie: cookie.ok_or(OldJsonError::Cookie)?,
        cookie_key: object.key("cookieKey")?,
        database_key: object.key("databaseKey")?,
        key_prefix: object.boxed("keyPrefix")?,
        user_key: object.boxed("userKey")?,
        trusts_axum_login: object.flag("dangerTrustAxumLogin")?,
        remember: object.flag("remember")?,
        until: object.time("until")?,
    };
    match problem(&settings) {
        Some(problem) => Err(problem),
        None => Ok(settings),
    }
}

/// Returns the first pair of settings that cannot work together.
fn problem(settings: &OldLibrary) -> Option<OldJsonError> {
    use OldLibraryName as L;
    let in_cookie = settings.store.is_empty();
    let is_plain = settings.cookie == OldCookieKind::Plain;
    if in_cookie && (settings.library != L::ActixSession || settings.cookie != OldCookieKind::Private) {
        return Some(OldJsonError::Store);
    }
    if in_cookie && settings.until.is_none() {
        return Some(OldJsonError::Until);
    }
    if is_plain != settings.cookie_key.is_empty() {
        return Some(OldJsonError::CookieKey);
    }
    let private_axum = settings.library == L::AxumSession && settings.cookie == OldCookieKind::Private;
    if private_axum || (settings.library == L::ActixSession && is_plain) {
        return Some(OldJsonError::CookieKind { library: settings.library.as_str() });
    }
    let only = [
        ("databaseKey", !settings.database_key.is_empty(), L::AxumSession),
        ("dangerTrustAxumLogin", settings.trusts_axum_login, L::TowerSessions),
    ];
    let misplaced = only.into_iter().find(|(_, set, of)| *set && settings.library != *of);
    misplaced.map(|(key, _, of)| OldJsonError::Misplaced { key, library: of.as_str() })
}

struct OldObject<'a>(&'a Map<String, Value>);

impl<'a> OldObject<'a> {
    fn text(&self, key: &'static str) -> Result<Option<&'a str>, OldJsonError> {
        self.value(key, "a text", Value::as_str)
    }

    fn boxed(&self, key: &'static str) -> Result<Option<Box<str>>, OldJsonError> {
        Ok(self.text(key)?.map(Box::from))
    }

    fn flag(&self, key: &'static str) -> Result<bool, OldJsonError> {
        Ok(self.value(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// Reads a key in hex or base64.
    fn key(&self, key: &'static str) -> Result<OldSecret, OldJsonError> {
        let decoded = |value: &Value| {
            let text = value.as_str()?.as_bytes();
            HEXLOWER_PERMISSIVE.decode(text).or_else(|_| BASE64.decode(text)).ok()
        };
        let bytes = self.value(key, "a key in hex or base64", decoded)?;
        match bytes {
            Some(bytes) if bytes.len() < 64 => Err(OldJsonError::KeyLength { key, found: bytes.len() }),
            bytes => Ok(OldSecret::new(bytes.unwrap_or_default())),
        }
    }

    fn time(&self, key: &'static str) -> Result<Option<Millis>, OldJsonError> {
        let time = |value: &Value| humantime::parse_rfc3339(value.as_str()?).ok();
        Ok(self.value(key, "a time such as \"2030-01-31T00:00:00Z\"", time)?.map(Millis::from))
    }

    fn value<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, OldJsonError> {
        match self.0.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or(OldJsonError::Type { key, expected }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OldJsonError {
    #[error("migrateFrom: unknown key {key:?}; did you mean {nearest:?}?")]
    Unknown { key: String, nearest: &'static str },
    #[error("migrateFrom.{key}: expected {expected}, found something else")]
    Type { key: &'static str, expected: &'static str },
    #[error(
        "migrateFrom.library: expected tower-sessions, actix-session or axum_session, found another name"
    )]
    Library,
    #[error("migrateFrom.cookie: expected plain, signed or private, found another word")]
    Cookie,
    #[error(
        "migrateFrom.store: expected redis, postgres, mysql or sqlite, found none; only the encrypted cookie of actix-session holds sessions"
    )]
    Store,
    #[error(
        "migrateFrom.until: expected the time until which old cookies are accepted, found none; set the lifetime that they had"
    )]
    Until,
    #[error(
        "migrateFrom.cookieKey: expected a key if the cookie is signed or private, and none if it is plain"
    )]
    CookieKey,
    #[error("migrateFrom.cookie: {library} has no such cookie; see its guide")]
    CookieKind { library: &'static str },
    #[error("migrateFrom.{key}: expected it only with the library {library}; remove it")]
    Misplaced { key: &'static str, library: &'static str },
    #[error(
        "migrateFrom.{key}: expected 64 bytes or more, found {found}; take the key of the old application"
    )]
    KeyLength { key: &'static str, found: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<OldLibrary, OldJsonError> {
        read(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn every_key_of_an_old_library_is_read() {
        let key = "ab".repeat(64);
        let settings = parsed(&format!(
            r#"{{"library":"axum_session","store":"redis","address":"redis://:pw@host/","table":"t","cookieName":"sid",
                "cookie":"signed","cookieKey":"{key}","databaseKey":"{key}","keyPrefix":"p:","userKey":"user","remember":true,
                "until":"2030-01-31T00:00:00Z"}}"#
        ))
        .unwrap();
        assert_eq!((settings.library, &*settings.store), (OldLibraryName::AxumSession, "redis"));
        assert_eq!(settings.address.as_text(), "redis://:pw@host/");
        assert_eq!((settings.cookie, settings.cookie_name.as_deref()), (OldCookieKind::Signed, Some("sid")));
        assert_eq!(
            (settings.cookie_key.as_bytes(), settings.database_key.as_bytes().len()),
            (&[0xab; 64][..], 64)
        );
        assert_eq!((settings.key_prefix.as_deref(), settings.table.as_deref()), (Some("p:"), Some("t")));
        assert_eq!((settings.user_key.as_deref(), settings.remember), (Some("user"), true));
        assert_eq!(settings.until, Some(Millis(1_896_048_000_000)));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("pw") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn settings_that_cannot_work_are_errors_with_a_cure() {
        let key = "ab".repeat(64);
        for (text, expected) in [
            (r#"{"library":"tower"}"#.to_owned(), "expected tower-sessions, actix-session or axum_session"),
            (r#"{"library":"tower-sessions","stor":"redis"}"#.to_owned(), "did you mean \"store\"?"),
            (r#"{"library":"tower-sessions"}"#.to_owned(), "expected redis, postgres, mysql or sqlite"),
            (
                r#"{"library":"tower-sessions","store":"redis","cookie":"signed"}"#.to_owned(),
                "expected a key",
            ),
            (format!(r#"{{"library":"actix-session","cookieKey":"{key}"}}"#), "migrateFrom.until"),
            (r#"{"library":"actix-session","store":"redis","cookie":"plain"}"#.to_owned(), "no such cookie"),
            (
                r#"{"library":"tower-sessions","store":"redis","cookie":"signed","cookieKey":"abcd"}"#
                    .to_owned(),
                "expected 64 bytes or more, found 2",
            ),
            (
                format!(r#"{{"library":"tower-sessions","store":"redis","databaseKey":"{key}"}}"#),
                "only with the library axum_session",
            ),
            (r#"{"library":"tower-sessions","store":1}"#.to_owned(), "expected a text"),
        ] {
            let found = parsed(&text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
