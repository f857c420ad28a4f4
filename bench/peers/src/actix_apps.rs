//! The four routes in actix-web.

use actix_session::config::SessionMiddlewareBuilder;
use actix_session::storage::{CookieSessionStore, RedisSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::web::{ServiceConfig, get};

use crate::subject::Places;

pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/untouched", get().to(untouched))
        .route("/read", get().to(read))
        .route("/change", get().to(change))
        .route("/first", get().to(first));
}

pub fn bare_routes(config: &mut ServiceConfig) {
    config
        .route("/untouched", get().to(untouched))
        .route("/read", get().to(one))
        .route("/change", get().to(one))
        .route("/first", get().to(one));
}

/// Returns the layer with its defaults. All workers share one key.
pub fn layer<S: SessionStore>(store: S) -> SessionMiddlewareBuilder<S> {
    SessionMiddleware::builder(store, Key::from(&[7; 64]))
}

pub fn cookie_store() -> CookieSessionStore {
    CookieSessionStore::default()
}

pub async fn redis_store(places: &Places) -> RedisSessionStore {
    RedisSessionStore::new(places.redis.as_str()).await.expect("the server answers")
}

async fn untouched() -> &'static str {
    "hello"
}

async fn one() -> String {
    std::hint::black_box(1_u64).to_string()
}

async fn read(session: Session) -> actix_web::Result<String> {
    Ok(session.get::<u64>("n")?.unwrap_or(0).to_string())
}

async fn change(session: Session) -> actix_web::Result<String> {
    let n = session.get::<u64>("n")?.unwrap_or(0) + 1;
    session.insert("n", n)?;
    Ok(n.to_string())
}

async fn first(session: Session) -> actix_web::Result<String> {
    session.insert("n", 1_u64)?;
    Ok(1.to_string())
}
