//! The methods that adapters of other frameworks call, on a request with header types of its own.

use cloakroom::middleware::{Outcome, RequestHead};
use cloakroom::session::SessionHandle;
use cloakroom::{ErrorKind, Visit};
use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::log::Log;
use crate::support::{Rig, alice, cookies, joined, pair, set_cookies};

/// A request of a framework that keeps its headers as text.
struct TextRequest(Vec<(&'static str, String)>);

impl RequestHead for TextRequest {
    fn method(&self) -> &str {
        "GET"
    }

    fn path_and_query(&self) -> &str {
        "/"
    }

    fn authority(&self) -> Option<&str> {
        None
    }

    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers().filter(move |(found, _)| name == found).map(|(_, value)| value)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (*name, value.as_bytes()))
    }
}

/// Returns the value `n` of the session of a request with these headers.
async fn found(rig: &Rig, headers: &[(&'static str, &str)]) -> Option<u64> {
    let request = TextRequest(headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
    let handle = rig.manager.handle_of(&request, &Extensions::new());
    handle.load_for(&request).await.unwrap().get("n").unwrap()
}

/// Releases with the status and no headers. Returns the outcome and the headers.
async fn release(handle: &SessionHandle, status: u16) -> (Outcome, HeaderMap) {
    let mut headers = HeaderMap::new();
    let outcome = handle.release(StatusCode::from_u16(status).unwrap(), &mut headers).await;
    (outcome, headers)
}

#[tokio::test]
async fn another_frameworks_cookie_lines_name_the_session() {
    let rig = Rig::new();
    let (alive, other) = (rig.session_with(1).await, rig.session_with(2).await);
    assert_eq!(found(&rig, &[("cookie", &alive)]).await, Some(1));
    assert_eq!(found(&rig, &[("cookie", "a=1"), ("cookie", &alive), ("cookie", "b=2")]).await, Some(1));
    assert_eq!(
        found(&rig, &[("cookie", "a=\n"), ("cookie", &alive)]).await,
        Some(1),
        "a bad line hides none"
    );
    assert_eq!(found(&rig, &[("cookie", &alive), ("cookie", &other)]).await, None, "two sessions are none");
    assert_eq!(found(&rig, &[("x-cookie", &alive)]).await, None);
    assert_eq!(found(&rig, &[]).await, None);
}

#[tokio::test]
async fn another_frameworks_id_header_names_the_session() {
    let rig = Rig::with(|builder| builder.id_header(HeaderName::from_static("x-session")));
    let alive = rig.session_with(1).await;
    let id = alive.split_once('=').unwrap().1;
    assert_eq!(found(&rig, &[("x-session", id)]).await, Some(1));
    let handle = rig.manager.handle(&HeaderMap::new());
    let names: Vec<_> = handle.response_headers().collect();
    assert_eq!(names, [VARY, SET_COOKIE, CACHE_CONTROL, HeaderName::from_static("x-session")]);
}

#[tokio::test]
async fn admit_sees_another_frameworks_headers() {
    let is_welcome = |visit: &Visit| {
        visit.headers().get("x-bot").is_none_or(|bot| bot == "no")
            && visit.extensions().get::<u16>() == Some(&443)
    };
    let rig = Rig::with(|builder| builder.admit(is_welcome));
    for (bot, port, expected) in [
        ("no", 443_u16, None),
        ("yes", 443, Some(ErrorKind::Throttled)),
        ("no", 80, Some(ErrorKind::Throttled)),
    ] {
        let request = TextRequest(vec![("x-bot", bot.to_owned())]);
        let mut extensions = Extensions::new();
        extensions.insert(port);
        let handle = rig.manager.handle_of(&request, &extensions);
        handle.load_for(&request).await.unwrap().set("n", 1).unwrap();
        let refused = match release(&handle, 200).await.0 {
            Outcome::Send => None,
            Outcome::Replace(replacement) => replacement.error().map(cloakroom::Error::kind),
        };
        assert_eq!(refused, expected, "{bot} {port}");
    }
}

#[tokio::test]
async fn a_cookie_over_plain_http_warns_in_any_framework() {
    let rig = Rig::new();
    for (host, expected) in [("localhost", 0), ("shop.example", 1)] {
        let log = Log::start();
        let request = TextRequest(vec![("host", host.to_owned())]);
        let handle = rig.manager.handle_of(&request, &Extensions::new());
        handle.load_for(&request).await.unwrap().set("n", 1).unwrap();
        assert!(matches!(release(&handle, 200).await.0, Outcome::Send));
        assert_eq!(log.text().matches("browsers drop it").count(), expected, "{host}");
    }
}

#[tokio::test]
async fn an_untouched_session_writes_no_header() {
    let rig = Rig::new();
    let handle = rig.manager.handle(&cookies(&rig.session_with(1).await));
    let (outcome, headers) = release(&handle, 200).await;
    assert!(matches!(outcome, Outcome::Send));
    assert_eq!((headers, rig.faults.calls()), (HeaderMap::new(), vec![]));
    assert_eq!(handle.load().await.unwrap_err().kind(), ErrorKind::Released, "the response has left");
}

#[tokio::test]
async fn release_now_leaves_what_has_to_wait() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let handle = rig.manager.handle(&cookies(&alive));
    handle.load().await.unwrap().set("n", 2).unwrap();
    let mut headers = HeaderMap::new();
    assert!(!handle.release_now(StatusCode::OK, &mut headers), "this provider waits");
    assert_eq!(rig.stored(&alive).await, Some(1));
    assert!(matches!(handle.release_waiting(&mut headers).await, Outcome::Send));
    assert_eq!(rig.stored(&alive).await, Some(2));

    for status in [500, 503, 408] {
        let handle = rig.manager.handle(&cookies(&alive));
        handle.load().await.unwrap().set("n", 3).unwrap();
        assert!(handle.release_now(StatusCode::from_u16(status).unwrap(), &mut HeaderMap::new()), "{status}");
        assert_eq!(rig.stored(&alive).await, Some(2), "{status}");
    }
}

#[tokio::test]
async fn a_replacement_says_what_to_send() {
    for (fault, status, kind, text) in [
        (Some(Fault::Fail), 503, Some(ErrorKind::Unavailable), ""),
        (None, 409, None, "Your session has ended"),
    ] {
        let rig = Rig::new();
        let alive = rig.session_with(1).await;
        let handle = rig.manager.handle(&cookies(&alive));
        handle.load().await.unwrap().set("n", 2).unwrap();
        match fault {
            Some(fault) => rig.faults.set(Call::Update, fault),
            None => {
                let _ = rig.store.destroy(&cookies(&alive), &mut HeaderMap::new()).await.unwrap();
            }
        }
        let Outcome::Replace(replacement) = release(&handle, 200).await.0 else { panic!("a lost write") };
        assert_eq!(replacement.status(), status);
        assert_eq!(replacement.error().map(cloakroom::Error::kind), kind);
        let response = replacement.into_response::<String>();
        assert_eq!(response.status(), status);
        assert!(response.body().starts_with(text));
        assert_eq!(response.body().is_empty(), text.is_empty());
        assert_eq!(response.headers().contains_key("content-type"), !text.is_empty());
        assert_eq!(joined(response.headers(), "vary"), "Cookie");
        assert_eq!(joined(response.headers(), "cache-control"), "no-store");
        assert_eq!(set_cookies(response.headers()), [""; 0]);
    }
}

#[tokio::test]
async fn a_replacement_keeps_the_cookie_of_a_save() {
    let rig = Rig::new();
    let handle = rig.manager.handle(&HeaderMap::new());
    let session = handle.load().await.unwrap();
    session.set("n", 1).unwrap();
    session.save().await.unwrap();
    session.set("n", 2).unwrap();
    rig.faults.set(Call::Update, Fault::Fail);
    let Outcome::Replace(replacement) = release(&handle, 200).await.0 else { panic!("the store fails") };
    let mut headers = HeaderMap::new();
    replacement.write_headers(&mut headers);
    assert_eq!(rig.stored(&pair(&headers).unwrap()).await, Some(1));
}

#[tokio::test]
async fn a_release_writes_no_header_but_the_documented() {
    let id_header = HeaderName::from_static("x-session");
    let rig = Rig::with(|builder| builder.id_header(HeaderName::from_static("x-session")));
    let handle = rig.manager.handle(&HeaderMap::new());
    let session = handle.load().await.unwrap();
    session.authenticate(alice()).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-own", HeaderValue::from_static("stays"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.append(SET_COOKIE, HeaderValue::from_static("theme=dark"));
    headers.append(SET_COOKIE, HeaderValue::from_static("__Host-id=planted"));
    headers.append(id_header.clone(), HeaderValue::from_static("planted"));
    assert!(matches!(handle.release(StatusCode::OK, &mut headers).await, Outcome::Send));
    assert_eq!(headers["x-own"], "stays");
    assert_eq!(headers[CACHE_CONTROL], "private, no-store");
    assert_eq!(joined(&headers, "vary"), "Cookie, x-session");
    let set = set_cookies(&headers);
    assert_eq!((set.len(), set[0]), (2, "theme=dark"));
    let id = set[1].split(['=', ';']).nth(1).unwrap();
    assert_eq!(joined(&headers, "x-session"), id);
    assert_ne!(id, "planted");
    let documented: Vec<_> = handle.response_headers().collect();
    let others: Vec<_> = headers.keys().filter(|name| !documented.contains(name)).collect();
    assert_eq!(others, ["x-own"]);
}

#[tokio::test]
async fn nested_handles_of_one_manager_are_one() {
    let (rig, other) = (Rig::new(), Rig::new());
    let mut extensions = Extensions::new();
    let outer = rig.manager.handle(&HeaderMap::new());
    outer.insert_into(&mut extensions);
    let middle = other.manager.handle(&HeaderMap::new());
    middle.insert_into(&mut extensions);
    extensions.get::<SessionHandle>().unwrap().load().await.unwrap().set("n", 2).unwrap();
    let inner = rig.manager.handle(&HeaderMap::new());
    inner.insert_into(&mut extensions);
    extensions.get::<SessionHandle>().unwrap().load().await.unwrap().set("n", 1).unwrap();

    let mut sent = Vec::new();
    for handle in [&inner, &middle, &outer] {
        let (outcome, headers) = release(handle, 200).await;
        assert!(matches!(outcome, Outcome::Send));
        sent.push(pair(&headers));
    }
    assert_eq!(sent[0], None, "the outer adapter commits");
    assert_eq!(other.stored(sent[1].as_ref().unwrap()).await, Some(2));
    assert_eq!(rig.stored(sent[2].as_ref().unwrap()).await, Some(1));
}
