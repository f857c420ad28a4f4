//! The requests that are counted: through the whole axum stack, without a network.

use std::hint::black_box;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use clap::ValueEnum;
use cloakroom::{Manager, MemoryProvider, Session, SessionLayer};
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
}

impl Scenario {
    /// The most that it may cost over the bare handler.
    pub fn budget(self) -> Budget {
        let (instructions, allocations) = match self {
            Scenario::Untouched | Scenario::UntouchedWithCookie => (700, Some(3)),
            Scenario::Read => (2_500, None),
            Scenario::Change => (5_000, None),
            Scenario::FirstVisit => (6_000, None),
        };
        Budget { instructions, allocations }
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

/// What a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Instructions.
    pub instructions: i64,
    /// Allocations, where they are bounded.
    pub allocations: Option<u64>,
}

/// A server for one scenario, and the request that is sent to it.
#[derive(Debug)]
pub struct Rig {
    runtime: Runtime,
    router: Router,
    cookie: Option<HeaderValue>,
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
            true => Router::new().route("/", handler(scenario)).layer(SessionLayer::new(sessions)),
            false => Router::new().route("/", bare_handler(scenario)).layer(Nothing),
        };
        // As `axum::serve` does: without it the layers are put on anew for every request.
        let router = router.with_state(());
        let brings_cookie = !matches!(scenario, Scenario::Untouched | Scenario::FirstVisit);
        Rig { runtime, router, cookie: brings_cookie.then_some(cookie) }
    }

    /// Sends the request and takes the answer.
    pub fn request(&mut self) {
        let mut request =
            Request::builder().uri("/").body(Body::empty()).expect("the request is well-formed");
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
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
    }
}

/// The same answers without a session.
fn bare_handler(scenario: Scenario) -> axum::routing::MethodRouter {
    match scenario {
        Scenario::Untouched | Scenario::UntouchedWithCookie => get(async || "hello"),
        Scenario::Read | Scenario::Change | Scenario::FirstVisit => {
            get(async || Answer::Ok(black_box(1_u64).to_string()))
        }
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
