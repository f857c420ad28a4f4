//! A shop with a slow sign-in, served from the test's own process. The program's own page is too fast for these tests.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, Redirect, Response};
use axum::routing::{get, post};
use cloakroom::{CsrfLayer, CsrfToken, Manager, Principal, Session, SessionLayer};
use serde::Deserialize;
use tokio::sync::watch;

/// The order in which the two sign-ins of a double click run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Neither request is delayed.
    OneByOne,
    /// Both have loaded their session before either commits.
    BothLoadFirst,
    /// The second request arrives after the first has committed, and before the first response leaves.
    SecondArrivesLater,
}

/// The number of sign-in requests that reached each step.
#[derive(Clone, Copy, Default)]
struct Progress {
    arrived: usize,
    loaded: usize,
    committed: usize,
}

#[derive(Clone)]
struct Shop {
    sessions: Manager,
    order: Order,
    progress: Arc<watch::Sender<Progress>>,
}

/// A running shop. It ends with the test's runtime.
pub(crate) struct Running {
    pub(crate) port: u16,
}

/// Starts a shop whose sessions are in `sessions`.
pub(crate) async fn open(sessions: Manager, order: Order) -> Running {
    let shop = Shop { sessions: sessions.clone(), order, progress: Arc::default() };
    let site = Router::new()
        .route("/", get(page))
        .route("/add", post(add))
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/sign-out-everywhere", post(sign_out_everywhere))
        .layer(CsrfLayer::new().require_session())
        .layer(SessionLayer::new(sessions))
        .layer(from_fn_with_state(shop.clone(), slow))
        .with_state(shop);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { axum::serve(listener, site).await });
    Running { port }
}

impl Shop {
    async fn until(&self, reached: impl FnMut(&Progress) -> bool) {
        // If the browser never clicks twice, the test must fail instead of hang.
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(reached);
        let _ = tokio::time::timeout(Duration::from_secs(10), reached).await;
    }
}

/// Delays sign-in requests as the order says. Each request runs to its end even if the browser is gone, as behind a
/// proxy.
async fn slow(State(shop): State<Shop>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/sign-in" || shop.order == Order::OneByOne {
        return next.run(request).await;
    }
    let held = async move {
        let mut place = 0;
        shop.progress.send_modify(|progress| {
            progress.arrived += 1;
            place = progress.arrived;
        });
        let later = shop.order == Order::SecondArrivesLater;
        if later && place == 2 {
            shop.until(|progress| progress.committed >= 1).await;
        }
        let response = next.run(request).await;
        shop.progress.send_modify(|progress| progress.committed += 1);
        if later && place == 1 {
            shop.until(|progress| progress.committed >= 2).await;
        }
        response
    };
    tokio::spawn(held).await.expect("no handler panics")
}

async fn page(session: Session, token: CsrfToken) -> cloakroom::Result<Html<String>> {
    let user = session.principal().map(|user| user.as_str().to_owned()).unwrap_or_default();
    let cart = session.get::<u32>("cart")?.unwrap_or(0);
    let form = |path: &str, fields: &str| {
        format!(
            "<form method=post action=/{path}><input type=hidden name=csrf_token value={token}>{fields}\
             <button id={path}>{path}</button></form>"
        )
    };
    Ok(Html(format!(
        "<!doctype html><title>Shop</title><p id=user>{user}</p><p id=cart>{cart}</p>{}{}{}{}",
        form("sign-in", "<input name=user value=ada>"),
        form("add", ""),
        form("sign-out", ""),
        form("sign-out-everywhere", "")
    )))
}

async fn add(session: Session) -> cloakroom::Result<Redirect> {
    session.set("cart", session.get::<u32>("cart")?.unwrap_or(0) + 1)?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

async fn sign_in(
    State(shop): State<Shop>,
    session: Session,
    Form(SignIn { user }): Form<SignIn>,
) -> cloakroom::Result<Redirect> {
    shop.progress.send_modify(|progress| progress.loaded += 1);
    if shop.order == Order::BothLoadFirst {
        shop.until(|progress| progress.loaded >= 2).await;
    }
    session.authenticate(Principal::new(user)?)?;
    Ok(Redirect::to("/"))
}

async fn sign_out(session: Session) -> cloakroom::Result<Redirect> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

async fn sign_out_everywhere(State(shop): State<Shop>, session: Session) -> cloakroom::Result<Redirect> {
    if let Some(user) = session.principal() {
        shop.sessions.end_sessions(&user).await?;
    }
    Ok(Redirect::to("/"))
}
