//! A request that arrives with a replaced or ended id. It may log in, and a second click joins the login of the first.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use cloakroom::{
    ErrorKind, Level, Manager, ManagerBuilder, ManualClock, MemoryProvider, Released, Session,
    config::OverLimit, providers::Capabilities,
};

use http::HeaderMap;

use crate::hooked::{Call, Hook, Hooked, Verdict};
use crate::visitor::{Browser, Rig, alice, principal, release_without_cookie, seconds};

/// A store whose keys are hashes, as in every persistent store.
struct Persistent;

impl Hook for Persistent {
    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        let mut capabilities = inner;
        capabilities.persistent = true;
        capabilities
    }
}

/// Returns the same site on two stores: one with ids as keys, one with hashes.
fn rigs(settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> [Rig; 2] {
    let time = ManualClock::default();
    let provider = MemoryProvider::builder().clock(time.clock()).build();
    let hashed = Hooked::new(provider.clone(), Persistent);
    let manager = settings(Manager::builder(hashed)).clock(time.clock()).build().unwrap();
    [Rig::with(&settings), Rig { manager, provider, time }]
}

fn sign_in(session: &Session) {
    session.authenticate(alice()).unwrap();
}

/// Returns an anonymous visitor with a cart.
async fn shopping(rig: &Rig) -> Browser {
    let mut browser = Browser::default();
    let filled = |session: &Session| session.set("cart", 3).unwrap();
    assert_eq!(rig.request(&mut browser, filled).await, Released::Created);
    browser
}

/// Checks that both responses of a double click have the same cookie, for one session with the cart.
async fn is_one_login(rig: &Rig, first: &Browser, second: &Browser) {
    assert_eq!(first.0, second.0, "both answers carry the same cookie");
    let session = rig.start(first).await;
    assert_eq!((session.principal(), session.get::<u32>("cart").unwrap()), (Some(alice()), Some(3)));
    assert_eq!(rig.manager.sessions_of(&alice()).await.unwrap().len(), 1);
}

fn limits() -> [fn(ManagerBuilder) -> ManagerBuilder; 3] {
    [
        |builder| builder,
        |builder| builder.sessions_per_user(NonZeroUsize::MIN, OverLimit::Refuse),
        |builder| builder.sessions_per_user(NonZeroUsize::MIN, OverLimit::EndOldest),
    ]
}

#[tokio::test]
async fn a_click_that_loads_after_the_login_joins_it() {
    for settings in limits() {
        for rig in rigs(settings) {
            let mut first = shopping(&rig).await;
            let mut second = first.clone();
            assert_eq!(rig.request(&mut first, sign_in).await, Released::Regenerated);
            rig.time.advance(Duration::from_millis(4_999));
            let also = |session: &Session| {
                sign_in(session);
                session.set("seen", true).unwrap();
            };
            assert_eq!(rig.request(&mut second, also).await, Released::Regenerated);
            is_one_login(&rig, &first, &second).await;
            assert_eq!(
                rig.start(&first).await.get::<bool>("seen").unwrap(),
                Some(true),
                "the other change of the second click"
            );
        }
    }
}

#[tokio::test]
async fn a_click_that_loaded_before_the_login_joins_it() {
    for settings in limits() {
        for rig in rigs(settings) {
            let mut first = shopping(&rig).await;
            let mut second = first.clone();
            let under_way = rig.start(&second).await;
            under_way.regenerate().unwrap();
            sign_in(&under_way);
            assert_eq!(rig.request(&mut first, sign_in).await, Released::Regenerated);
            assert_eq!(second.release(&under_way).await, Released::Regenerated);
            is_one_login(&rig, &first, &second).await;
        }
    }
}

/// Returns true if the login `second` joins, after `first` has replaced the id and `since` has changed its session.
async fn joins(
    rig: &Rig,
    first: impl FnOnce(&Session),
    since: impl FnOnce(&Session),
    second: impl FnOnce(&Session),
) -> bool {
    let mut browser = shopping(rig).await;
    let mut late = browser.clone();
    let _ = rig.request(&mut browser, first).await;
    let _ = rig.request(&mut browser, since).await;
    let released = rig.request(&mut late, second).await;
    let cart = rig.start(&late).await.get::<u32>("cart").unwrap();
    match released {
        Released::Regenerated => {
            assert_eq!((cart, &late.0), (Some(3), &browser.0));
            true
        }
        Released::Created => {
            assert_eq!(cart, None, "the new session has no data of the former one");
            assert_ne!(late.0, browser.0);
            false
        }
        other => panic!("a login under a replaced id was {other:?}"),
    }
}

#[tokio::test]
async fn only_the_same_login_is_joined() {
    let nothing = |_: &Session| ();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    for rig in rigs(|builder| builder) {
        assert!(joins(&rig, sign_in, nothing, sign_in).await);
        assert!(joins(&rig, sign_in, |session| session.set("more", 1).unwrap(), sign_in).await);
        let bob = |session: &Session| session.authenticate(principal("bob")).unwrap();
        assert!(!joins(&rig, bob, nothing, sign_in).await, "another user");
        let surer = |session: &Session| session.authenticate_at(alice(), Level::new(2)).unwrap();
        assert!(!joins(&rig, surer, nothing, sign_in).await, "another level");
        assert!(!joins(&rig, sign_in, nothing, surer).await, "another level");
        assert!(joins(&rig, surer, nothing, surer).await);
        let renew = |session: &Session| session.regenerate().unwrap();
        assert!(!joins(&rig, sign_in, renew, sign_in).await, "the id was changed since");
        assert!(!joins(&rig, renew, nothing, sign_in).await, "the id was replaced without a login");
        let raise = |session: &Session| session.set_level(Level::new(3)).unwrap();
        assert!(!joins(&rig, sign_in, raise, sign_in).await, "the level was changed since");
        let bounded = move |session: &Session| session.end_by(end).unwrap();
        assert!(!joins(&rig, sign_in, bounded, sign_in).await, "the end was changed since");
        let federated = move |session: &Session| {
            sign_in(session);
            session.end_by(end).unwrap();
        };
        assert!(joins(&rig, federated, nothing, federated).await, "both with the same end");
        assert!(!joins(&rig, sign_in, |session| session.destroy().unwrap(), sign_in).await, "logged out");
        let anew = |session: &Session| {
            session.destroy().unwrap();
            sign_in(session);
        };
        assert!(!joins(&rig, sign_in, nothing, anew).await, "a session of its own");
    }
}

#[tokio::test]
async fn a_login_is_joined_for_five_seconds() {
    for longest in [2, 60] {
        for rig in rigs(|builder| builder.longest_request(seconds(longest))) {
            let mut first = shopping(&rig).await;
            let mut second = first.clone();
            let _ = rig.request(&mut first, sign_in).await;
            rig.time.advance(seconds(longest.min(5)));
            assert_eq!(rig.request(&mut second, sign_in).await, Released::Created, "{longest}");
            assert_ne!(first.0, second.0);
        }
    }
}

#[tokio::test]
async fn a_chain_of_replaced_ids_allows_no_join() {
    for rig in rigs(|builder| builder.rotate_every(seconds(60))) {
        let mut browser = shopping(&rig).await;
        let mut first = browser.clone();
        rig.time.advance(seconds(60));
        let in_grace = rig.start(&browser).await;
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated, "rotated");
        let _ = rig.request(&mut browser, sign_in).await;
        assert_eq!(rig.request(&mut first, sign_in).await, Released::Created, "a request that arrived later");
        sign_in(&in_grace);
        assert_eq!(
            release_without_cookie(&in_grace).await,
            Released::Gone { lost_write: true },
            "a request that was under way"
        );
    }
}

#[tokio::test]
async fn a_change_under_a_replaced_id_is_refused_for_five_seconds() {
    for rig in rigs(|builder| builder) {
        let mut browser = shopping(&rig).await;
        let former = browser.clone();
        let _ = rig.request(&mut browser, sign_in).await;
        rig.time.advance(Duration::from_millis(4_999));
        let changes: [fn(&Session) -> cloakroom::Result<()>; 4] = [
            |session| session.set("n", 1),
            |session| session.delete("cart"),
            |session| session.clear(),
            |session| session.regenerate(),
        ];
        for change in changes {
            let late = rig.start(&former).await;
            assert!(late.principal().is_none() && late.is_empty().unwrap());
            change(&late).unwrap();
            assert_eq!(release_without_cookie(&late).await, Released::Gone { lost_write: true });
        }
        let saved = rig.start(&former).await;
        saved.set("n", 1).unwrap();
        assert_eq!(saved.save().await.unwrap_err().kind(), ErrorKind::Gone, "save reports it as well");
        rig.time.advance(Duration::from_millis(1));
        let late = rig.start(&former).await;
        late.regenerate().unwrap();
        assert_eq!(
            release_without_cookie(&late).await,
            Released::Unchanged,
            "like a visitor without a session"
        );
        let mut anew = former.clone();
        assert_eq!(rig.request(&mut anew, |session| session.set("n", 1).unwrap()).await, Released::Created);
        assert_ne!(anew.0, former.0, "an id from the client is never adopted");
        assert_eq!(rig.start(&browser).await.principal(), Some(alice()), "the login's session stays");
    }
}

#[tokio::test]
async fn a_request_under_an_ended_id_begins_a_new_session() {
    for rig in rigs(|builder| builder) {
        let mut browser = shopping(&rig).await;
        let _ = rig.request(&mut browser, sign_in).await;
        let ended = browser.clone();
        assert_eq!(rig.manager.end_sessions(&alice()).await.unwrap(), 1, "log out everywhere");
        let reader = rig.start(&ended).await;
        assert_eq!(release_without_cookie(&reader).await, Released::Gone { lost_write: false });
        let mut anew = ended.clone();
        assert_eq!(rig.request(&mut anew, |session| session.set("n", 1).unwrap()).await, Released::Created);
        let mut back = ended.clone();
        assert_eq!(rig.request(&mut back, sign_in).await, Released::Created);
        assert_eq!(rig.start(&back).await.principal(), Some(alice()));
        assert_eq!(rig.start(&back).await.get::<u32>("cart").unwrap(), None);
    }
}

#[tokio::test]
async fn a_change_under_way_is_refused_after_the_session_ends() {
    for rig in rigs(|builder| builder) {
        let mut browser = shopping(&rig).await;
        let changes: [fn(&Session); 2] = [sign_in, |session| session.set("n", 1).unwrap()];
        let under_way = [rig.start(&browser).await, rig.start(&browser).await];
        let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
        for (slow, change) in under_way.iter().zip(changes) {
            change(slow);
            assert_eq!(release_without_cookie(slow).await, Released::Gone { lost_write: true });
        }
    }
}

#[tokio::test]
async fn a_join_is_refused_after_the_session_ends() {
    let [rig, _] = rigs(|builder| builder);
    let mut browser = shopping(&rig).await;
    let slow = rig.start(&browser).await;
    sign_in(&slow);
    slow.set("late", 1).unwrap();
    let _ = rig.request(&mut browser, sign_in).await;
    let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
    assert_eq!(release_without_cookie(&slow).await, Released::Gone { lost_write: true });
}

#[tokio::test]
async fn reuse_of_a_planted_id_does_not_log_its_user_out() {
    for rig in rigs(|builder| builder.rotate_every(seconds(60)).end_user_on_reuse(true)) {
        let mut victim = shopping(&rig).await;
        let planted = victim.clone();
        rig.time.advance(seconds(60));
        assert_eq!(rig.request(&mut victim, |_| ()).await, Released::Regenerated, "rotated");
        let _ = rig.request(&mut victim, sign_in).await;
        rig.time.advance(seconds(31));
        assert!(rig.start(&planted).await.id().is_none(), "the id is past its grace and reported as reuse");
        assert_eq!(rig.start(&victim).await.principal(), Some(alice()));
    }
}

#[tokio::test]
async fn regenerate_under_an_id_in_its_grace_gives_a_new_id() {
    for rig in rigs(|builder| builder.rotate_every(seconds(60))) {
        let mut browser = shopping(&rig).await;
        let mut former = browser.clone();
        rig.time.advance(seconds(60));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated, "rotated");
        assert_eq!(
            rig.request(&mut former, |session| session.regenerate().unwrap()).await,
            Released::Regenerated
        );
        assert_eq!(rig.start(&former).await.get::<u32>("cart").unwrap(), Some(3));
        assert!(rig.start(&browser).await.id().is_none(), "the previous id ends at once");
    }
}

#[tokio::test]
async fn a_login_sets_the_level_that_it_names() {
    let rig = Rig::new();
    let level = async |change: fn(&Session)| {
        let mut browser = Browser::default();
        let _ = rig.request(&mut browser, change).await;
        rig.start(&browser).await.level()
    };
    let default = Some(Level::default());
    let another = level(|session| {
        session.authenticate_at(alice(), Level::new(3)).unwrap();
        session.authenticate(principal("bob")).unwrap();
    });
    assert_eq!(another.await, default, "another user in the same request");
    let again = level(|session| {
        session.authenticate_at(alice(), Level::new(3)).unwrap();
        session.authenticate(alice()).unwrap();
    });
    assert_eq!(again.await, default, "the same user at a lower level");
    let raised = level(|session| {
        sign_in(session);
        session.set_level(Level::new(2)).unwrap();
    });
    assert_eq!(raised.await, Some(Level::new(2)));
}

#[tokio::test]
async fn a_second_login_in_one_request_starts_with_no_data() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let both = |session: &Session| {
        sign_in(session);
        session.set("secret", "of alice").unwrap();
        session.authenticate(principal("bob")).unwrap();
        session.set("own", 1).unwrap();
    };
    let _ = rig.request(&mut browser, both).await;
    let session = rig.start(&browser).await;
    assert_eq!(
        (session.principal(), session.keys().unwrap()),
        (Some(principal("bob")), vec!["own".to_owned()])
    );
}

#[tokio::test]
async fn with_ids_in_clear_another_managers_id_is_unknown() {
    let [_, rig] = rigs(|builder| builder);
    let manager = |cookie: &str, namespace: Option<&str>| {
        let builder = Manager::builder(Hooked::new(rig.provider.clone(), Persistent)).clock(rig.time.clock());
        let builder = builder.cookie_name(cookie).danger_store_ids_in_clear();
        match namespace {
            Some(namespace) => builder.namespace(namespace).build().unwrap(),
            None => builder.build().unwrap(),
        }
    };
    let managers = [manager("user", None), manager("admin", None), manager("user", Some("shop"))];
    for (made, by) in managers.iter().enumerate() {
        let session = by.start(&HeaderMap::new()).await.unwrap();
        session.authenticate(alice()).unwrap();
        session.save().await.unwrap();
        session.set_level(Level::new(2)).unwrap();
        session.save().await.unwrap();
        let id = session.id().unwrap();
        for (asked, manager) in managers.iter().enumerate() {
            let found = manager.session(&id).await.unwrap();
            assert_eq!(found.is_some(), made == asked, "made by {made}, asked by {asked}");
        }
    }
}

/// A hook that logs alice out everywhere before the first touch.
struct EndedBefore(Manager);

impl Hook for EndedBefore {
    async fn before(&self, call: Call) -> cloakroom::Result<Verdict> {
        if call == Call::Touch {
            assert_eq!(self.0.end_sessions(&alice()).await?, 1);
        }
        Ok(Verdict::Forward)
    }
}

#[tokio::test]
async fn a_join_is_refused_if_the_session_ends_meanwhile() {
    let rig = Rig::with(|builder| builder.idle_timeout(seconds(20)));
    let hooked = Hooked::new(rig.provider.clone(), EndedBefore(rig.manager.clone()));
    let slow = Manager::builder(hooked).idle_timeout(seconds(20)).clock(rig.time.clock()).build().unwrap();
    let mut browser = shopping(&rig).await;
    let late = browser.clone();
    assert_eq!(rig.request(&mut browser, sign_in).await, Released::Regenerated);
    rig.time.advance(seconds(2));
    let second = slow.start(&late.headers()).await.unwrap();
    sign_in(&second);
    assert_eq!(release_without_cookie(&second).await, Released::Gone { lost_write: true });
}
