//! The promises of a request's life, tested without a framework.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "support/visitor.rs"]
mod visitor;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use visitor::{Browser, Rig, alice, release_without_cookie, visited};

use cloakroom::{
    ErrorKind, Manager, Principal, Provider, Released, Session,
    config::Codec,
    providers::{Record, Updated},
};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

#[tokio::test]
async fn a_visitor_who_sets_nothing_gets_no_record_and_no_cookie() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let touch_all = |session: &Session| {
        assert_eq!(session.get::<u32>("n").unwrap(), None);
        session.delete("n").unwrap();
        session.clear().unwrap();
        session.regenerate().unwrap();
        assert!(session.is_empty().unwrap() && session.id().is_none());
    };
    assert_eq!(rig.request(&mut browser, touch_all).await, Released::Unchanged);
    assert_eq!(rig.request(&mut browser, |session| session.destroy().unwrap()).await, Released::Unchanged);
    let set_and_delete = |session: &Session| {
        session.set("n", 1).unwrap();
        session.delete("n").unwrap();
    };
    assert_eq!(rig.request(&mut browser, set_and_delete).await, Released::Unchanged);
    assert!(browser.0.is_none());
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn the_next_request_reads_the_value_that_was_set() {
    for codec in [Codec::MESSAGE_PACK, Codec::JSON] {
        let rig = Rig::with(|builder| builder.codec(codec));
        let mut browser = Browser::default();
        let released = rig.request(&mut browser, |session| session.set("name", "Ada").unwrap()).await;
        assert_eq!(released, Released::Created);
        assert_eq!(browser.0.as_ref().unwrap().len(), 43);
        let session = rig.start(&browser).await;
        assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("Ada"));
        assert_eq!(session.keys().unwrap(), ["name"]);
        assert!(session.contains("name").unwrap() && !session.contains("other").unwrap());
        assert_eq!(session.get::<u64>("name").unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(browser.release(&session).await, Released::Unchanged);
        assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_stored_version_may_be_any_number() {
    let (rig, mut browser) = visited().await;
    let key = &rig.provider.scan(None, 1).await.unwrap().entries[0].key;
    let mut bytes = rig.provider.load(key).await.unwrap().unwrap().as_bytes().to_vec();
    bytes[8..16].fill(0xff);
    let last = Record::from_bytes(&bytes).unwrap();
    let base = rig.provider.load(key).await.unwrap().unwrap();
    assert_eq!(rig.provider.update(key, &last, &base).await.unwrap(), Updated::Done);
    let released = rig.request(&mut browser, |session| session.set("n", 2).unwrap()).await;
    assert_eq!(released, Released::Saved);
    assert_eq!(rig.start(&browser).await.get::<u32>("n").unwrap(), Some(2));
}

#[tokio::test]
async fn an_unknown_id_is_never_adopted() {
    let rig = Rig::new();
    let supplied = "A".repeat(43);
    let mut browser = Browser(Some(supplied.clone()));
    assert_eq!(rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await, Released::Created);
    assert_ne!(browser.0.unwrap(), supplied);
    assert_eq!(rig.manager.session(&supplied.parse().unwrap()).await.unwrap().map(|_| ()), None);
}

#[tokio::test]
async fn a_destroyed_session_stays_dead_under_a_slow_write() {
    let (rig, mut browser) = visited().await;
    let slow = rig.start(&browser).await;
    assert_eq!(rig.request(&mut browser, |session| session.destroy().unwrap()).await, Released::Destroyed);
    assert_eq!(browser.0, None, "the removal cookie was sent");
    slow.set("n", 2).unwrap();
    assert_eq!(release_without_cookie(&slow).await, Released::Gone { lost_write: true });
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn a_slow_read_of_a_destroyed_session_succeeds() {
    let (rig, mut browser) = visited().await;
    let slow = rig.start(&browser).await;
    let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
    rig.time.advance(Duration::from_secs(120));
    assert_eq!(slow.get::<u32>("n").unwrap(), Some(1));
    assert_eq!(release_without_cookie(&slow).await, Released::Gone { lost_write: false });
}

#[tokio::test]
async fn concurrent_changes_of_different_keys_are_both_stored() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("base", 0).unwrap()).await;
    let (one, two) = (rig.start(&browser).await, rig.start(&browser).await);
    one.set("one", 1).unwrap();
    one.set("both", "one").unwrap();
    two.set("two", 2).unwrap();
    two.set("both", "two").unwrap();
    two.delete("base").unwrap();
    assert_eq!(browser.release(&one).await, Released::Saved);
    assert_eq!(browser.release(&two).await, Released::Saved);
    let session = rig.start(&browser).await;
    assert_eq!(session.get::<u32>("one").unwrap(), Some(1));
    assert_eq!(session.get::<u32>("two").unwrap(), Some(2));
    assert_eq!(session.get::<String>("both").unwrap().as_deref(), Some("two"), "the later commit stands");
    assert!(!session.contains("base").unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_updates_are_all_counted() {
    let rig = Arc::new(Rig::new());
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 0).unwrap()).await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (rig, mut browser) = (Arc::clone(&rig), browser.clone());
            tokio::spawn(async move {
                let session = rig.start(&browser).await;
                tokio::task::yield_now().await;
                let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
                assert!(matches!(browser.release(&session).await, Released::Unchanged));
                n
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).collect::<Vec<u64>>(), "each update returned a different number");
}

#[tokio::test]
async fn an_update_commits_only_its_own_change() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let session = rig.start(&browser).await;
    session.set("pending", 1).unwrap();
    session.set("n", 10).unwrap();
    assert_eq!(session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap(), 11);
    let stored = rig.manager.session(&session.id().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.keys().unwrap(), ["n"]);
    assert_eq!(session.get::<u64>("n").unwrap(), Some(11));
    assert_eq!(browser.release(&session).await, Released::Saved);
    let session = rig.start(&browser).await;
    assert_eq!(session.keys().unwrap(), ["n", "pending"]);
}

#[tokio::test]
async fn an_update_after_a_conflict_runs_on_the_newest_value() {
    let (rig, mut browser) = visited().await;
    let late = rig.start(&browser).await;
    let _ = rig.request(&mut browser, |session| session.set("n", 50).unwrap()).await;
    let calls = AtomicU64::new(0);
    let n = late
        .update("n", |n: Option<u64>| {
            calls.fetch_add(1, Ordering::Relaxed);
            n.unwrap_or(0) + 1
        })
        .await
        .unwrap();
    assert_eq!((n, calls.load(Ordering::Relaxed)), (51, 2));
}

#[tokio::test]
async fn an_update_of_an_ended_session_is_an_error() {
    let (rig, mut browser) = visited().await;
    let slow = rig.start(&browser).await;
    let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
    assert_eq!(slow.update("n", |_: Option<u64>| 1).await.unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn regenerate_keeps_the_data_and_ends_the_old_id_at_once() {
    let (rig, mut browser) = visited().await;
    let old = browser.clone();
    assert_eq!(
        rig.request(&mut browser, |session| session.regenerate().unwrap()).await,
        Released::Regenerated
    );
    assert_ne!(browser.0, old.0);
    assert_eq!(rig.start(&browser).await.get::<u32>("n").unwrap(), Some(1));
    assert!(rig.start(&old).await.id().is_none());
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);
}

#[tokio::test]
async fn a_write_under_a_regenerated_id_is_refused() {
    let (rig, mut browser) = visited().await;
    let old = browser.clone();
    let slow = rig.start(&browser).await;
    slow.set("n", 2).unwrap();
    let _ = rig.request(&mut browser, |session| session.regenerate().unwrap()).await;
    assert_eq!(release_without_cookie(&slow).await, Released::Gone { lost_write: true });
    assert!(rig.start(&old).await.id().is_none());
    assert_eq!(rig.start(&browser).await.get::<u32>("n").unwrap(), Some(1));
}

#[tokio::test]
async fn a_login_gets_a_new_id_and_ends_the_old_one() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("cart", 3).unwrap()).await;
    let old = browser.clone();
    let login = |session: &Session| {
        session.authenticate(alice()).unwrap();
        session.set("secret", "for alice").unwrap();
        assert_eq!(session.principal(), Some(alice()));
    };
    assert_eq!(rig.request(&mut browser, login).await, Released::Regenerated);
    assert!(rig.start(&old).await.id().is_none(), "the id from before the login is dead");
    let session = rig.start(&browser).await;
    assert_eq!(session.principal(), Some(alice()));
    assert_eq!(session.get::<u32>("cart").unwrap(), Some(3));
    assert!(session.authenticated().is_some());
    assert_eq!(rig.manager.sessions_of(&alice()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_login_keeps_a_concurrent_change() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("cart", 1).unwrap()).await;
    let login = rig.start(&browser).await;
    login.authenticate(alice()).unwrap();
    let _ = rig.request(&mut browser, |session| session.set("cart", 2).unwrap()).await;
    assert_eq!(browser.release(&login).await, Released::Regenerated);
    assert_eq!(rig.start(&browser).await.get::<u32>("cart").unwrap(), Some(2));
}

#[tokio::test]
async fn a_login_of_another_user_starts_with_no_data() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let login = |session: &Session| {
        session.set("secret", 1).unwrap();
        session.authenticate(alice()).unwrap();
    };
    let _ = rig.request(&mut browser, login).await;
    let other = |session: &Session| {
        session.authenticate(Principal::new("bob").unwrap()).unwrap();
        assert_eq!(session.get::<u32>("secret").unwrap(), None, "not even before the commit");
        assert!(session.is_empty().unwrap());
    };
    assert_eq!(rig.request(&mut browser, other).await, Released::Regenerated);
    assert!(rig.start(&browser).await.is_empty().unwrap());
    assert!(rig.manager.sessions_of(&alice()).await.unwrap().is_empty());
}

#[tokio::test]
async fn clear_empties_the_data_and_keeps_id_and_principal() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let login = |session: &Session| {
        session.set("n", 1).unwrap();
        session.authenticate(alice()).unwrap();
    };
    let _ = rig.request(&mut browser, login).await;
    let id = browser.0.clone();
    let flush = |session: &Session| {
        session.clear().unwrap();
        assert!(session.is_empty().unwrap());
        session.set("m", 2).unwrap();
    };
    assert_eq!(rig.request(&mut browser, flush).await, Released::Saved);
    let session = rig.start(&browser).await;
    assert_eq!((session.keys().unwrap(), session.principal()), (vec!["m".to_owned()], Some(alice())));
    assert_eq!(browser.0, id);
}

#[tokio::test]
async fn a_set_after_destroy_begins_a_new_session() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let login = |session: &Session| {
        session.set("n", 1).unwrap();
        session.authenticate(alice()).unwrap();
    };
    let _ = rig.request(&mut browser, login).await;
    let old = browser.clone();
    let relive = |session: &Session| {
        session.destroy().unwrap();
        assert_eq!(session.principal(), None);
        session.set("flash", "bye").unwrap();
    };
    assert_eq!(rig.request(&mut browser, relive).await, Released::Created);
    assert_ne!(browser.0, old.0);
    let session = rig.start(&browser).await;
    assert_eq!((session.keys().unwrap(), session.principal()), (vec!["flash".to_owned()], None));
    assert!(rig.start(&old).await.id().is_none());
}

#[tokio::test]
async fn a_change_after_the_release_is_an_error() {
    let rig = Rig::new();
    let session = rig.start(&Browser::default()).await;
    session.set("n", 1).unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap(), Released::Created);
    let mut again = HeaderMap::new();
    assert_eq!(session.release(&mut again).await.unwrap(), Released::Created);
    assert!(again.is_empty());
    for late in [session.set("n", 2), session.delete("n"), session.clear(), session.destroy()] {
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Released);
    }
    assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Released);
    assert_eq!(session.update("n", |_: Option<u8>| 1).await.unwrap_err().kind(), ErrorKind::Released);
    let detached = rig.manager.session(&session.id().unwrap()).await.unwrap().unwrap();
    detached.set("n", 3).unwrap();
    detached.save().await.unwrap();
}

#[tokio::test]
async fn save_commits_at_once_and_release_sends_the_cookie() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let session = rig.start(&browser).await;
    session.set("n", 1).unwrap();
    session.save().await.unwrap();
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);
    assert_eq!(browser.release(&session).await, Released::Unchanged);
    assert_eq!(rig.start(&browser).await.get::<u32>("n").unwrap(), Some(1));
}

#[tokio::test]
async fn a_read_touches_after_a_twentieth_of_the_idle_timeout() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    for (idle, interval) in [(minutes(10), Duration::from_secs(30)), (minutes(600), Duration::from_secs(60))]
    {
        let rig = Rig::with(|builder| builder.idle_timeout(idle).absolute_timeout(None));
        let mut browser = Browser::default();
        let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
        rig.time.advance(interval - Duration::from_millis(1));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Unchanged);
        rig.time.advance(Duration::from_millis(1));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Unchanged);
        rig.time.advance(idle - Duration::from_millis(1));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched, "reads kept it alive");
        rig.time.advance(idle);
        assert!(rig.start(&browser).await.id().is_none());
    }
}

#[tokio::test]
async fn no_use_extends_a_session_past_its_absolute_timeout() {
    let (rig, mut browser) = visited().await;
    for _ in 0..8 * 60 - 1 {
        rig.time.advance(Duration::from_secs(60));
        assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
    }
    rig.time.advance(Duration::from_secs(59));
    let _ = rig.request(&mut browser, |session| session.set("n", 2).unwrap()).await;
    assert!(rig.start(&browser).await.id().is_some());
    rig.time.advance(Duration::from_secs(1));
    assert!(rig.start(&browser).await.id().is_none());
}

#[tokio::test]
async fn a_cookie_is_renewed_up_to_the_absolute_timeout() {
    let hour = Duration::from_secs(3600);
    let rig =
        Rig::with(|builder| builder.cookie_lifetime(Some(hour)).absolute_timeout(Some(hour + hour / 2)));
    let max_age = async |browser: &mut Browser, change: bool| {
        let session = rig.start(browser).await;
        if change {
            session.set("n", 1).unwrap();
        }
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        browser.take(&headers);
        let cookie = headers.get(SET_COOKIE)?.to_str().unwrap().to_owned();
        Some(cookie.split("Max-Age=").nth(1)?.split(';').next()?.parse::<u64>().unwrap())
    };
    let mut browser = Browser::default();
    assert_eq!(max_age(&mut browser, true).await, Some(3600));
    assert_eq!(max_age(&mut browser, false).await, None, "no touch, no cookie");
    rig.time.advance(Duration::from_secs(1200));
    assert_eq!(max_age(&mut browser, false).await, Some(3600));
    rig.time.advance(Duration::from_secs(1200));
    assert_eq!(max_age(&mut browser, false).await, Some(3000));
}

#[tokio::test]
async fn rotation_keeps_requests_under_way_without_the_new_id() {
    let rig = Rig::with(|builder| builder.rotate_every(Duration::from_secs(900)));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    rig.time.advance(Duration::from_secs(900));
    let (slow, mut old) = (rig.start(&browser).await, browser.clone());
    let first = browser.0.clone();
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    assert_ne!(browser.0, first);

    slow.set("slow", 1).unwrap();
    assert_eq!(old.release(&slow).await, Released::Saved, "a request under way follows the session");
    let late = |session: &Session| session.set("late", 1).unwrap();
    assert_eq!(rig.request(&mut old, late).await, Released::Saved);
    assert_eq!(old.0, first, "the old id never gets the new one");
    assert_eq!(rig.start(&browser).await.keys().unwrap(), ["n", "slow", "late"]);
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);

    rig.time.advance(Duration::from_secs(30));
    assert!(rig.start(&old).await.id().is_none(), "the grace is over");
    assert!(rig.start(&browser).await.id().is_some());
}

#[tokio::test]
async fn a_logout_under_an_id_in_its_grace_ends_the_session() {
    let rig = Rig::with(|builder| builder.rotate_every(Duration::from_secs(900)));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    rig.time.advance(Duration::from_secs(900));
    let (under_way, mut old) = (rig.start(&browser).await, browser.clone());
    let mut older = browser.clone();
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Regenerated);
    under_way.destroy().unwrap();
    assert_eq!(old.release(&under_way).await, Released::Destroyed);
    assert!(rig.start(&browser).await.id().is_none());
    let twice = rig.request(&mut older, |session| session.destroy().unwrap()).await;
    assert_eq!(twice, Released::Gone { lost_write: false });
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn of_duplicate_cookies_only_a_single_live_one_counts() {
    let rig = Rig::new();
    let (mut one, mut two) = (Browser::default(), Browser::default());
    let _ = rig.request(&mut one, |session| session.set("n", 1).unwrap()).await;
    let _ = rig.request(&mut two, |session| session.set("n", 2).unwrap()).await;
    let (one, two) = (one.0.unwrap(), two.0.unwrap());
    let stale = |n: usize| format!("{}{n}", "s".repeat(42));
    let seen = async |tokens: &[&str]| {
        let mut headers = HeaderMap::new();
        let cookies = tokens.iter().map(|token| format!("__Host-id={token}")).collect::<Vec<_>>().join("; ");
        headers.insert(COOKIE, HeaderValue::try_from(cookies).unwrap());
        rig.manager.start(&headers).await.unwrap().get::<u32>("n").unwrap()
    };
    let (s0, s1, s2, s3) = (stale(0), stale(1), stale(2), stale(3));
    assert_eq!(seen(&[&one, &s0]).await, Some(1));
    assert_eq!(seen(&[&s0, "bad", &one, &one]).await, Some(1));
    assert_eq!(seen(&[&s0, &s1, &s2, &one]).await, Some(1));
    assert_eq!(seen(&[&one, &two]).await, None);
    assert_eq!(seen(&[&two, &s0, &one]).await, None);
    for order in [[&one, &s0, &s1, &s2, &s3], [&s3, &s2, &s1, &s0, &one]] {
        assert_eq!(seen(&order.map(|token| token.as_str())).await, None, "of more than four, none counts");
    }
}

#[tokio::test]
async fn a_logout_with_several_cookies_ends_every_session() {
    let rig = Rig::new();
    let (mut one, mut two) = (Browser::default(), Browser::default());
    let _ = rig.request(&mut one, |session| session.set("n", 1).unwrap()).await;
    let _ = rig.request(&mut two, |session| session.set("n", 2).unwrap()).await;
    let mut both =
        Browser(Some(format!("{}; __Host-id={}", one.0.as_ref().unwrap(), two.0.as_ref().unwrap())));
    assert_eq!(rig.request(&mut both, |session| session.destroy().unwrap()).await, Released::Destroyed);
    assert_eq!(both.0, None, "the removal cookie was sent");
    assert!(rig.start(&one).await.id().is_none() && rig.start(&two).await.id().is_none());
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);

    let mut one = Browser::default();
    let _ = rig.request(&mut one, |session| session.set("n", 1).unwrap()).await;
    let fakes = (0..4).map(|n| format!("{}{n}", "s".repeat(42)));
    let tokens: Vec<_> = fakes.chain(one.0.clone()).collect();
    let mut tossed = Browser(Some(tokens.join("; __Host-id=")));
    assert_eq!(rig.request(&mut tossed, |session| session.destroy().unwrap()).await, Released::Destroyed);
    assert!(rig.start(&one).await.id().is_none(), "planted cookies cannot keep a session alive");
}

#[tokio::test]
async fn a_value_over_a_limit_is_refused_and_the_rest_stays() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("keep", 1).unwrap()).await;
    let session = rig.start(&browser).await;
    let mut deep = serde_json::json!(1);
    for _ in 0..33 {
        deep = serde_json::json!([deep]);
    }
    for error in
        [session.set("big", "x".repeat(65_536)).unwrap_err(), session.set("deep", deep).unwrap_err(), {
            (0..1023).for_each(|n| session.set(&n.to_string(), 1).unwrap());
            session.set("one too many", 1).unwrap_err()
        }]
    {
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
    session.set("5", 2).unwrap();
    assert_eq!(browser.release(&session).await, Released::Saved);
    let session = rig.start(&browser).await;
    assert_eq!((session.len().unwrap(), session.get::<u8>("keep").unwrap()), (1024, Some(1)));
}

#[tokio::test]
async fn two_changes_that_are_too_large_together_are_refused() {
    let rig = Rig::new();
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("keep", 1).unwrap()).await;
    let (one, two) = (rig.start(&browser).await, rig.start(&browser).await);
    one.set("one", "x".repeat(40_000)).unwrap();
    two.set("two", "x".repeat(40_000)).unwrap();
    assert_eq!(browser.release(&one).await, Released::Saved);
    let error = two.release(&mut HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(rig.start(&browser).await.keys().unwrap(), ["keep", "one"]);
}

#[tokio::test]
async fn namespaces_are_separate() {
    let (rig, browser) = visited().await;
    let other =
        Manager::builder(rig.provider.clone()).namespace("admin").clock(rig.time.clock()).build().unwrap();
    assert!(other.start(&browser.headers()).await.unwrap().id().is_none());
    assert_eq!(rig.provider.count().await.unwrap(), 1);
}

#[tokio::test]
async fn hash_function_and_secure_change_on_a_running_manager() {
    let rig = Rig::with(|builder| builder.cookie_name("id"));
    let cookie = async || {
        let session = rig.manager.clone().start(&HeaderMap::new()).await.unwrap();
        session.set("n", 1).unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    };
    let before = cookie().await;
    assert!(before.ends_with("; Secure"), "{before}");
    for (func, len) in [("md5", 32), ("sha1", 40), ("sha256", 64), ("random", 43)] {
        rig.manager.set_hash_func(func.parse().unwrap(), "").unwrap();
        assert_eq!(cookie().await.split(';').next().unwrap().len(), "id=".len() + len, "{func}");
    }
    rig.manager.set_secure(false).unwrap();
    assert!(!cookie().await.contains("Secure"));
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::try_from(before.split(';').next().unwrap()).unwrap());
    assert!(rig.manager.start(&headers).await.unwrap().id().is_some(), "earlier ids stay valid");

    let strict = Rig::new().manager;
    assert_eq!(strict.set_secure(false).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn handles_end_sessions_and_reveal_no_id() {
    let rig = Rig::new();
    let mut browsers = [Browser::default(), Browser::default(), Browser::default()];
    for browser in &mut browsers {
        rig.time.advance(Duration::from_secs(1));
        let _ = rig.request(browser, |session| session.authenticate(alice()).unwrap()).await;
    }
    let listed = rig.manager.sessions_of(&alice()).await.unwrap();
    let session = rig.start(&browsers[0]).await;
    let own = session.handle().unwrap();
    let handles: Vec<_> = listed.iter().map(|listed| listed.key.handle()).collect();
    assert_eq!(
        handles.iter().position(|handle| *handle == own),
        Some(2),
        "the session used last comes first"
    );
    for browser in &browsers {
        let id = browser.0.as_ref().unwrap();
        assert!(
            handles.iter().all(|handle| !id.contains(&handle[..6]) && !format!("{listed:?}").contains(id))
        );
    }
    assert!(rig.manager.end_session(&alice(), &handles[0]).await.unwrap());
    assert!(!rig.manager.end_session(&alice(), &handles[0]).await.unwrap());
    assert!(!rig.manager.end_session(&Principal::new("bob").unwrap(), &handles[1]).await.unwrap());
    assert_eq!(rig.manager.end_other_sessions(&session).await.unwrap(), 1);
    assert!(rig.start(&browsers[0]).await.id().is_some());
    assert!(rig.start(&browsers[1]).await.id().is_none() && rig.start(&browsers[2]).await.id().is_none());
}

#[tokio::test]
async fn a_release_waits_for_an_update_of_another_task() {
    let rig = Rig::new();
    let session = rig.start(&Browser::default()).await;
    let ((began, begins), (go_on, goes_on)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let updating = session.clone();
    let task = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(updating.update("n", move |_: Option<u32>| {
            began.send(()).unwrap();
            goes_on.recv().unwrap();
            1
        }))
    });
    begins.recv().unwrap();
    let mut headers = HeaderMap::new();
    let mut release = Box::pin(session.release(&mut headers));
    let at_once =
        std::future::poll_fn(|context| std::task::Poll::Ready(release.as_mut().poll(context))).await;
    go_on.send(()).unwrap();
    assert_eq!(task.join().unwrap().unwrap(), 1);
    assert!(at_once.is_pending(), "the other task's update has not finished");
    let _ = release.await.unwrap();
    assert!(headers.contains_key(SET_COOKIE), "the response has the new session's cookie");
}
