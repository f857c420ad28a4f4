//! The policy for all sessions, and lifetimes of single sessions.

use std::time::Duration;

use cloakroom::{Device, Level, Lifetime, Manager, Released, Session, config::Policy};
use http::HeaderMap;
use http::header::SET_COOKIE;

use crate::visitor::{Browser, Rig, alice, principal, seconds};

const DAY: u64 = 24 * 60 * 60;

/// Returns the cookie's Max-Age after a request.
async fn max_age(rig: &Rig, browser: &mut Browser, change: impl FnOnce(&Session)) -> Option<u64> {
    let session = rig.start(browser).await;
    change(&session);
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    browser.take(&headers);
    let cookie = headers.get(SET_COOKIE)?.to_str().unwrap();
    Some(cookie.split("Max-Age=").nth(1)?.split(';').next()?.parse().unwrap())
}

async fn alive(rig: &Rig, browser: &Browser) -> bool {
    rig.start(browser).await.id().is_some()
}

#[tokio::test]
async fn a_remembered_session_lives_for_its_own_lifetime() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let login = |session: &Session| {
        session.authenticate(alice()).unwrap();
        session.set_lifetime(Lifetime::remembered(seconds(30 * DAY))).unwrap();
    };
    assert_eq!(max_age(&rig, &mut browser, login).await, Some(30 * DAY));
    rig.time.advance(seconds(20 * DAY));
    assert_eq!(
        max_age(&rig, &mut browser, |_| ()).await,
        Some(10 * DAY),
        "the cookie never outlives the session"
    );
    rig.time.advance(seconds(10 * DAY) - Duration::from_millis(1));
    assert!(alive(&rig, &browser).await);
    rig.time.advance(Duration::from_millis(1));
    assert!(!alive(&rig, &browser).await);
}

#[tokio::test]
async fn a_sessions_lifetime_may_be_shorter_than_the_policy() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let kiosk = Lifetime::idle(seconds(120)).at_most(seconds(300));
    let begin = |session: &Session| {
        session.set("n", 1).unwrap();
        session.set_lifetime(kiosk).unwrap();
    };
    assert_eq!(rig.request(&mut browser, begin).await, Released::Created);
    let mut unused = browser.clone();
    for _ in 0..2 {
        rig.time.advance(seconds(119));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
    }
    rig.time.advance(seconds(61));
    assert!(alive(&rig, &browser).await, "299 s after it began");
    rig.time.advance(seconds(1));
    assert!(!alive(&rig, &browser).await, "used all the time");
    let _ = rig.request(&mut unused, begin).await;
    rig.time.advance(seconds(120));
    assert!(!alive(&rig, &unused).await, "unused");
}

#[tokio::test]
async fn setting_a_lifetime_again_does_not_move_the_end() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let lifetime = Lifetime::idle(seconds(DAY)).at_most(seconds(DAY));
    let set = |session: &Session| session.set_lifetime(lifetime).unwrap();
    assert_eq!(rig.request(&mut browser, set).await, Released::Unchanged);
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    for _ in 0..4 {
        rig.time.advance(seconds(29 * 60));
        assert_eq!(rig.request(&mut browser, set).await, Released::Saved);
    }
    let end = rig.start(&browser).await.expires().unwrap();
    assert_eq!(end.duration_since(rig.time.clock().now()).unwrap(), seconds(DAY - 4 * 29 * 60));
}

#[tokio::test]
async fn a_login_of_another_user_ends_remembering() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = max_age(&rig, &mut browser, |session| {
        session.authenticate(alice()).unwrap();
        session.set_lifetime(Lifetime::remembered(seconds(30 * DAY))).unwrap();
    })
    .await;
    assert_eq!(
        max_age(&rig, &mut browser, |session| session.authenticate(alice()).unwrap()).await,
        Some(30 * DAY)
    );
    assert_eq!(
        max_age(&rig, &mut browser, |session| session.authenticate(principal("bob")).unwrap()).await,
        None
    );
    rig.time.advance(seconds(30 * 60));
    assert!(!alive(&rig, &browser).await);
}

#[tokio::test]
async fn the_earliest_end_counts_until_the_next_login() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let now = rig.time.clock().now();
    let _ = rig
        .request(&mut browser, |session| {
            session.authenticate(alice()).unwrap();
            session.end_by(now + seconds(900)).unwrap();
            session.end_by(now + seconds(600)).unwrap();
            session.end_by(now + seconds(1200)).unwrap();
        })
        .await;
    let _ = rig.request(&mut browser, |session| session.end_by(now + seconds(3000)).unwrap()).await;
    let _ = rig
        .request(&mut browser, |session| session.set_lifetime(Lifetime::idle(seconds(DAY))).unwrap())
        .await;
    rig.time.advance(seconds(599));
    let mut again = browser;
    assert!(alive(&rig, &again).await);
    let _ = rig.request(&mut again, |session| session.authenticate(alice()).unwrap()).await;
    let mut bound = Browser::default();
    let _ = rig.request(&mut bound, |session| session.set("n", 1).unwrap()).await;
    let end = rig.time.clock().now() + seconds(1);
    let _ = rig.request(&mut bound, |session| session.end_by(end).unwrap()).await;
    rig.time.advance(Duration::from_millis(999));
    assert!(alive(&rig, &bound).await);
    rig.time.advance(Duration::from_millis(1));
    assert!(!alive(&rig, &bound).await);
    rig.time.advance(seconds(900));
    assert!(alive(&rig, &again).await, "the former login's end does not apply to a new login");
}

#[tokio::test]
async fn only_a_login_moves_an_end_that_was_set() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let now = rig.time.clock().now();
    let begin = |session: &Session| {
        session.authenticate(alice()).unwrap();
        session.end_by(now + seconds(600)).unwrap();
    };
    let _ = rig.request(&mut browser, begin).await;
    let later = |session: &Session| session.end_by(now + seconds(3000)).unwrap();
    assert_eq!(rig.request(&mut browser, later).await, Released::Saved);
    let longer = Lifetime::idle(seconds(DAY)).at_most(seconds(DAY));
    let _ = rig.request(&mut browser, |session| session.set_lifetime(longer).unwrap()).await;
    let _ = rig.request(&mut browser, |session| session.set_level(Level::new(2)).unwrap()).await;
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    rig.time.advance(seconds(600) - Duration::from_millis(1));
    assert!(alive(&rig, &browser).await);
    rig.time.advance(Duration::from_millis(1));
    assert!(!alive(&rig, &browser).await);
}

#[tokio::test]
async fn a_new_absolute_timeout_counts_from_the_next_login() {
    for redeployed in [seconds(DAY), seconds(3600)] {
        let rig =
            Rig::with(|builder| builder.idle_timeout(seconds(3600)).absolute_timeout(Some(seconds(7200))));
        let settings = Manager::builder(rig.provider.clone()).clock(rig.time.clock());
        let settings = settings.idle_timeout(seconds(3600)).absolute_timeout(Some(redeployed));
        let newer = Rig { manager: settings.build().unwrap(), ..rig.clone() };
        let mut browser = Browser::default();
        let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
        let end = rig.time.clock().now() + seconds(7200);
        rig.time.advance(seconds(3599));
        let device = |session: &Session| session.set_device(Device::default()).unwrap();
        assert_eq!(newer.request(&mut browser, device).await, Released::Saved);
        let level = |session: &Session| session.set_level(Level::new(2)).unwrap();
        assert_eq!(newer.request(&mut browser, level).await, Released::Regenerated);
        let later = |session: &Session| session.end_by(end + seconds(DAY)).unwrap();
        assert_eq!(newer.request(&mut browser, later).await, Released::Saved);
        rig.time.advance(seconds(3599));
        assert_eq!(newer.request(&mut browser, |_| ()).await, Released::Touched);
        assert_eq!(newer.start(&browser).await.expires(), Some(end), "{redeployed:?}");
        let _ = newer.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
        let own = rig.time.clock().now() + redeployed.min(seconds(3600));
        assert_eq!(newer.start(&browser).await.expires(), Some(own), "{redeployed:?}");
    }
}

#[tokio::test]
async fn a_login_moves_the_absolute_deadline_and_a_touch_does_not() {
    let rig = Rig::with(|builder| builder.policy(Policy::NIST_AAL3));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    for _ in 0..71 {
        rig.time.advance(seconds(600));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
    }
    rig.time.advance(seconds(599));
    let mut proved = browser.clone();
    assert!(alive(&rig, &browser).await, "1 s before 12 h");
    let _ = rig.request(&mut proved, |session| session.authenticate(alice()).unwrap()).await;
    rig.time.advance(seconds(1));
    assert!(!alive(&rig, &browser).await);
    assert!(alive(&rig, &proved).await);
}

#[tokio::test]
async fn an_expired_session_stays_so_when_the_clock_goes_back() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    let began = rig.time.clock().now();
    rig.time.advance(seconds(1800));
    assert!(!alive(&rig, &browser).await);
    rig.time.set(began);
    assert!(!alive(&rig, &browser).await);
}

#[tokio::test]
async fn a_lifetime_out_of_range_is_refused() {
    let rig = Rig::new();
    let session = rig.start(&Browser::default()).await;
    for lifetime in [Lifetime::idle(Duration::ZERO), Lifetime::idle(seconds(60)).at_most(Duration::MAX)] {
        let error = session.set_lifetime(lifetime).unwrap_err();
        assert!(error.to_string().contains("expected a lifetime of 1s to"), "{error}");
    }
}

#[tokio::test]
async fn a_session_in_use_lives_with_any_idle_lifetime() {
    for idle in [1, 10, 30, 59, 120, 3_600] {
        let rig = Rig::new();
        let mut browser = Browser::default();
        let begin = |session: &Session| {
            session.set("n", 1).unwrap();
            session.set_lifetime(Lifetime::idle(seconds(idle))).unwrap();
        };
        assert_eq!(rig.request(&mut browser, begin).await, Released::Created);
        for _ in 0..20 {
            rig.time.advance(seconds(idle) / 2);
            assert!(alive(&rig, &browser).await, "used every {} s of {idle}", idle as f64 / 2.0);
            let _ = rig.request(&mut browser, |_| ()).await;
        }
        rig.time.advance(seconds(idle));
        assert!(!alive(&rig, &browser).await, "unused for {idle} s");
    }
}

#[tokio::test]
async fn a_cookie_in_use_is_renewed_before_it_expires() {
    let rig = Rig::with(|builder| builder.cookie_lifetime(Some(seconds(40))));
    let mut browser = Browser::default();
    assert_eq!(max_age(&rig, &mut browser, |session| session.set("n", 1).unwrap()).await, Some(40));
    for _ in 0..10 {
        rig.time.advance(seconds(20));
        assert_eq!(max_age(&rig, &mut browser, |_| ()).await, Some(40));
    }
}

/// Returns the `Set-Cookie` of a request.
async fn cookie_of(rig: &Rig, browser: &mut Browser, change: impl FnOnce(&Session)) -> Option<String> {
    let session = rig.start(browser).await;
    change(&session);
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    browser.take(&headers);
    Some(headers.get(SET_COOKIE)?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_forgotten_lifetime_turns_the_cookie_into_a_browser_cookie() {
    for by_config in [false, true] {
        let rig = Rig::with(
            |builder| if by_config { builder.cookie_lifetime(Some(seconds(DAY))) } else { builder },
        );
        let mut browser = Browser::default();
        let remember = |session: &Session| {
            session.set("n", 1).unwrap();
            if !by_config {
                session.set_lifetime(Lifetime::remembered(seconds(30 * DAY))).unwrap();
            }
        };
        let cookie = cookie_of(&rig, &mut browser, remember).await.unwrap();
        assert!(cookie.contains("Max-Age"), "{cookie}");
        let before = browser.0.clone();
        let forget = |session: &Session| session.set_lifetime(Lifetime::idle(seconds(600))).unwrap();
        let cookie = cookie_of(&rig, &mut browser, forget).await.expect("the lasting cookie is replaced");
        assert!(!cookie.contains("Max-Age"), "{cookie}");
        assert_eq!(browser.0, before, "the id stays");
        assert_eq!(cookie_of(&rig, &mut browser, |session| session.set("n", 2).unwrap()).await, None);
    }
}

#[tokio::test]
async fn a_touch_keeps_a_concurrent_change_of_lifetime() {
    let lifetimes = [Lifetime::remembered(seconds(30 * DAY)), Lifetime::idle(seconds(120))];
    for (before, after) in [(lifetimes[1], lifetimes[0]), (lifetimes[0], lifetimes[1])] {
        let rig = Rig::new();
        let mut browser = Browser::default();
        let begin = |session: &Session| {
            session.authenticate(alice()).unwrap();
            session.set_lifetime(before).unwrap();
        };
        let _ = rig.request(&mut browser, begin).await;
        rig.time.advance(seconds(100));
        let slow = rig.start(&browser).await;
        let _ = rig.request(&mut browser, |session| session.set_lifetime(after).unwrap()).await;
        let expected = rig.start(&browser).await.expires();
        rig.time.advance(seconds(1));
        let _ = slow.release(&mut HeaderMap::new()).await.unwrap();
        // The use counts, under the new lifetime.
        let expected = if after == lifetimes[1] { expected.map(|end| end + seconds(1)) } else { expected };
        assert_eq!(rig.start(&browser).await.expires(), expected, "{before:?} to {after:?}");
    }
}
