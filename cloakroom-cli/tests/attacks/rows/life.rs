//! Rows 24 to 31: how sessions begin, change and end.

use std::time::Duration;

use cloakroom::event::EventKind;
use tokio::task::JoinSet;

use super::{Excuse, Outcome};
use crate::faulty::Fault;
use crate::hooked::Call;
use crate::site::Ground;
use crate::target::Target;
use crate::visitor::{Asked, Visitor, put};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Visits every minute, for `time`; a visitor whose session ends on the way fails the row.
async fn keep_alive(ground: &Ground, visitor: &mut Visitor, time: Duration) {
    for minute in 0..time.as_secs() / 60 {
        ground.time.advance(MINUTE);
        assert!(visitor.is_alive().await, "ended after {} minutes of use", minute + 1);
    }
}

pub(super) async fn row_24_a_login_changes_the_id(target: &Target) -> Outcome {
    let ground = Ground::new(target).await;
    let mut visitor = ground.visitor();
    visitor.set("key", "value").await;
    let before = visitor.id();
    let mut attacker = ground.visitor().with(&before);
    visitor.login("alice").await;
    assert_ne!(visitor.id(), before, "no rotation at login");
    attacker.assert_fresh().await;
    assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
    assert_eq!(visitor.user().await.as_deref(), Some("alice"));
    let once = visitor.id();
    visitor.login("alice").await;
    assert_ne!(visitor.id(), once, "no rotation at the second login");
    ground.visitor().with(&once).assert_fresh().await;
    // Another user finds nothing of the former one's.
    visitor.login("bob").await;
    assert_eq!(visitor.value("key").await, None);
    ground.store.assert_count(1).await;

    // A rotation that fails is a login that fails.
    let (ground, faults) = Ground::faulty(target).await;
    let mut visitor = ground.visitor();
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
    let ground = Ground::new(target).await;
    let mut visitor = ground.user("alice").await;
    let before = visitor.id();
    assert_eq!(visitor.get("/rig/level-2").await.status(), 401);
    assert_eq!(visitor.post("/rig/do/level=2").await.status(), 200);
    assert_ne!(visitor.id(), before);
    assert_eq!(visitor.get("/rig/level-2").await.status(), 200);
    ground.visitor().with(&before).assert_fresh().await;
    // And down again.
    let raised = visitor.id();
    assert_eq!(visitor.post("/rig/do/level=1").await.status(), 200);
    assert_eq!(visitor.get("/rig/level-2").await.status(), 401);
    ground.visitor().with(&raised).assert_fresh().await;
    let answer = ground.visitor().post("/rig/do/level=2").await;
    assert_eq!((answer.status(), answer.header("set-cookie")), (401, None), "nobody has no level");
    Outcome::Held
}

pub(super) async fn row_26_an_unused_session_ends(target: &Target) -> Outcome {
    let ground = Ground::with(target, |builder| builder.cookie_lifetime(Some(300 * HOUR))).await;
    let mut visitor = ground.user("alice").await;
    for _ in 0..2 {
        ground.time.advance(30 * MINUTE - SECOND);
        assert!(visitor.is_alive().await, "a second before the idle timeout");
    }
    ground.time.advance(30 * MINUTE + SECOND);
    visitor.assert_fresh().await;
    // Whether or not somebody has collected it: it is not there for a write either.
    let before = visitor.id();
    let answer = visitor.try_set("key", "value").await;
    assert_eq!(answer.status(), 204);
    assert_ne!(visitor.id(), before);
    ground.store.assert_count(1).await;
    Outcome::Held
}

pub(super) async fn row_27_a_used_session_ends_too(target: &Target) -> Outcome {
    let ground = Ground::new(target).await;
    let mut visitor = ground.user("alice").await;
    keep_alive(&ground, &mut visitor, 8 * HOUR - MINUTE).await;
    ground.time.advance(MINUTE - SECOND);
    assert!(visitor.is_alive().await, "a second before the absolute timeout");
    ground.time.advance(SECOND);
    visitor.assert_fresh().await;
    ground.time.advance(SECOND);
    visitor.assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_28_use_moves_no_absolute_deadline(target: &Target) -> Outcome {
    let ground = Ground::new(target).await;
    let mut visitor = ground.user("alice").await;
    // Seven hours of use and of writes, then a login: from there another eight, and no more.
    let (uses, span) = (target.many(10_000).max(1_000), 7 * HOUR);
    for n in 0..uses {
        ground.time.advance(span / uses as u32);
        let asked = if n % 50 == 0 { put("key", "value") } else { Asked::new("GET", "/rig/extract") };
        assert!(visitor.send(asked).await.status() < 300);
    }
    let before = visitor.id();
    visitor.login("alice").await;
    assert_ne!(visitor.id(), before);
    keep_alive(&ground, &mut visitor, 8 * HOUR - MINUTE).await;
    ground.time.advance(MINUTE);
    visitor.assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_29_rotation_loses_nobody(target: &Target) -> Outcome {
    const QUARTER: Duration = Duration::from_secs(15 * 60);
    let ground = Ground::with(target, |builder| builder.rotate_every(QUARTER)).await;
    let mut visitor = ground.user("alice").await;
    visitor.set("key", "value").await;
    let old = visitor.id();
    ground.time.advance(QUARTER - SECOND);
    assert!(visitor.is_alive().await);
    assert_eq!(visitor.id(), old, "rotated too early");
    ground.time.advance(SECOND);
    let mut burst = JoinSet::new();
    for n in 0..50 {
        let mut visitor = visitor.clone();
        burst.spawn(async move {
            let written = n % 2 == 0;
            let key = format!("burst-{n}");
            let answer = visitor
                .send(if written { put(&key, "value") } else { Asked::new("GET", "/api/session/data/key") })
                .await;
            assert_eq!(answer.status(), if written { 204 } else { 200 }, "{}", answer.text());
            answer.set_cookie("__Host-id").map(|cookie| cookie.token)
        });
    }
    let mut told: Vec<_> = burst.join_all().await.into_iter().flatten().collect();
    told.dedup();
    assert_eq!(told.len(), 1, "new ids told");
    let new = &told[0];
    assert_ne!(*new, old);
    ground.store.assert_count(1).await;
    // Within its grace the old id reaches the session and is not told the new one.
    let mut late = ground.visitor().with(&old);
    late.set("late", "value").await;
    assert_eq!(late.id(), old);
    let mut visitor = ground.visitor().with(new);
    let keys = visitor.session().await["keys"].as_array().expect("keys").len();
    assert_eq!(keys, 1 + 25 + 1, "key, the burst's writes and the late one");
    ground.site.events();
    ground.time.advance(Duration::from_secs(31));
    ground.visitor().with(&old).assert_fresh().await;
    let tombstones = Excuse::NoTombstones.outcome(&ground.store.capabilities());
    if tombstones == Outcome::Held {
        assert!(ground.site.happened().contains(&EventKind::Reuse));
    }
    assert!(visitor.is_alive().await);
    tombstones
}

pub(super) async fn row_30_what_has_ended_stays_ended(target: &Target) -> Outcome {
    let ground = Ground::new(target).await;
    let mut requests = 0;
    let lists = ground.store.capabilities().lists;
    let ends = if lists { vec!["/api/logout", "others", "record"] } else { vec!["/api/logout"] };
    // The gate has the request load its session before the end and change it after.
    for change in ["set=key", "add=sum", "flush", "regenerate", "login", "login-and-regenerate", "nothing"] {
        for end in &ends {
            let mut visitor = ground.user("alice").await;
            visitor.set("before", "value").await;
            let mut slow = visitor.clone();
            let path = format!("/rig/held/{change}");
            let writing = tokio::spawn(async move { slow.post(&path).await });
            requests += 1;
            ground.site.gate.arrived(requests).await;
            match *end {
                // By another of the user's devices.
                "others" => {
                    let mut device = ground.user("alice").await;
                    let ended =
                        device.send(Asked::new("DELETE", "/api/sessions")).await.json()["ended"].as_u64();
                    assert_eq!(ended, Some(1));
                    device.logout().await;
                }
                // Behind everyone's back: not even a mark is left.
                "record" => {
                    let key = ground.only_key().await;
                    assert!(
                        cloakroom::Provider::delete(&ground.store.provider, &key).await.expect("an answer")
                    );
                }
                _ => visitor.clone().logout().await,
            }
            ground.site.gate.open();
            let answer = writing.await.expect("no panic");
            assert_eq!(answer.header("set-cookie"), None, "{change}, {end}");
            match change {
                "nothing" => assert_eq!(answer.status(), 200),
                _ => assert_eq!(answer.status(), 409, "{change}, {end}: {}", answer.text()),
            }
            visitor.assert_fresh().await;
            ground.store.assert_count(0).await;
        }
    }
    match ground.store.capabilities().token_is_record() {
        true => Outcome::Excused(Excuse::TokenIsRecord),
        false => {
            a_hundred_logouts_race_with_writes(&ground).await;
            Outcome::Held
        }
    }
}

async fn a_hundred_logouts_race_with_writes(ground: &Ground) {
    let another = ground.another().await;
    let mut pairs = JoinSet::new();
    for n in 0..100 {
        let (mut visitor, address) = (ground.visitor(), another.address);
        pairs.spawn(async move {
            visitor.login("alice").await;
            let mut writer = visitor.at(address);
            let (written, ()) = tokio::join!(async { writer.try_set("key", &n.to_string()).await }, async {
                visitor.clone().logout().await
            },);
            assert!(matches!(written.status(), 204 | 409), "{}", written.text());
            // A write that arrived after the logout begins a session of its own.
            let anew = written.header("set-cookie").is_some();
            assert!(written.status() == 204 || !anew, "a refused write sets no cookie");
            visitor.assert_fresh().await;
            u64::from(anew)
        });
    }
    let anew = pairs.join_all().await.into_iter().sum::<u64>();
    ground.store.assert_count(anew).await;
}

pub(super) async fn row_31_a_cookie_from_before_the_logout_is_dead(target: &Target) -> Outcome {
    let ground = Ground::new(target).await;
    let mut visitor = ground.user("alice").await;
    visitor.set("key", "value").await;
    let id = visitor.id();
    visitor.logout().await;
    let another = ground.another().await;
    // As long as a mark of the end is kept, when that is gone, and when everything is.
    for wait in [Duration::ZERO, MINUTE + SECOND, 9 * HOUR] {
        ground.time.advance(wait);
        for address in [ground.site.address, another.address] {
            let mut replayed = visitor.at(address).with(&id);
            replayed.assert_fresh().await;
            assert_eq!(replayed.value("key").await, None);
            assert_eq!(replayed.get("/api/sessions").await.status(), 401);
        }
    }
    ground.site.manager.collect_garbage().await.expect("a round");
    visitor.with(&id).assert_fresh().await;
    Outcome::Held
}
