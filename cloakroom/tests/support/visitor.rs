//! A manager with a clock that a test sets, and visitors with one cookie each.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use cloakroom::{Manager, ManagerBuilder, ManualClock, MemoryProvider, Principal, Released, Session};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

/// A manager with a clock that a test sets.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) manager: Manager,
    pub(crate) provider: MemoryProvider,
    pub(crate) time: ManualClock,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> Self {
        let time = ManualClock::default();
        let provider = MemoryProvider::builder().clock(time.clock()).build();
        let manager = settings(Manager::builder(provider.clone())).clock(time.clock()).build().unwrap();
        Rig { manager, provider, time }
    }

    pub(crate) async fn start(&self, browser: &Browser) -> Session {
        self.manager.start(&browser.headers()).await.unwrap()
    }

    /// Makes one request that changes the session by `change`.
    pub(crate) async fn request(&self, browser: &mut Browser, change: impl FnOnce(&Session)) -> Released {
        let session = self.start(browser).await;
        change(&session);
        browser.release(&session).await
    }
}

/// A browser with at most one cookie.
#[derive(Clone, Default)]
pub(crate) struct Browser(pub(crate) Option<String>);

impl Browser {
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.0 {
            headers.insert(COOKIE, HeaderValue::try_from(format!("__Host-id={token}")).unwrap());
        }
        headers
    }

    pub(crate) async fn release(&mut self, session: &Session) -> Released {
        let mut headers = HeaderMap::new();
        let released = session.release(&mut headers).await.unwrap();
        self.take(&headers);
        released
    }

    pub(crate) fn take(&mut self, headers: &HeaderMap) {
        let mut cookies = headers.get_all(SET_COOKIE).iter();
        let Some(cookie) = cookies.next() else { return };
        assert!(cookies.next().is_none(), "at most one Set-Cookie of our name");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["vary"], "Cookie");
        let value = cookie.to_str().unwrap().strip_prefix("__Host-id=").unwrap().split(';').next().unwrap();
        self.0 = Some(value.to_owned()).filter(|value| !value.is_empty());
    }
}

/// Returns a visitor whose session has `n` = 1.
pub(crate) async fn visited() -> (Rig, Browser) {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    assert_eq!(rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await, Released::Created);
    (rig, browser)
}

/// Releases a session and checks that the response sets no cookie.
pub(crate) async fn release_without_cookie(session: &Session) -> Released {
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await.unwrap();
    assert!(!headers.contains_key(SET_COOKIE), "a dead session sets no cookie");
    released
}

pub(crate) fn alice() -> Principal {
    Principal::new("alice").unwrap()
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
