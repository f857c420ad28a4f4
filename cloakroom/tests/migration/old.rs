//! An old store in memory, whose calls fail when they are told to, and a manager that moves its sessions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cloakroom::event::{Event, EventKind};
use cloakroom::migration::{MigrationSource, OldId, OldIds, OldSession, OldSessions};
use cloakroom::{
    Error, ErrorKind, Manager, ManagerBuilder, ManualClock, MemoryProvider, Principal, Result, Visit,
};

use super::hooked::{Call, Hook, Hooked, Verdict};

/// Sessions of an old application. Its cookie `sid` has the form `valid-<anything>`. A clone shares the store.
#[derive(Clone, Default)]
pub(crate) struct OldApp(Arc<OldState>);

#[derive(Default)]
struct OldState {
    sessions: Mutex<HashMap<String, OldSession>>,
    refuses_loads: AtomicBool,
    refuses_deletes: AtomicBool,
    corrupt: AtomicBool,
}

impl OldApp {
    /// Stores a session of the user `ann` with one value until `expires`. Returns its cookie.
    pub(crate) fn add(&self, name: &str, expires: SystemTime) -> String {
        let mut session = OldSession::new(expires);
        session.set("name", name).unwrap();
        session.set("cart", &["tea", "milk"]).unwrap();
        session.set_principal(Principal::new("ann").unwrap());
        self.0.sessions.lock().unwrap().insert(format!("valid-{name}"), session);
        format!("sid=valid-{name}")
    }

    pub(crate) fn has(&self, cookie: &str) -> bool {
        self.0.sessions.lock().unwrap().contains_key(cookie.strip_prefix("sid=").unwrap())
    }

    pub(crate) fn refuse_loads(&self, refuses: bool) {
        self.0.refuses_loads.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn refuse_deletes(&self, refuses: bool) {
        self.0.refuses_deletes.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn corrupt(&self) {
        self.0.corrupt.store(true, Ordering::SeqCst);
    }
}

fn refusal() -> Error {
    Error::new(ErrorKind::Unavailable, "refused, as it was asked to")
}

impl OldSessions for OldApp {
    fn find(&self, request: &Visit) -> OldIds {
        let mut found = OldIds::default();
        for header in request.headers().get_all("cookie") {
            for pair in header.to_str().unwrap().split(';') {
                match pair.trim().strip_prefix("sid=") {
                    Some(id) if id.starts_with("valid-") => found.push(OldId::new(id)),
                    Some(other) => found.reject(other.as_bytes()),
                    None => {}
                }
            }
        }
        found
    }

    async fn load(&self, id: &OldId) -> Result<Option<OldSession>> {
        if self.0.refuses_loads.load(Ordering::SeqCst) {
            return Err(refusal());
        }
        if self.0.corrupt.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Corrupt, "not readable"));
        }
        tokio::task::yield_now().await;
        Ok(self.0.sessions.lock().unwrap().get(id.as_str()).cloned())
    }

    async fn delete(&self, id: &OldId) -> Result<bool> {
        if self.0.refuses_deletes.load(Ordering::SeqCst) {
            return Err(refusal());
        }
        Ok(self.0.sessions.lock().unwrap().remove(id.as_str()).is_some())
    }
}

/// A hook that fails the given calls.
#[derive(Clone, Default)]
pub(crate) struct Failing(Arc<Mutex<Vec<Call>>>);

impl Failing {
    pub(crate) fn set(&self, calls: &[Call]) {
        *self.0.lock().unwrap() = calls.to_vec();
    }
}

impl Hook for Failing {
    async fn before(&self, call: Call) -> Result<Verdict> {
        if self.0.lock().unwrap().contains(&call) { Err(refusal()) } else { Ok(Verdict::Forward) }
    }
}

/// A manager that moves the sessions of an old application, with a clock that the test sets.
pub(crate) struct Site {
    pub(crate) old: OldApp,
    pub(crate) manager: Manager,
    pub(crate) store: Failing,
    pub(crate) time: ManualClock,
    events: Arc<Mutex<Vec<EventKind>>>,
}

impl Site {
    pub(crate) fn open() -> Self {
        Site::with(OldApp::default(), |source| source)
    }

    /// Returns a site whose sessions come from what `source` makes of the old application.
    pub(crate) fn with(old: OldApp, source: impl FnOnce(MigrationSource) -> MigrationSource) -> Self {
        let (store, time) = (Failing::default(), ManualClock::default());
        time.set(SystemTime::now());
        let events: Arc<Mutex<Vec<EventKind>>> = Arc::default();
        let memory = MemoryProvider::builder().clock(time.clock()).build();
        let heard = Arc::clone(&events);
        let builder: ManagerBuilder = Manager::builder(Hooked::new(memory, store.clone()))
            .deadline(Duration::from_secs(60))
            .migrate_from(source(MigrationSource::new(old.clone())))
            .on_event(move |event: &Event| heard.lock().unwrap().push(event.kind()));
        Site { old, manager: builder.clock(time.clock()).build().unwrap(), store, time, events }
    }

    /// Adds an old session that lasts for an hour. Returns its cookie.
    pub(crate) fn add(&self, name: &str) -> String {
        self.old.add(name, self.time.clock().now() + Duration::from_secs(3600))
    }

    /// Returns the events since the last call.
    pub(crate) fn events(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}
