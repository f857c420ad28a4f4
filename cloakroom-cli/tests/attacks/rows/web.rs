//! Rows 46 to 49 and 54 to 57: caches, other sites, logs, races and limits.

use std::time::Duration;

use cloakroom::{Manager, config::Policy, event::EventKind};
use tokio::task::JoinSet;

use super::Outcome;
use crate::faulty::Fault;
use crate::log;
use crate::site::Setup;
use crate::target::Target;
use crate::visitor::{Request, Visitor, put};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub(super) async fn row_46_every_access_adds_vary_cookie(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut user = setup.user("alice").await;
    user.set("key", "value").await;
    for mut visitor in [user, setup.visitor()] {
        for path in [
            "/rig/extract",
            "/rig/get",
            "/rig/contains",
            "/rig/len",
            "/rig/keys",
            "/rig/is-empty",
            "/rig/principal",
            "/rig/level",
            "/rig/times",
            "/rig/recent",
            "/api/session",
            "/api/session/data/key",
            "/api/sessions",
            "/",
        ] {
            // After a minute a touch is due.
            setup.time.advance(MINUTE);
            let answer = visitor.get(path).await;
            assert!(answer.has("vary", "cookie"), "{path}: {:?}", answer.head);
        }
    }
    let mut visitor = setup.visitor();
    for request in [
        put("key", "value"),
        Request::new("POST", "/api/session/regenerate"),
        Request::new("POST", "/api/logout"),
    ] {
        let answer = visitor.send(request).await;
        assert!(answer.set_cookie("__Host-id").is_some());
        assert!(answer.has("cache-control", "no-store") && answer.has("vary", "cookie"), "{:?}", answer.head);
    }
    let failed = setup.user("alice").await.post("/api/fail").await;
    assert!(failed.status() == 500 && failed.has("vary", "cookie"), "{:?}", failed.head);
    let untouched = setup.user("alice").await.get("/api/untouched").await;
    assert_eq!(untouched.header("vary"), None, "a request without the session needs no Vary");
    Outcome::Held
}

pub(super) async fn row_47_other_sites_change_nothing(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let (id, sealed) = (visitor.id(), setup.store.capabilities().token_is_record());
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://attacked.example.evil.example"),
    ] {
        for (method, path) in [
            ("POST", "/api/logout"),
            ("POST", "/api/session/regenerate"),
            ("POST", "/api/login"),
            ("DELETE", "/api/session/data"),
            ("PUT", "/api/session/data/key"),
            ("DELETE", "/api/sessions"),
            ("POST", "/sign-out"),
            ("POST", "/sessions/end-others"),
        ] {
            let answer = visitor.send(Request::new(method, path).header(name, value)).await;
            assert_eq!(
                (answer.status(), answer.header("set-cookie")),
                (403, None),
                "{name}: {value}, {path}"
            );
        }
    }
    // Safe methods change nothing, from any site.
    for path in [
        "/api/logout",
        "/api/login",
        "/api/session/regenerate",
        "/api/session/data/sum/increment",
        "/sign-out",
    ] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status(), answer.header("set-cookie")), (405, None), "{path}");
    }
    for path in ["/", "/api/session", "/api/sessions"] {
        let answer = visitor.send(Request::new("GET", path).header("Sec-Fetch-Site", "cross-site")).await;
        assert!(matches!(answer.status(), 200 | 501), "{path}: {}", answer.text());
        // The page stores a form token. Where the cookie contains the session, that changes the cookie.
        assert!(sealed || answer.header("set-cookie").is_none(), "{path}");
    }
    assert!(sealed || visitor.id() == id);
    assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
    a_form_needs_the_sessions_own_token(&setup).await;
    Outcome::Held
}

/// Form tokens are bound to the session and change with each login.
async fn a_form_needs_the_sessions_own_token(setup: &Setup) {
    let (mut alice, mut bob) = (setup.user("alice").await, setup.user("bob").await);
    let (own, others) = (token_of_the_page(&mut alice).await, token_of_the_page(&mut bob).await);
    let note = |token: &str, text: &str| {
        Request::new("POST", "/note")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", "http://attacked.example")
            .body(format!("csrf_token={token}&note={}{text}", log::VALUE))
    };
    let mut changed = own.clone();
    changed.replace_range(..1, if own.starts_with('A') { "B" } else { "A" });
    for bad in [&*others, "", "x", &changed, &own[1..], &format!("{own}A")] {
        let answer = alice.send(note(bad, "bad")).await;
        assert_eq!(
            (answer.status(), answer.header("set-cookie")),
            (403, None),
            "a token of another session, or a bad one"
        );
    }
    assert_eq!(alice.send(note(&own, "good")).await.status(), 303);
    assert_eq!(alice.value("note").await.as_deref(), Some("good"));
    alice.login("alice").await;
    assert_eq!(alice.send(note(&own, "old")).await.status(), 403, "a token from before the login");
    let new = token_of_the_page(&mut alice).await;
    assert_eq!(alice.send(note(&new, "new")).await.status(), 303);
    assert_eq!(alice.value("note").await.as_deref(), Some("new"));
}

async fn token_of_the_page(visitor: &mut Visitor) -> String {
    let page = visitor.get("/").await.text();
    let (_, token) = page.split_once("name=\"csrf_token\" value=\"").expect("a form with a token");
    let token = token.split('"').next().expect("its end");
    log::keep_secret(token);
    token.to_owned()
}

/// The rows' log is searched at TRACE. This row goes through a session's whole life for it, and prints everything that
/// implements `Debug`.
pub(super) async fn row_48_nothing_secret_is_logged(target: &Target) -> Outcome {
    let (setup, faults) = Setup::faulty(target).await;
    let mut visitor = setup.visitor();
    visitor.set("key", "value").await;
    visitor.login("alice").await;
    visitor.post("/rig/do/level=2").await;
    visitor.post("/api/session/regenerate").await;
    let manager = &setup.site.manager;
    let headers = http::HeaderMap::from_iter([(
        http::header::COOKIE,
        format!("__Host-id={}", visitor.id()).parse().expect("a header"),
    )]);
    let session = manager.start(&headers).await.expect("an answer");
    let mut listed = Vec::new();
    if setup.store.capabilities().lists {
        listed = manager.sessions_of(&session.principal().expect("a user")).await.expect("a list");
        assert_eq!(listed.len(), 1);
    }
    let shown = format!(
        "{manager:?} {:?} {:?} {session:?} {:?} {listed:?} {:?} {}",
        manager.config(),
        manager.provider(),
        session.id(),
        setup.site.events(),
        manager.explain(),
    );
    let keys = listed.iter().map(|listed| listed.key.as_str());
    for secret in [visitor.id().as_str(), log::VALUE].into_iter().chain(keys) {
        log::keep_secret(secret);
        assert!(!shown.contains(secret), "a secret in Debug output");
    }
    for fault in [Fault::Fail, Fault::Corrupt, Fault::LoseAnswer] {
        faults.set_all(fault);
        visitor.get("/api/session").await;
        visitor.clone().try_set("key", "other").await;
        faults.heal();
    }
    visitor.with("../x").get("/api/session").await;
    visitor.with(super::identifier::MADE_UP).get("/api/session").await;
    visitor.logout().await;
    assert_eq!(log::findings().1, [""; 0]);
    Outcome::Held
}

pub(super) async fn row_49_events_are_reported(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let site = &setup.site;
    let mut visitor = setup.visitor();
    visitor.set("key", "value").await;
    assert_eq!(site.event_kinds(), [EventKind::Created]);
    let before = visitor.id();
    visitor.login("alice").await;
    let events = site.events();
    let mut kinds: Vec<_> = events.iter().map(cloakroom::event::Event::kind).collect();
    kinds.sort_by_key(|kind| kind.as_str());
    assert_eq!(kinds, [EventKind::Authenticated, EventKind::Rotated]);
    let rotated = events.iter().find(|event| event.kind() == EventKind::Rotated).expect("a rotation");
    let hash = |id: &str| Some(site.manager.id_hash(&id.parse().expect("an id")));
    assert_eq!((rotated.former(), rotated.session()), (hash(&before), hash(&visitor.id())));
    visitor.post("/api/session/regenerate").await;
    assert_eq!(site.event_kinds(), [EventKind::Rotated]);
    visitor.with(super::identifier::MADE_UP).get("/api/session").await;
    assert_eq!(site.event_kinds(), [EventKind::UnknownId]);
    // A header cannot contain a line break. Its substitutes, and other malformed ids, make one event without their
    // text.
    for odd in ["a%0d%0aevent=created", "a\u{2028}b", "a\\r\\nb", "x"] {
        visitor.with(odd).get("/api/session").await;
        let events = site.events();
        assert_eq!(
            events.iter().map(cloakroom::event::Event::kind).collect::<Vec<_>>(),
            [EventKind::MalformedId]
        );
        assert!(!format!("{events:?}").contains(odd));
    }
    let other = setup.user("bob").await.id();
    site.events();
    let both = format!("__Host-id={}; __Host-id={other}", visitor.id());
    setup.visitor().send(Request::new("GET", "/api/session").header("Cookie", both)).await;
    assert_eq!(site.event_kinds(), [EventKind::Duplicate]);
    visitor.logout().await;
    assert_eq!(site.event_kinds(), [EventKind::Destroyed]);
    // The session expires during a request that has loaded it.
    let visitor = setup.user("carol").await;
    let mut slow = visitor.clone();
    let writing = tokio::spawn(async move { slow.post("/rig/held/set=key").await });
    site.gate.arrived(1).await;
    site.events();
    setup.time.advance(31 * MINUTE);
    site.gate.open();
    writing.await.expect("no panic").assert_ended();
    assert!(site.event_kinds().contains(&EventKind::Expired));
    Outcome::Held
}

pub(super) async fn row_54_no_increment_is_lost(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let another = setup.another().await;
    let mut visitor = setup.user("alice").await;
    let spread = |n: usize| if n.is_multiple_of(2) { visitor.clone() } else { visitor.at(another.address) };
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let mut visitor = spread(n);
        tasks.spawn(async move {
            let answer = visitor.post("/api/session/data/sum/increment").await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answer.json().as_u64().expect("a number")
        });
    }
    let mut sums = tasks.join_all().await;
    sums.sort_unstable();
    assert_eq!(sums, Vec::from_iter(1..=100), "each answer has another sum");
    assert_eq!(visitor.get("/api/session/data/sum").await.json(), 100);

    // Requests write different keys after all of them have loaded the session.
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let mut visitor = if n % 2 == 0 { visitor.clone() } else { visitor.at(another.address) };
        tasks.spawn(async move { visitor.post(&format!("/rig/held/set=key-{n}")).await.status() });
    }
    setup.site.gate.arrived(25).await;
    another.gate.arrived(25).await;
    setup.site.gate.open();
    another.gate.open();
    assert_eq!(tasks.join_all().await, [200; 50]);
    let keys = visitor.session().await["keys"].as_array().expect("keys").len();
    assert_eq!(keys, 51, "all writes under different keys are stored");
    Outcome::Held
}

pub(super) async fn row_55_a_slow_request_blocks_no_reader(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let mut holders = JoinSet::new();
    for change in ["set=key", "add=sum", "regenerate"] {
        let mut holder = visitor.clone();
        holders.spawn(async move { holder.post(&format!("/rig/held/{change}")).await.status() });
    }
    setup.site.gate.arrived(3).await;
    // All of this finishes while the other requests still hold the session.
    let mut readers = JoinSet::new();
    for _ in 0..50 {
        let mut reader = visitor.clone();
        readers.spawn(async move { reader.value("key").await });
    }
    for value in readers.join_all().await {
        assert_eq!(value.as_deref(), Some("value"));
    }
    visitor.set("other", "value").await;
    assert_eq!(
        holders.try_join_next().map(|held| held.is_ok()),
        None,
        "no request holds the session any more"
    );
    setup.site.gate.open();
    let mut statuses = holders.join_all().await;
    statuses.sort_unstable();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert!(statuses.contains(&200));
    Outcome::Held
}

pub(super) async fn row_56_a_session_has_limits(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let declared = setup.store.capabilities();
    let fits = if declared.token_is_record() { 2_000 } else { 64 * 1024 - 1024 };
    visitor.set("large", &"x".repeat(fits)).await;
    let answer = visitor.try_set("large", &"x".repeat(64 * 1024 + 1)).await;
    assert_eq!((answer.status(), answer.header("set-cookie")), (413, None), "{}", answer.text());
    assert_eq!(visitor.try_set("more", &"x".repeat(2048)).await.status(), 413, "both together are too large");
    assert_eq!(visitor.value("large").await.map(|text| text.len()), Some(fits));
    assert_eq!(visitor.value("more").await, None);
    let json = |key: &str, value: String| {
        Request::new("PUT", format!("/api/session/data/{key}"))
            .header("content-type", "application/json")
            .body(value)
    };
    visitor.set("large", "x").await;
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(visitor.send(json("deep", nested(31))).await.status(), 204);
    for depth in [33, 100, 10_000] {
        let answer = visitor.send(json("deep", nested(depth))).await;
        assert!(matches!(answer.status(), 400 | 413), "{depth}: {}", answer.status());
    }
    assert_eq!(visitor.get("/api/session/data/deep").await.json().to_string(), nested(31));
    if declared.token_is_record() {
        assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
        return Outcome::Held;
    }
    // 1,024 keys, in another session where every change is small.
    let mut other = setup.visitor();
    other.set("0", "x").await;
    let mut full = true;
    for n in 1..1024 {
        full &= other.try_set(&n.to_string(), "").await.status() == 204;
    }
    assert!(full, "1,024 keys are allowed");
    assert_eq!(other.try_set("one-more", "").await.status(), 413);
    assert_eq!(other.session().await["keys"].as_array().expect("keys").len(), 1024);
    assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
    Outcome::Held
}

/// Returns the minutes after `words` in the explanation.
fn minutes(explanation: &str, words: &str) -> u64 {
    let line = explanation.lines().find_map(|line| line.split_once(words)).expect("the words").1;
    let mut sum = 0;
    let mut parts = line.split_whitespace();
    while let (Some(number), Some(unit)) =
        (parts.next().and_then(|part| part.parse::<u64>().ok()), parts.next())
    {
        sum += match unit.trim_end_matches(['.', ',']) {
            "d" => number * 24 * 60,
            "h" => number * 60,
            "min" => number,
            other => panic!("expected a unit, found {other}"),
        };
    }
    sum
}

pub(super) async fn row_57_explain_matches_the_behaviour(target: &Target) -> Outcome {
    for policy in [Policy::OWASP_LOW_VALUE, Policy::OWASP_HIGH_VALUE, Policy::NIST_AAL3] {
        let setup = Setup::with(target, |builder| builder.policy(policy)).await;
        let explanation = setup.site.manager.explain();
        let idle = minutes(&explanation, "A session ends ");
        let absolute = minutes(&explanation, "It ends ");
        assert_eq!(Duration::from_secs(idle * 60), policy.idle_timeout());
        let mut visitor = setup.user("alice").await;
        setup.time.advance(Duration::from_secs(idle * 60) - SECOND);
        assert!(visitor.is_alive().await);
        setup.time.advance(Duration::from_secs(idle * 60));
        visitor.assert_fresh().await;
        let mut visitor = setup.user("alice").await;
        let step = Duration::from_secs(idle * 60) - SECOND;
        let mut passed = Duration::ZERO;
        let end = Duration::from_secs(absolute * 60);
        while passed + step < end {
            setup.time.advance(step);
            passed += step;
            assert!(visitor.is_alive().await, "{passed:?} of {end:?}");
        }
        setup.time.advance(end - passed - Duration::from_millis(1));
        assert!(visitor.is_alive().await, "a moment before the end");
        setup.time.advance(Duration::from_millis(1));
        visitor.assert_fresh().await;
    }
    let built = Manager::builder(cloakroom::MemoryProvider::new()).build().expect("the defaults");
    assert!(built.explain().contains("A session ends 30 min after"), "{}", built.explain());
    Outcome::Held
}
