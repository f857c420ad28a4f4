//! Signing in and out with axum: `cargo run -p axum_login`, then open <http://localhost:3000/>.

use axum::Router;
use axum::extract::Form;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cloakroom::{Manager, MemoryProvider, Principal, Session, SessionLayer};
use serde::Deserialize;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Manager::builder(MemoryProvider::new()).build()?;
    let _collecting = sessions.spawn_gc();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000/");
    axum::serve(listener, app(sessions)).await?;
    Ok(())
}

fn app(sessions: Manager) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .layer(SessionLayer::new(sessions))
}

async fn home(session: Session) -> cloakroom::Result<Response> {
    if session.principal().is_none() {
        return Ok(Html(SIGN_IN).into_response());
    }
    // `update` is atomic, so two tabs that load at once count two visits.
    let visits = session.update("visits", |visits: Option<u64>| visits.unwrap_or(0) + 1).await?;
    let page = format!("<p>Visit {visits}.<form method=post action=/logout><button>Sign out</button></form>");
    Ok(Html(page).into_response())
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(session: Session, Form(login): Form<Login>) -> cloakroom::Result<Redirect> {
    if password_fits(&login) {
        // Gives the session a new id, so that an id which was planted before the login is worthless.
        session.authenticate(Principal::new(login.user)?)?;
    }
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> cloakroom::Result<Redirect> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

/// Compares the password. An application compares its hash with the one in the database.
fn password_fits(login: &Login) -> bool {
    login.user == "ada" && login.password == "engine"
}

const SIGN_IN: &str = "<form method=post action=/login>
    <input name=user placeholder=ada> <input name=password type=password placeholder=engine> <button>Sign in</button>
</form>";

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
    use axum::http::{HeaderMap, Method, Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn send(app: &Router, method: Method, path: &str, cookie: &str, form: &'static str) -> Response {
        let request = Request::builder().method(method).uri(path).header(COOKIE, cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        app.clone().oneshot(request.body(Body::from(form)).unwrap()).await.unwrap()
    }

    fn cookie(headers: &HeaderMap) -> String {
        headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    async fn body(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    }

    #[tokio::test]
    async fn a_user_signs_in_makes_visits_and_signs_out() {
        let app = app(Manager::builder(MemoryProvider::new()).build().unwrap());
        let refused = send(&app, Method::POST, "/login", "", "user=ada&password=wrong").await;
        assert!(refused.headers().get(SET_COOKIE).is_none());

        let welcome = send(&app, Method::POST, "/login", "", "user=ada&password=engine").await;
        assert_eq!(welcome.status(), StatusCode::SEE_OTHER);
        let cookie_pair = cookie(welcome.headers());
        for visit in 1..=3 {
            let page = body(send(&app, Method::GET, "/", &cookie_pair, "").await).await;
            assert!(page.starts_with(&format!("<p>Visit {visit}.")), "{page}");
        }

        let farewell = send(&app, Method::POST, "/logout", &cookie_pair, "").await;
        assert_eq!(cookie(farewell.headers()), "__Host-id=");
        assert_eq!(body(send(&app, Method::GET, "/", &cookie_pair, "").await).await, SIGN_IN);
    }
}
