//! Routes that the checklist needs and the demonstration lacks. Each makes one call of the library, behind the same
//! layer.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cloakroom::{Level, Lifetime, Manager, Principal, Result, Session, SessionLayer};
use futures_util::stream;

use crate::log;

/// Blocks requests that have loaded their sessions, until the test lets them continue.
pub(crate) struct Gate {
    arrived: AtomicUsize,
    open: tokio::sync::watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { arrived: AtomicUsize::new(0), open: tokio::sync::watch::Sender::new(0) }
    }
}

impl Gate {
    /// Waits until `count` requests in all have arrived.
    pub(crate) async fn arrived(&self, count: usize) {
        let start = std::time::Instant::now();
        while self.arrived.load(Ordering::SeqCst) < count {
            assert!(start.elapsed() < crate::visitor::PATIENCE, "waited for {count} requests to load");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets the requests continue that have arrived, but none that arrives later.
    pub(crate) fn open(&self) {
        self.open.send_replace(self.arrived.load(Ordering::SeqCst));
    }

    async fn pass(&self) {
        let number = self.arrived.fetch_add(1, Ordering::SeqCst);
        let _ = self.open.subscribe().wait_for(|open| *open > number).await;
    }
}

pub(crate) fn routes(sessions: Manager, gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/rig/{look}", get(look))
        .route("/rig/held/{change}", post(held))
        .route("/rig/watch", get(watch))
        .route("/rig/late", get(late))
        .route("/rig/do/{change}", post(change_now))
        .route("/rig/own-cookie", post(own_cookie))
        .route("/rig/two-handles", post(two_handles))
        .layer(SessionLayer::new(sessions))
        .with_state(gate)
}

/// Makes one call that only reads.
async fn look(session: Session, Path(look): Path<String>) -> Result<String> {
    Ok(match &*look {
        "extract" => "extracted".to_owned(),
        "get" => format!("{}", session.get::<String>("key")?.is_some()),
        "contains" => format!("{}", session.contains("key")?),
        "len" => format!("{}", session.len()?),
        "keys" => format!("{}", session.keys()?.len()),
        "is-empty" => format!("{}", session.is_empty()?),
        "principal" => format!("{}", session.principal().is_some()),
        "level" => format!("{:?}", session.level().map(Level::number)),
        "times" => format!("{}", session.expires().is_some()),
        "recent" => session.require_recent(Duration::from_secs(5 * 60)).map(|()| "recent".to_owned())?,
        "level-2" => session.require_level(Level::new(2)).map(|()| "level 2".to_owned())?,
        _ => "nothing".to_owned(),
    })
}

/// Makes one change after the gate, so that the session was loaded before.
async fn held(State(gate): State<Arc<Gate>>, session: Session, Path(change): Path<String>) -> Result<String> {
    gate.pass().await;
    make(&session, &change).await
}

async fn change_now(session: Session, Path(change): Path<String>) -> Result<String> {
    make(&session, &change).await
}

async fn make(session: &Session, change: &str) -> Result<String> {
    let user = || Principal::new(format!("{}held", log::USER));
    match change.split_once('=').unwrap_or((change, "")) {
        ("set", key) => session.set(key, format!("{}held", log::VALUE))?,
        ("add", key) => {
            let sum = session.update(key, |sum: Option<u64>| sum.unwrap_or(0) + 1).await?;
            return Ok(sum.to_string());
        }
        // Reads and writes in separate steps, so a lost update must be reported.
        ("add-in-two-steps", key) => session.set(key, session.get::<u64>(key)?.unwrap_or(0) + 1)?,
        ("flush", _) => session.clear()?,
        ("regenerate", _) => session.regenerate()?,
        ("login", _) => session.authenticate(user()?)?,
        ("login-at", level) => session.authenticate_at(user()?, Level::new(level.parse().unwrap_or(0)))?,
        ("login-and-regenerate", _) => {
            session.authenticate(user()?)?;
            session.set("key", format!("{}both", log::VALUE))?;
            session.regenerate()?;
        }
        ("level", level) => session.set_level(Level::new(level.parse().unwrap_or(0)))?,
        // The time in seconds since 1970.
        ("end-by", time) => {
            session.end_by(SystemTime::UNIX_EPOCH + Duration::from_secs(time.parse().unwrap_or(0)))?;
        }
        ("remember", seconds) => {
            session.set_lifetime(Lifetime::remembered(Duration::from_secs(seconds.parse().unwrap_or(0))))?;
        }
        _ => {}
    }
    Ok("done".to_owned())
}

/// Answers a stream that ends with the session, as a WebSocket would.
async fn watch(session: Session) -> Response {
    let ended = async move {
        session.revoked().await;
        Ok::<_, Infallible>("ended")
    };
    Body::from_stream(stream::once(ended)).into_response()
}

/// Changes the session from the body, after the head of the response has left.
async fn late(session: Session) -> Response {
    let late = async move {
        let kind = session.set("late", true).map_err(|error| error.kind());
        Ok::<_, Infallible>(format!("{kind:?}"))
    };
    Body::from_stream(stream::once(late)).into_response()
}

/// Sets a cookie of the session cookie's name in the handler.
async fn own_cookie(State(_): State<Arc<Gate>>, session: Session) -> Result<Response> {
    session.set("key", format!("{}own", log::VALUE))?;
    let mut response = "done".into_response();
    let ours = "__Host-id=forged; Path=/; Secure".parse();
    response.headers_mut().extend(ours.ok().map(|value| (SET_COOKIE, value)));
    Ok(response)
}

/// Uses two handles in one request. One of them waits for the store while the other exists.
async fn two_handles(one: Session, other: Session) -> Result<String> {
    one.set("one", format!("{}1", log::VALUE))?;
    let sum = other.update("sum", |sum: Option<u64>| sum.unwrap_or(0) + 1).await?;
    other.set("other", format!("{}2", log::VALUE))?;
    Ok(format!("{sum} {}", one.get::<u64>("sum")?.unwrap_or(0)))
}
