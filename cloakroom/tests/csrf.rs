//! Forged requests against a site of axum.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "csrf/handshakes.rs"]
mod handshakes;
#[path = "csrf/visitors.rs"]
mod visitors;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::{get, post};
use cloakroom::middleware::PageOrigin;
use cloakroom::{CsrfLayer, CsrfToken, Error, ErrorKind, Manager, MemoryProvider, Session, SessionLayer};
use http::header::COOKIE;
use http::{HeaderMap, Method, Request, StatusCode};

use support::faulty::Fault;
use support::hooked::Call;
use support::{Rig, alice, ask, pair, send, set_cookies, text};

/// A page with a form, one without, and the paths that forms post to. A post returns its body.
fn routes() -> Router {
    let change = async |session: Session, body: Bytes| {
        session.set("changed", true).unwrap();
        body
    };
    let login = async |session: Session| {
        session.authenticate(alice()).unwrap();
        session.csrf_token().await.unwrap().to_string()
    };
    Router::new()
        .route(
            "/form",
            get(async |token: CsrfToken| token.to_string()).post(change).put(change).delete(change),
        )
        .route("/plain", get(async |session: Session| session.contains("changed").unwrap().to_string()))
        .route("/login", get(async || "").post(login))
        .route("/read", post(async |session: Session| session.id().is_some().to_string()))
}

fn site(manager: &Manager, layer: CsrfLayer) -> Router {
    routes().layer(layer).layer(SessionLayer::new(manager.clone()))
}

fn manager() -> Manager {
    Manager::builder(MemoryProvider::new()).build().unwrap()
}

/// Returns the cookie and the token of a visitor who has loaded the page with the form.
async fn visitor(site: &Router) -> (String, String) {
    let page = ask(site, "/form", "").await;
    let cookie = pair(page.headers()).unwrap();
    (cookie, text(page).await)
}

const FORM: &str = "application/x-www-form-urlencoded";

struct Post<'a> {
    path: &'a str,
    cookie: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
}

impl<'a> Post<'a> {
    fn form(cookie: &'a str, body: impl Into<String>) -> Self {
        Post { path: "/form", cookie, headers: vec![("content-type", FORM)], body: body.into() }
    }

    fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    async fn send(self, site: &Router) -> Response {
        let mut request = Request::post(self.path).header("host", "shop.example");
        if !self.cookie.is_empty() {
            request = request.header(COOKIE, self.cookie);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        send(site, request.body(Body::from(self.body)).unwrap()).await
    }

    async fn status(self, site: &Router) -> StatusCode {
        self.send(site).await.status()
    }
}

#[tokio::test]
async fn a_form_with_its_sessions_token_passes() {
    let site = site(&manager(), CsrfLayer::new());
    let (cookie, token) = visitor(&site).await;
    for body in [format!("csrf_token={token}"), format!("a=1&csrf_token={token}&b=%20+")] {
        let response = Post::form(&cookie, &*body).send(&site).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, body);
    }
    let again = text(ask(&site, "/form", &cookie).await).await;
    assert_ne!(again, token, "each page has another mask");
    assert_eq!(Post::form(&cookie, format!("csrf_token={again}")).status(&site).await, StatusCode::OK);
    assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&site).await, StatusCode::OK);
}

#[tokio::test]
async fn a_token_in_the_header_passes_for_any_body() {
    let site = site(&manager(), CsrfLayer::new());
    let (cookie, token) = visitor(&site).await;
    let post = Post { headers: vec![("content-type", "application/json")], ..Post::form(&cookie, "{}") };
    let response = post.with("x-csrf-token", &token).send(&site).await;
    assert_eq!((response.status(), text(response).await), (StatusCode::OK, "{}".to_owned()));
}

#[tokio::test]
async fn a_token_of_another_visitor_is_refused() {
    let site = site(&manager(), CsrfLayer::new());
    let ((alices, alices_token), (bobs, bobs_token)) = (visitor(&site).await, visitor(&site).await);
    for (cookie, token, expected) in [
        (&alices, &*alices_token, StatusCode::OK),
        (&bobs, &bobs_token, StatusCode::OK),
        (&bobs, &alices_token, StatusCode::FORBIDDEN),
        (&alices, &bobs_token, StatusCode::FORBIDDEN),
        (&alices, "", StatusCode::FORBIDDEN),
        (&alices, "x", StatusCode::FORBIDDEN),
        (&alices, &alices_token[1..], StatusCode::FORBIDDEN),
    ] {
        assert_eq!(Post::form(cookie, format!("csrf_token={token}")).status(&site).await, expected);
        let header = Post::form(cookie, "").with("x-csrf-token", token);
        assert_eq!(header.status(&site).await, expected, "in the header");
    }
    assert_eq!(Post::form(&alices, "a=1").status(&site).await, StatusCode::FORBIDDEN, "no token at all");
    let query = Post { path: &format!("/form?csrf_token={alices_token}"), ..Post::form(&alices, "a=1") };
    assert_eq!(query.status(&site).await, StatusCode::FORBIDDEN, "a token in the query does not count");
}

#[tokio::test]
async fn a_refused_request_never_reaches_its_handler() {
    let site = site(&manager(), CsrfLayer::new());
    let (cookie, _) = visitor(&site).await;
    let refused = Post::form(&cookie, "a=1").send(&site).await;
    assert_eq!((refused.status(), set_cookies(refused.headers()).len()), (StatusCode::FORBIDDEN, 0));
    assert_eq!(
        text(refused).await,
        "This form is out of date or was sent by another site, so nothing was changed. Please load the page again."
    );
    assert_eq!(text(ask(&site, "/plain", &cookie).await).await, "false");
}

#[tokio::test]
async fn a_login_makes_earlier_tokens_invalid() {
    let site = site(&manager(), CsrfLayer::new());
    let (cookie, before) = visitor(&site).await;
    let login = Post { path: "/login", ..Post::form(&cookie, format!("csrf_token={before}")) };
    let response = login.send(&site).await;
    let cookie = pair(response.headers()).unwrap();
    let after = text(response).await;
    assert_eq!(
        Post::form(&cookie, format!("csrf_token={before}")).status(&site).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(Post::form(&cookie, format!("csrf_token={after}")).status(&site).await, StatusCode::OK);
}

#[tokio::test]
async fn safe_methods_need_no_token() {
    let manager = manager();
    let site = site(&manager, CsrfLayer::new());
    for path in ["/plain", "/login"] {
        let response = ask(&site, path, "").await;
        assert_eq!((response.status(), set_cookies(response.headers()).len()), (StatusCode::OK, 0));
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 0);
    let (cookie, _) = visitor(&site).await;
    assert_eq!(manager.active_sessions().await.unwrap(), 0, "a form needs no session");
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        let mut request = support::request("/plain", &cookie);
        request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
        *request.method_mut() = method.clone();
        assert_ne!(
            send(&site, request).await.status(),
            StatusCode::FORBIDDEN,
            "{method}: a link on another site"
        );
    }
    for method in [Method::PUT, Method::DELETE, Method::POST, Method::from_bytes(b"ODD").unwrap()] {
        let mut request = support::request("/form", &cookie);
        *request.method_mut() = method.clone();
        assert_eq!(send(&site, request).await.status(), StatusCode::FORBIDDEN, "{method}");
    }
}

#[tokio::test]
async fn a_request_from_another_site_is_refused_with_its_token() {
    let trusting = CsrfLayer::new().trust_origin("https://app.shop.example".parse().unwrap());
    let site = site(&manager(), trusting);
    let (cookie, token) = visitor(&site).await;
    let body = format!("csrf_token={token}");
    for (name, value, expected) in [
        ("sec-fetch-site", "same-origin", StatusCode::OK),
        ("sec-fetch-site", "none", StatusCode::OK),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("origin", "https://shop.example", StatusCode::OK),
        ("origin", "https://app.shop.example", StatusCode::OK),
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
    ] {
        for (cookie, what) in [(&*cookie, "with a session"), ("", "without one")] {
            let status = Post::form(cookie, &*body).with(name, value).status(&site).await;
            assert_eq!(status, expected, "{name}: {value} {what}");
        }
    }
    let untokened = Post::form(&cookie, "a=1").with("origin", "https://app.shop.example");
    assert_eq!(untokened.status(&site).await, StatusCode::FORBIDDEN, "a trusted origin needs the token too");
}

#[test]
fn a_malformed_origin_is_a_configuration_error() {
    for wrong in [
        "app.example",
        "null",
        "ftp://a.example",
        "https://",
        "https://a.example/",
        "https://*.example",
        "https://a b",
        "https://a.example:port",
        "https://a.example:65536",
    ] {
        let error = wrong.parse::<PageOrigin>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        let text = error.to_string();
        assert!(text.contains("expected an origin such as https://app.example.com"), "{wrong}: {text}");
    }
    for (text, shown) in [
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
    ] {
        assert_eq!(text.parse::<PageOrigin>().unwrap().to_string(), shown);
    }
}

#[tokio::test]
async fn without_a_session_a_token_is_optional_unless_required() {
    let manager = manager();
    let lenient = site(&manager, CsrfLayer::new());
    let strict = site(&manager, CsrfLayer::new().require_session());
    let unknown = "__Host-id=Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM";
    for cookie in ["", unknown, "__Host-id=malformed"] {
        assert_eq!(Post::form(cookie, "a=1").status(&lenient).await, StatusCode::OK);
        assert_eq!(Post::form(cookie, "a=1").status(&strict).await, StatusCode::FORBIDDEN);
    }
    let (cookie, token) = visitor(&strict).await;
    assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&strict).await, StatusCode::OK);
}

#[tokio::test]
async fn origin_only_refuses_other_sites_without_a_token() {
    let manager = manager();
    let cookie = visitor(&site(&manager, CsrfLayer::new())).await.0;
    for site in [site(&manager, CsrfLayer::new().origin_only()), routes_without_sessions()] {
        for (header, value, status) in [
            ("origin", "https://shop.example", StatusCode::OK),
            ("origin", "https://shop.example:443", StatusCode::OK),
            ("origin", "https://shop.example:8443", StatusCode::FORBIDDEN),
            ("origin", "https://evil.example", StatusCode::FORBIDDEN),
            ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
            ("x-program", "curl", StatusCode::OK),
        ] {
            let post = Post::form(&cookie, "a=1").with("host", "shop.example").with(header, value);
            assert_eq!(post.status(&site).await, status, "{header}: {value}");
        }
    }
}

fn routes_without_sessions() -> Router {
    Router::new().route("/form", post(async || "")).layer(CsrfLayer::new().origin_only())
}

#[tokio::test]
async fn concurrent_pages_all_get_valid_tokens() {
    let rig = Rig::new();
    let cookie = rig.session_with(1).await;
    let site = site(&rig.manager, CsrfLayer::new());
    let pages: Vec<_> = (0..8)
        .map(|_| {
            let (site, cookie) = (site.clone(), cookie.clone());
            tokio::spawn(async move { text(ask(&site, "/form", &cookie).await).await })
        })
        .collect();
    for page in pages {
        let token = page.await.unwrap();
        assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&site).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn names_and_the_refusal_can_be_configured() {
    let layer = CsrfLayer::new().field("_token").header(http::HeaderName::from_static("x-own")).on_refused(
        |error: &Error| {
            Response::builder().status(error.status()).body(Body::from("Load it again.")).unwrap()
        },
    );
    let site = routes().layer(layer).layer(SessionLayer::new(manager()));
    let (cookie, token) = visitor(&site).await;
    assert_eq!(Post::form(&cookie, format!("_token={token}")).status(&site).await, StatusCode::OK);
    assert_eq!(Post::form(&cookie, "").with("x-own", &token).status(&site).await, StatusCode::OK);
    let refused = Post::form(&cookie, format!("csrf_token={token}")).send(&site).await;
    assert_eq!((refused.status(), text(refused).await), (StatusCode::FORBIDDEN, "Load it again.".to_owned()));
}

#[tokio::test]
async fn a_token_beyond_64_kib_of_a_form_is_refused() {
    let site = site(&manager(), CsrfLayer::new());
    let (cookie, token) = visitor(&site).await;
    let filler = "x".repeat(64 * 1024);
    let far = format!("note={filler}&csrf_token={token}");
    assert_eq!(Post::form(&cookie, far).status(&site).await, StatusCode::FORBIDDEN);
    let first = format!("csrf_token={token}&note={filler}");
    let response = Post::form(&cookie, &*first).send(&site).await;
    assert_eq!((response.status(), text(response).await), (StatusCode::OK, first));
    for kind in ["text/plain", "multipart/form-data; boundary=b", "application/json", ""] {
        let post = Post {
            headers: vec![("content-type", kind)],
            ..Post::form(&cookie, format!("csrf_token={token}"))
        };
        assert_eq!(post.status(&site).await, StatusCode::FORBIDDEN, "{kind}");
    }
    let charset = Post {
        headers: vec![("content-type", "Application/X-WWW-Form-Urlencoded; charset=UTF-8")],
        ..Post::form(&cookie, format!("csrf_token={token}"))
    };
    assert_eq!(charset.status(&site).await, StatusCode::OK);
}

#[tokio::test]
async fn a_failing_store_is_503_and_a_missing_layer_500() {
    let rig = Rig::new();
    let site = site(&rig.manager, CsrfLayer::new());
    let cookie = rig.session_with(1).await;
    let token = text(ask(&site, "/form", &cookie).await).await;
    rig.faults.set(Call::Load, Fault::Fail);
    let refused = Post::form(&cookie, format!("csrf_token={token}")).send(&site).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "a failed load is not a missing session");
    let bare = routes().layer(CsrfLayer::new());
    assert_eq!(Post::form("", "").status(&bare).await, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn verify_csrf_token_checks_a_token() {
    let manager = manager();
    let session = manager.start(&HeaderMap::new()).await.unwrap();
    assert_eq!(
        session.verify_csrf_token("").unwrap_err().kind(),
        ErrorKind::Forged,
        "without a secret no token is valid"
    );
    let token = session.csrf_token().await.unwrap();
    session.verify_csrf_token(token.as_str()).unwrap();
    assert!(session.is_empty().unwrap(), "the application sees no key");
    session.clear().unwrap();
    assert_eq!(session.verify_csrf_token(token.as_str()).unwrap_err().kind(), ErrorKind::Forged);
}
