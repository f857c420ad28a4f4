//! Requests under way with an id that was replaced, or whose session has ended.

use cloakroom::{ErrorKind, Released, Session};

use crate::visitor::{Browser, Rig, alice, principal, release_without_cookie, seconds, visited};

/// Logs a browser in. Returns it before and after the login, for requests that are under way with the old, anonymous
/// id.
async fn logged_in() -> (Rig, Browser, Browser) {
    let (rig, mut browser) = visited().await;
    let before = browser.clone();
    let login = |session: &Session| session.authenticate(alice()).unwrap();
    assert_eq!(rig.request(&mut browser, login).await, Released::Regenerated);
    (rig, before, browser)
}

#[tokio::test]
async fn a_slow_anonymous_request_does_not_replace_a_logins_cookie() {
    let (rig, mut browser) = visited().await;
    let slow = rig.start(&browser).await;
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    slow.set("late", 1).unwrap();
    assert_eq!(release_without_cookie(&slow).await, Released::Gone { lost_write: true });
    assert_eq!(rig.start(&browser).await.principal(), Some(alice()));
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);
}

#[tokio::test]
async fn a_write_under_a_replaced_id_begins_no_session() {
    let (rig, before, _) = logged_in().await;
    let late = rig.start(&before).await;
    assert!(late.id().is_none() && late.principal().is_none() && late.is_empty().unwrap());
    late.set("late", 1).unwrap();
    assert_eq!(release_without_cookie(&late).await, Released::Gone { lost_write: true });
    let reader = rig.start(&before).await;
    assert_eq!(release_without_cookie(&reader).await, Released::Gone { lost_write: false });
    let error = rig.start(&before).await.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(!rig.start(&before).await.reload().await.unwrap());
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1, "only the login's session");
}

#[tokio::test]
async fn a_logout_under_way_ends_a_concurrent_logins_session() {
    let (rig, mut browser) = visited().await;
    let logout = rig.start(&browser).await;
    let mut leaving = browser.clone();
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    logout.destroy().unwrap();
    assert_eq!(leaving.release(&logout).await, Released::Destroyed);
    assert_eq!(rig.start(&browser).await.principal(), None, "the new id does not undo the logout");
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn a_logout_that_arrives_under_a_replaced_id_ends_nothing() {
    let (rig, before, browser) = logged_in().await;
    let logout = rig.start(&before).await;
    logout.destroy().unwrap();
    assert_eq!(release_without_cookie(&logout).await, Released::Gone { lost_write: false });
    assert_eq!(
        rig.start(&browser).await.principal(),
        Some(alice()),
        "an attacker who planted the id cannot log her out"
    );
}

#[tokio::test]
async fn of_an_ended_and_a_live_id_the_live_one_counts() {
    let (rig, before, browser) = logged_in().await;
    for (one, other) in [(&before, &browser), (&browser, &before)] {
        let both =
            Browser(Some(format!("{}; __Host-id={}", one.0.clone().unwrap(), other.0.clone().unwrap())));
        assert_eq!(rig.start(&both).await.principal(), Some(alice()));
    }
    let (ended, unknown) = (before.0.unwrap(), "s".repeat(43));
    let session = rig.start(&Browser(Some(format!("{unknown}; __Host-id={ended}")))).await;
    session.set("n", 1).unwrap();
    assert_eq!(release_without_cookie(&session).await, Released::Gone { lost_write: true });
}

#[tokio::test]
async fn a_logout_succeeds_despite_concurrent_changes() {
    let (rig, browser) = visited().await;
    let logout = rig.start(&browser).await;
    for n in 0..3 {
        let other = rig.start(&browser).await;
        other.set("n", n).unwrap();
        other.save().await.unwrap();
    }
    logout.destroy().unwrap();
    let mut leaving = browser.clone();
    assert_eq!(leaving.release(&logout).await, Released::Destroyed);
    assert!(leaving.0.is_none() && rig.start(&browser).await.id().is_none());
}

#[tokio::test]
async fn a_long_lived_handle_follows_rotations_and_is_no_reuse() {
    let rig = Rig::with(|builder| builder.rotate_every(seconds(900)).end_user_on_reuse(true));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    let socket = rig.manager.session(&rig.start(&browser).await.id().unwrap()).await.unwrap().unwrap();
    for _ in 0..2 {
        rig.time.advance(seconds(900));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    }
    rig.time.advance(seconds(120));
    assert_eq!(socket.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap(), 1);
    assert_eq!(rig.start(&browser).await.get::<u32>("n").unwrap(), Some(1));
}

#[tokio::test]
async fn an_id_in_its_grace_works_over_several_rotations() {
    let rig = Rig::with(|builder| builder.rotate_every(seconds(5)));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    let first = browser.clone();
    for _ in 0..3 {
        rig.time.advance(seconds(5));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    }
    assert_eq!(rig.start(&first).await.get::<u32>("n").unwrap(), Some(1));
    rig.time.advance(seconds(20));
    assert_eq!(
        rig.start(&first).await.get::<u32>("n").unwrap(),
        None,
        "the grace ends 30 s after the rotation of this id"
    );
}

#[tokio::test]
async fn after_a_conflict_an_id_in_its_grace_gets_no_cookie() {
    let settings = |builder: cloakroom::ManagerBuilder| {
        builder.rotate_every(seconds(900)).cookie_lifetime(Some(seconds(86_400)))
    };
    let rig = Rig::with(settings);
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    let rotated = browser.clone();
    rig.time.advance(seconds(900));
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    let [late, reloaded] = [rig.start(&rotated).await, rig.start(&rotated).await];
    let _ = rig.request(&mut browser, |session| session.set("n", 2).unwrap()).await;
    late.set("late", true).unwrap();
    assert_eq!(release_without_cookie(&late).await, Released::Saved);
    assert!(reloaded.reload().await.unwrap());
    reloaded.set("reloaded", true).unwrap();
    assert_eq!(release_without_cookie(&reloaded).await, Released::Saved);
    let keys = rig.start(&browser).await.keys().unwrap();
    assert!(["n", "late", "reloaded"].iter().all(|key| keys.iter().any(|found| found == key)), "{keys:?}");
}

#[tokio::test]
async fn a_later_login_makes_a_rotated_id_a_replaced_one() {
    let rig = Rig::with(|builder| builder.rotate_every(seconds(900)));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    let mut rotated = browser.clone();
    rig.time.advance(seconds(900));
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    rig.time.advance(seconds(10));
    let login = |session: &Session| session.authenticate(alice()).unwrap();
    assert_eq!(rig.request(&mut browser, login).await, Released::Regenerated);
    rig.time.advance(seconds(4));
    let late = rig.start(&rotated).await;
    late.set("late", 1).unwrap();
    assert_eq!(release_without_cookie(&late).await, Released::Gone { lost_write: true });
    rig.time.advance(seconds(1));
    let anew = |session: &Session| session.set("late", 1).unwrap();
    assert_eq!(rig.request(&mut rotated, anew).await, Released::Created);
}

#[tokio::test]
async fn a_logout_under_too_many_ids_ends_no_later_login() {
    let (rig, before, browser) = logged_in().await;
    let with_others = |id: &Option<String>| {
        let others = ["A", "B", "C", "D"].map(|letter| format!("; __Host-id={}", letter.repeat(43))).concat();
        Browser(id.as_ref().map(|id| format!("{id}{others}")))
    };
    let logout = rig.start(&with_others(&before.0)).await;
    logout.destroy().unwrap();
    assert_eq!(release_without_cookie(&logout).await, Released::Gone { lost_write: false });
    assert_eq!(
        rig.start(&browser).await.principal(),
        Some(alice()),
        "an attacker who planted the id cannot log her out"
    );
    let logout = rig.start(&with_others(&browser.0)).await;
    logout.destroy().unwrap();
    assert_eq!(with_others(&None).release(&logout).await, Released::Destroyed);
    assert_eq!(rig.start(&browser).await.principal(), None, "her own logout works");
}

/// Makes three sessions: one of alice whose first id is used after its grace, another of alice, and one of bob.
async fn reused(end_user: bool) -> (Rig, Browser, Browser, Browser) {
    let rig = Rig::with(|builder| {
        builder.rotate_every(seconds(900)).end_user_on_reuse(end_user).rotation_grace(seconds(10))
    });
    let (mut hers, mut other, mut his) = (Browser::default(), Browser::default(), Browser::default());
    let _ = rig.request(&mut hers, |session| session.authenticate(alice()).unwrap()).await;
    let stolen = hers.clone();
    rig.time.advance(seconds(900));
    let _ = rig.request(&mut hers, |_| ()).await;
    let _ = rig.request(&mut other, |session| session.authenticate(alice()).unwrap()).await;
    let _ = rig.request(&mut his, |session| session.authenticate(principal("bob")).unwrap()).await;
    rig.time.advance(seconds(10));
    let thief = rig.start(&stolen).await;
    assert!(thief.id().is_none() && thief.principal().is_none());
    thief.set("n", 1).unwrap();
    assert_eq!(release_without_cookie(&thief).await, Released::Gone { lost_write: true });
    (rig, hers, other, his)
}

#[tokio::test]
async fn reuse_of_a_rotated_id_can_end_every_session_of_the_user() {
    let (rig, hers, other, his) = reused(true).await;
    assert_eq!(rig.start(&hers).await.principal(), None);
    assert_eq!(rig.start(&other).await.principal(), None);
    assert_eq!(rig.start(&his).await.principal(), Some(principal("bob")));
}

#[tokio::test]
async fn reuse_of_a_rotated_id_ends_no_session_by_default() {
    let (rig, hers, other, _) = reused(false).await;
    assert_eq!(rig.start(&hers).await.principal(), Some(alice()));
    assert_eq!(rig.start(&other).await.principal(), Some(alice()));
}
