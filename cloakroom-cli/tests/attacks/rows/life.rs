//! Rows 24 to 31: how sessions begin, change and end.

use std::time::Duration;

use cloakroom::event::EventKind;
use tokio::task::JoinSet;

use super::{Excuse, Outcome};
use crate::faulty::Fault;
use crate::hooked::Call;
use crate::site::Setup;
use crate::target::Target;
use crate::visitor::{Request, Visitor, put};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Uses the session every minute for `time`, and asserts that it stays alive.
async fn keep_alive(setup: &Setup, visitor: &mut Visitor, time: Duration) {
    for minute in 0..time.as_secs() / 60 {
        setup.time.advance(MINUTE);
        assert!(visitor.is_alive().await, "the session ended after {} minutes of use", minute + 1);
    }
}

pub(super) async fn row_24_a_login_changes_the_id(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.visitor();
    visitor.set("key", "value").await;
    let before = visitor.id();
    let mut attacker = setup.visitor().with(&before);
    visitor.login("alice").await;
    assert_ne!(visitor.id(), before, "no new id at the login");
    attacker.assert_fresh().await;
    assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
    assert_eq!(visitor.user().await.as_deref(), Some("alice"));
    let once = visitor.id();
    visitor.login("alice").await;
    assert_ne!(visitor.id(), once, "no new id at the second login");
    setup.visitor().with(&once).assert_fresh().await;
    // Another user gets nothing of the former user's data.
    visitor.login("bob").await;
    assert_eq!(visitor.value("key").await, None);
    setup.store.assert_count(1).await;

    // If the rename fails, the login fails.
    let (setup, faults) = Setup::faulty(target).await;
    let mut visitor = setup.visitor();
    visitor.set("key", "value").await;
    let before = visitor.id();
    faults.set(Call::Rename, Fault::Fail);
    let answer = visitor.try_login("alice").await;
    assert_eq!((answer.status(), answer.header("set-cookie")), (503, None));
    faults.heal();
    assert_eq!((visitor.id(), visitor.user().await), (before, None));
    assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
    Outcome::Held
}

pub(super) async fn row_25_a_new_level_changes_the_id(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    let before = visitor.id();
    assert_eq!(visitor.get("/rig/level-2").await.status(), 401);
    assert_eq!(visitor.post("/rig/do/level=2").await.status(), 200);
    assert_ne!(visitor.id(), before);
    assert_eq!(visitor.get("/rig/level-2").await.status(), 200);
    setup.visitor().with(&before).assert_fresh().await;
    // A lower level also gives a new id.
    let raised = visitor.id();
    assert_eq!(visitor.post("/rig/do/level=1").await.status(), 200);
    assert_eq!(visitor.get("/rig/level-2").await.status(), 401);
    setup.visitor().with(&raised).assert_fresh().await;
    let answer = setup.visitor().post("/rig/do/level=2").await;
    assert_eq!(
        (answer.status(), answer.header("set-cookie")),
        (401, None),
        "without a user there is no level"
    );
    Outcome::Held
}

pub(super) async fn row_26_an_unused_session_ends(target: &Target) -> Outcome {
    let setup = Setup::with(target, |builder| builder.cookie_lifetime(Some(300 * HOUR))).await;
    let mut visitor = setup.user("alice").await;
    for _ in 0..2 {
        setup.time.advance(30 * MINUTE - SECOND);
        assert!(visitor.is_alive().await, "a second before the idle timeout");
    }
    setup.time.advance(30 * MINUTE + SECOND);
    visitor.assert_fresh().await;
    // A write does not find the session either, whether or not it was collected.
    let before = visitor.id();
    let answer = visitor.try_set("key", "value").await;
    assert_eq!(answer.status(), 204);
    assert_ne!(visitor.id(), before);
    setup.store.assert_count(1).await;
    Outcome::Held
}

pub(super) async fn row_27_a_used_session_ends_too(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    keep_alive(&setup, &mut visitor, 8 * HOUR - MINUTE).await;
    setup.time.advance(MINUTE - SECOND);
    assert!(visitor.is_alive().await, "a second before the absolute timeout");
    setup.time.advance(SECOND);
    visitor.assert_fresh().await;
    setup.time.advance(SECOND);
    visitor.assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_28_use_moves_no_absolute_deadline(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    // Seven hours of use and writes, then a login. The login starts another eight hours and no more.
    let (uses, span) = (target.many(10_000).max(1_000), 7 * HOUR);
    for n in 0..uses {
        setup.time.advance(span / uses as u32);
        let request = if n % 50 == 0 { put("key", "value") } else { Request::new("GET", "/rig/extract") };
        assert!(visitor.send(request).await.status() < 300);
    }
    let before = visitor.id();
    visitor.login("alice").await;
    assert_ne!(visitor.id(), before);
    keep_alive(&setup, &mut visitor, 8 * HOUR - MINUTE).await;
    setup.time.advance(MINUTE);
    visitor.assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_29_rotation_ends_no_session(target: &Target) -> Outcome {
    const QUARTER: Duration = Duration::from_secs(15 * 60);
    let setup = Setup::with(target, |builder| builder.rotate_every(QUARTER)).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let old = visitor.id();
    setup.time.advance(QUARTER - SECOND);
    assert!(visitor.is_alive().await);
    assert_eq!(visitor.id(), old, "rotated too early");
    setup.time.advance(SECOND);
    let mut burst = JoinSet::new();
    for n in 0..50 {
        let mut visitor = visitor.clone();
        burst.spawn(async move {
            let written = n % 2 == 0;
            let key = format!("burst-{n}");
            let answer = visitor
                .send(if written { put(&key, "value") } else { Request::new("GET", "/api/session/data/key") })
                .await;
            assert_eq!(answer.status(), if written { 204 } else { 200 }, "{}", answer.text());
            answer.set_cookie("__Host-id").map(|cookie| cookie.token)
        });
    }
    let mut issued: Vec<_> = burst.join_all().await.into_iter().flatten().collect();
    issued.dedup();
    assert_eq!(issued.len(), 1, "new ids");
    let new = &issued[0];
    assert_ne!(*new, old);
    setup.store.assert_count(1).await;
    // During its grace the old id reaches the session, and its requests do not get the new one.
    let mut late = setup.visitor().with(&old);
    late.set("late", "value").await;
    assert_eq!(late.id(), old);
    let mut visitor = setup.visitor().with(new);
    let keys = visitor.session().await["keys"].as_array().expect("keys").len();
    assert_eq!(keys, 1 + 25 + 1, "key, the 25 writes of the burst, and the late one");
    setup.site.events();
    setup.time.advance(Duration::from_secs(31));
    setup.visitor().with(&old).assert_fresh().await;
    let tombstones = Excuse::NoTombstones.outcome(&setup.store.capabilities());
    if tombstones == Outcome::Held {
        assert!(setup.site.event_kinds().contains(&EventKind::Reuse));
    }
    assert!(visitor.is_alive().await);
    tombstones
}

pub(super) async fn row_30_an_ended_session_stays_ended(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut requests = 0;
    let lists = setup.store.capabilities().lists;
    let ends = if lists { vec!["/api/logout", "others", "record"] } else { vec!["/api/logout"] };
    // The gate makes the request load its session before the end and change it after.
    for change in ["set=key", "add=sum", "flush", "regenerate", "login", "login-and-regenerate", "nothing"] {
        for end in &ends {
            let mut visitor = setup.user("alice").await;
            visitor.set("before", "value").await;
            let mut slow = visitor.clone();
            let path = format!("/rig/held/{change}");
            let writing = tokio::spawn(async move { slow.post(&path).await });
            requests += 1;
            setup.site.gate.arrived(requests).await;
            match *end {
                // The session ends from another device of the user.
                "others" => {
                    let mut device = setup.user("alice").await;
                    let ended =
                        device.send(Request::new("DELETE", "/api/sessions")).await.json()["ended"].as_u64();
                    assert_eq!(ended, Some(1));
                    device.logout().await;
                }
                // The record is deleted in the store, and no tombstone is left.
                "record" => {
                    let key = setup.only_key().await;
                    assert!(
                        cloakroom::Provider::delete(&setup.store.provider, &key).await.expect("an answer")
                    );
                }
                _ => visitor.clone().logout().await,
            }
            setup.site.gate.open();
            let answer = writing.await.expect("no panic");
            assert_eq!(answer.header("set-cookie"), None, "{change}, {end}");
            let expected = if change == "nothing" { 200 } else { 409 };
            assert_eq!(answer.status(), expected, "{change}, {end}: {}", answer.text());
            visitor.assert_fresh().await;
            setup.store.assert_count(0).await;
        }
    }
    if setup.store.capabilities().token_is_record() {
        return Outcome::Excused(Excuse::TokenIsRecord);
    }
    a_hundred_logouts_race_with_writes(&setup).await;
    Outcome::Held
}

async fn a_hundred_logouts_race_with_writes(setup: &Setup) {
    let another = setup.another().await;
    let mut pairs = JoinSet::new();
    for n in 0..100 {
        let (mut visitor, address) = (setup.visitor(), another.address);
        pairs.spawn(async move {
            visitor.login("alice").await;
            let mut writer = visitor.at(address);
            let (written, ()) = tokio::join!(async { writer.try_set("key", &n.to_string()).await }, async {
                visitor.clone().logout().await
            },);
            assert!(matches!(written.status(), 204 | 409), "{}", written.text());
            // A write that arrives after the logout begins a session of its own.
            let anew = written.header("set-cookie").is_some();
            assert!(written.status() == 204 || !anew, "a refused write sets no cookie");
            visitor.assert_fresh().await;
            u64::from(anew)
        });
    }
    let anew = pairs.join_all().await.into_iter().sum::<u64>();
    setup.store.assert_count(anew).await;
}

pub(super) async fn row_31_a_cookie_is_dead_after_the_logout(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let id = visitor.id();
    visitor.logout().await;
    let another = setup.another().await;
    // Test at once, after the tombstone has expired, and after every deadline of the session.
    for wait in [Duration::ZERO, MINUTE + SECOND, 9 * HOUR] {
        setup.time.advance(wait);
        for address in [setup.site.address, another.address] {
            let mut replayed = visitor.at(address).with(&id);
            replayed.assert_fresh().await;
            assert_eq!(replayed.value("key").await, None);
            assert_eq!(replayed.get("/api/sessions").await.status(), 401);
        }
    }
    setup.site.manager.collect_garbage().await.expect("a round");
    visitor.with(&id).assert_fresh().await;
    Outcome::Held
}
