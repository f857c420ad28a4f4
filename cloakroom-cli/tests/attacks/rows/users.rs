//! Rows 32 to 38: the sessions of a user, and requests without a session.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cloakroom::config::OverLimit;
use tokio::task::JoinSet;

use super::Outcome;
use crate::site::Setup;
use crate::target::Target;
use crate::visitor::Request;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub(super) async fn row_32_ending_the_others_covers_parallel_logins(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let another = setup.another().await;
    let (mut keeps, mut one, mut other) =
        (setup.user("alice").await, setup.user("alice").await, setup.user("alice").await);
    let mut bystander = setup.user("bob").await;
    let mut logins = JoinSet::new();
    for n in 0..100 {
        let mut device = if n % 2 == 0 { setup.visitor() } else { another.visitor() };
        logins.spawn(async move {
            let begun = Instant::now();
            device.login("alice").await;
            (begun, Instant::now(), device)
        });
    }
    let mut logged_in = Vec::new();
    // Some logins have finished by now, and others have not.
    while logged_in.len() < 30 {
        logged_in.push(logins.join_next().await.expect("more logins").expect("no panic"));
    }
    let requested = Instant::now();
    let answer = keeps.send(Request::new("DELETE", "/api/sessions")).await;
    let answered = Instant::now();
    let ended = answer.json()["ended"].as_u64().expect("a number");
    assert!(ended >= 32, "expected at least 32 ended sessions, found {ended}");
    logged_in.extend(logins.join_all().await);
    let mut alive = 1;
    for (begun, done, device) in &mut logged_in {
        let is_alive = device.is_alive().await;
        if *done < requested {
            assert!(!is_alive, "a login that finished before the request is alive");
        }
        if *begun > answered {
            assert!(is_alive, "a login that began after the answer is dead");
        }
        alive += u64::from(is_alive);
    }
    assert!(keeps.is_alive().await && bystander.is_alive().await);
    one.assert_fresh().await;
    other.assert_fresh().await;
    assert_eq!(keeps.get("/api/sessions").await.json().as_array().expect("a list").len() as u64, alive);
    setup.store.assert_count(alive + 1).await;

    // A handle ends one of the user's sessions, and none of another user's.
    let handle = |list: serde_json::Value| list[0]["handle"].as_str().expect("a handle").to_owned();
    let bobs = handle(bystander.get("/api/sessions").await.json());
    let end = |handle: &str| Request::new("DELETE", format!("/api/sessions/{handle}"));
    assert_eq!(keeps.send(end(&bobs)).await.status(), 404);
    assert!(bystander.is_alive().await);
    keeps.send(Request::new("DELETE", "/api/sessions")).await;
    let mut lost = setup.user("alice").await;
    let list = keeps.get("/api/sessions").await.json();
    let others = list.as_array().expect("a list").iter().find(|one| one["current"] == false);
    let handle = others.and_then(|one| one["handle"].as_str()).expect("a handle");
    assert_eq!(keeps.send(end(handle)).await.status(), 204);
    lost.assert_fresh().await;
    assert!(keeps.is_alive().await);
    Outcome::Held
}

pub(super) async fn row_33_a_limit_holds_under_parallel_logins(target: &Target) -> Outcome {
    const LIMIT: usize = 5;
    let limit = NonZeroUsize::new(LIMIT).expect("five");
    for over in [OverLimit::EndOldest, OverLimit::Refuse] {
        let setup = Setup::with(target, |builder| builder.sessions_per_user(limit, over)).await;
        let mut logins = JoinSet::new();
        for _ in 0..LIMIT + 5 {
            let mut device = setup.visitor();
            logins.spawn(async move {
                let status = device.try_login("alice").await.status();
                (status, device)
            });
        }
        let mut alive = 0;
        for (status, mut device) in logins.join_all().await {
            let is_alive = device.is_alive().await;
            match over {
                OverLimit::Refuse => assert_eq!(status, if is_alive { 204 } else { 403 }),
                _ => assert_eq!(status, 204),
            }
            alive += usize::from(is_alive);
        }
        assert_eq!(alive, LIMIT, "{over:?}");
        setup.store.assert_count(LIMIT as u64).await;
        let mut bob = setup.user("bob").await;
        assert!(bob.is_alive().await, "the limit is per user");
    }
    Outcome::Held
}

pub(super) async fn row_34_an_old_login_is_not_enough(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    assert_eq!(visitor.get("/rig/recent").await.status(), 200);
    setup.time.advance(5 * MINUTE);
    assert_eq!(visitor.get("/rig/recent").await.status(), 200);
    setup.time.advance(SECOND);
    assert_eq!(visitor.get("/rig/recent").await.status(), 401);
    // Neither a change of level nor a new id counts as a login.
    visitor.post("/rig/do/level=2").await;
    visitor.post("/api/session/regenerate").await;
    assert_eq!(visitor.get("/rig/recent").await.status(), 401);
    visitor.login("alice").await;
    assert_eq!(visitor.get("/rig/recent").await.status(), 200);
    assert_eq!(
        visitor.get("/rig/level-2").await.status(),
        401,
        "a login has its own level, not the former one"
    );
    assert_eq!(setup.visitor().get("/rig/recent").await.status(), 401);
    Outcome::Held
}

pub(super) async fn row_35_end_by_is_the_latest_end(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let in_ten = seconds(setup.time.clock().now()) + 601;
    let mut visitor = setup.user("alice").await;
    assert_eq!(visitor.post(&format!("/rig/do/end-by={in_ten}")).await.status(), 200);
    // The earliest deadline counts, whatever is set later.
    assert_eq!(visitor.post(&format!("/rig/do/end-by={}", in_ten + 3600)).await.status(), 200);
    for _ in 0..10 {
        assert!(visitor.is_alive().await);
        visitor.set("key", "value").await;
        setup.time.advance(MINUTE);
    }
    assert!(visitor.is_alive().await, "a moment before the deadline");
    setup.time.advance(SECOND);
    visitor.assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_36_anonymous_requests_store_nothing(target: &Target) -> Outcome {
    let (setup, faults) = Setup::faulty(target).await;
    let each = target.many(10_000).max(2_000) / 8;
    let mut tasks = JoinSet::new();
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/api/session", 200),
        ("GET", "/api/session/data/key", 404),
        ("GET", "/api/untouched", 200),
        ("POST", "/api/logout", 204),
        ("POST", "/api/session/regenerate", 204),
        ("DELETE", "/api/session/data", 204),
        ("DELETE", "/api/session/data/key", 404),
    ] {
        let visitor = setup.visitor();
        tasks.spawn(async move {
            for answer in visitor.flood(&Request::new(method, path), each).await {
                assert_eq!((answer.status(), answer.header("set-cookie")), (status, None), "{method} {path}");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(faults.calls(), [], "the store was called");
    setup.store.assert_count(0).await;
    Outcome::Held
}

/// By default the client's properties are not checked, so a change of them has no effect.
pub(super) async fn row_37_another_browser_is_ignored_by_default(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    setup.site.events();
    for (name, value) in [
        ("User-Agent", "another"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("Accept-Language", "xx"),
        ("Sec-CH-UA-Platform", "\"Other\""),
    ] {
        let answer = visitor.send(Request::new("GET", "/api/session").header(name, value)).await;
        assert_eq!(answer.json()["present"], true, "{name}");
        assert_eq!(answer.header("set-cookie"), None);
    }
    assert_eq!(setup.site.event_kinds(), []);
    Outcome::Held
}

pub(super) async fn row_38_an_open_stream_ends_with_its_session(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let another = setup.another().await;
    for end in ["a logout", "another device", "a login", "expiry"] {
        let mut visitor = setup.user("alice").await;
        let mut bystander = setup.user("bob").await;
        let (head, mut stream) = visitor.begin(&Request::new("GET", "/rig/watch")).await;
        let (_, mut others) = bystander.begin(&Request::new("GET", "/rig/watch")).await;
        let watching = tokio::spawn(async move { stream.body(&head).await.expect("the stream's end") });
        // The session ends through another process, if there is one.
        let mut elsewhere = visitor.at(another.address);
        match end {
            "a logout" => elsewhere.logout().await,
            "another device" => {
                let mut device = setup.user("alice").await;
                device.send(Request::new("DELETE", "/api/sessions")).await;
                device.logout().await;
            }
            "a login" => elsewhere.login("alice").await,
            _ => setup.time.advance(31 * MINUTE),
        }
        assert_eq!(watching.await.expect("no panic"), b"ended", "{end}");
        if end != "expiry" {
            let still = tokio::time::timeout(Duration::from_millis(5), others.head()).await;
            assert!(still.is_err(), "{end}: another visitor's stream has ended too");
            assert!(bystander.is_alive().await);
        }
    }
    Outcome::Held
}
