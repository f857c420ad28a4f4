//! A user's sessions: how they are listed, ended and limited, and the level of a login.

use std::num::NonZeroUsize;

use cloakroom::{Device, ErrorKind, Level, Manager, Released, Session, config::OverLimit};
use http::HeaderMap;

use crate::visitor::{Browser, Rig, alice, principal, seconds};

fn limited(limit: usize, over: OverLimit) -> Rig {
    Rig::with(|builder| builder.sessions_per_user(NonZeroUsize::new(limit).unwrap(), over))
}

fn login(session: &Session) {
    session.authenticate(alice()).unwrap();
}

#[tokio::test]
async fn a_login_over_the_limit_ends_the_oldest_session() {
    let rig = limited(2, OverLimit::EndOldest);
    let mut browsers = [Browser::default(), Browser::default(), Browser::default()];
    for browser in &mut browsers {
        let _ = rig.request(browser, login).await;
        rig.time.advance(seconds(1));
    }
    let mut alive = Vec::new();
    for browser in &browsers {
        alive.push(rig.start(browser).await.principal().is_some());
    }
    assert_eq!(alive, [false, true, true]);
    assert_eq!(
        rig.request(&mut browsers[1], login).await,
        Released::Regenerated,
        "a logged-in user may log in again"
    );
    assert_eq!(rig.manager.sessions_of(&alice()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_login_over_the_limit_can_be_refused() {
    let rig = limited(1, OverLimit::Refuse);
    let mut first = Browser::default();
    let _ = rig.request(&mut first, login).await;
    let mut second = Browser::default();
    let _ = rig.request(&mut second, |session| session.set("cart", 3).unwrap()).await;
    let before = second.0.clone();
    let session = rig.start(&second).await;
    session.set("role", "admin").unwrap();
    login(&session);
    let error = session.save().await.unwrap_err();
    assert_eq!((error.kind(), error.status().as_u16()), (ErrorKind::Refused, 403));
    assert_eq!(session.principal(), None);
    assert_eq!(second.release(&session).await, Released::Unchanged, "the handler still makes its response");
    let session = rig.start(&second).await;
    assert_eq!((session.keys().unwrap(), &second.0), (vec!["cart".to_owned()], &before));
    assert_eq!(
        rig.request(&mut first, login).await,
        Released::Regenerated,
        "a logged-in user may log in again"
    );
    assert_eq!(rig.request(&mut first, |session| session.destroy().unwrap()).await, Released::Destroyed);
    assert_eq!(rig.request(&mut second, login).await, Released::Regenerated);
    assert_eq!(rig.start(&second).await.get::<u32>("cart").unwrap(), Some(3));
}

/// Makes `count` concurrent logins of alice, on two managers of one store. Returns the number of successful ones.
async fn log_in_at_once(rig: &Rig, other: &Manager, count: usize) -> usize {
    let mut logins = tokio::task::JoinSet::new();
    for n in 0..count {
        let manager = if n % 2 == 0 { rig.manager.clone() } else { other.clone() };
        logins.spawn(async move {
            let session = manager.start(&HeaderMap::new()).await.unwrap();
            login(&session);
            match session.release(&mut HeaderMap::new()).await {
                Ok(released) => usize::from(released == Released::Created),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Refused);
                    0
                }
            }
        });
    }
    logins.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_holds_exactly_under_parallel_logins() {
    for over in [OverLimit::EndOldest, OverLimit::Refuse] {
        for _ in 0..20 {
            let rig = limited(3, over);
            let settings = Manager::builder(rig.provider.clone()).clock(rig.time.clock());
            let other = settings.sessions_per_user(NonZeroUsize::new(3).unwrap(), over).build().unwrap();
            let let_in = log_in_at_once(&rig, &other, 8).await;
            let alive = rig.manager.sessions_of(&alice()).await.unwrap().len();
            assert_eq!(alive, 3, "{over:?}");
            assert_eq!(let_in, if over == OverLimit::Refuse { 3 } else { 8 }, "{over:?}");
        }
    }
}

#[tokio::test]
async fn ending_other_sessions_follows_a_concurrent_rotation() {
    let rig = Rig::with(|builder| builder.rotate_every(seconds(60)));
    let (mut mine, mut other) = (Browser::default(), Browser::default());
    let _ = rig.request(&mut mine, login).await;
    let _ = rig.request(&mut other, login).await;
    let listed = rig.manager.sessions_of(&alice()).await.unwrap();
    rig.time.advance(seconds(60));
    assert_eq!(rig.request(&mut other, |_| ()).await, Released::Regenerated);
    // The listed key of the other session now holds a tombstone.
    let keep = rig.start(&mine).await.handle().unwrap();
    assert!(listed.iter().any(|listed| listed.key.handle() != keep));
    assert_eq!(rig.manager.end_other_sessions(&rig.start(&mine).await).await.unwrap(), 1);
    assert_eq!(rig.start(&other).await.principal(), None);
    assert_eq!(rig.start(&mine).await.principal(), Some(alice()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ending_a_users_sessions_follows_concurrent_rotations() {
    for _ in 0..20 {
        let rig = Rig::new();
        let mut browsers = Vec::new();
        for _ in 0..8 {
            let mut browser = Browser::default();
            let _ = rig.request(&mut browser, login).await;
            browsers.push(browser);
        }
        let mut rotations = tokio::task::JoinSet::new();
        for browser in browsers {
            let manager = rig.manager.clone();
            rotations.spawn(async move {
                let session = manager.start(&browser.headers()).await.unwrap();
                session.regenerate().unwrap();
                let _ = session.release(&mut HeaderMap::new()).await.unwrap();
            });
        }
        let ended = rig.manager.end_sessions(&alice()).await.unwrap();
        rotations.join_all().await;
        assert_eq!((ended, rig.manager.sessions_of(&alice()).await.unwrap().len()), (8, 0));
    }
}

#[tokio::test]
async fn a_list_of_devices_shows_network_and_times_but_no_id() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let mut request = HeaderMap::new();
    request.insert("user-agent", "Firefox on Linux".parse().unwrap());
    let device = Device::of_request(&request).with_address("198.51.100.23".parse().unwrap());
    let began = rig.time.clock().now();
    let _ = rig
        .request(&mut browser, |session| {
            login(session);
            session.set_device(device).unwrap();
        })
        .await;
    rig.time.advance(seconds(600));
    let _ = rig.request(&mut browser, |_| ()).await;
    let listed = rig.manager.sessions_of(&alice()).await.unwrap();
    let [listed] = &listed[..] else { panic!("one session: {listed:?}") };
    let shown = listed.meta.device().unwrap();
    assert_eq!((shown.user_agent(), shown.network()), (Some("Firefox on Linux"), Some("198.51.100.0/24")));
    assert_eq!((listed.meta.created(), listed.meta.last_active()), (began, began + seconds(600)));
    assert_eq!(listed.meta.level(), Some(Level::default()));
    let id = browser.0.unwrap();
    let text = format!("{listed:?} {}", listed.key.handle());
    assert!(!text.contains(&id) && !text.contains("Firefox") && !text.contains("alice"), "{text}");
    assert!(!id.contains(&listed.key.handle()[..6]));
}

#[tokio::test]
async fn a_change_of_level_gives_a_new_id() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, login).await;
    let first = browser.clone();
    let session = rig.start(&browser).await;
    assert_eq!(session.level(), Some(Level::new(1)));
    assert_eq!(session.require_level(Level::new(2)).unwrap_err().kind(), ErrorKind::Denied);
    let at_login = session.authenticated();
    rig.time.advance(seconds(60));
    let raised = rig.request(&mut browser, |session| session.set_level(Level::new(2)).unwrap()).await;
    assert_eq!(raised, Released::Regenerated);
    assert!(rig.start(&first).await.principal().is_none(), "the former id is dead at once");
    let session = rig.start(&browser).await;
    assert_eq!((session.level(), session.authenticated()), (Some(Level::new(2)), at_login));
    session.require_level(Level::new(2)).unwrap();
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    assert_eq!(rig.start(&browser).await.level(), Some(Level::new(1)), "the level is that of the last login");
}

#[tokio::test]
async fn require_recent_accepts_only_a_recent_login() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let anonymous = rig.start(&browser).await;
    for error in [
        anonymous.require_recent(seconds(300)).unwrap_err(),
        anonymous.require_level(Level::new(0)).unwrap_err(),
        anonymous.set_level(Level::new(3)).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.status().as_u16()), (ErrorKind::Denied, 401));
    }
    let _ = rig.request(&mut browser, login).await;
    rig.time.advance(seconds(300));
    rig.start(&browser).await.require_recent(seconds(300)).unwrap();
    rig.time.advance(seconds(1));
    let session = rig.start(&browser).await;
    assert_eq!(session.require_recent(seconds(300)).unwrap_err().kind(), ErrorKind::Denied);
    login(&session);
    session.require_recent(seconds(300)).expect("the login of this request counts");
    session.destroy().unwrap();
    assert_eq!(session.require_recent(seconds(300)).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(session.level(), None);
}

#[tokio::test]
async fn a_login_of_another_user_drops_device_and_level() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let device = Device::default().with_address("10.0.0.1".parse().unwrap());
    let _ = rig
        .request(&mut browser, |session| {
            session.authenticate_at(alice(), Level::new(3)).unwrap();
            session.set_device(device).unwrap();
        })
        .await;
    let _ = rig.request(&mut browser, |session| session.authenticate(principal("bob")).unwrap()).await;
    let listed = rig.manager.sessions_of(&principal("bob")).await.unwrap();
    assert_eq!((listed[0].meta.device(), listed[0].meta.level()), (None, Some(Level::new(1))));
}

#[tokio::test]
async fn end_other_sessions_keeps_the_rotated_session() {
    let rig = Rig::with(|builder| builder.rotate_every(seconds(900)));
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let login = |session: &Session| session.authenticate(alice()).unwrap();
    let _ = rig.request(&mut browser, login).await;
    rig.time.advance(seconds(900));
    let _ = rig.request(&mut other, login).await;
    let session = rig.start(&browser).await;
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    assert_eq!(rig.manager.end_other_sessions(&session).await.unwrap(), 1);
    assert_eq!(rig.start(&browser).await.principal(), Some(alice()));
    assert_eq!(rig.start(&other).await.principal(), None);
}
