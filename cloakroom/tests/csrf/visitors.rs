//! Tokens of visitors without a session. They need no record.

use std::num::NonZeroUsize;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use cloakroom::{
    CsrfLayer, CsrfToken, ErrorKind, Manager, ManagerBuilder, MemoryProvider, Principal, Session,
    SessionLayer,
    config::{OverLimit, SameSite},
};
use http::header::HeaderName;
use http::{HeaderMap, StatusCode};

use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::{Rig, ask, pair, set_cookies, text};
use crate::{Post, manager, site, visitor};

/// The cookies of one browser, by name.
#[derive(Clone, Default)]
struct Jar(Vec<(String, String)>);

impl Jar {
    fn header(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn take(&mut self, headers: &HeaderMap) {
        for cookie in set_cookies(headers) {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.0.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// Loads `path` and returns the body.
    async fn get(&mut self, site: &Router, path: &str) -> String {
        let response = ask(site, path, &self.header()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        self.take(response.headers());
        text(response).await
    }

    /// Sends a form with `token` to `path`.
    async fn post(&mut self, site: &Router, path: &str, token: &str) -> Response {
        let cookie = self.header();
        let response = Post { path, ..Post::form(&cookie, format!("csrf_token={token}")) }.send(site).await;
        self.take(response.headers());
        response
    }

    async fn status(&mut self, site: &Router, path: &str, token: &str) -> u16 {
        self.post(site, path, token).await.status().as_u16()
    }
}

fn built(settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> Manager {
    settings(Manager::builder(MemoryProvider::new())).build().unwrap()
}

#[tokio::test]
async fn twenty_pages_with_a_token_store_nothing() {
    for policy in [CsrfLayer::new(), CsrfLayer::new().require_session()] {
        let manager = manager();
        let site = site(&manager, policy);
        for _ in 0..20 {
            let (cookie, token) = visitor(&site).await;
            assert!(cookie.starts_with("__Host-id-csrf="), "{cookie}");
            assert_eq!((cookie.len(), token.len()), ("__Host-id-csrf=".len() + 43, 86));
        }
        assert_eq!(manager.active_sessions().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn the_cookie_is_set_once_and_its_tokens_differ() {
    let site = site(&manager(), CsrfLayer::new());
    let first = ask(&site, "/form", "").await;
    assert_eq!(first.headers()["cache-control"], "no-store");
    assert_eq!(first.headers()["vary"], "Cookie");
    let cookie = pair(first.headers()).unwrap();
    let tokens = [text(first).await, text(ask(&site, "/form", &cookie).await).await];
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(set_cookies(ask(&site, "/form", &cookie).await.headers()), [""; 0]);
    for token in tokens {
        assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&site).await, 200);
    }
}

#[tokio::test]
async fn the_cookie_follows_the_settings_of_the_sessions() {
    type Settings = fn(ManagerBuilder) -> ManagerBuilder;
    let cases: [(Settings, &str, &str); 4] = [
        (|builder| builder, "__Host-id-csrf=", "; Path=/; HttpOnly; SameSite=Lax; Secure"),
        (
            |builder| builder.cookie_name("id").cookie_domain("shop.example").cookie_path("/shop"),
            "id-csrf=",
            "; Path=/shop; Domain=shop.example; HttpOnly; SameSite=Lax; Secure",
        ),
        (
            |builder| builder.cookie_name("id").secure(false).danger_disable_http_only(),
            "id-csrf=",
            "; Path=/; HttpOnly; SameSite=Lax",
        ),
        (
            |builder| {
                let builder = builder.cookie_name("__Secure-s").same_site(SameSite::None);
                builder.cookie_lifetime(Some(std::time::Duration::from_secs(3600)))
            },
            "__Secure-s-csrf=",
            "; Path=/; HttpOnly; SameSite=Lax; Secure",
        ),
    ];
    for (settings, name, attributes) in cases {
        let site = site(&built(settings), CsrfLayer::new());
        let response = ask(&site, "/form", "").await;
        let [cookie] = set_cookies(response.headers())[..] else { panic!("one cookie") };
        assert!(cookie.starts_with(name) && cookie.ends_with(attributes), "{name} {}", cookie.len());
        assert_eq!(cookie.len(), name.len() + 43 + attributes.len(), "{name}");
    }
}

#[tokio::test]
async fn set_secure_applies_to_the_csrf_cookie() {
    let manager = built(|builder| builder.cookie_name("id"));
    let site = site(&manager, CsrfLayer::new());
    manager.set_secure(false).unwrap();
    let response = ask(&site, "/form", "").await;
    assert!(!set_cookies(response.headers())[0].contains("Secure"));
}

#[tokio::test]
async fn without_cookies_a_session_holds_the_secret() {
    let config = r#"{"cookieName":"id","enableSetCookie":false,"EnableSidInHTTPHeader":true,
        "SessionNameInHTTPHeader":"x-session"}"#;
    let manager = Manager::new("memory", config).await.unwrap();
    let site = site(&manager, CsrfLayer::new());
    let page = ask(&site, "/form", "").await;
    assert_eq!(set_cookies(page.headers()), [""; 0]);
    let id = page.headers()[HeaderName::from_static("x-session")].to_str().unwrap().to_owned();
    let token = text(page).await;
    for (token, expected) in [(&*token, 200), ("", 403)] {
        let post = Post::form("", format!("csrf_token={token}")).with("x-session", &id);
        assert_eq!(post.status(&site).await, expected);
    }
}

#[tokio::test]
async fn a_token_is_invalid_without_its_cookie() {
    let strict = site(&manager(), CsrfLayer::new().require_session());
    let lenient = site(&manager(), CsrfLayer::new());
    for site in [&strict, &lenient] {
        let ((alices, _), (_, bobs_token)) = (visitor(site).await, visitor(site).await);
        // An attacker can load a page and take this token for a form of his own.
        assert_eq!(Post::form(&alices, format!("csrf_token={bobs_token}")).status(site).await, 403);
        assert_eq!(Post::form(&alices, "a=1").status(site).await, 403, "no token");
        let malformed = "__Host-id-csrf=AAAA; __Host-id-csrf=; __Host-id-csrf=!";
        let expected = if std::ptr::eq(site, &strict) { 403 } else { 200 };
        assert_eq!(Post::form(malformed, format!("csrf_token={bobs_token}")).status(site).await, expected);
    }
}

#[tokio::test]
async fn any_process_can_check_a_visitors_token() {
    let (one, two) =
        (site(&manager(), CsrfLayer::new()), site(&manager(), CsrfLayer::new().require_session()));
    let (cookie, token) = visitor(&one).await;
    assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&two).await, 200);
}

#[tokio::test]
async fn a_second_cookie_of_the_name_does_no_harm() {
    let site = site(&manager(), CsrfLayer::new().require_session());
    let ((former, _), (cookie, token)) = (visitor(&site).await, visitor(&site).await);
    for both in [format!("{former}; {cookie}"), format!("{cookie}; {former}")] {
        assert_eq!(Post::form(&both, format!("csrf_token={token}")).status(&site).await, 200);
    }
}

#[tokio::test]
async fn at_the_quota_a_login_with_a_token_works() {
    for policy in [CsrfLayer::new(), CsrfLayer::new().require_session()] {
        let manager = built(|builder| builder.session_quota(1));
        let site = site(&manager, policy);
        let (cookie, token) = visitor(&site).await;
        assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&site).await, 200);
        let mut jar = Jar::default();
        let token = jar.get(&site, "/form").await;
        assert_eq!(jar.status(&site, "/form", &token).await, 503, "no further anonymous session");
        assert_eq!(jar.status(&site, "/login", &token).await, 200);
        assert!(jar.value("__Host-id").is_some());
    }
}

#[tokio::test]
async fn with_a_session_only_its_own_secret_counts() {
    let manager = manager();
    let site = site(&manager, CsrfLayer::new());
    let mut jar = Jar::default();
    let before = jar.get(&site, "/form").await;
    let cookie = jar.value("__Host-id-csrf").unwrap().to_owned();
    // A session that began without the token.
    let other = manager.start(&HeaderMap::new()).await.unwrap();
    other.set("n", 1).unwrap();
    let mut headers = HeaderMap::new();
    let _ = other.release(&mut headers).await.unwrap();
    jar.take(&headers);
    assert_eq!(jar.status(&site, "/form", &before).await, 403);
    assert_eq!(jar.value("__Host-id-csrf"), Some(&*cookie), "the cookie is still there");
    let after = jar.get(&site, "/form").await;
    assert_eq!(jar.status(&site, "/form", &after).await, 200);
}

#[tokio::test]
async fn forms_stay_valid_when_an_anonymous_session_begins() {
    let manager = manager();
    let site = site(&manager, CsrfLayer::new());
    let mut jar = Jar::default();
    let tabs = [jar.get(&site, "/form").await, jar.get(&site, "/form").await];
    for token in &tabs {
        assert_eq!(jar.status(&site, "/form", token).await, 200);
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 1);
    // Once the session has expired, too.
    let without = Jar(jar.0.iter().filter(|(name, _)| name != "__Host-id").cloned().collect());
    assert_eq!(without.clone().status(&site, "/form", &tabs[0]).await, 200);
}

#[tokio::test]
async fn a_page_that_begins_a_session_and_has_a_form_works() {
    let both = async |session: Session, token: CsrfToken| {
        session.set("landing", "spring").unwrap();
        token.to_string()
    };
    let manager = manager();
    let site = Router::new()
        .route("/form", get(both).post(async || "done"))
        .layer(CsrfLayer::new().require_session())
        .layer(SessionLayer::new(manager.clone()));
    let mut jar = Jar::default();
    let token = jar.get(&site, "/form").await;
    assert!(jar.value("__Host-id").is_some());
    assert_eq!(jar.status(&site, "/form", &token).await, 200);
}

#[tokio::test]
async fn a_login_makes_a_visitors_tokens_invalid() {
    for policy in [CsrfLayer::new(), CsrfLayer::new().require_session()] {
        let site = site(&manager(), policy);
        let mut jar = Jar::default();
        let before = jar.get(&site, "/form").await;
        let login = jar.post(&site, "/login", &before).await;
        let after = text(login).await;
        assert!(jar.value("__Host-id").is_some() && jar.value("__Host-id-csrf").is_some());
        assert_eq!(jar.status(&site, "/form", &before).await, 403);
        assert_eq!(jar.status(&site, "/form", &after).await, 200);
        // The same with an anonymous session in between.
        let mut jar = Jar::default();
        let before = jar.get(&site, "/form").await;
        assert_eq!(jar.status(&site, "/form", &before).await, 200);
        assert_eq!(jar.status(&site, "/login", &before).await, 200);
        assert_eq!(jar.status(&site, "/form", &before).await, 403);
        let after = jar.get(&site, "/form").await;
        assert_eq!(jar.status(&site, "/form", &after).await, 200);
    }
}

#[tokio::test]
async fn a_double_click_on_sign_in_keeps_its_token() {
    for policy in [CsrfLayer::new(), CsrfLayer::new().require_session()] {
        let site = site(&manager(), policy);
        let mut jar = Jar::default();
        let token = jar.get(&site, "/form").await;
        let mut second = jar.clone();
        assert_eq!(jar.status(&site, "/login", &token).await, 200);
        assert_eq!(
            second.status(&site, "/login", &token).await,
            200,
            "the second request did not have the first response"
        );
    }
}

#[tokio::test]
async fn a_form_of_an_ended_session_reaches_the_handler() {
    let manager = manager();
    let site = site(&manager, CsrfLayer::new());
    let mut jar = Jar::default();
    let token = jar.get(&site, "/form").await;
    let login = jar.post(&site, "/login", &token).await;
    let token = text(login).await;
    let alice = Principal::new("alice").unwrap();
    manager.end_sessions(&alice).await.unwrap();
    let status = jar.status(&site, "/read", &token).await;
    assert_eq!(status, 200, "like a visitor without a session");
}

#[tokio::test]
async fn a_visitors_page_needs_no_store() {
    let rig = Rig::with(|builder| builder.sessions_per_user(NonZeroUsize::MIN, OverLimit::Refuse));
    rig.faults.set_all(Fault::Fail);
    let site = site(&rig.manager, CsrfLayer::new());
    let (_, token) = visitor(&site).await;
    assert_eq!(token.len(), 86);
    assert_eq!(rig.faults.calls(), []);
    rig.faults.heal();
    rig.faults.set(Call::Create, Fault::Fail);
    assert_eq!(visitor(&site).await.1.len(), 86);
}

#[tokio::test]
async fn a_token_after_the_release_is_an_error() {
    let session = manager().start(&HeaderMap::new()).await.unwrap();
    let _ = session.release(&mut HeaderMap::new()).await.unwrap();
    assert_eq!(session.csrf_token().await.unwrap_err().kind(), ErrorKind::Released);
}

#[tokio::test]
async fn a_failing_page_sets_the_cookie_of_its_form() {
    let failing = async |token: CsrfToken| (StatusCode::BAD_GATEWAY, token.to_string());
    let site = Router::new()
        .route("/form", get(failing).post(async || ""))
        .route("/other", post(async || ""))
        .layer(CsrfLayer::new().require_session())
        .layer(SessionLayer::new(manager()));
    let response = ask(&site, "/form", "").await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let cookie = pair(response.headers()).unwrap();
    let token = text(response).await;
    assert_eq!(Post::form(&cookie, format!("csrf_token={token}")).status(&site).await, 200);
}
