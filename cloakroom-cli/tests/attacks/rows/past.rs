//! Attacks that have succeeded on other libraries: the checklist's second part, as far as no row above contains them.

use std::io::{Read, Seek};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Excuse, Outcome};
use crate::site::Setup;
use crate::target::{Backend, Target, files};
use crate::visitor::{Connection, Request, put};

/// Torn records: a reader that has begun to read must get the whole record, even while another process writes.
pub(super) async fn past_records_are_replaced_never_overwritten(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", &"a".repeat(50_000)).await;
    if let Backend::File(folder) = &setup.store.place {
        let stored = files(folder.path());
        let path =
            stored.iter().max_by_key(|path| path.metadata().map_or(0, |meta| meta.len())).expect("files");
        let mut reader = std::fs::File::open(path).expect("a record");
        let (mut before, mut after) = (Vec::new(), Vec::new());
        reader.read_to_end(&mut before).expect("a file");
        visitor.set("key", "b").await;
        setup.time.advance(Duration::from_secs(61));
        assert!(visitor.is_alive().await);
        reader.rewind().expect("a file");
        reader.read_to_end(&mut after).expect("a file");
        assert!(before == after && before.len() > 50_000, "the record was overwritten under a reader");
    }
    let mut writer = visitor.clone();
    let writing = tokio::spawn(async move {
        for n in 0..100 {
            writer.set("key", &if n % 2 == 0 { "a".repeat(50_000) } else { "b".repeat(10) }).await;
        }
    });
    let mut reads = 0;
    while !writing.is_finished() {
        let value = visitor.value("key").await.expect("a value");
        let letters = value.chars().collect::<std::collections::BTreeSet<_>>().len();
        assert!(
            letters == 1 && matches!(value.len(), 1 | 10 | 50_000),
            "a torn value of {} bytes",
            value.len()
        );
        reads += 1;
    }
    writing.await.expect("no panic");
    assert!(reads > 0);
    Outcome::Held
}

/// Django, CVE-2015-3982: an empty id became a session that all visitors without one shared.
pub(super) async fn past_an_empty_cookie_shares_no_session(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        for empty in ["", " ", "\"\"", ";"] {
            let mut visitor = setup.visitor().with(empty);
            visitor.assert_fresh().await;
            visitor.set("key", "value").await;
            assert!(ids.insert(visitor.id()), "one session for several visitors");
            setup.visitor().with(empty).assert_fresh().await;
        }
    }
    setup.store.assert_count(ids.len() as u64).await;
    Outcome::Held
}

/// Tomcat, CVE-2020-9484 and CVE-2025-24813: data planted in the store was read as a session.
pub(super) async fn past_a_planted_record_is_an_error(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let outcome = Excuse::NotPersistent.outcome(&setup.store.capabilities());
    if outcome != Outcome::Held {
        return outcome;
    }
    for planted in [
        "",
        "{}",
        "{\"principal\":\"admin\",\"keys\":{}}",
        "\u{81}\u{a3}key",
        "O:8:\"stdClass\":0:{}",
        "rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA==",
        &"A".repeat(30_000),
        "__import__('os').system('true')",
    ] {
        let setup = Setup::new(target).await;
        let mut visitor = setup.user("alice").await;
        let bystander_store = Setup::new(target).await;
        let mut bystander = bystander_store.user("bob").await;
        visitor.set("key", "value").await;
        setup.store.plant(planted.as_bytes());
        for request in [
            Request::new("GET", "/api/session"),
            put("key", "other"),
            Request::new("GET", "/api/session/data/key"),
        ] {
            let answer = visitor.clone().send(request).await;
            if let Some(set) = answer.set_cookie("__Host-id") {
                assert_ne!(set.token, visitor.id());
            }
            // The answer is an error or an anonymous session, never a user's.
            if answer.status() < 500 {
                assert_eq!(visitor.user().await, None);
            }
            assert!(!answer.text().contains("admin"));
        }
        assert!(bystander.is_alive().await);
        assert!(setup.user("carol").await.is_alive().await, "the site still works");
    }
    Outcome::Held
}

/// aiohttp-session, CVE-2018-1000519: an emptied record stayed a session, and the next login used the same id.
pub(super) async fn past_a_login_after_a_logout_gets_a_new_session(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let mut attacker = visitor.clone();
    visitor.logout().await;
    visitor.login("bob").await;
    assert_ne!(visitor.id(), attacker.id());
    assert_eq!(visitor.value("key").await, None);
    attacker.assert_fresh().await;
    // A login with a former user's id gets a new session.
    setup.time.advance(Duration::from_secs(61));
    let mut thief = attacker.clone();
    thief.login("mallory").await;
    assert_ne!(thief.id(), attacker.id());
    assert_eq!(visitor.user().await.as_deref(), Some("bob"));
    Outcome::Held
}

/// A slow response after a login must neither remove the login's cookie nor set another one. A change with a replaced
/// id is therefore refused while that cookie may still be on its way.
pub(super) async fn past_a_slow_request_keeps_the_logins_cookie(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let outcome = Excuse::NoTombstones.outcome(&setup.store.capabilities());
    let mut visitor = setup.visitor();
    visitor.set("cart", "value").await;
    let anonymous = visitor.clone();
    let mut slow = anonymous.clone();
    let writing = tokio::spawn(async move { slow.post("/rig/held/set=late").await });
    setup.site.gate.arrived(1).await;
    visitor.login("alice").await;
    setup.site.gate.open();
    writing.await.expect("no panic").assert_ended();
    let mut ended = visitor.clone();
    ended.login("alice").await;
    let replaced = visitor.clone();
    let mut logged_out = ended.clone();
    logged_out.logout().await;
    if outcome == Outcome::Held && !setup.store.capabilities().token_is_record() {
        for mut old in [anonymous.clone(), replaced] {
            // These requests were sent before the login was answered, and arrive after it.
            for request in [put("late", "value"), Request::new("POST", "/api/session/data/sum/increment")] {
                old.clone().send(request).await.assert_ended();
            }
            old.assert_fresh().await;
        }
        setup.store.assert_count(0).await;
        // A change begins a new session at once after a logout, and after a login once its cookie has arrived.
        let mut after_logout = ended.clone();
        after_logout.set("n", "1").await;
        assert_ne!(after_logout.id(), ended.id());
        setup.time.advance(Duration::from_secs(5));
        let mut after_login = anonymous.clone();
        after_login.set("n", "1").await;
        assert_ne!(after_login.id(), anonymous.id());
        setup.store.assert_count(2).await;
    }
    outcome
}

/// spring-session issue 1270: parallel changes of one id.
pub(super) async fn past_parallel_regenerations_leave_one_id(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let another = setup.another().await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let mut visitor = if n % 2 == 0 { visitor.clone() } else { visitor.at(another.address) };
        tasks.spawn(async move {
            let answer = visitor.post("/rig/held/regenerate").await;
            assert!(matches!(answer.status(), 200 | 409), "{}", answer.text());
            (answer.status(), visitor)
        });
    }
    setup.site.gate.arrived(10).await;
    another.gate.arrived(10).await;
    setup.site.gate.open();
    another.gate.open();
    let mut alive = Vec::new();
    for (status, mut renewed) in tasks.join_all().await {
        let is_alive = renewed.is_alive().await;
        assert_eq!(is_alive, status == 200 && renewed.id() != visitor.id());
        if is_alive {
            alive.push(renewed);
        }
    }
    assert_eq!(alive.len(), 1, "live ids");
    assert_eq!(alive[0].value("key").await.as_deref(), Some("value"));
    visitor.assert_fresh().await;
    setup.store.assert_count(1).await;
    Outcome::Held
}

/// redis-py, CVE-2023-28858, and FrankenPHP, CVE-2026-24894: a cancelled request left its answer for the next one.
pub(super) async fn past_cancelled_requests_mix_up_no_visitors(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let rounds = target.many(200).max(40);
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let (mut visitor, address) = (setup.visitor(), setup.site.address);
        tasks.spawn(async move {
            let (name, mut written) = (format!("user-{n}"), 0);
            visitor.login(&name).await;
            visitor.set("whose", &name).await;
            for round in 0..rounds {
                // Send the request, and close the connection at once or a little later.
                let cookie = format!("__Host-id={}", visitor.id());
                let mut connection = Connection::open(address).await;
                let path = if round % 2 == 0 { "/api/session/data/whose" } else { "/api/session" };
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: attacked.example\r\nCookie: {cookie}\r\n\r\n");
                connection.write(request.as_bytes()).await.expect("the site reads");
                if round % 3 > 0 {
                    tokio::time::sleep(Duration::from_micros(300 * (round as u64 % 7))).await;
                }
                drop(connection);
                assert_eq!(visitor.value("whose").await.as_deref(), Some(&*name), "another visitor's answer");
                if round % 10 == 0 {
                    visitor.set("round", &round.to_string()).await;
                    written = round;
                }
                assert_eq!(visitor.value("round").await, Some(written.to_string()));
            }
            assert_eq!(visitor.user().await, Some(name));
        });
    }
    tasks.join_all().await;
    setup.store.assert_count(16).await;
    Outcome::Held
}

/// axum-sessions issue 49 and axum-login issue 63: two extractors waited for one another, and a write from a body's
/// stream panicked.
pub(super) async fn past_two_handles_and_late_writes(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    for sum in 1..=3 {
        let answer = visitor.post("/rig/two-handles").await;
        assert_eq!((answer.status(), answer.text()), (200, format!("{sum} {sum}")));
    }
    assert_eq!(visitor.value("one").await.as_deref(), Some("1"));
    assert_eq!(visitor.value("other").await.as_deref(), Some("2"));
    let answer = visitor.get("/rig/late").await;
    assert_eq!((answer.status(), answer.text()), (200, "Err(Released)".to_owned()));
    assert_eq!(visitor.get("/api/session/data/late").await.status(), 404);
    Outcome::Held
}

/// Beego pull request 3383 and gorilla issue 275: one method checked the id, the others did not.
pub(super) async fn past_traversal_is_refused_by_every_method(target: &Target) -> Outcome {
    let (setup, faults) = Setup::faulty(target).await;
    let mut witness = setup.user("witness").await;
    faults.calls();
    for id in super::identifier::malformed_ids() {
        let Ok(id) = std::str::from_utf8(&id) else { continue };
        let visitor = setup.visitor().with(id);
        for (method, path, status) in [
            ("GET", "/api/session", 200),
            ("GET", "/", 200),
            ("GET", "/api/sessions", 401),
            ("POST", "/api/logout", 204),
            ("POST", "/api/session/regenerate", 204),
            ("DELETE", "/api/session/data", 204),
            ("DELETE", "/api/sessions", 401),
            ("GET", "/rig/watch", 200),
        ] {
            let answer = visitor.clone().send(Request::new(method, path)).await;
            assert_eq!((answer.status(), answer.header("set-cookie")), (status, None), "{path}");
            assert_eq!(faults.calls(), [], "{method} {path}");
        }
        for request in [put("key", "value"), Request::new("POST", "/api/session/data/sum/increment")] {
            let mut visitor = visitor.clone();
            assert!(visitor.send(request).await.status() < 300);
            assert_ne!(visitor.id(), id);
            faults.calls();
        }
    }
    if let Backend::File(folder) = &setup.store.place {
        let outside: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(outside.len(), 1, "a file outside the store's root");
    }
    assert!(witness.is_alive().await);
    Outcome::Held
}
