//! axum-login 0.18 on every kind of store: logins, logouts, new ids, and "log out everywhere".

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Request, StatusCode, header};
use axum::routing::get as on_get;
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend};
use cloakroom::{Manager, Principal, Provider};
use cloakroom_tower_sessions::CloakroomStore;
use http_body_util::BodyExt;
use support::{Opened, on_every_store};
use tokio::sync::Barrier;
use tower::ServiceExt;
use tower_sessions_0_14::{Session, SessionManagerLayer};

on_every_store!(
    a_login_gives_a_new_id_and_keeps_the_data,
    a_logout_ends_the_session,
    a_user_is_logged_out_everywhere,
    a_new_password_ends_the_sessions,
    of_a_double_click_one_login_wins,
    a_logout_during_a_login_is_final,
);

#[derive(Clone, Debug)]
struct User {
    id: i64,
    hash: [u8; 1],
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.hash
    }
}

/// Users with any id, who share a password that can change.
#[derive(Clone, Debug, Default)]
struct Users {
    password: Arc<AtomicU8>,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = i64;
    type Error = Infallible;

    async fn authenticate(&self, id: i64) -> Result<Option<User>, Infallible> {
        self.get_user(&id).await
    }

    async fn get_user(&self, id: &i64) -> Result<Option<User>, Infallible> {
        Ok(Some(User { id: *id, hash: [self.password.load(Ordering::Relaxed)] }))
    }
}

type Login = AuthSession<Users>;

struct Site {
    app: Router,
    users: Users,
    /// Two requests of one test meet here: after their load, and again before their answer.
    barrier: Arc<Barrier>,
    sessions: Manager,
    provider: cloakroom::providers::AnyProvider,
}

fn site(opened: &Opened) -> Site {
    let (users, barrier) = (Users::default(), Arc::new(Barrier::new(2)));
    let layer = SessionManagerLayer::new(CloakroomStore::new(opened.provider.clone()));
    let (login_barrier, logout_barrier) = (barrier.clone(), barrier.clone());
    let app = Router::new()
        .route("/", on_get(whoami))
        .route("/count", on_get(count))
        .route("/login/{id}", on_get(login))
        .route("/logout", on_get(logout))
        .route(
            "/slow-login/{id}",
            on_get(async move |session: Login, id: Path<i64>| {
                login_barrier.wait().await;
                login_barrier.wait().await;
                login(session, id).await
            }),
        )
        .route(
            "/met-logout",
            on_get(async move |session: Login| {
                logout_barrier.wait().await;
                let answer = logout(session).await;
                logout_barrier.wait().await;
                answer
            }),
        )
        .layer(AuthManagerLayerBuilder::new(users.clone(), layer).build());
    let sessions = Manager::builder(opened.provider.clone()).build().unwrap();
    Site { app, users, barrier, sessions, provider: opened.provider.clone() }
}

async fn whoami(login: Login) -> String {
    login.user.map_or("nobody".to_owned(), |user| user.id.to_string())
}

async fn count(session: Session) -> String {
    let n: u32 = session.get("n").await.unwrap().unwrap_or(0) + 1;
    session.insert("n", n).await.unwrap();
    n.to_string()
}

async fn login(mut login: Login, Path(id): Path<i64>) -> StatusCode {
    let user = login.authenticate(id).await.unwrap().unwrap();
    login.login(&user).await.unwrap();
    StatusCode::OK
}

async fn logout(mut login: Login) -> StatusCode {
    login.logout().await.unwrap();
    StatusCode::OK
}

impl Site {
    /// Sends a request with a cookie, and returns the status, the cookie that is set and the body.
    async fn get(&self, path: &str, cookie: &str) -> (StatusCode, Option<String>, String) {
        let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let set = response.headers().get(header::SET_COOKIE).map(|header| header.to_str().unwrap());
        let (status, cookie) = (response.status(), set.map(|set| set.split(';').next().unwrap().to_owned()));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, cookie, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn cookie_of(&self, path: &str, cookie: &str) -> String {
        let (status, cookie, _) = self.get(path, cookie).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        cookie.expect("a cookie is set")
    }

    async fn user(&self, cookie: &str) -> String {
        self.get("/", cookie).await.2
    }
}

fn user(id: &str) -> Principal {
    Principal::new(id).unwrap()
}

async fn a_login_gives_a_new_id_and_keeps_the_data(opened: Opened) {
    let site = site(&opened);
    let planted = site.cookie_of("/count", "").await;
    assert_eq!(site.user(&planted).await, "nobody");
    let own = site.cookie_of("/login/42", &planted).await;
    assert_ne!(own, planted);
    assert_eq!((site.user(&own).await, site.user(&planted).await), ("42".to_owned(), "nobody".to_owned()));
    assert_eq!(site.get("/count", &own).await.2, "2");
    assert_eq!(site.provider.count().await.unwrap(), 1);

    let listed = site.sessions.sessions_of(&user("42")).await.unwrap();
    assert_eq!(listed.len(), 1);
    let (began, login) = (listed[0].meta.created(), listed[0].meta.authenticated().unwrap());
    assert!(login >= began);
    // The login keeps its time when the session changes.
    site.get("/count", &own).await;
    let again = site.sessions.sessions_of(&user("42")).await.unwrap();
    assert_eq!((again[0].meta.created(), again[0].meta.authenticated()), (began, Some(login)));
    assert!(again[0].meta.version() > listed[0].meta.version());
}

async fn a_logout_ends_the_session(opened: Opened) {
    let site = site(&opened);
    let cookie = site.cookie_of("/login/42", "").await;
    assert_eq!(site.cookie_of("/logout", &cookie).await, "id=");
    assert_eq!(site.user(&cookie).await, "nobody");
    assert_eq!(site.provider.count().await.unwrap(), 0);
    assert_eq!(site.sessions.sessions_of(&user("42")).await.unwrap(), []);
}

async fn a_user_is_logged_out_everywhere(opened: Opened) {
    let site = site(&opened);
    let phone = site.cookie_of("/login/42", "").await;
    let laptop = site.cookie_of("/login/42", "").await;
    let other = site.cookie_of("/login/43", "").await;
    assert_eq!(site.sessions.sessions_of(&user("42")).await.unwrap().len(), 2);
    assert_eq!(site.sessions.active_sessions().await.unwrap(), 3);
    assert_eq!(site.sessions.end_sessions(&user("42")).await.unwrap(), 2);
    for cookie in [phone, laptop] {
        assert_eq!(site.user(&cookie).await, "nobody");
    }
    assert_eq!(site.user(&other).await, "43");
}

async fn a_new_password_ends_the_sessions(opened: Opened) {
    let site = site(&opened);
    let cookie = site.cookie_of("/login/42", "").await;
    site.users.password.store(1, Ordering::Relaxed);
    assert_eq!(site.user(&cookie).await, "nobody");
    assert_eq!(site.provider.count().await.unwrap(), 0);
}

async fn of_a_double_click_one_login_wins(opened: Opened) {
    let site = site(&opened);
    let cookie = site.cookie_of("/count", "").await;
    let second = async {
        site.barrier.wait().await;
        let first = site.get("/login/42", &cookie).await;
        site.barrier.wait().await;
        first
    };
    let (late, first) = tokio::join!(site.get("/slow-login/42", &cookie), second);
    assert_eq!((first.0, late.0), (StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(late.1, None);
    assert_eq!(site.user(&first.1.unwrap()).await, "42");
    assert_eq!(site.provider.count().await.unwrap(), 1);
}

async fn a_logout_during_a_login_is_final(opened: Opened) {
    let site = site(&opened);
    let cookie = site.cookie_of("/count", "").await;
    // The logout ends the session before the login takes its new id.
    let (login, logout) = tokio::join!(site.get("/slow-login/42", &cookie), site.get("/met-logout", &cookie));
    assert_eq!((login.0, logout.0), (StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK));
    assert_eq!(login.1, None);
    assert_eq!(site.provider.count().await.unwrap(), 0);
}
