//! A login with axum-login 0.18, and "log out everywhere": `cargo run -p cloakroom-tower-sessions --example login`, then open
//! <http://localhost:3000/>. The user is "ada" and the password "engine".

use std::convert::Infallible;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend};
use cloakroom::{Manager, MemoryProvider, Principal};
use cloakroom_tower_sessions::CloakroomStore;
use serde::Deserialize;
use tower_sessions_0_14::SessionManagerLayer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = MemoryProvider::new();
    // The manager serves no requests here. It collects expired sessions and ends those of a user.
    let sessions = Manager::builder(provider.clone()).build()?;
    let _collecting = sessions.spawn_gc();
    let layer = SessionManagerLayer::new(CloakroomStore::new(provider)).with_secure(false);
    let app = Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/logout-everywhere", post(logout_everywhere))
        .layer(AuthManagerLayerBuilder::new(Users, layer).build())
        .with_state(sessions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000/");
    axum::serve(listener, app).await?;
    Ok(())
}

type Login = AuthSession<Users>;

async fn home(login: Login) -> Html<String> {
    let Some(user) = login.user else { return Html(SIGN_IN.to_owned()) };
    Html(format!("<p>Hello, {}.{SIGN_OUT}", user.name))
}

async fn login(mut login: Login, Form(credentials): Form<Credentials>) -> Result<Redirect, StatusCode> {
    // Gives the session a new id, so that an id which was planted before the login is worthless.
    if let Some(user) = login.authenticate(credentials).await.map_err(failed)? {
        login.login(&user).await.map_err(failed)?;
    }
    Ok(Redirect::to("/"))
}

async fn logout(mut login: Login) -> Result<Redirect, StatusCode> {
    login.logout().await.map_err(failed)?;
    Ok(Redirect::to("/"))
}

async fn logout_everywhere(login: Login, State(sessions): State<Manager>) -> Result<Redirect, StatusCode> {
    if let Some(user) = login.user {
        let user = Principal::new(user.id.to_string()).map_err(failed)?;
        sessions.end_sessions(&user).await.map_err(failed)?;
    }
    Ok(Redirect::to("/"))
}

fn failed(error: impl std::fmt::Debug) -> StatusCode {
    eprintln!("{error:?}");
    StatusCode::INTERNAL_SERVER_ERROR
}

const SIGN_IN: &str = "<form method=post action=/login><input name=name placeholder=ada> \
    <input name=password type=password placeholder=engine> <button>Sign in</button></form>";
const SIGN_OUT: &str = "<form method=post action=/logout><button>Sign out</button></form> \
    <form method=post action=/logout-everywhere><button>Sign out everywhere</button></form>";

#[derive(Clone, Debug)]
struct User {
    id: i64,
    name: &'static str,
    password: &'static str,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    /// Returns bytes that change with the password, so that a new password ends all sessions. An application returns its hash.
    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

const ADA: User = User { id: 42, name: "Ada", password: "engine" };

/// The users, in the place of a database.
#[derive(Clone, Debug)]
struct Users;

#[derive(Clone, Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    /// Compares the password. An application compares its hash, in constant time.
    async fn authenticate(&self, found: Credentials) -> Result<Option<User>, Infallible> {
        Ok((found.name == "ada" && found.password == ADA.password).then_some(ADA))
    }

    async fn get_user(&self, id: &i64) -> Result<Option<User>, Infallible> {
        Ok((*id == ADA.id).then_some(ADA))
    }
}
