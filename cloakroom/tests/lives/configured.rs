//! Sessions after the configuration has changed, and settings that a provider cannot serve.

use cloakroom::{
    Clock, ErrorKind, Manager, ManualClock, MemoryProvider, Provider, Released,
    providers::{Capabilities, Record},
};

use crate::hooked::{Hook, Hooked};
use crate::visitor::{Browser, Rig, alice, seconds};

/// The rig's store under a manager with another idle timeout.
fn reconfigured(rig: &Rig, idle: u64) -> Rig {
    let builder = Manager::builder(rig.provider.clone()).clock(rig.time.clock());
    Rig { manager: builder.idle_timeout(seconds(idle)).build().unwrap(), ..rig.clone() }
}

async fn stored(rig: &Rig) -> Record {
    let key = rig.manager.sessions_of(&alice()).await.unwrap()[0].key.clone();
    rig.provider.load(&key).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_new_idle_timeout_reaches_sessions_that_are_only_read() {
    for idle in [600, 3600] {
        let rig = Rig::with(|builder| builder.idle_timeout(seconds(1800)));
        let mut browser = Browser::default();
        let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
        let rig = reconfigured(&rig, idle);
        rig.time.advance(seconds(300));
        let before = stored(&rig).await;
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
        let after = stored(&rig).await;
        assert_eq!(after.expires(), rig.time.clock().now() + seconds(idle));
        assert_ne!(after.version(), before.version(), "an update has stored the new deadline");
        rig.time.advance(seconds(300));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
        let touched = stored(&rig).await;
        assert_eq!(touched.expires(), rig.time.clock().now() + seconds(idle));
        assert_eq!(touched.version(), after.version(), "from then on a touch is enough");
    }
}

#[tokio::test]
async fn near_its_absolute_deadline_a_session_is_only_touched() {
    let rig = Rig::with(|builder| builder.idle_timeout(seconds(1800)).absolute_timeout(Some(seconds(2400))));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    let version = stored(&rig).await.version();
    for _ in 0..3 {
        rig.time.advance(seconds(700));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
        assert_eq!(stored(&rig).await.version(), version);
    }
}

/// A store without tombstones.
struct Markless;

impl Hook for Markless {
    fn capabilities(&self, mut capabilities: Capabilities) -> Capabilities {
        capabilities.tombstones = false;
        capabilities
    }
}

#[test]
fn rotation_without_tombstones_is_refused() {
    let store = || Hooked::new(cloakroom::MemoryProvider::new(), Markless);
    Manager::builder(store()).build().unwrap();
    let error = Manager::builder(store()).rotate_every(seconds(900)).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("rotateEvery") && text.contains("tombstones") && text.contains("memory"), "{text}");
}

#[test]
fn a_manager_and_a_provider_with_two_clocks_are_refused() {
    let (one, other) = (ManualClock::default(), ManualClock::default());
    let build = |provider: MemoryProvider, clock: Clock| Manager::builder(provider).clock(clock).build();
    for error in [
        build(MemoryProvider::new(), one.clock()).unwrap_err(),
        build(MemoryProvider::builder().clock(other.clock()).build(), one.clock()).unwrap_err(),
        build(MemoryProvider::builder().clock(one.clock()).build(), Clock::system()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("expected one clock") && text.contains("provider memory"), "{text}");
    }
    let both = build(MemoryProvider::builder().clock(one.clock()).build(), one.clock()).unwrap();
    assert_eq!(both.provider().capabilities().name, "memory");
}
