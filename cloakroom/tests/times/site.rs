//! A site with a clock that a test sets, and a browser that forgets expired cookies.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use cloakroom::{
    CookieProvider, KeyRing, Manager, ManualClock, MemoryProvider, Principal, Provider, Session,
    config::OverLimit, seal::SealKey,
};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

/// The place of the sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    Memory,
    /// In the cookie, with revocations that are kept for at least `longest`.
    Cookie {
        max_age: Option<Duration>,
        longest: Duration,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) kept: Kept,
    pub(crate) idle: Duration,
    pub(crate) absolute: Option<Duration>,
    pub(crate) anonymous: Option<Duration>,
    pub(crate) cookie: Option<Duration>,
    pub(crate) rotate: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) longest: Duration,
}

pub(crate) struct Site {
    manager: Manager,
    sealed: Option<CookieProvider>,
    /// The store of the sessions, or of the revocations.
    memory: MemoryProvider,
    pub(crate) time: ManualClock,
}

impl Site {
    /// Returns `None` if the settings are refused.
    pub(crate) fn new(settings: &Settings) -> Option<Site> {
        let time = ManualClock::default();
        let memory = MemoryProvider::builder().clock(time.clock()).build();
        let sealed = match settings.kept {
            Kept::Memory => None,
            Kept::Cookie { max_age, longest } => {
                let ring = KeyRing::new(SealKey::generate().unwrap());
                let builder = CookieProvider::builder(ring).clock(time.clock());
                let builder = builder.revocations(memory.clone(), longest);
                Some(max_age.into_iter().fold(builder, |builder, age| builder.max_age(age)).build())
            }
        };
        let builder = match &sealed {
            Some(sealed) => Manager::builder(sealed.clone()),
            None => Manager::builder(memory.clone())
                .sessions_per_user(NonZeroUsize::new(1).unwrap(), OverLimit::EndOldest),
        };
        let builder = builder
            .clock(time.clock())
            .idle_timeout(settings.idle)
            .absolute_timeout(settings.absolute)
            .anonymous_timeout(settings.anonymous)
            .cookie_lifetime(settings.cookie)
            .rotation_grace(settings.grace)
            .longest_request(settings.longest);
        let builder = settings.rotate.into_iter().fold(builder, |builder, age| builder.rotate_every(age));
        let manager = builder.build().ok()?;
        Some(Site { manager, sealed, memory, time })
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.time.clock().now()
    }

    /// Returns true if a user may have only one session.
    pub(crate) fn limits(&self) -> bool {
        self.sealed.is_none()
    }

    /// Returns the session of a request that arrives now.
    pub(crate) async fn start(&self, client: &mut Client) -> Session {
        if client.kept_until.is_some_and(|until| self.now() >= until) {
            // The session lives on, but this browser no longer has its cookie.
            (client.token, client.kept_until) = (None, None);
            client.past.clear();
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &client.token {
            headers.insert(COOKIE, HeaderValue::try_from(format!("__Host-id={token}")).unwrap());
        }
        let session = self.manager.start(&headers).await.unwrap();
        client.latest_end = client.latest_end.max(session.expires());
        client.is_in = session.id().is_some();
        session
    }

    /// Releases the session, and gives the response to the client.
    pub(crate) async fn release(&self, client: &mut Client, session: &Session) {
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        client.takes(&headers, self.now());
        // The client uses its new id from now on.
        let _ = self.start(client).await;
    }

    pub(crate) async fn request(&self, client: &mut Client, change: impl FnOnce(&Session)) {
        let session = self.start(client).await;
        change(&session);
        self.release(client, &session).await;
    }

    pub(crate) async fn ends_all_of(&self, user: &str) {
        match &self.sealed {
            Some(sealed) => sealed.end_sessions_of(&principal(user)).await.unwrap(),
            None => drop(self.manager.end_sessions(&principal(user)).await.unwrap()),
        }
    }

    pub(crate) async fn collects(&self) {
        while self.memory.delete_expired(100).await.unwrap().more {}
    }
}

/// A browser with one cookie, and the earlier cookies of the same session.
#[derive(Default)]
pub(crate) struct Client {
    token: Option<String>,
    /// The time when the browser forgets the cookie. `None` means when it is closed.
    pub(crate) kept_until: Option<SystemTime>,
    /// Each cookie of the client's present or last session.
    pub(crate) past: Vec<String>,
    /// True if the last request found a session.
    is_in: bool,
    /// The latest deadline that any session of this client ever had.
    pub(crate) latest_end: Option<SystemTime>,
}

impl Client {
    pub(crate) fn with(token: &str) -> Self {
        Client { token: Some(token.to_owned()), ..Client::default() }
    }

    /// Returns true if the browser no longer has a cookie.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.token.is_none()
    }

    fn takes(&mut self, headers: &HeaderMap, now: SystemTime) {
        let Some(cookie) = headers.get(SET_COOKIE) else { return };
        let cookie = cookie.to_str().unwrap().strip_prefix("__Host-id=").unwrap();
        let value = cookie.split(';').next().unwrap();
        let age =
            cookie.split("Max-Age=").nth(1).map(|rest| rest.split(';').next().unwrap().parse().unwrap());
        self.token = Some(value.to_owned()).filter(|value| !value.is_empty() && age != Some(0));
        self.kept_until = age.filter(|_| self.token.is_some()).map(|age| now + Duration::from_secs(age));
        // The session of the earlier cookies has expired, not been ended. Older cookies may have a later deadline.
        if !self.is_in {
            self.past.clear();
        }
        self.past.extend(self.token.clone());
    }
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}
