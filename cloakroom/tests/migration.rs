//! Sessions of other libraries, moved here when their visitors come.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "support/hooked.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod hooked;
#[path = "migration/moving.rs"]
mod moving;
#[path = "migration/old.rs"]
mod old;
#[cfg(all(
    feature = "config-string",
    feature = "from-actix-session",
    feature = "from-axum-session",
    feature = "from-tower-sessions",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
#[path = "migration/servers.rs"]
mod on_servers;
#[path = "migration/outages.rs"]
mod outages;
#[cfg(all(feature = "from-actix-session", feature = "from-axum-session", feature = "from-tower-sessions"))]
#[path = "migration/peers.rs"]
mod peers;

use cloakroom::{Manager, Released, Session};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};

/// Returns the session of a request with these cookies.
async fn request(manager: &Manager, cookies: &str) -> Session {
    manager.start(&headers(cookies)).await.unwrap()
}

fn headers(cookies: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, cookies.parse().unwrap());
    headers
}

/// Releases the session, and returns this library's cookie as the browser sends it back.
async fn release(session: &Session) -> (Released, Option<String>) {
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await.unwrap();
    let cookie = headers.get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned());
    (released, cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned()))
}
