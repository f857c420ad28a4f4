//! The requests that are counted: through the whole axum stack, without a network.

use std::hint::black_box;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use clap::ValueEnum;
use cloakroom::{Manager, MemoryProvider, Principal, Session, SessionLayer};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request};
use tokio::runtime::Runtime;
use tower::{Layer, Service};

/// What a request does with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Scenario {
    /// Does not touch it, and brings no cookie.
    Untouched,
    /// Does not touch it, though a cookie is there.
    UntouchedWithCookie,
    /// Reads one value.
    Read,
    /// Reads a value and sets it anew.
    Change,
    /// Brings no cookie and sets a value.
    FirstVisit,
    /// Changes a value in one atomic step.
    Update,
    /// Binds a user to the session of a visitor, who gets a new id.
    Login,
    /// Ends the session.
    Logout,
}

impl Scenario {
    /// The most that it should cost over the bare handler.
    pub fn aim(self) -> Aim {
        let (instructions, allocations) = match self {
            Scenario::Untouched | Scenario::UntouchedWithCookie => (Some(700), Some(3)),
            Scenario::Read => (Some(2_500), None),
            Scenario::Change => (Some(5_000), None),
            Scenario::FirstVisit => (Some(6_000), None),
            Scenario::Update | Scenario::Login | Scenario::Logout => (None, None),
        };
        Aim { instructions, allocations }
    }

    /// What its request brings.
    fn brings(self) -> Brings {
        match self {
            Scenario::Untouched | Scenario::FirstVisit => Brings::Nothing,
            Scenario::UntouchedWithCookie | Scenario::Read | Scenario::Change | Scenario::Update => {
                Brings::TheSameCookie
            }
            Scenario::Login | Scenario::Logout => Brings::AnotherCookie,
        }
    }

    /// Serves `requests` requests on this thread.
    pub fn serve(self, with_sessions: bool, requests: u32) {
        let mut rig = self.rig(with_sessions);
        (0..requests).for_each(|_| rig.request());
    }

    /// A server for it.
    pub fn rig(self, with_sessions: bool) -> Rig {
        Rig::new(self, with_sessions)
    }
}

/// What a request should cost at most, where that is said.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Aim {
    /// Instructions.
    pub instructions: Option<i64>,
    /// Allocations.
    pub allocations: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Brings {
    Nothing,
    TheSameCookie,
    /// One of a session of its own, made for it beside the layer: that costs the same with our layer and without.
    AnotherCookie,
}

/// A server for one scenario, and the request that is sent to it.
#[derive(Debug)]
pub struct Rig {
    runtime: Runtime,
    router: Router,
    sessions: Manager,
    brings: Brings,
    cookie: HeaderValue,
}

impl Rig {
    fn new(scenario: Scenario, with_sessions: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime can be built");
        let sessions = Manager::builder(MemoryProvider::new()).build().expect("the defaults work together");
        let cookie = runtime.block_on(cookie(&sessions));
        let router = match with_sessions {
            true => Router::new().route("/", handler(scenario)).layer(SessionLayer::new(sessions.clone())),
            false => Router::new().route("/", bare_handler(scenario)).layer(Nothing),
        };
        // As `axum::serve` does: without it the layers are put on anew for every request.
        let router = router.with_state(());
        Rig { runtime, router, sessions, brings: scenario.brings(), cookie }
    }

    /// Sends the request and takes the answer.
    pub fn request(&mut self) {
        let mut request =
            Request::builder().uri("/").body(Body::empty()).expect("the request is well-formed");
        let cookie = match self.brings {
            Brings::Nothing => None,
            Brings::TheSameCookie => Some(self.cookie.clone()),
            Brings::AnotherCookie => Some(self.runtime.block_on(cookie(&self.sessions))),
        };
        if let Some(cookie) = cookie {
            request.headers_mut().insert(COOKIE, cookie);
        }
        let response = self.runtime.block_on(self.router.call(request));
        assert!(black_box(response).is_ok_and(|response| response.status().is_success()));
    }
}

/// The cookie of a session that holds one small number.
async fn cookie(sessions: &Manager) -> HeaderValue {
    let session = sessions.start(&http::HeaderMap::new()).await.expect("memory does not fail");
    session.set("n", 1_u64).expect("a number fits");
    let mut headers = http::HeaderMap::new();
    let _ = session.release(&mut headers).await.expect("memory does not fail");
    let cookie = headers[SET_COOKIE].to_str().expect("a cookie is ASCII");
    let pair = cookie.split(';').next().unwrap_or_default();
    // From a text of its own, as a server's parser would hand it over.
    HeaderValue::try_from(pair.to_owned()).expect("a cookie is a header value")
}

type Answer = cloakroom::Result<String>;

fn handler(scenario: Scenario) -> axum::routing::MethodRouter {
    match scenario {
        Scenario::Untouched | Scenario::UntouchedWithCookie => get(async || "hello"),
        Scenario::Read => get(async |session: Session| {
            let n = session.get::<u64>("n")?.unwrap_or(0);
            Answer::Ok(n.to_string())
        }),
        Scenario::Change => get(async |session: Session| {
            let n = session.get::<u64>("n")?.unwrap_or(0) + 1;
            session.set("n", n)?;
            Answer::Ok(n.to_string())
        }),
        Scenario::FirstVisit => get(async |session: Session| {
            session.set("n", 1_u64)?;
            Answer::Ok(1_u64.to_string())
        }),
        Scenario::Update => get(async |session: Session| {
            let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
            Answer::Ok(n.to_string())
        }),
        Scenario::Login => get(async |session: Session| {
            session.authenticate(Principal::new("alice")?)?;
            Answer::Ok(1_u64.to_string())
        }),
        Scenario::Logout => get(async |session: Session| {
            session.destroy()?;
            Answer::Ok(1_u64.to_string())
        }),
    }
}

/// The same answers without a session.
fn bare_handler(scenario: Scenario) -> axum::routing::MethodRouter {
    match scenario {
        Scenario::Untouched | Scenario::UntouchedWithCookie => get(async || "hello"),
        _ => get(async || Answer::Ok(black_box(1_u64).to_string())),
    }
}

/// A layer that does nothing, in the shape of ours: axum boxes the service and its future wherever a layer is.
#[derive(Clone)]
struct Nothing;

impl<S> Layer<S> for Nothing {
    type Service = NothingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NothingService(inner)
    }
}

#[derive(Clone)]
struct NothingService<S>(S);

impl<S: Service<Request<Body>>> Service<Request<Body>> for NothingService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request)
    }
}
