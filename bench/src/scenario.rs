//! The counted requests. They go through the whole axum stack, without a network.

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

/// The use that a request makes of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Scenario {
    /// No use, without a cookie.
    Untouched,
    /// No use, with a cookie.
    UntouchedWithCookie,
    /// Reads one value.
    Read,
    /// Reads a value and sets it.
    Change,
    /// Sets a value, without a cookie.
    FirstVisit,
    /// Changes a value in one atomic step.
    Update,
    /// Binds a user to the visitor's session, which gets a new id.
    Login,
    /// Ends the session.
    Logout,
}

impl Scenario {
    /// Returns the most that the request may cost beyond the bare handler.
    pub fn aim(self) -> Aim {
        let (instructions, allocations) = match self {
            Scenario::Untouched | Scenario::UntouchedWithCookie => (Some(750), Some(3)),
            Scenario::Read => (Some(2_500), None),
            Scenario::Change => (Some(5_000), None),
            Scenario::FirstVisit => (Some(6_000), None),
            Scenario::Login => (Some(15_000), None),
            Scenario::Update | Scenario::Logout => (None, None),
        };
        Aim { instructions, allocations }
    }

    /// Returns the cookie that the request sends.
    fn sends(self) -> Sends {
        match self {
            Scenario::Untouched | Scenario::FirstVisit => Sends::Nothing,
            Scenario::UntouchedWithCookie | Scenario::Read | Scenario::Change | Scenario::Update => {
                Sends::TheSameCookie
            }
            Scenario::Login | Scenario::Logout => Sends::AnotherCookie,
        }
    }

    /// Serves `requests` requests on this thread.
    pub fn serve(self, with_sessions: bool, requests: u32) {
        let mut rig = self.rig(with_sessions);
        (0..requests).for_each(|_| rig.request());
        // The store is not torn down: that is no part of a request, and what it costs depends on when the allocator merges the
        // freed blocks, which varied between runs by 160 instructions a session.
        std::mem::forget(rig);
    }

    /// Creates a server for the scenario.
    pub fn rig(self, with_sessions: bool) -> Rig {
        Rig::new(self, with_sessions)
    }
}

/// The costs that a request must not exceed, if there are any.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Aim {
    /// Instructions.
    pub instructions: Option<i64>,
    /// Allocations.
    pub allocations: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Sends {
    Nothing,
    TheSameCookie,
    /// The cookie of a new session. It is created outside the layer, at the same cost with and without sessions.
    AnotherCookie,
}

/// A server for one scenario, and the request that it gets.
#[derive(Debug)]
pub struct Rig {
    runtime: Runtime,
    router: Router,
    sessions: Manager,
    sends: Sends,
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
        let router = if with_sessions {
            Router::new().route("/", handler(scenario)).layer(SessionLayer::new(sessions.clone()))
        } else {
            Router::new().route("/", bare_handler(scenario)).layer(Nothing)
        };
        // `axum::serve` sets the state too. Without it the layers are applied again for every request.
        let router = router.with_state(());
        Rig { runtime, router, sessions, sends: scenario.sends(), cookie }
    }

    /// Sends the request and checks the answer.
    pub fn request(&mut self) {
        let mut request =
            Request::builder().uri("/").body(Body::empty()).expect("the request is well-formed");
        let cookie = match self.sends {
            Sends::Nothing => None,
            Sends::TheSameCookie => Some(self.cookie.clone()),
            Sends::AnotherCookie => Some(self.runtime.block_on(cookie(&self.sessions))),
        };
        if let Some(cookie) = cookie {
            request.headers_mut().insert(COOKIE, cookie);
        }
        let response = self.runtime.block_on(self.router.call(request));
        assert!(black_box(response).is_ok_and(|response| response.status().is_success()));
    }
}

/// Returns the cookie of a session with one small number.
async fn cookie(sessions: &Manager) -> HeaderValue {
    let session = sessions.start(&http::HeaderMap::new()).await.expect("memory does not fail");
    session.set("n", 1_u64).expect("a number fits");
    let mut headers = http::HeaderMap::new();
    let _ = session.release(&mut headers).await.expect("memory does not fail");
    let cookie = headers[SET_COOKIE].to_str().expect("a cookie is ASCII");
    let pair = cookie.split(';').next().unwrap_or_default();
    // The text is copied, as a server's parser would do it.
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

/// Returns handlers that give the same answers without a session.
fn bare_handler(scenario: Scenario) -> axum::routing::MethodRouter {
    match scenario {
        Scenario::Untouched | Scenario::UntouchedWithCookie => get(async || "hello"),
        _ => get(async || Answer::Ok(black_box(1_u64).to_string())),
    }
}

/// A layer that does nothing. axum boxes the service and its future under any layer, so the bare handler needs one
/// too.
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
