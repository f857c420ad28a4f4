//! The adapter of the chapter `your_own_framework`, on hyper and over TCP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "../../examples/hyper_plain/src/adapter.rs"]
mod adapter;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::{Error, ErrorKind};
use futures_util::StreamExt;
use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use adapter::{Body, session, text, with_session};
use support::faulty::Fault;
use support::hooked::Call;
use support::{Rig, cookies, joined, pair, set_cookies};

/// A server with the adapter, and the switches of its handlers.
struct Site {
    rig: Rig,
    address: std::net::SocketAddr,
    /// Lets `/stream` send its second piece.
    go_on: Arc<Notify>,
    /// The result of the change that `/stream` tries after the head.
    late: mpsc::Receiver<Option<ErrorKind>>,
}

impl Site {
    async fn start() -> Self {
        let rig = Rig::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manager, store, go_on) = (rig.manager.clone(), rig.store.clone(), Arc::new(Notify::new()));
        let (tell, late) = mpsc::channel(1);
        let app = App { store, go_on: Arc::clone(&go_on), tell };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (sessions, app) = (manager.clone(), app.clone());
                tokio::spawn(async move {
                    let service = service_fn(async |request| {
                        let handler = async |request| app.respond(request).await;
                        Ok::<_, Infallible>(with_session(&sessions, request, handler).await)
                    });
                    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Site { rig, address, go_on, late }
    }

    /// Sends a request on a connection of its own. Returns the head, with the body unread.
    async fn ask(&self, path: &str, cookie: &str) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut send, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", "localhost");
        if !cookie.is_empty() {
            request = request.header("cookie", cookie);
        }
        let answer = send.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        tokio::time::timeout(Duration::from_secs(10), answer).await.expect("an answer within 10 s").unwrap()
    }
}

#[derive(Clone)]
struct App {
    store: cloakroom::Manager,
    go_on: Arc<Notify>,
    tell: mpsc::Sender<Option<ErrorKind>>,
}

impl App {
    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        if request.uri().path() == "/untouched" {
            return Ok(text(StatusCode::OK, "untouched"));
        }
        let session = session(&request).await?;
        let n = session.get::<u64>("n")?.unwrap_or(0);
        if request.uri().path() == "/read" {
            return Ok(text(StatusCode::OK, n.to_string()));
        }
        session.set("n", n + 1)?;
        match request.uri().path() {
            "/fail" => Ok(text(StatusCode::BAD_GATEWAY, "")),
            "/denied" => session.require_recent(Duration::ZERO).map(|()| text(StatusCode::OK, "")),
            "/panic" => panic!("an injected panic of the handler"),
            "/logout-between" => {
                let headers = request.headers();
                let _ = self.store.destroy(headers, &mut http::HeaderMap::new()).await?;
                Ok(text(StatusCode::OK, "done"))
            }
            "/stream" => Ok(self.stream(session)),
            _ => Ok(text(StatusCode::OK, "done")),
        }
    }

    /// Returns a body of two pieces. The second one waits for the test, and for a change that comes too late.
    fn stream(&self, session: cloakroom::Session) -> Response<Body> {
        let (go_on, tell) = (Arc::clone(&self.go_on), self.tell.clone());
        let first = futures_util::stream::once(async { Bytes::from_static(b"first ") });
        let second = futures_util::stream::once(async move {
            go_on.notified().await;
            let late = session.set("n", 99).err().map(|error| error.kind());
            tell.send(late).await.unwrap();
            Bytes::from_static(b"second")
        });
        let pieces = first.chain(second).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        Response::new(BodyExt::boxed(StreamBody::new(Box::pin(pieces))))
    }
}

async fn body(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn the_guide_shows_this_adapter() {
    let guide = include_str!("../src/guide/your_own_framework.md");
    let adapter = include_str!("../../examples/hyper_plain/src/adapter.rs");
    // The chapter leaves out the line that says what the file holds.
    let (_, code) = adapter.split_once("\n\n").unwrap();
    assert!(guide.contains(code), "the chapter has another adapter than the example");
    assert!(adapter.lines().count() < 100);
}

#[tokio::test]
async fn an_untouched_session_costs_nothing() {
    let site = Site::start().await;
    let alive = site.rig.session_with(1).await;
    let response = site.ask("/untouched", &alive).await;
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec![]));
    assert_eq!(joined(response.headers(), "vary"), "");
    assert_eq!(site.rig.faults.calls(), []);
}

#[tokio::test]
async fn the_commit_precedes_the_head() {
    let mut site = Site::start().await;
    let response = site.ask("/stream", "").await;
    // The body has not ended, and cannot before `go_on`.
    let cookie = pair(response.headers()).unwrap();
    assert_eq!(site.rig.stored(&cookie).await, Some(1));
    assert_eq!(joined(response.headers(), "cache-control"), "no-store");
    assert_eq!(body(site.ask("/read", &cookie).await).await, "1");

    site.go_on.notify_one();
    assert_eq!(body(response).await, "first second");
    assert_eq!(site.late.recv().await, Some(Some(ErrorKind::Released)), "the response has left");
    assert_eq!(site.rig.stored(&cookie).await, Some(1));
}

#[tokio::test]
async fn a_stream_sends_each_piece_when_it_is_ready() {
    let site = Site::start().await;
    let mut response = site.ask("/stream", "").await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first ");
    site.go_on.notify_one();
    assert_eq!(body(response).await, "second");
}

#[tokio::test]
async fn a_5xx_commits_nothing() {
    let site = Site::start().await;
    let alive = site.rig.session_with(1).await;
    for cookie in [&*alive, ""] {
        let response = site.ask("/fail", cookie).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (502, vec![]));
    }
    assert_eq!(site.rig.faults.calls(), [Call::Load]);
    assert_eq!((site.rig.stored(&alive).await, site.rig.count().await), (Some(1), 1));
}

#[tokio::test]
async fn a_panic_commits_nothing() {
    let site = Site::start().await;
    let alive = site.rig.session_with(1).await;
    let stream = TcpStream::connect(site.address).await.unwrap();
    let (mut send, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/panic").header("cookie", &alive).body(Empty::<Bytes>::new()).unwrap();
    assert!(send.send_request(request).await.is_err(), "the connection ends");
    assert_eq!(site.rig.faults.calls(), [Call::Load]);
    assert_eq!(site.rig.stored(&alive).await, Some(1));
}

#[tokio::test]
async fn a_lost_write_is_409() {
    let site = Site::start().await;
    let alive = site.rig.session_with(1).await;
    let response = site.ask("/logout-between", &alive).await;
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (409, vec![]));
    assert_eq!(joined(response.headers(), "cache-control"), "no-store");
    assert!(body(response).await.starts_with("Your session has ended"));
    assert_eq!(site.rig.count().await, 0);
}

#[tokio::test]
async fn a_failed_commit_is_503() {
    let site = Site::start().await;
    let alive = site.rig.session_with(1).await;
    site.rig.faults.set(Call::Update, Fault::Fail);
    let response = site.ask("/", &alive).await;
    assert_eq!((response.status().as_u16(), response.headers().get(SET_COOKIE)), (503, None));
    assert_eq!(joined(response.headers(), "vary"), "Cookie");
    assert_eq!(body(response).await, "");
}

#[tokio::test]
async fn a_failed_load_is_503_and_a_denied_user_401() {
    let site = Site::start().await;
    let alive = site.rig.session_with(1).await;
    let response = site.ask("/denied", &alive).await;
    assert_eq!(response.status(), 401);
    assert_eq!(body(response).await, "Please sign in.");
    site.rig.faults.set(Call::Load, Fault::Fail);
    assert_eq!(site.ask("/read", &alive).await.status(), 503);
}

#[tokio::test]
async fn a_change_is_stored_and_its_cookie_sent_once() {
    let site = Site::start().await;
    let first = site.ask("/", "").await;
    let cookie = pair(first.headers()).unwrap();
    let second = site.ask("/", &cookie).await;
    assert_eq!(set_cookies(second.headers()), [""; 0], "the client has its cookie already");
    assert_eq!(site.rig.store.start(&cookies(&cookie)).await.unwrap().get("n").unwrap(), Some(2));
}
