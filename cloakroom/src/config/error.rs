//! The errors of settings that cannot work.

use std::time::Duration;

use super::Format;
use crate::event::EventKey;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{key}: the format {format} cannot store {what}; remove the setting, or use the format native")]
    Unstorable { key: &'static str, format: Format, what: &'static str },
    #[error("migrateFrom: expected the format of another library, found native")]
    MigrateFrom,
    #[error(
        "migrateFrom: sessions are moved to the format native, and format is {format}; remove one of the two"
    )]
    MigrateTo { format: Format },
    #[error(
        "migrateFrom: sessions of {from} are stored under their ids, and so would be the moved ones; set \"hashIds\": true"
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
        "sessionIDPrefix: expected at most 32 letters, digits, - and _, found more, or another character"
    )]
    IdPrefix,
    #[error("the event key (eventKey): expected at least {least} bytes, or none for a random one, found {found}", least = EventKey::MIN_LEN)]
    EventKey { found: usize },
    #[error(
        "the namespace: expected at most 128 bytes without control characters, found more, or a control character"
    )]
    Namespace,
    #[error(
        "cookieLifeTime is set, but enableSetCookie is false, so no cookie is sent; remove one of the two"
    )]
    LifetimeWithoutCookie,
}
