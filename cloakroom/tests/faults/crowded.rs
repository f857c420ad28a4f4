//! Logins at a user's session limit. Those of one process queue. A race with another process ends after some tries.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use cloakroom::{
    ErrorKind, Manager, ManagerBuilder, MemoryProvider, Released, Result,
    config::OverLimit,
    event::{Event, EventKind},
};
use http::HeaderMap;
use http::header::SET_COOKIE;

use crate::support::hooked::{Call, Hook, Hooked};
use crate::support::{Rig, alice, cookies, pair};

fn places(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Logs alice in by a request without cookies. Returns the outcome, and true if the response sets a cookie.
async fn log_in(sessions: &Manager) -> (Result<Released>, bool) {
    let session = sessions.start(&HeaderMap::new()).await.unwrap();
    session.authenticate(alice()).unwrap();
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await;
    (released, headers.contains_key(SET_COOKIE))
}

#[tokio::test]
async fn logins_of_one_process_queue_at_the_limit() {
    let rig = Rig::with(|builder| builder.sessions_per_user(places(3), OverLimit::Refuse));
    rig.faults.pause(5);
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let sessions = rig.manager.clone();
        logins.spawn(async move { log_in(&sessions).await.0.is_ok() });
    }
    let let_in = logins.join_all().await.into_iter().filter(|let_in| *let_in).count();
    let calls = rig.faults.calls();
    let times = |call| calls.iter().filter(|other| **other == call).count();
    assert_eq!((let_in, times(Call::Create), times(Call::End)), (3, 3, 0));
    assert_eq!(rig.manager.sessions_of(&alice()).await.unwrap().len(), 3);
}

/// Another node that logs alice in after each login of ours, and ends that session after each withdrawal of ours.
#[derive(Clone)]
struct Rival {
    elsewhere: Manager,
    is_in: Arc<AtomicBool>,
    /// The number of our logins that were stored.
    ours: Arc<AtomicU32>,
}

impl Rival {
    /// Returns a manager on `store`, and the rival that races with it there.
    fn of(store: MemoryProvider, settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> (Manager, Self) {
        let elsewhere = Manager::builder(store.clone()).build().unwrap();
        let rival = Rival { elsewhere, is_in: Arc::default(), ours: Arc::default() };
        let builder = Manager::builder(Hooked::new(store, rival.clone()));
        let builder = builder.sessions_per_user(places(1), OverLimit::Refuse);
        (settings(builder).build().unwrap(), rival)
    }
}

impl Hook for Rival {
    async fn after(&self, call: Call, _: bool) -> Result<()> {
        // A login, or its withdrawal: the end of a new session, or another change of id.
        if matches!(call, Call::Create | Call::Rename | Call::End) {
            if self.is_in.fetch_not(Ordering::Relaxed) {
                self.elsewhere.end_sessions(&alice()).await?;
            } else {
                self.ours.fetch_add(1, Ordering::Relaxed);
                let _ = log_in(&self.elsewhere).await.0?;
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_loses_the_last_place_gives_up_after_nine_tries() {
    let (sessions, rival) = Rival::of(MemoryProvider::new(), |builder| builder);
    let (released, told) = log_in(&sessions).await;
    assert_eq!(released.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!((rival.ours.load(Ordering::Relaxed), told), (9, false), "one try and eight retries");
    assert_eq!(sessions.active_sessions().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_login_keeps_the_visitors_data_under_a_new_id() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let listener = move |event: &Event| hears.lock().unwrap().push(event.clone());
    let (sessions, rival) = Rival::of(MemoryProvider::new(), |builder| builder.on_event(listener));
    let visitor = rival.elsewhere.start(&HeaderMap::new()).await.unwrap();
    visitor.set("cart", 3).unwrap();
    let mut headers = HeaderMap::new();
    let _ = visitor.release(&mut headers).await.unwrap();

    let login = sessions.start(&cookies(&pair(&headers).unwrap())).await.unwrap();
    login.authenticate(alice()).unwrap();
    login.set("role", "admin").unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(login.release(&mut headers).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(rival.ours.load(Ordering::Relaxed), 9);

    let after = sessions.start(&cookies(&pair(&headers).unwrap())).await.unwrap();
    assert_eq!((after.principal(), after.keys().unwrap()), (None, vec!["cart".to_owned()]));
    assert_eq!(sessions.active_sessions().await.unwrap(), 1);
    let heard = heard.lock().unwrap();
    let kinds: Vec<_> = heard.iter().map(Event::kind).collect();
    assert_eq!(kinds, [EventKind::Rotated; 9], "only ids were changed, nobody was logged in");
    let id = after.id().unwrap();
    assert_eq!(heard[8].session(), Some(sessions.id_hash(&id)));
    assert!(
        heard.windows(2).all(|pair| pair[1].former() == pair[0].session()),
        "each id replaces the one before"
    );
}
