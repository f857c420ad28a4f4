//! actix-session and actix-identity.

use actix_identity::{Identity, IdentityMiddleware};
use actix_session::config::CookieContentSecurity;
use actix_session::storage::{CookieSessionStore, RedisSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, test, web};

use crate::{Redis, Sample, answer_to, secret, values};

async fn fill(session: Session) -> HttpResponse {
    for (key, value) in values() {
        session.insert(key, value).expect("a value");
    }
    HttpResponse::Ok().finish()
}

async fn login(request: HttpRequest, session: Session) -> HttpResponse {
    Identity::login(&request.extensions(), "ann".to_owned()).expect("a login");
    fill(session).await
}

async fn sample<S: SessionStore + 'static>(
    redis: &Redis,
    case: &'static str,
    store: S,
    security: CookieContentSecurity,
) -> Sample {
    let sessions =
        SessionMiddleware::builder(store, Key::from(&secret())).cookie_content_security(security).build();
    let app = App::new()
        .wrap(IdentityMiddleware::builder().login_deadline(Some(std::time::Duration::from_secs(3600))).build())
        .wrap(sessions)
        .route("/fill", web::get().to(fill))
        .route("/login", web::get().to(login));
    let service = test::init_service(app).await;
    let path = if case.ends_with("login") { "/login" } else { "/fill" };
    let response = test::call_service(&service, test::TestRequest::get().uri(path).to_request()).await;
    let cookie = answer_to(response.headers().get_all("set-cookie").map(|value| value.as_bytes()));
    Sample { peer: "actix-session", case, cookie, headers: Vec::new(), redis: redis.take().await }
}

pub async fn samples(redis: &Redis) -> Vec<Sample> {
    use CookieContentSecurity::{Private, Signed};
    let store = async || RedisSessionStore::new(redis.url()).await.expect("a connection");
    vec![
        sample(redis, "private", store().await, Private).await,
        sample(redis, "signed", store().await, Signed).await,
        sample(redis, "login", store().await, Private).await,
        sample(redis, "cookie", CookieSessionStore::default(), Private).await,
        sample(redis, "cookie-login", CookieSessionStore::default(), Private).await,
    ]
}
