//! The reader of another library's sessions that a configuration string names.

use std::future::Future;
use std::pin::Pin;

use crate::config::{Config, OldLibrary};
#[cfg(any(
    feature = "from-actix-session",
    feature = "from-axum-session",
    feature = "from-tower-sessions"
))]
use crate::config::{OldCookieKind, OldLibraryName};
use crate::error::{Error, ErrorKind, Result};
#[cfg(any(
    feature = "from-actix-session",
    feature = "from-axum-session",
    feature = "from-tower-sessions"
))]
use crate::migration::CookieKey;
use crate::migration::{MigrationSource, OldRecords, OldSessions, OldTable};

/// Connects the old store of `"migrateFrom"`, and returns the reader of its sessions.
///
/// The future has no type of its own: it may contain those of every store, and would be part of every application's.
pub(crate) fn source<'a>(
    config: &'a Config,
    old: &'a OldLibrary,
) -> Pin<Box<dyn Future<Output = Result<MigrationSource>> + Send + 'a>> {
    Box::pin(connected(config, old))
}

async fn connected(config: &Config, old: &OldLibrary) -> Result<MigrationSource> {
    match old.library {
        #[cfg(feature = "from-tower-sessions")]
        OldLibraryName::TowerSessions => tower_sessions(config, old).await,
        #[cfg(feature = "from-actix-session")]
        OldLibraryName::ActixSession => actix_session(config, old).await,
        #[cfg(feature = "from-axum-session")]
        OldLibraryName::AxumSession => axum_session(config, old).await,
        #[allow(unreachable_patterns, reason = "every library may be built in")]
        library => {
            let _ = config;
            Err(Error::new(ErrorKind::Config, OldLibraryError::NotBuilt { library: library.as_str() }))
        }
    }
}

#[cfg(feature = "from-tower-sessions")]
async fn tower_sessions(config: &Config, old: &OldLibrary) -> Result<MigrationSource> {
    use crate::migration::TowerSessions;

    let mut reader = TowerSessions::new(records(config, old, OldTable::tower_sessions()).await?);
    if let Some(name) = &old.cookie_name {
        reader = reader.cookie_name(name.clone());
    }
    reader = match old.cookie {
        OldCookieKind::Plain => reader,
        OldCookieKind::Signed => reader.signed(CookieKey::from_bytes(old.cookie_key.as_bytes())?),
        OldCookieKind::Private => reader.private(CookieKey::from_bytes(old.cookie_key.as_bytes())?),
    };
    if old.trusts_axum_login {
        reader = reader.axum_login(|_| async { Ok(true) });
    }
    Ok(adjusted(reader, old))
}

#[cfg(feature = "from-actix-session")]
async fn actix_session(config: &Config, old: &OldLibrary) -> Result<MigrationSource> {
    use crate::migration::ActixSessions;

    let key = CookieKey::from_bytes(old.cookie_key.as_bytes())?;
    let mut reader = match old.until {
        Some(until) if old.store.is_empty() => ActixSessions::cookies(key, until.into()),
        _ => ActixSessions::new(records(config, old, OldTable::tower_sessions()).await?, key),
    };
    if let Some(name) = &old.cookie_name {
        reader = reader.cookie_name(name.clone());
    }
    if old.cookie == OldCookieKind::Signed {
        reader = reader.signed();
    }
    if let Some(prefix) = old.key_prefix.clone() {
        reader = reader.cache_keygen(move |key| format!("{prefix}{key}"));
    }
    Ok(adjusted(reader, old))
}

#[cfg(feature = "from-axum-session")]
async fn axum_session(config: &Config, old: &OldLibrary) -> Result<MigrationSource> {
    use crate::migration::AxumSessions;

    let records = records(config, old, OldTable::axum_session()).await?;
    let mut reader =
        if &*old.store == "redis" { AxumSessions::redis(records) } else { AxumSessions::new(records) };
    if let Some(name) = &old.cookie_name {
        reader = reader.cookie_name(name.clone());
    }
    if old.cookie == OldCookieKind::Signed {
        reader = reader.signed(CookieKey::from_bytes(old.cookie_key.as_bytes())?);
    }
    if let Some(prefix) = &old.key_prefix {
        reader = reader.key_prefix(prefix.clone());
    }
    if !old.database_key.is_empty() {
        reader = reader.database_key(CookieKey::from_bytes(old.database_key.as_bytes())?);
    }
    Ok(adjusted(reader, old))
}

/// Returns `reader` with the settings that every library has.
#[allow(dead_code, reason = "the libraries are features")]
fn adjusted<S: OldSessions>(reader: S, old: &OldLibrary) -> MigrationSource {
    let (user_key, remember) = (old.user_key.clone(), old.remember);
    MigrationSource::from(reader.adjusted_by(move |mut session| {
        if let Some(key) = &user_key {
            session.set_principal_from(key);
        }
        if remember {
            session.remember();
        }
        std::future::ready(Ok(Some(session)))
    }))
}

/// Opens the old store. `table` is the library's own one.
#[allow(dead_code, unused_variables, reason = "the libraries and the stores are features")]
async fn records(config: &Config, old: &OldLibrary, table: OldTable) -> Result<OldRecords> {
    let address = old.address.as_text();
    let table = match &old.table {
        Some(name) => table.named(name.clone()),
        None => table,
    };
    match &*old.store {
        #[cfg(all(feature = "redis", unix))]
        "redis" => crate::RedisProvider::builder(address).connect_old().await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => crate::PostgresProvider::builder(address).connect_old(table).await,
        #[cfg(feature = "mysql")]
        "mysql" => crate::MySqlProvider::builder(address).connect_old(table).await,
        #[cfg(all(feature = "sqlite", unix))]
        "sqlite" => crate::SqliteProvider::builder(address).connect_old(table).await,
        _ => Err(Error::new(ErrorKind::Config, OldLibraryError::Store)),
    }
}

#[derive(Debug, thiserror::Error)]
enum OldLibraryError {
    #[error("migrateFrom.library: {library} is not built in; enable the feature of its guide")]
    NotBuilt { library: &'static str },
    #[error(
        "migrateFrom.store: expected redis, postgres, mysql or sqlite whose feature is enabled, found another name"
    )]
    Store,
}
