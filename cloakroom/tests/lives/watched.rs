//! A watched session: `Session::revoked` returns within a second of its end.

use std::time::Duration;

use cloakroom::{Manager, Session};
use tokio::time::{Instant, timeout};

use crate::visitor::{Browser, Rig, alice, seconds};

/// Returns the time until `revoked` returns.
async fn told(session: &Session) -> Duration {
    let start = Instant::now();
    timeout(Duration::from_secs(60), session.revoked()).await.expect("word of the end");
    start.elapsed()
}

/// Returns a logged-in browser, and its session as another manager of the same store holds it.
async fn watched(rig: &Rig) -> (Browser, Session) {
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    let elsewhere = Manager::builder(rig.provider.clone()).clock(rig.time.clock()).build().unwrap();
    let id = rig.start(&browser).await.id().unwrap();
    (browser, elsewhere.session(&id).await.unwrap().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_within_a_second_of_a_logout() {
    let rig = Rig::new();
    let (mut browser, session) = watched(&rig).await;
    let still = timeout(Duration::from_secs(30), session.revoked()).await;
    assert!(still.is_err(), "a live session is not reported as ended");
    let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
    assert!(told(&session).await <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_running_watch_ends_within_a_second_of_any_logout() {
    for after in (0..2_000).step_by(130) {
        let rig = Rig::new();
        let (mut browser, session) = watched(&rig).await;
        let watch = tokio::spawn(async move {
            session.revoked().await;
            Instant::now()
        });
        tokio::time::sleep(Duration::from_millis(after)).await;
        assert!(!watch.is_finished());
        let ended = Instant::now();
        let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
        let late = watch.await.unwrap() - ended;
        assert!(late <= Duration::from_secs(1), "{late:?} after a logout at {after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn expiry_and_regenerate_end_a_watch() {
    let rig = Rig::new();
    let (_, session) = watched(&rig).await;
    rig.time.advance(seconds(1800));
    assert!(told(&session).await <= Duration::from_secs(1));
    let (mut browser, session) = watched(&rig).await;
    let _ = rig.request(&mut browser, |session| session.regenerate().unwrap()).await;
    assert!(told(&session).await <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_follows_a_hundred_rotations() {
    let rig = Rig::with(|builder| builder.rotate_every(seconds(60)));
    let (mut browser, session) = watched(&rig).await;
    // The first id expires after its grace and the idle timeout. Only the chain of ids reaches the last one.
    for _ in 0..100 {
        rig.time.advance(seconds(60));
        let _ = rig.request(&mut browser, |_| ()).await;
        assert!(timeout(Duration::from_secs(2), session.revoked()).await.is_err());
    }
    let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
    assert!(told(&session).await <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_an_unstored_session_ends_at_once() {
    let session = Rig::new().start(&Browser::default()).await;
    assert_eq!(told(&session).await, Duration::ZERO);
}
