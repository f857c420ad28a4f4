//! WebSocket handshakes, which carry no token.

use axum::Router;
use axum::routing::any;
use cloakroom::{CsrfLayer, SessionLayer};
use http::header::{HOST, ORIGIN};
use http::{Method, Request, StatusCode};

use crate::support::{Rig, alice, cookies, pair, send};

/// Returns the status of a handshake with `headers`, for a user with a session.
async fn handshake(method: Method, headers: &[(&str, &str)]) -> StatusCode {
    let rig = Rig::new();
    let session = rig.store.start(&http::HeaderMap::new()).await.unwrap();
    session.authenticate(alice()).unwrap();
    let mut answer = http::HeaderMap::new();
    let _ = session.release(&mut answer).await.unwrap();
    for layer in [CsrfLayer::new(), CsrfLayer::new().require_session()] {
        let site = Router::new()
            .route("/chat", any(async || "open"))
            .layer(layer)
            .layer(SessionLayer::new(rig.manager.clone()));
        let uri = if method == Method::CONNECT { "https://shop.example/chat" } else { "/chat" };
        let mut request = Request::new(axum::body::Body::empty());
        (*request.method_mut(), *request.uri_mut()) = (method.clone(), uri.parse().unwrap());
        *request.headers_mut() = cookies(&pair(&answer).unwrap());
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let status = send(&site, request).await.status();
        if status != StatusCode::OK {
            return status;
        }
    }
    StatusCode::OK
}

const UPGRADE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "websocket")];

async fn by_get(headers: &[(&str, &str)]) -> StatusCode {
    let headers: Vec<_> = UPGRADE.iter().chain(headers).copied().collect();
    handshake(Method::GET, &headers).await
}

#[tokio::test]
async fn a_handshake_from_another_host_is_refused() {
    let host = (HOST.as_str(), "shop.example");
    for foreign in ["https://evil.shop.example", "https://evil.example", "null"] {
        let headers = [host, (ORIGIN.as_str(), foreign)];
        assert_eq!(by_get(&headers).await, StatusCode::FORBIDDEN, "{foreign}");
        assert_eq!(handshake(Method::CONNECT, &headers[1..]).await, StatusCode::FORBIDDEN, "{foreign}");
    }
    let sibling = [host, ("sec-fetch-site", "same-site"), (ORIGIN.as_str(), "https://shop.example")];
    assert_eq!(by_get(&sibling).await, StatusCode::FORBIDDEN);
    assert_eq!(handshake(Method::CONNECT, &sibling).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_handshake_from_this_site_needs_no_token() {
    for host in ["shop.example", "shop.example:443"] {
        let own = [(HOST.as_str(), host), (ORIGIN.as_str(), "https://shop.example")];
        assert_eq!(by_get(&own).await, StatusCode::OK, "{host}");
    }
    let own = [(ORIGIN.as_str(), "https://shop.example")];
    assert_eq!(handshake(Method::CONNECT, &own).await, StatusCode::OK);
    assert_eq!(handshake(Method::CONNECT, &[("sec-fetch-site", "same-origin")]).await, StatusCode::OK);
    // A client that is not a browser sends only cookies of its own user.
    assert_eq!(by_get(&[(HOST.as_str(), "shop.example")]).await, StatusCode::OK);
}
