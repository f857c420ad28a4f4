//! Several session layers around one handler.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use cloakroom::{CsrfLayer, Manager, MemoryProvider, Session, SessionLayer, session::SessionHandle};
use http::StatusCode;

use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::{Rig, alice, ask, cookies, pair, set_cookies, text};

/// Changes the session before and after the handler, as a middleware that counts visits does.
async fn between(session: Session, request: Request, next: Next) -> Response {
    let visits = session.get::<u64>("visits").unwrap().unwrap_or(0);
    session.set("visits", visits + 1).unwrap();
    let response = next.run(request).await;
    session.set("after", true).unwrap();
    response
}

/// A site whose router for `/shop` has a session layer of its own.
fn site(manager: &Manager) -> Router {
    let add = async |session: Session| session.set("cart", 3).unwrap();
    let login = async |session: Session| session.authenticate(alice()).unwrap();
    let shop = Router::new()
        .route("/add", get(add))
        .route("/login", post(login).get(login))
        .route(
            "/fail",
            get(async |session: Session| {
                session.set("cart", 9).unwrap();
                StatusCode::BAD_GATEWAY
            }),
        )
        .layer(SessionLayer::new(manager.clone()));
    Router::new().nest("/shop", shop).layer(from_fn(between)).layer(SessionLayer::new(manager.clone()))
}

#[tokio::test]
async fn two_layers_of_one_manager_share_one_session() {
    let rig = Rig::new();
    let site = site(&rig.manager);
    let first = ask(&site, "/shop/add", "").await;
    let cookie = pair(first.headers()).expect("one cookie");
    assert_eq!(rig.faults.calls(), [Call::Create], "one commit");
    assert_eq!(rig.count().await, 1);
    let session = rig.store.start(&cookies(&cookie)).await.unwrap();
    assert_eq!(session.get::<u64>("cart").unwrap(), Some(3));
    assert_eq!(session.get::<bool>("after").unwrap(), Some(true));

    let login = ask(&site, "/shop/login", &cookie).await;
    assert_eq!(login.status(), StatusCode::OK);
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Rename]);
    let cookie = pair(login.headers()).expect("one cookie");
    for visits in 3..6 {
        assert_eq!(ask(&site, "/shop/add", &cookie).await.status(), StatusCode::OK);
        let session = rig.store.start(&cookies(&cookie)).await.unwrap();
        assert_eq!(session.get::<u64>("visits").unwrap(), Some(visits));
        assert_eq!(session.principal(), Some(alice()));
    }
    assert_eq!(rig.count().await, 1);
}

#[tokio::test]
async fn three_layers_of_one_manager_share_one_session() {
    let rig = Rig::new();
    let layer = || SessionLayer::new(rig.manager.clone());
    let site = Router::new()
        .route("/", get(async |session: Session| session.set("n", 2).unwrap()))
        .layer(layer())
        .layer(layer())
        .layer(from_fn(between))
        .layer(layer());
    let cookie = pair(ask(&site, "/", "").await.headers()).unwrap();
    assert_eq!((rig.stored(&cookie).await, rig.count().await), (Some(2), 1));
    assert_eq!(rig.faults.calls(), [Call::Create]);
}

#[tokio::test]
async fn the_outer_layer_responds_to_a_failed_commit() {
    let rig = Rig::new();
    let inner = SessionLayer::new(rig.manager.clone())
        .on_error(|_: &cloakroom::Error| Response::builder().status(418).body("".into()).unwrap());
    let set = async |session: Session| session.set("n", 2).unwrap();
    let site = Router::new().route("/", get(set)).layer(inner).layer(SessionLayer::new(rig.manager.clone()));
    rig.faults.set(Call::Create, Fault::Fail);
    assert_eq!(ask(&site, "/", "").await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_5xx_through_two_layers_commits_nothing() {
    let rig = Rig::new();
    let response = ask(&site(&rig.manager), "/shop/fail", "").await;
    assert_eq!((response.status(), set_cookies(response.headers()).len()), (StatusCode::BAD_GATEWAY, 0));
    assert_eq!(rig.count().await, 0);
}

#[tokio::test]
async fn layers_of_two_managers_keep_two_sessions() {
    let provider = MemoryProvider::new();
    let build = |name: &str| Manager::builder(provider.clone()).cookie_name(name).build().unwrap();
    let (shop, admin) = (build("__Host-shop"), build("__Host-admin"));
    let set = async |session: Session| session.set("n", 1).unwrap();
    // The shop's layer is both outside and inside of the other one.
    let site = Router::new()
        .route("/shop", get(set).layer(SessionLayer::new(shop.clone())))
        .route("/admin", get(set))
        .layer(SessionLayer::new(admin.clone()))
        .layer(from_fn(between))
        .layer(SessionLayer::new(shop.clone()));
    let response = ask(&site, "/shop", "").await;
    let cookie = pair(response.headers()).expect("the shop's cookie alone");
    assert!(cookie.starts_with("__Host-shop="), "{cookie}");
    let session = shop.start(&cookies(&cookie)).await.unwrap();
    assert_eq!((session.get("n").unwrap(), session.get("visits").unwrap()), (Some(1), Some(1)));

    let response = ask(&site, "/admin", &cookie).await;
    let [admins] = set_cookies(response.headers())[..] else { panic!("the admin's cookie alone") };
    assert!(admins.starts_with("__Host-admin="), "{}", admins.len());
    assert_eq!(provider_count(&shop).await, 2);
    let session = shop.start(&cookies(&cookie)).await.unwrap();
    assert_eq!(session.get("visits").unwrap(), Some(2));
}

async fn provider_count(manager: &Manager) -> u64 {
    manager.active_sessions().await.unwrap()
}

#[tokio::test]
async fn a_csrf_layer_between_sees_the_same_session() {
    let rig = Rig::new();
    let page = async |session: Session| session.csrf_token().await.unwrap().to_string();
    let site = Router::new()
        .route("/", get(page))
        .layer(SessionLayer::new(rig.manager.clone()))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(rig.manager.clone()));
    let cookie = rig.session_with(1).await;
    let token = text(ask(&site, "/", &cookie).await).await;
    let session = rig.store.start(&cookies(&cookie)).await.unwrap();
    session.verify_csrf_token(&token).unwrap();
}

#[tokio::test]
async fn the_handler_gets_the_outer_layers_handle() {
    let rig = Rig::new();
    let outer = async |session: Session, mut request: Request, next: Next| {
        session.set("outer", 1).unwrap();
        let handle = request.extensions_mut().get::<SessionHandle>().cloned().unwrap();
        let response = next.run(request).await;
        assert_eq!(handle.load().await.unwrap().get("inner").unwrap(), Some(1));
        response
    };
    let inner = async |session: Session| {
        assert_eq!(session.get("outer").unwrap(), Some(1));
        session.set("inner", 1).unwrap();
    };
    let site = Router::new()
        .route("/", get(inner))
        .layer(SessionLayer::new(rig.manager.clone()))
        .layer(from_fn(outer))
        .layer(SessionLayer::new(rig.manager.clone()));
    assert_eq!(ask(&site, "/", "").await.status(), StatusCode::OK);
}
