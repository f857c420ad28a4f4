//! The demonstration over a store, listening: what `cloakroom demo` serves, with a clock to turn and the rig's routes beside its own.

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

/// The builder's default.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// A site, which stops when this is dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) manager: Manager,
    pub(crate) gate: Arc<Gate>,
    events: Arc<Mutex<Vec<Event>>>,
    serving: JoinHandle<()>,
}

/// A site, its store and its time.
pub(crate) struct Ground {
    pub(crate) time: ManualClock,
    pub(crate) store: Store,
    pub(crate) site: Site,
}

impl Ground {
    /// With the builder's defaults.
    pub(crate) async fn new(target: &Target) -> Ground {
        Ground::with(target, |builder| builder).await
    }

    /// With other settings.
    pub(crate) async fn with(
        target: &Target,
        settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Ground {
        let time = ManualClock::default();
        let store = target.store(&time.clock()).await;
        let site = Site::on(&store, store.provider.clone(), settings).await;
        Ground { time, store, site }
    }

    /// With what counts the calls of the store, and has them fail.
    pub(crate) async fn faulty(target: &Target) -> (Ground, Faulty) {
        let time = ManualClock::default();
        let store = target.store(&time.clock()).await;
        let faults = Faulty::default();
        let provider = AnyProvider::new(Hooked::new(store.provider.clone(), faults.clone()));
        let site = Site::on(&store, provider, |builder| builder.deadline(DEADLINE)).await;
        (Ground { time, store, site }, faults)
    }

    pub(crate) fn visitor(&self) -> Visitor {
        self.site.visitor()
    }

    /// Someone who has logged in.
    pub(crate) async fn user(&self, name: &str) -> Visitor {
        let mut visitor = self.visitor();
        visitor.login(name).await;
        visitor
    }

    /// A second site on the same store, as another process has it.
    pub(crate) async fn another(&self) -> Site {
        Site::on(&self.store, self.store.second().await, |builder| builder).await
    }

    /// The key of the one session there is.
    pub(crate) async fn only_key(&self) -> StoreKey {
        let keys = self.store.keys().await;
        assert_eq!(keys.len(), 1, "sessions");
        keys[0].clone()
    }
}

impl Site {
    /// A site on `store`, which it reaches by `provider`.
    pub(crate) async fn on(
        store: &Store,
        provider: AnyProvider,
        settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Site {
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        // What a busy machine makes of a hundred writes at once is no failure of a store.
        let builder = Manager::builder(provider)
            .deadline(PATIENCE)
            .clock(store.clock.clone())
            .on_event(move |event: &Event| heard.lock().expect("nobody has panicked").push(event.clone()));
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

    /// What happened since this was last asked.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().expect("nobody has panicked"))
    }

    /// The kinds of that.
    pub(crate) fn happened(&self) -> Vec<EventKind> {
        self.events().iter().map(Event::kind).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
