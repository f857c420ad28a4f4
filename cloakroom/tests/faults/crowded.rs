//! Logins for the last place that a user has: those of one process wait for one another, those of others are not raced with for ever.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cloakroom::{ErrorKind, Manager, MemoryProvider, OverLimit, Released, Result};
use http::HeaderMap;
use http::header::SET_COOKIE;

use crate::support::hooked::{Call, Hook, Hooked, Verdict};
use crate::support::{Rig, alice};

fn places(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Logs alice in by a request without cookies: what came of it, and whether the client was told of an id.
async fn log_in(sessions: &Manager) -> (Result<Released>, bool) {
    let session = sessions.start(&HeaderMap::new()).await.unwrap();
    session.authenticate(alice()).unwrap();
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await;
    (released, headers.contains_key(SET_COOKIE))
}

#[tokio::test]
async fn logins_of_one_process_queue_and_none_that_was_stored_is_taken_back() {
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

/// Somebody on another node who logs alice in whenever we have done so, and takes that back whenever we do.
#[derive(Clone)]
struct Rival {
    elsewhere: Manager,
    /// Logins of ours that were stored.
    ours: Arc<AtomicU32>,
}

impl Hook for Rival {
    async fn before(&self, _: Call) -> Result<Verdict> {
        Ok(Verdict::Forward)
    }

    async fn after(&self, call: Call, _: bool) -> Result<()> {
        match call {
            Call::Create | Call::Rename if self.elsewhere.active_sessions().await? == 1 => {
                self.ours.fetch_add(1, Ordering::Relaxed);
                let _ = log_in(&self.elsewhere).await.0?;
            }
            // Ours has gone, theirs is left.
            Call::End => {
                self.elsewhere.end_sessions(&alice(), None).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_withdraws_for_another_gives_up_after_nine_tries_and_leaves_nothing() {
    let store = MemoryProvider::new();
    let rival = Rival { elsewhere: Manager::builder(store.clone()).build().unwrap(), ours: Arc::default() };
    let sessions = Manager::builder(Hooked::new(store, rival.clone()));
    let sessions = sessions.sessions_per_user(places(1), OverLimit::Refuse).build().unwrap();
    let (released, told) = log_in(&sessions).await;
    assert_eq!(released.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!((rival.ours.load(Ordering::Relaxed), told), (9, false), "one, and eight more");
    assert_eq!(sessions.active_sessions().await.unwrap(), 0);
}
