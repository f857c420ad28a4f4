//! The events and log lines of a session's life and of attacks on it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "events/logged.rs"]
mod logged;
#[path = "events/shown.rs"]
mod shown;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::{
    ErrorKind, Manager, ManagerBuilder, ManualClock, MemoryProvider, Session, SessionLayer,
    config::HashFunc,
    event::{Event, EventKind},
};
use http::HeaderMap;

use support::faulty::{Fault, Faulty};
use support::hooked::{Call, Hooked};
use support::log::Log;
use support::{alice, ask, cookies, pair};

const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// A manager whose events are recorded.
struct Watched {
    manager: Manager,
    heard: Heard,
    time: ManualClock,
    faults: Faulty,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Event>>>);

impl Heard {
    /// Returns the events since the last call.
    fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events().iter().map(Event::kind).collect()
    }
}

impl Watched {
    /// Uses a provider that waits now and then, as a real store does.
    fn waiting() -> Self {
        Self::with(|builder| builder)
    }

    fn with(settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> Self {
        let (time, faults) = (ManualClock::default(), Faulty::default());
        let memory = MemoryProvider::builder().clock(time.clock()).build();
        let builder = Manager::builder(Hooked::new(memory, faults.clone()));
        Self::on(settings(builder), time, faults)
    }

    /// Uses the memory provider, which never waits.
    fn at_once() -> Self {
        let time = ManualClock::default();
        let memory = MemoryProvider::builder().clock(time.clock()).build();
        Self::on(Manager::builder(memory), time, Faulty::default())
    }

    fn on(builder: ManagerBuilder, time: ManualClock, faults: Faulty) -> Self {
        let heard = Heard::default();
        let kept = Arc::clone(&heard.0);
        let builder = builder.on_event(move |event: &Event| kept.lock().unwrap().push(event.clone()));
        Watched { manager: builder.clock(time.clock()).build().unwrap(), heard, time, faults }
    }

    /// Makes a request with `cookie` that changes its session by `change`. Returns the cookie afterwards.
    async fn request(&self, cookie: &str, change: impl FnOnce(&Session)) -> String {
        let session = self.manager.start(&headers(cookie)).await.unwrap();
        change(&session);
        let mut response = HeaderMap::new();
        let _ = session.release(&mut response).await.unwrap();
        pair(&response).unwrap_or_else(|| cookie.to_owned())
    }

    async fn visited(&self) -> String {
        self.request("", |session| session.set("n", 1).unwrap()).await
    }
}

fn headers(cookie: &str) -> HeaderMap {
    if cookie.is_empty() { HeaderMap::new() } else { cookies(cookie) }
}

#[tokio::test]
async fn events_follow_a_session_from_creation_to_its_end() {
    for watched in [Watched::waiting(), Watched::at_once()] {
        let cookie = watched.visited().await;
        let created = watched.heard.events();
        assert_eq!(created.iter().map(Event::kind).collect::<Vec<_>>(), [EventKind::Created]);
        assert_eq!((created[0].principal(), created[0].count()), (None, 1));

        let cookie = watched.request(&cookie, |session| session.set("n", 2).unwrap()).await;
        assert_eq!(watched.heard.kinds(), [], "a change is no event");

        let cookie = watched.request(&cookie, |session| session.authenticate(alice()).unwrap()).await;
        let login = watched.heard.events();
        assert_eq!(
            login.iter().map(Event::kind).collect::<Vec<_>>(),
            [EventKind::Rotated, EventKind::Authenticated]
        );
        assert_eq!(login[0].former(), created[0].session());
        assert_eq!((login[1].session(), login[1].former()), (login[0].session(), None));
        assert_eq!(login[1].principal(), Some(&alice()));
        assert_ne!(login[0].session(), login[0].former());

        let cookie = watched.request(&cookie, |session| session.regenerate().unwrap()).await;
        let renewed = watched.heard.events();
        assert_eq!(
            renewed.iter().map(Event::kind).collect::<Vec<_>>(),
            [EventKind::Rotated],
            "regenerate is no login"
        );
        assert_eq!(renewed[0].former(), login[0].session());

        let session = watched.manager.start(&headers(&cookie)).await.unwrap();
        assert_eq!(session.id_hash(), renewed[0].session());
        assert_eq!(session.id().map(|id| watched.manager.id_hash(&id)), renewed[0].session());

        watched.request(&cookie, |session| session.destroy().unwrap()).await;
        let destroyed = watched.heard.events();
        assert_eq!(destroyed.iter().map(Event::kind).collect::<Vec<_>>(), [EventKind::Destroyed]);
        assert_eq!(destroyed[0].session(), renewed[0].session());
        assert_eq!(destroyed[0].principal(), Some(&alice()));

        watched.request(&cookie, |_| ()).await;
        assert_eq!(
            watched.heard.kinds(),
            [],
            "an id of a recent tombstone may be that of a request under way"
        );
        watched.time.advance(Duration::from_secs(3600));
        watched.request(&cookie, |_| ()).await;
        assert_eq!(watched.heard.kinds(), [EventKind::UnknownId]);
    }
}

#[tokio::test]
async fn a_session_over_the_limit_ends_with_an_event() {
    let watched =
        Watched::with(|builder| builder.sessions_per_user(ONE, cloakroom::config::OverLimit::EndOldest));
    watched.request("", |session| session.authenticate(alice()).unwrap()).await;
    let first = watched.heard.events();
    watched.time.advance(Duration::from_secs(1));
    watched.request("", |session| session.authenticate(alice()).unwrap()).await;
    let heard = watched.heard.events();
    let kinds: Vec<_> = heard.iter().map(Event::kind).collect();
    assert_eq!(kinds, [EventKind::Destroyed, EventKind::Created, EventKind::Authenticated]);
    assert_eq!(heard[0].session(), first[0].session());
}

#[tokio::test]
async fn a_first_visit_that_logs_in_is_created_and_authenticated() {
    for watched in [Watched::waiting(), Watched::at_once()] {
        watched.request("", |session| session.authenticate(alice()).unwrap()).await;
        assert_eq!(watched.heard.kinds(), [EventKind::Created, EventKind::Authenticated]);
    }
}

#[tokio::test]
async fn the_session_layer_sends_events() {
    let watched = Watched::at_once();
    let site = Router::new()
        .route("/set", get(async |session: Session| session.set("n", 2).unwrap()))
        .route(
            "/fails",
            get(async |session: Session| {
                (http::StatusCode::INTERNAL_SERVER_ERROR, format!("{:?}", session.set("n", 2)))
            }),
        )
        .layer(SessionLayer::new(watched.manager.clone()));
    let _ = ask(&site, "/fails", "").await;
    assert_eq!(watched.heard.kinds(), [], "a change that is not committed is no event");
    let response = ask(&site, "/set", "").await;
    assert_eq!(watched.heard.kinds(), [EventKind::Created]);
    let _ = ask(&site, "/set", &pair(response.headers()).unwrap()).await;
    assert_eq!(watched.heard.kinds(), []);
}

#[tokio::test]
async fn an_end_by_handle_has_the_sessions_hash() {
    let watched = Watched::waiting();
    watched.request("", |session| session.authenticate(alice()).unwrap()).await;
    let created = watched.heard.events();
    assert_eq!(watched.manager.end_sessions(&alice()).await.unwrap(), 1);
    let ended = watched.heard.events();
    assert_eq!((ended.len(), ended[0].kind()), (1, EventKind::Destroyed));
    assert_eq!((ended[0].session(), ended[0].principal()), (created[0].session(), Some(&alice())));
}

#[tokio::test]
async fn strange_ids_cause_one_event_each_request() {
    const UNKNOWN: &str = "Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM";
    for watched in [Watched::waiting(), Watched::at_once()] {
        let (one, other) = (watched.visited().await, watched.visited().await);
        watched.heard.events();
        let cases = [
            (format!("__Host-id={UNKNOWN}"), EventKind::UnknownId, 1, true),
            ("__Host-id=../../etc".to_owned(), EventKind::MalformedId, 1, true),
            ("__Host-id=".to_owned(), EventKind::MalformedId, 1, true),
            (format!("{one}; {other}"), EventKind::Duplicate, 2, false),
        ];
        for (cookie, kind, count, named) in cases {
            watched.request(&cookie, |_| ()).await;
            let heard = watched.heard.events();
            assert_eq!(heard.iter().map(Event::kind).collect::<Vec<_>>(), [kind], "{cookie}");
            assert_eq!((heard[0].count(), heard[0].session().is_some()), (count, named), "{cookie}");
        }
        let many: Vec<_> = (0..9).map(|n| format!("__Host-id={n}{}", &UNKNOWN[1..])).collect();
        watched.request(&many.join("; "), |_| ()).await;
        assert_eq!(watched.heard.kinds(), [EventKind::Duplicate], "more ids than are looked up");
        watched.request(&["__Host-id=x"; 100].join("; "), |_| ()).await;
        assert_eq!(watched.heard.kinds(), [EventKind::MalformedId; 4], "a request cannot fill a log");
        watched.request(&one, |_| ()).await;
        assert_eq!(watched.heard.kinds(), [], "an honest request");
    }
}

#[tokio::test]
async fn a_malformed_id_in_the_header_causes_an_event() {
    let watched = Watched::with(|builder| builder.id_header(http::HeaderName::from_static("x-session")));
    let mut request = HeaderMap::new();
    request.insert("x-session", "no id".parse().unwrap());
    let _ = watched.manager.start(&request).await.unwrap();
    assert_eq!(watched.heard.kinds(), [EventKind::MalformedId]);
}

#[tokio::test]
async fn reuse_of_a_rotated_id_causes_a_warning() {
    let log = Log::start();
    let watched = Watched::with(|builder| builder.rotate_every(Duration::from_secs(60)));
    let old = watched.visited().await;
    let created = watched.heard.events();
    watched.time.advance(Duration::from_secs(61));
    let new = watched.request(&old, |_| ()).await;
    assert_ne!(new, old);
    assert_eq!(watched.heard.kinds(), [EventKind::Rotated]);

    watched.request(&old, |_| ()).await;
    assert_eq!(watched.heard.kinds(), [], "the id is in its grace");
    watched.time.advance(Duration::from_secs(31));
    watched.request(&old, |_| ()).await;
    let heard = watched.heard.events();
    assert_eq!((heard.len(), heard[0].kind()), (1, EventKind::Reuse));
    assert_eq!(heard[0].session(), created[0].session());
    let text = log.text();
    let line = text.lines().find(|line| line.contains("event=\"reuse\"")).unwrap();
    assert!(line.contains(" WARN "), "{line}");
}

#[tokio::test]
async fn expiry_causes_an_event_where_it_is_known() {
    let watched = Watched::waiting();
    let (cookie, _) = (watched.visited().await, watched.visited().await);
    let created = watched.heard.events();
    let held = watched.manager.start(&headers(&cookie)).await.unwrap();
    watched.time.advance(Duration::from_secs(30 * 60));

    assert!(!held.reload().await.unwrap());
    let heard = watched.heard.events();
    assert_eq!((heard.len(), heard[0].kind()), (1, EventKind::Expired));
    assert_eq!(heard[0].session(), created[0].session());

    watched.request(&cookie, |_| ()).await;
    assert_eq!(
        watched.heard.kinds(),
        [EventKind::UnknownId],
        "a store cannot tell an expired id from an unknown one"
    );

    assert_eq!(watched.manager.collect_garbage().await.unwrap(), 2);
    let collected = watched.heard.events();
    assert_eq!((collected.len(), collected[0].kind()), (1, EventKind::Expired));
    assert_eq!((collected[0].count(), collected[0].session()), (2, None));
    assert_eq!(watched.manager.collect_garbage().await.unwrap(), 0);
    assert_eq!(watched.heard.kinds(), [], "nothing was left");
}

#[tokio::test(start_paused = true)]
async fn corrupt_records_and_conflicts_cause_events() {
    let watched = Watched::waiting();
    let cookie = watched.visited().await;
    let created = watched.heard.events();

    watched.faults.set(Call::Load, Fault::Corrupt);
    let error = watched.manager.start(&headers(&cookie)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let corrupt = watched.heard.events();
    assert_eq!((corrupt.len(), corrupt[0].kind()), (1, EventKind::Corrupt));
    assert_eq!(corrupt[0].session(), created[0].session());
    watched.faults.set(Call::Load, Fault::Fail);
    let error = watched.manager.start(&headers(&cookie)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(watched.heard.kinds(), [], "a store that is down is no corrupt record");
    watched.faults.heal();

    let session = watched.manager.start(&headers(&cookie)).await.unwrap();
    session.set("n", 2).unwrap();
    watched.faults.set(Call::Update, Fault::Lose);
    let error = session.release(&mut HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), cloakroom::ErrorKind::Conflict);
    let conflict = watched.heard.events();
    assert_eq!((conflict.len(), conflict[0].kind()), (1, EventKind::Conflict));
    assert_eq!(conflict[0].session(), created[0].session());
}

/// A lock that the manager holds during the call of a listener would make this test hang.
#[tokio::test]
async fn a_listener_may_use_the_manager_and_the_session() {
    for provider_waits in [true, false] {
        let (known, faults) = (Arc::new(Mutex::new(None::<(Manager, Session)>)), Faulty::default());
        let seen = Arc::clone(&known);
        let used = Arc::new(Mutex::new(Vec::new()));
        let uses = Arc::clone(&used);
        let listener = move |event: &Event| {
            if let Some((manager, session)) = seen.lock().unwrap().clone() {
                manager.set_hash_func(HashFunc::Random, "").unwrap();
                let stored = session.id_hash().is_some();
                uses.lock().unwrap().push((event.kind(), stored));
            }
        };
        let manager = if provider_waits {
            Manager::builder(Hooked::new(MemoryProvider::new(), faults))
        } else {
            Manager::builder(MemoryProvider::new())
        };
        let manager = manager.on_event(listener).build().unwrap();
        let unknown = "__Host-id=Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM";
        for cookie in [unknown, "__Host-id=malformed"] {
            let handle = manager.handle(&headers(cookie));
            let session = manager.handle(&HeaderMap::new()).load().await.unwrap();
            *known.lock().unwrap() = Some((manager.clone(), session));
            let _ = handle.load().await.unwrap();
        }
        let session = manager.start(&HeaderMap::new()).await.unwrap();
        *known.lock().unwrap() = Some((manager.clone(), session.clone()));
        session.set("n", 1).unwrap();
        let _ = session.release(&mut HeaderMap::new()).await.unwrap();
        let expected =
            [(EventKind::UnknownId, false), (EventKind::MalformedId, false), (EventKind::Created, true)];
        assert_eq!(*used.lock().unwrap(), expected);
    }
}

#[test]
fn an_event_key_of_fewer_than_16_bytes_is_refused() {
    let short = Manager::builder(MemoryProvider::new()).event_key("fifteen letters").build().unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Config);
    let text = short.to_string();
    assert!(text.contains("at least 16 bytes") && text.contains("found 15"), "{text}");
    assert!(!text.contains("fifteen"), "{text}");
    Manager::builder(MemoryProvider::new()).event_key("sixteen letters!").build().unwrap();
}
