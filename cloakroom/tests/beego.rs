//! Sessions in Beego's layout: read as Beego wrote them, written as Beego reads them, and moved to native records.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "beego/cookies.rs"]
mod cookies;
#[path = "beego/files.rs"]
mod files;
#[path = "support/hooked.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod hooked;
#[path = "beego/layout.rs"]
mod layout;
#[path = "beego/moving.rs"]
mod moving;
#[cfg(feature = "mysql")]
#[path = "beego/mysql.rs"]
mod mysql;
#[cfg(feature = "postgres")]
#[path = "beego/postgres.rs"]
mod postgres;
#[cfg(feature = "redis")]
#[path = "beego/redis.rs"]
mod redis;
#[path = "beego/refused.rs"]
mod refused;
#[cfg(any(feature = "mysql", feature = "postgres"))]
#[path = "beego/sql.rs"]
mod sql;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "beego/stores.rs"]
mod stores;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cloakroom::{Manager, Released, Session};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};

const HOUR: Duration = Duration::from_secs(3600);
/// A generous deadline, since no case is about slowness and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const COOKIE_NAME: &str = "gosessionid";
/// The gob of Beego's session without keys.
const EMPTY: &str = "0d7f040102ff800001100110000004ff800000";

/// Returns the path of a file or folder of the vectors.
fn vectors(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/beego").join(path)
}

fn vector(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(vectors(path)).unwrap()).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Returns 2026-11-23 at noon: a whole second, since some layouts store no fraction.
fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200)
}

/// Returns the session of a request with the cookie `token`.
async fn request(manager: &Manager, token: &str) -> Session {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, format!("a=b; {COOKIE_NAME}={token}; c=d").parse().unwrap());
    manager.start(&headers).await.unwrap()
}

/// Releases the session, and returns the id in the response cookie.
async fn release(session: &Session) -> (Released, Option<String>) {
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await.unwrap();
    let cookie = headers.get(SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
    let id = cookie.map(|cookie| {
        let value = cookie.strip_prefix(COOKIE_NAME).unwrap().strip_prefix('=').unwrap();
        value.split(';').next().unwrap().to_owned()
    });
    (released, id)
}
