//! A store whose list of a user's sessions never ends: callers get an error that names the provider.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom::config::OverLimit;
use cloakroom::providers::{Cursor, Page};
use cloakroom::{ErrorKind, Manager, MemoryProvider, Result, Session};
use http::HeaderMap;

use crate::support::alice;
use crate::support::hooked::{Hook, Hooked};

/// Returns a next cursor with each page: always the same one, or a new one each time.
#[derive(Clone)]
struct Endless {
    pages: Arc<AtomicUsize>,
    repeats: bool,
}

impl Hook for Endless {
    fn page(&self, page: Page) -> Page {
        let number = self.pages.fetch_add(1, Ordering::Relaxed);
        let cursor = if self.repeats { "same".to_owned() } else { number.to_string() };
        Page { next: Some(Cursor::new(cursor)), ..page }
    }
}

fn endless(repeats: bool) -> (Manager, Endless) {
    let hook = Endless { pages: Arc::default(), repeats };
    let builder = Manager::builder(Hooked::new(MemoryProvider::new(), hook.clone()));
    // More sessions than there are, so that the count of them has no early end.
    let limit = NonZeroUsize::new(9).unwrap();
    (builder.sessions_per_user(limit, OverLimit::Refuse).build().unwrap(), hook)
}

async fn login(manager: &Manager) -> Result<Session> {
    let session = manager.start(&HeaderMap::new()).await?;
    session.authenticate(alice())?;
    session.save().await?;
    Ok(session)
}

#[tokio::test]
async fn a_list_that_repeats_a_cursor_is_a_providers_fault() {
    let (manager, hook) = endless(true);
    let error = manager.sessions_of(&alice()).await.unwrap_err();
    assert_eq!((error.kind(), hook.pages.load(Ordering::Relaxed)), (ErrorKind::Unavailable, 2));
    let text = format!("{error:?} {error}");
    assert!(text.contains("the provider \"memory\" repeats a cursor"), "{text}");
    assert_eq!(manager.end_sessions(&alice()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(login(&manager).await.unwrap_err().kind(), ErrorKind::Unavailable, "the limit is counted");
}

#[tokio::test]
async fn a_list_that_never_ends_is_a_providers_fault() {
    let (manager, hook) = endless(false);
    let error = manager.sessions_of(&alice()).await.unwrap_err();
    assert_eq!((error.kind(), hook.pages.load(Ordering::Relaxed)), (ErrorKind::Unavailable, 100_000));
}
