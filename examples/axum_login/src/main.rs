//! Signing in and out with axum: `cargo run -p axum_login`, then open <http://localhost:3000/>.

use axum::Router;
use axum::extract::{Form, Query};
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use cloakroom::middleware::{LoginRules, NextPath};
use cloakroom::{LoggedIn, LoginLayer, Manager, MemoryProvider, Principal, Session, SessionLayer};
use serde::Deserialize;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Manager::builder(MemoryProvider::new()).build()?;
    let _collecting = sessions.spawn_gc();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000/");
    axum::serve(listener, app(sessions)?).await?;
    Ok(())
}

fn app(sessions: Manager) -> cloakroom::Result<Router> {
    // The routes above the layer need a login. A browser without one is sent to the login page.
    let logins = LoginLayer::new(LoginRules::new().page("/login".parse()?)).load_user(find_user);
    let app = Router::new()
        .route("/", get(home))
        .route_layer(logins)
        .route("/login", get(sign_in).post(login))
        .route("/logout", post(logout))
        .layer(SessionLayer::new(sessions));
    Ok(app)
}

/// The application's own user.
#[derive(Clone)]
struct User {
    name: &'static str,
}

/// Looks the user of a session up. An application asks its database; `None` is an account that no longer exists.
async fn find_user(principal: Principal) -> cloakroom::Result<Option<User>> {
    Ok((principal.as_str() == "ada").then_some(User { name: "Ada Lovelace" }))
}

async fn home(user: LoggedIn<User>, session: Session) -> cloakroom::Result<Html<String>> {
    // `update` is atomic, so two tabs that load at once count two visits.
    let visits = session.update("visits", |visits: Option<u64>| visits.unwrap_or(0) + 1).await?;
    let page = format!(
        "<p>Visit {visits} of {}.<form method=post action=/logout><button>Sign out</button></form>",
        user.name
    );
    Ok(Html(page))
}

#[derive(Deserialize)]
struct Back {
    /// The page to return to. A text that leads to another site becomes `/`.
    #[serde(default)]
    next: NextPath,
}

async fn sign_in(Query(back): Query<Back>) -> Html<String> {
    Html(format!(
        "<form method=post action=/login>
    <input type=hidden name=next value=\"{}\">
    <input name=user placeholder=ada> <input name=password type=password placeholder=engine> <button>Sign in</button>
</form>",
        back.next
    ))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
    #[serde(default)]
    next: NextPath,
}

async fn login(session: Session, Form(login): Form<Login>) -> cloakroom::Result<Redirect> {
    if password_fits(&login) {
        // Gives the session a new id, so that an id which was planted before the login is worthless.
        session.authenticate(Principal::new(login.user)?)?;
    }
    // Without a login, that page sends the browser to the login page again.
    Ok(Redirect::to(login.next.as_str()))
}

async fn logout(session: Session) -> cloakroom::Result<Redirect> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

/// Compares the password. An application compares its hash with the one in the database.
fn password_fits(login: &Login) -> bool {
    login.user == "ada" && login.password == "engine"
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::header::{ACCEPT, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
    use axum::http::{HeaderMap, Method, Request, StatusCode};
    use axum::response::Response;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn send(app: &Router, method: Method, path: &str, cookie: &str, form: &'static str) -> Response {
        let request = Request::builder().method(method).uri(path).header(COOKIE, cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.header(ACCEPT, "text/html");
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
        let app = app(Manager::builder(MemoryProvider::new()).build().unwrap()).unwrap();
        let denied = send(&app, Method::GET, "/?from=mail", "", "").await;
        assert_eq!(denied.status(), StatusCode::SEE_OTHER);
        assert_eq!(denied.headers()[LOCATION], LOGIN);
        let page = body(send(&app, Method::GET, LOGIN, "", "").await).await;
        assert!(page.contains("name=next value=\"/?from=mail\""), "{page}");
        let refused = send(&app, Method::POST, "/login", "", "user=ada&password=wrong").await;
        assert!(refused.headers().get(SET_COOKIE).is_none());

        let form = "user=ada&password=engine&next=/%3Ffrom%3Dmail";
        let welcome = send(&app, Method::POST, "/login", "", form).await;
        assert_eq!(welcome.status(), StatusCode::SEE_OTHER);
        assert_eq!(welcome.headers()[LOCATION], "/?from=mail");
        let cookie_pair = cookie(welcome.headers());
        for visit in 1..=3 {
            let page = body(send(&app, Method::GET, "/", &cookie_pair, "").await).await;
            assert!(page.starts_with(&format!("<p>Visit {visit} of Ada Lovelace.")), "{page}");
        }

        let farewell = send(&app, Method::POST, "/logout", &cookie_pair, "").await;
        assert_eq!(cookie(farewell.headers()), "__Host-id=");
        let denied = send(&app, Method::GET, "/", &cookie_pair, "").await;
        assert_eq!(denied.headers()[LOCATION], "/login?next=/");
    }

    #[tokio::test]
    async fn a_login_leads_to_no_other_site() {
        let app = app(Manager::builder(MemoryProvider::new()).build().unwrap()).unwrap();
        let form = "user=ada&password=engine&next=//evil.example";
        let welcome = send(&app, Method::POST, "/login", "", form).await;
        assert_eq!(welcome.headers()[LOCATION], "/");
    }

    const LOGIN: &str = "/login?next=/%3Ffrom%3Dmail";
}
