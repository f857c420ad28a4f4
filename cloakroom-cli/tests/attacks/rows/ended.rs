//! Attacks with the id of a session that has ended or whose id was replaced. `docs/sessions.md` states the rules.

use std::time::Duration;

use cloakroom::event::EventKind;

use super::Outcome;
use crate::site::Setup;
use crate::target::Target;
use crate::visitor::{Request, Visitor};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Starts an anonymous session whose id the attacker plants in the victim's browser. Returns the victim and the attacker.
async fn planted(setup: &Setup) -> (Visitor, Visitor) {
    let mut attacker = setup.visitor();
    attacker.set("cart", "value").await;
    (attacker.clone(), attacker)
}

pub(super) async fn ended_a_planted_id_logs_nobody_out(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let another = setup.another().await;
    let (mut victim, attacker) = planted(&setup).await;
    victim.login("alice").await;
    for address in [setup.site.address, another.address] {
        for (method, path, status) in [
            ("POST", "/api/logout", 204),
            ("POST", "/api/session/regenerate", 409),
            ("DELETE", "/api/session/data", 409),
            ("DELETE", "/api/sessions", 401),
        ] {
            let answer = attacker.at(address).send(Request::new(method, path)).await;
            assert_eq!(answer.header("set-cookie"), None, "{path}");
            // Without tombstones the id is unknown, and there is nothing to change.
            let unknown = matches!((status, answer.status()), (409, 204));
            assert!(answer.status() == status || unknown, "{path}: {}", answer.status());
        }
    }
    assert_eq!(victim.user().await.as_deref(), Some("alice"));
    assert_eq!(victim.value("cart").await.as_deref(), Some("value"));
    // After the logout the planted id ends nothing either.
    victim.logout().await;
    victim.login("alice").await;
    assert_eq!(attacker.clone().post("/api/logout").await.status(), 204);
    assert!(victim.is_alive().await);
    Outcome::Held
}

pub(super) async fn ended_a_login_joins_only_the_same_login(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let declared = setup.store.capabilities();
    if declared.tombstones && !declared.token_is_record() {
        let (mut victim, mut second_click) = planted(&setup).await;
        victim.login("alice").await;
        second_click.login("alice").await;
        assert_eq!(second_click.id(), victim.id(), "a second click joins the login of the first");
    }

    let (mut victim, mut attacker) = planted(&setup).await;
    victim.login("alice").await;
    attacker.login("mallory").await;
    assert_ne!(attacker.id(), victim.id(), "another user's login joined");
    assert_eq!(attacker.user().await.as_deref(), Some("mallory"));
    assert_eq!(attacker.value("cart").await, None, "data of another user");
    assert_eq!(victim.user().await.as_deref(), Some("alice"));

    // The login's own level, and a level that the victim has reached since.
    for (login, raise) in [("/rig/do/login-at=2", None), ("/rig/do/login", Some("/rig/do/level=2"))] {
        let (mut victim, mut attacker) = planted(&setup).await;
        for path in [login].into_iter().chain(raise) {
            assert_eq!(victim.post(path).await.status(), 200);
        }
        assert_eq!(victim.get("/rig/level-2").await.status(), 200);
        assert_eq!(attacker.post("/rig/do/login").await.status(), 200);
        assert_ne!(attacker.id(), victim.id(), "a login at a lower level joined");
        assert_eq!(attacker.get("/rig/level-2").await.status(), 401);
        assert_eq!(victim.get("/rig/level-2").await.status(), 200);
    }
    Outcome::Held
}

pub(super) async fn ended_reuse_ends_sessions_only_after_rotations(target: &Target) -> Outcome {
    const QUARTER: Duration = Duration::from_secs(15 * 60);
    // The grace of a rotated id is 30 s.
    const PAST_GRACE: Duration = Duration::from_secs(31);
    let settings = |builder: cloakroom::ManagerBuilder| builder.rotate_every(QUARTER).end_user_on_reuse(true);

    // A login lies between the planted id and the session, so its reuse ends nothing.
    let setup = Setup::with(target, settings).await;
    let (mut victim, mut attacker) = planted(&setup).await;
    setup.time.advance(QUARTER);
    assert!(victim.is_alive().await);
    assert_ne!(victim.id(), attacker.id(), "the id was rotated");
    victim.login("alice").await;
    let mut device = setup.user("alice").await;
    setup.time.advance(PAST_GRACE);
    attacker.assert_fresh().await;
    assert_eq!(victim.user().await.as_deref(), Some("alice"));
    assert!(device.is_alive().await);

    // Only a rotation lies between the stolen id and the session, so its reuse ends all of the user's sessions.
    let setup = Setup::with(target, settings).await;
    let mut victim = setup.user("alice").await;
    let mut thief = victim.clone();
    setup.time.advance(QUARTER);
    assert!(victim.is_alive().await);
    assert_ne!(victim.id(), thief.id(), "the id was rotated");
    let mut device = setup.user("alice").await;
    let mut bystander = setup.user("bob").await;
    setup.time.advance(PAST_GRACE);
    setup.site.events();
    thief.assert_fresh().await;
    assert!(setup.site.event_kinds().contains(&EventKind::Reuse));
    victim.assert_fresh().await;
    device.assert_fresh().await;
    assert!(bystander.is_alive().await, "another user's session ended");
    Outcome::Held
}

pub(super) async fn ended_a_revoked_remembered_cookie_stays_dead(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let another = setup.another().await;
    let remember = format!("/rig/do/remember={}", (30 * DAY).as_secs());
    let mut kept = setup.user("bob").await;
    assert_eq!(kept.post(&remember).await.status(), 200);
    let mut visitor = setup.user("alice").await;
    let before = visitor.id();
    assert_eq!(visitor.post(&remember).await.status(), 200);
    let copies = [before, visitor.id()];
    visitor.logout().await;
    // At once, past the tombstone, past the default deadlines, just before the cookie's own end, and past it.
    for wait in [Duration::ZERO, 61 * SECOND, 9 * HOUR, 29 * DAY, 2 * DAY] {
        setup.time.advance(wait);
        for address in [setup.site.address, another.address] {
            for copy in &copies {
                visitor.at(address).with(copy).assert_fresh().await;
            }
        }
        if wait == 29 * DAY {
            assert!(kept.is_alive().await, "a cookie that was not revoked ended too early");
        }
        setup.site.manager.collect_garbage().await.expect("a collection");
    }
    kept.assert_fresh().await;
    Outcome::Held
}
