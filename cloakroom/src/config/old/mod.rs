//! The settings of a migration from another library with a cookie of its own: `"migrateFrom"` as an object.

#![cfg_attr(
    not(feature = "config-string"),
    allow(dead_code, reason = "the configuration string alone makes one")
)]

#[cfg(feature = "config-string")]
pub(super) mod json;

use std::fmt;

use crate::clock::Millis;

/// The old library, its store and its cookie, as the configuration string names them. The registry connects the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OldLibrary {
    pub(crate) library: OldLibraryName,
    /// The name of the old store; empty where the cookie holds the session.
    pub(crate) store: Box<str>,
    /// The address of the old store. It may contain a password.
    pub(crate) address: OldSecret,
    pub(crate) table: Option<Box<str>>,
    pub(crate) cookie_name: Option<Box<str>>,
    pub(crate) cookie: OldCookieKind,
    /// The key of the old cookie, decoded.
    pub(crate) cookie_key: OldSecret,
    /// The key of encrypted records, decoded.
    pub(crate) database_key: OldSecret,
    pub(crate) key_prefix: Option<Box<str>>,
    /// The key of the session data under which the user's id is.
    pub(crate) user_key: Option<Box<str>>,
    /// True if the user of axum-login is bound without a look at its hash.
    pub(crate) trusts_axum_login: bool,
    /// True if a moved session keeps the old session's lifetime.
    pub(crate) remember: bool,
    /// The time until which cookies that hold a session are accepted.
    pub(crate) until: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldLibraryName {
    TowerSessions,
    ActixSession,
    AxumSession,
}

impl OldLibraryName {
    pub(crate) const ALL: [OldLibraryName; 3] =
        [OldLibraryName::TowerSessions, OldLibraryName::ActixSession, OldLibraryName::AxumSession];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OldLibraryName::TowerSessions => "tower-sessions",
            OldLibraryName::ActixSession => "actix-session",
            OldLibraryName::AxumSession => "axum_session",
        }
    }
}

/// The protection of the old cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldCookieKind {
    Plain,
    Signed,
    Private,
}

impl OldCookieKind {
    pub(crate) const ALL: [(&'static str, OldCookieKind); 3] = [
        ("plain", OldCookieKind::Plain),
        ("signed", OldCookieKind::Signed),
        ("private", OldCookieKind::Private),
    ];
}

/// A key or an address, which `Debug` does not show.
#[derive(Clone, PartialEq)]
pub(crate) struct OldSecret(Box<[u8]>);

impl OldSecret {
    pub(crate) fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        OldSecret(bytes.into())
    }

    #[allow(dead_code, reason = "the readers are made from it, and they are features")]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[allow(dead_code, reason = "the stores are opened with it, and they are features")]
    pub(crate) fn as_text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for OldSecret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut *self.0);
    }
}

impl fmt::Debug for OldSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OldSecret({} bytes)", self.0.len())
    }
}
