//! A visitor of a site whose database fails. It checks that the site agrees with the answers that it got.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use cloakroom::{Manager, Principal, Session, SessionLayer};
use http::Request;
use http::header::{COOKIE, SET_COOKIE};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// Returns a site whose sessions hold their owner and a number.
pub(crate) fn site(sessions: &Manager) -> Router {
    let shown = |session: &Session| {
        let whose: Option<String> = session.get("whose").unwrap();
        format!("{} {}", whose.unwrap_or_default(), session.get::<u64>("n").unwrap().unwrap_or_default())
    };
    Router::new()
        .route(
            "/begin/{whose}",
            get(async |axum::extract::Path(whose): axum::extract::Path<String>, session: Session| {
                session.authenticate(Principal::new(&whose).unwrap()).unwrap();
                session.set("whose", whose).unwrap();
            }),
        )
        .route("/read", get(async move |session: Session| shown(&session)))
        .route(
            "/add",
            get(async |session: Session| -> cloakroom::Result<()> {
                session.update("n", |n: Option<u64>| n.unwrap_or_default() + 1).await.map(drop)
            }),
        )
        .route("/renew", get(async |session: Session| session.regenerate().unwrap()))
        .route("/logout", get(async |session: Session| session.destroy().unwrap()))
        .layer(SessionLayer::new(sessions.clone()))
}

/// An answer of the site.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// The cookie as `name=value`; the value is empty if the cookie is removed.
    pub(crate) cookie: Option<String>,
    pub(crate) took: Duration,
}

pub(crate) async fn ask(site: &Router, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path).header(COOKIE, cookie).body(Body::empty()).unwrap();
    let start = Instant::now();
    let response = site.clone().oneshot(request).await.unwrap();
    let (took, status) = (start.elapsed(), response.status().as_u16());
    let cookie = response.headers().get(SET_COOKIE);
    let cookie = cookie.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, text: String::from_utf8_lossy(&body).into_owned(), cookie, took }
}

/// The totals of all visitors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    /// The number of additions, new ids and logouts that were answered with 200.
    pub(crate) acknowledged: u64,
    pub(crate) logouts: u64,
    pub(crate) longest: Duration,
}

/// A visitor with one session after another, and what it knows of each.
pub(crate) struct Visitor {
    name: String,
    cookie: String,
    /// The number of acknowledged additions.
    sure: u64,
    /// The number of further additions that may have happened.
    maybe: u64,
    /// The ids whose end was acknowledged.
    pub(crate) ended: Vec<String>,
    pub(crate) seen: Seen,
    pub(crate) last_success: Option<Instant>,
    lives: u64,
}

impl Visitor {
    pub(crate) fn new(number: usize) -> Self {
        Visitor {
            name: format!("visitor-{number}"),
            cookie: String::new(),
            sure: 0,
            maybe: 0,
            ended: Vec::new(),
            seen: Seen::default(),
            last_success: None,
            lives: 0,
        }
    }

    /// Sends the next request and checks its answer.
    pub(crate) async fn step(&mut self, site: &Router, turn: usize) {
        if self.cookie.is_empty() {
            return self.begin(site).await;
        }
        match turn % 16 {
            13 => self.renew(site).await,
            15 => self.log_out(site).await,
            turn if turn % 3 == 0 => self.read(site).await,
            _ => self.add(site).await,
        }
    }

    async fn ask(&mut self, site: &Router, path: &str) -> Option<Answer> {
        let answer = ask(site, path, &self.cookie).await;
        self.seen.requests += 1;
        self.seen.longest = self.seen.longest.max(answer.took);
        match answer.status {
            200 => {
                self.last_success = Some(Instant::now());
                Some(answer)
            }
            503 => {
                assert_eq!(answer.cookie, None, "{path}: a 503 sets no cookie");
                assert!(
                    !answer.text.contains("mysql") && !answer.text.contains("127.0.0.1"),
                    "{}",
                    answer.text
                );
                self.seen.refused += 1;
                None
            }
            other => panic!("{path}: {other} {}", answer.text),
        }
    }

    async fn begin(&mut self, site: &Router) {
        self.lives += 1;
        let whose = format!("{}-{}", self.name, self.lives);
        if let Some(answer) = self.ask(site, &format!("/begin/{whose}")).await {
            self.cookie = answer.cookie.expect("a new session's cookie");
            (self.sure, self.maybe) = (0, 0);
        }
    }

    pub(crate) async fn read(&mut self, site: &Router) {
        let Some(answer) = self.ask(site, "/read").await else { return };
        if self.cookie.is_empty() {
            return;
        }
        let (whose, n) = answer.text.split_once(' ').expect("a name and a number");
        let n: u64 = n.parse().expect("a number");
        assert_eq!(whose, format!("{}-{}", self.name, self.lives), "someone else's session");
        let known = self.sure..=self.sure + self.maybe;
        assert!(known.contains(&n), "{whose}: {n} is not among {known:?}: a write was lost or done twice");
        // The read settles the additions that it shows. Others may still be running on the server.
        self.maybe -= n - self.sure;
        self.sure = n;
    }

    async fn add(&mut self, site: &Router) {
        match self.ask(site, "/add").await {
            Some(_) => {
                self.sure += 1;
                self.seen.acknowledged += 1;
            }
            None => self.maybe += 1,
        }
    }

    async fn renew(&mut self, site: &Router) {
        let before = std::mem::take(&mut self.cookie);
        let answer = ask_with(self, site, "/renew", &before).await;
        // Without an answer the new id is unknown, so this session is over for the visitor.
        let Some(answer) = answer else { return };
        self.cookie = answer.cookie.expect("a new id's cookie");
        self.seen.acknowledged += 1;
        self.ended.push(before);
    }

    async fn log_out(&mut self, site: &Router) {
        let before = std::mem::take(&mut self.cookie);
        if ask_with(self, site, "/logout", &before).await.is_some() {
            self.seen.acknowledged += 1;
            self.seen.logouts += 1;
            self.ended.push(before);
        }
    }
}

async fn ask_with(visitor: &mut Visitor, site: &Router, path: &str, cookie: &str) -> Option<Answer> {
    visitor.cookie = cookie.to_owned();
    let answer = visitor.ask(site, path).await;
    visitor.cookie.clear();
    answer
}
