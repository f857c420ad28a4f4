//! Handlers that need a login, on axum.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use cloakroom::middleware::{LoginNeed, LoginPage, LoginRules, NextPath};
use cloakroom::{
    Error, ErrorKind, Level, LoggedIn, LoginLayer, ManualClock, Principal, Session, SessionLayer,
};
use http::header::{CACHE_CONTROL, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request};
use proptest::prelude::*;
use url::Url;

use support::faulty::Fault;
use support::hooked::Call;
use support::log::Log;
use support::{Rig, alice, cookies, pair, send, text};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// The application's own user.
#[derive(Clone)]
struct User(String);

/// A second factor.
struct SecondFactor;

impl LoginNeed for SecondFactor {
    const LEVEL: Option<Level> = Some(Level::new(2));
    const RECENT: Option<Duration> = None;
}

/// A login within the last minute.
struct Recent;

impl LoginNeed for Recent {
    const LEVEL: Option<Level> = None;
    const RECENT: Option<Duration> = Some(Duration::from_secs(60));
}

fn rules() -> LoginRules {
    LoginRules::new().page("/login".parse().unwrap())
}

/// A site with a page that needs a login by its layer, and others that do by their extractor.
fn site(rig: &Rig) -> Router {
    let open = Router::new()
        .route(
            "/home",
            get(async |user: Option<LoggedIn>| user.map_or(0, |user| user.as_str().len()).to_string()),
        )
        .route("/own", get(async |user: LoggedIn| user.as_str().to_owned()).post(async |_: LoggedIn| "sent"))
        .route("/factor", get(async |user: LoggedIn<Principal, SecondFactor>| user.as_str().to_owned()))
        .route("/recent", get(async |user: LoggedIn<Principal, Recent>| user.as_str().to_owned()))
        .layer(LoginLayer::new(rules()).optional());
    Router::new()
        .route("/orders", get(async || "orders").post(async || "ordered"))
        .route("/login", get(async || "never"))
        .route_layer(LoginLayer::new(rules()))
        .merge(open)
        .layer(SessionLayer::new(rig.manager.clone()))
}

/// Returns the cookie of a session with a login of alice at `level`.
async fn login(rig: &Rig, level: u8) -> String {
    let session = rig.store.start(&HeaderMap::new()).await.unwrap();
    session.authenticate_at(alice(), Level::new(level)).unwrap();
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    pair(&headers).unwrap()
}

async fn visit(site: &Router, method: Method, path: &str, cookie: &str, accept: &str) -> Response {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    if !cookie.is_empty() {
        *request.headers_mut() = cookies(cookie);
    }
    if !accept.is_empty() {
        request.headers_mut().insert("accept", HeaderValue::try_from(accept).unwrap());
    }
    send(site, request).await
}

/// Returns the status of a response and its `Location`.
fn answer(response: &Response) -> (u16, &str) {
    let location = response.headers().get(LOCATION).map_or("", |location| location.to_str().unwrap());
    (response.status().as_u16(), location)
}

#[tokio::test]
async fn a_page_without_a_login_redirects_to_the_login_page() {
    let site = site(&Rig::new());
    for (method, path, expected) in [
        (Method::GET, "/orders", "/login?next=/orders"),
        (Method::HEAD, "/orders", "/login?next=/orders"),
        (Method::GET, "/own?page=2&q=a%20b", "/login?next=/own%3Fpage%3D2%26q%3Da%2520b"),
        (Method::GET, "/factor", "/login?next=/factor"),
    ] {
        let response = visit(&site, method, path, "", BROWSER).await;
        assert_eq!(answer(&response), (303, expected));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()["vary"], "Cookie");
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn other_requests_without_a_login_are_401() {
    let site = site(&Rig::new());
    for (method, path, accept) in [
        (Method::GET, "/orders", ""),
        (Method::GET, "/orders", "*/*"),
        (Method::GET, "/own", "application/json"),
        (Method::GET, "/own", "text/html;q=0, application/json"),
        (Method::POST, "/orders", BROWSER),
        (Method::POST, "/own", BROWSER),
    ] {
        let response = visit(&site, method, path, "", accept).await;
        assert_eq!(answer(&response), (401, ""), "{path} {accept}");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(text(response).await, "Please sign in.");
    }
}

#[tokio::test]
async fn a_login_page_never_redirects_to_itself() {
    let site = site(&Rig::new());
    for path in ["/login", "/login?next=/orders"] {
        assert_eq!(answer(&visit(&site, Method::GET, path, "", BROWSER).await), (401, ""));
    }
}

#[tokio::test]
async fn a_user_passes() {
    let rig = Rig::new();
    let (site, cookie) = (site(&rig), login(&rig, 1).await);
    for (method, path, expected) in [
        (Method::GET, "/orders", "orders"),
        (Method::POST, "/orders", "ordered"),
        (Method::GET, "/own", "alice"),
        (Method::POST, "/own", "sent"),
        (Method::GET, "/recent", "alice"),
        (Method::GET, "/home", "5"),
    ] {
        assert_eq!(text(visit(&site, method, path, &cookie, "").await).await, expected);
    }
    assert_eq!(text(visit(&site, Method::GET, "/home", "", BROWSER).await).await, "0");
    let anonymous = rig.session_with(1).await;
    assert_eq!(visit(&site, Method::GET, "/orders", &anonymous, "").await.status(), 401);
}

#[tokio::test]
async fn a_handler_can_need_a_level_and_a_recent_login() {
    let time = ManualClock::default();
    let rig = Rig::with_clock(&time.clock());
    let strict = LoginLayer::new(rules().level(Level::new(2)).recent(Duration::from_secs(120)));
    let layered = Router::new()
        .route("/strict", get(async || "strict"))
        .route("/recent", get(async |_: LoggedIn<Principal, Recent>| "recent"))
        .route_layer(strict)
        .layer(SessionLayer::new(rig.manager.clone()));
    let site = site(&rig);
    let (weak, strong) = (login(&rig, 1).await, login(&rig, 2).await);
    for (seconds, site, path, cookie, expected) in [
        (0, &site, "/factor", &weak, 401),
        (0, &site, "/factor", &strong, 200),
        (0, &layered, "/strict", &weak, 401),
        (60, &layered, "/recent", &strong, 200),
        (0, &site, "/recent", &strong, 200),
        (1, &layered, "/recent", &strong, 401),
        (0, &site, "/recent", &strong, 401),
        (0, &site, "/orders", &weak, 200),
        (59, &layered, "/strict", &strong, 200),
        (1, &layered, "/strict", &strong, 401),
        (0, &site, "/factor", &strong, 200),
    ] {
        time.advance(Duration::from_secs(seconds));
        assert_eq!(visit(site, Method::GET, path, cookie, "").await.status(), expected, "{path}");
    }
    let response = visit(&layered, Method::GET, "/strict", &strong, BROWSER).await;
    assert_eq!(answer(&response), (303, "/login?next=/strict"));
}

/// Returns a layer that counts how often it loads a user. `alice` is the only one it knows.
fn counted(loads: &Arc<AtomicUsize>) -> LoginLayer<User> {
    let loads = Arc::clone(loads);
    LoginLayer::new(rules()).load_user(move |principal: Principal| {
        loads.fetch_add(1, Ordering::Relaxed);
        std::future::ready(match principal.as_str() {
            "alice" => Ok(Some(User("Alice".to_owned()))),
            "broken" => Err(Error::new(ErrorKind::Unavailable, "the database is away")),
            _ => Ok(None),
        })
    })
}

#[tokio::test]
async fn the_user_is_loaded_once_a_request() {
    let (rig, loads) = (Rig::new(), Arc::new(AtomicUsize::new(0)));
    let logins = counted(&loads);
    let handler =
        async |first: LoggedIn<User>, second: LoggedIn<User, Recent>| first.into_user().0 + &second.0;
    let site = Router::new()
        .route("/", get(handler))
        .route_layer(logins.clone())
        .layer(logins.optional())
        .layer(SessionLayer::new(rig.manager.clone()));
    let cookie = login(&rig, 1).await;
    for visits in 1..=2 {
        assert_eq!(text(visit(&site, Method::GET, "/", &cookie, "").await).await, "AliceAlice");
        assert_eq!(loads.load(Ordering::Relaxed), visits);
    }
    assert_eq!(visit(&site, Method::GET, "/", "", "").await.status(), 401);
    assert_eq!(loads.load(Ordering::Relaxed), 2, "no login, no user");
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Load]);
}

#[tokio::test]
async fn a_user_who_logs_in_meanwhile_is_loaded_anew() {
    let (rig, loads) = (Rig::new(), Arc::new(AtomicUsize::new(0)));
    let switch = async |session: Session, request: axum::extract::Request, next: axum::middleware::Next| {
        session.authenticate(Principal::new("deleted").unwrap()).unwrap();
        next.run(request).await
    };
    let site = Router::new()
        .route("/", get(async |user: LoggedIn<User>| user.0.clone()))
        .layer(axum::middleware::from_fn(switch))
        .layer(counted(&loads))
        .layer(SessionLayer::new(rig.manager.clone()));
    let cookie = login(&rig, 1).await;
    assert_eq!(visit(&site, Method::GET, "/", &cookie, "").await.status(), 401);
    assert_eq!(loads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_inner_loader_may_refuse_the_outer_ones_user() {
    let (rig, loads) = (Rig::new(), Arc::new(AtomicUsize::new(0)));
    let nobody = LoginLayer::new(LoginRules::new()).load_user(async |_: Principal| Ok(None::<User>));
    let site = Router::new()
        .route("/", get(async || "in"))
        .route_layer(nobody)
        .layer(counted(&loads))
        .layer(SessionLayer::new(rig.manager.clone()));
    let cookie = login(&rig, 1).await;
    assert_eq!(visit(&site, Method::GET, "/", &cookie, "").await.status(), 401);
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_account_that_is_gone_is_denied() {
    let (rig, loads) = (Rig::new(), Arc::new(AtomicUsize::new(0)));
    let site = Router::new()
        .route("/", get(async || "in"))
        .route_layer(counted(&loads))
        .layer(SessionLayer::new(rig.manager.clone()));
    for (name, accept, expected) in [
        ("deleted", "", (401, "")),
        ("deleted", BROWSER, (303, "/login?next=/")),
        ("broken", BROWSER, (503, "")),
        ("alice", BROWSER, (200, "")),
    ] {
        let session = rig.store.start(&HeaderMap::new()).await.unwrap();
        session.authenticate(Principal::new(name).unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        let response = visit(&site, Method::GET, "/", &pair(&headers).unwrap(), accept).await;
        assert_eq!(answer(&response), expected, "{name}");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_503() {
    let rig = Rig::new();
    let (site, cookie) = (site(&rig), login(&rig, 1).await);
    for path in ["/orders", "/own", "/home"] {
        let log = Log::start();
        rig.faults.set(Call::Load, Fault::Fail);
        assert_eq!(answer(&visit(&site, Method::GET, path, &cookie, BROWSER).await), (503, ""), "{path}");
        assert_eq!(log.text().matches(" ERROR ").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_denied_request_is_logged_for_debugging_only() {
    let log = Log::start();
    let site = site(&Rig::new());
    assert_eq!(visit(&site, Method::GET, "/orders", "", "").await.status(), 401);
    let lines: Vec<_> = log.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("DEBUG") && lines[0].contains("a request was denied that needs a login"));
}

#[tokio::test]
async fn a_missing_layer_is_500_and_names_its_cure() {
    let sessionless = Router::new().route("/", get(async || "")).route_layer(LoginLayer::new(rules()));
    let loginless = Router::new()
        .route("/", get(async |_: LoggedIn<User>| ""))
        .layer(LoginLayer::new(rules()).optional())
        .layer(SessionLayer::new(Rig::new().manager));
    for (site, cure) in [
        (sessionless, "add .layer(SessionLayer::new(manager))"),
        (loginless, "add .layer(LoginLayer::new(rules)"),
    ] {
        let log = Log::start();
        assert_eq!(answer(&visit(&site, Method::GET, "/", "", BROWSER).await), (500, ""));
        assert!(log.text().contains(cure), "{}", log.text());
    }
}

#[tokio::test]
async fn the_outermost_layers_path_is_the_way_back() {
    let rig = Rig::new();
    let inner = || {
        Router::new()
            .route("/users", get(async || ""))
            .route_layer(LoginLayer::new(rules()))
            .route("/own", get(async |_: LoggedIn| ""))
    };
    let nested = Router::new().nest("/admin", inner());
    let outer =
        nested.layer(LoginLayer::new(rules()).optional()).layer(SessionLayer::new(rig.manager.clone()));
    for (path, expected) in
        [("/admin/users?a=1", "/login?next=/admin/users%3Fa%3D1"), ("/admin/own", "/login?next=/admin/own")]
    {
        assert_eq!(answer(&visit(&outer, Method::GET, path, "", BROWSER).await), (303, expected));
    }
}

#[test]
fn a_login_page_is_a_path_of_this_site() {
    for page in ["/login", "/login?step=1", "/"] {
        assert!(page.parse::<LoginPage>().is_ok(), "{page}");
    }
    for page in [
        "",
        "login",
        "https://login.example",
        "//login.example",
        "/\\login.example",
        "/log\nin",
        "/login#form",
    ] {
        let error = page.parse::<LoginPage>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{page}");
    }
}

#[tokio::test]
async fn the_parameter_of_the_way_back_has_a_name() {
    let rig = Rig::new();
    let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
    let request = Request::get("/a").header("accept", BROWSER).body(()).unwrap();
    let rules = LoginRules::new().page("/login?step=1".parse().unwrap()).parameter("return to");
    let denial = rules.check(&request, &session).unwrap_err();
    assert_eq!(denial.location(), Some("/login?step=1&return%20to=/a"));
    assert_eq!(LoginRules::new().check(&request, &session).unwrap_err().location(), None);
    let unknown = rules.unknown_user(&request);
    assert_eq!((unknown.status().as_u16(), unknown.error().kind()), (303, ErrorKind::Denied));
}

#[test]
fn a_way_back_is_kept_or_becomes_the_start_page() {
    let longest = format!("/{}", "a".repeat(NextPath::MAX_LEN - 1));
    for (text, expected) in [
        ("/", "/"),
        ("/orders?page=2#last", "/orders?page=2#last"),
        ("/a%20b", "/a%20b"),
        ("/a b", "/a%20b"),
        ("/\u{e9}", "/%C3%A9"),
        ("/\"'<>\\", "/%22%27%3C%3E%5C"),
        ("/@evil.example", "/@evil.example"),
        (&*longest, &*longest),
        (&*format!("{longest}a"), "/"),
        (&*"/\u{e9}".repeat(700), "/"),
        ("", "/"),
        ("orders", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\/evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        (" /orders", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("/a\r\nset-cookie: a=b", "/"),
        ("/a\0", "/"),
        ("/a\u{7f}", "/"),
        ("/a\u{85}", "/"),
    ] {
        assert_eq!(NextPath::new(text).as_str(), expected, "{text:?}");
    }
    let read = |json: &str| serde_json::from_str::<NextPath>(json).unwrap();
    assert_eq!(read("\"/orders\"").to_string(), "/orders");
    assert_eq!(read("\"//evil.example\""), NextPath::default());
}

/// Returns texts that are often nearly paths of another site.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/",
        "//",
        "\\",
        "\t",
        "\n",
        "\r",
        "\0",
        " ",
        ".",
        "..",
        "@",
        ":",
        "?",
        "#",
        "%",
        "%2f",
        "%5c",
        "%09",
        "&",
        "=",
        "\"",
        "<",
        "evil.example",
        "http:",
        "https:",
        "javascript:",
        "a",
        "\u{e9}",
        "\u{2028}",
        "\u{ff0f}",
    ]);
    let pieces = prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat());
    prop_oneof![pieces.clone(), pieces.prop_map(|rest| format!("/{rest}")), any::<String>()]
}

proptest! {
    #[test]
    fn a_way_back_never_leaves_the_site(text in texts()) {
        let next = NextPath::new(&text);
        let path = next.as_str();
        prop_assert!(path.starts_with('/') && path.len() <= NextPath::MAX_LEN);
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>".contains(&byte)));
        for site in ["https://shop.example/login?next=x", "http://localhost:3000/a/b/"] {
            let base = Url::parse(site).unwrap();
            let reached = base.join(path).unwrap();
            prop_assert_eq!(reached.origin(), base.origin(), "{:?} leads to {}", text, reached);
        }
        prop_assert_eq!(NextPath::new(path), next.clone(), "it is read again as it was written");
    }

    #[test]
    fn a_request_comes_back_to_its_own_target(path in "(/[a-z0-9._~-]{0,8}){1,3}", query in "[a-z0-9=&%+/?:@-]{0,20}") {
        prop_assume!(!path.starts_with("//") && path != "/login");
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let found = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let rig = Rig::new();
            let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
            let request = Request::get(&target).header("accept", BROWSER).body(()).unwrap();
            rules().check(&request, &session).unwrap_err().location().unwrap().to_owned()
        });
        let page = Url::parse("https://shop.example").unwrap().join(&found).unwrap();
        prop_assert_eq!(page.path(), "/login");
        let next: Vec<_> = page.query_pairs().into_owned().collect();
        prop_assert_eq!(next, vec![("next".to_owned(), target)]);
    }
}
