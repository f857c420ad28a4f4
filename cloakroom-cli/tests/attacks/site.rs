//! The demonstration on a store, listening on a port: what `cloakroom demo` serves, with a manual clock and the rig's
//! routes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::{
    Manager, ManagerBuilder, ManualClock,
    event::{Event, EventKind},
    providers::{AnyProvider, StoreKey},
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::demo;
use crate::faulty::Faulty;
use crate::hooked::Hooked;
use crate::rig::{self, Gate};
use crate::target::{Store, Target};
use crate::visitor::{PATIENCE, Visitor};

/// The builder's default deadline.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// A running site. It stops when this is dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) manager: Manager,
    pub(crate) gate: Arc<Gate>,
    events: Arc<Mutex<Vec<Event>>>,
    serving: JoinHandle<()>,
}

/// A site, its store and its clock.
pub(crate) struct Setup {
    pub(crate) time: ManualClock,
    pub(crate) store: Store,
    pub(crate) site: Site,
}

impl Setup {
    /// Starts a site with the builder's defaults.
    pub(crate) async fn new(target: &Target) -> Setup {
        Setup::with(target, |builder| builder).await
    }

    /// Starts a site with other settings.
    pub(crate) async fn with(
        target: &Target,
        settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Setup {
        let time = ManualClock::default();
        let store = target.store(&time.clock()).await;
        let site = Site::on(&store, store.provider.clone(), settings).await;
        Setup { time, store, site }
    }

    /// Starts a site whose store counts its calls and can be made to fail.
    pub(crate) async fn faulty(target: &Target) -> (Setup, Faulty) {
        let time = ManualClock::default();
        let store = target.store(&time.clock()).await;
        let faults = Faulty::default();
        let provider = AnyProvider::new(Hooked::new(store.provider.clone(), faults.clone()));
        let site = Site::on(&store, provider, |builder| builder.deadline(DEADLINE)).await;
        (Setup { time, store, site }, faults)
    }

    pub(crate) fn visitor(&self) -> Visitor {
        self.site.visitor()
    }

    /// Returns a visitor who has logged in.
    pub(crate) async fn user(&self, name: &str) -> Visitor {
        let mut visitor = self.visitor();
        visitor.login(name).await;
        visitor
    }

    /// Starts a second site on the same store, as another process would.
    pub(crate) async fn another(&self) -> Site {
        Site::on(&self.store, self.store.second().await, |builder| builder).await
    }

    /// Returns the key of the only stored session.
    pub(crate) async fn only_key(&self) -> StoreKey {
        let keys = self.store.keys().await;
        assert_eq!(keys.len(), 1, "sessions");
        keys[0].clone()
    }
}

impl Site {
    /// Starts a site on `store` that uses `provider`.
    pub(crate) async fn on(
        store: &Store,
        provider: AnyProvider,
        settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Site {
        let events = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&events);
        // A hundred writes at once take long on a busy machine, which is not a failure of the store.
        let builder = Manager::builder(provider)
            .deadline(PATIENCE)
            .clock(store.clock.clone())
            .on_event(move |event: &Event| received.lock().expect("nobody has panicked").push(event.clone()));
        let manager = settings(builder).build().expect("settings that work together");
        let gate = Arc::new(Gate::default());
        let app = demo::site(manager.clone(), store.capabilities().name)
            .merge(rig::routes(manager.clone(), Arc::clone(&gate)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("a server") });
        Site { address, manager, gate, events, serving }
    }

    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::new(self.address, self.manager.config().cookie().name())
    }

    /// Returns the events since the last call.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().expect("no thread has panicked"))
    }

    /// Returns the kinds of the events since the last call.
    pub(crate) fn event_kinds(&self) -> Vec<EventKind> {
        self.events().iter().map(Event::kind).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
