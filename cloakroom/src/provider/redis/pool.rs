//! The connections to one server: as few as do, as many as are allowed, and never to two servers at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connect::{Connector, Purpose};
use super::crew::{Best, Crew, Limits};
use super::error::StoreError;
use super::failure::{Deadline, Failure};
use super::link::Link;
use super::moment::Moment;
use super::sentinel::{self, Group, Informed, LEASE, Word};
use super::settings::{Address, Settings};
use crate::provider::Watcher;

/// What a connection has to answer in when a new one beside it has been answered: a server that was stopped answers both at once.
const GRACE: Duration = Duration::from_millis(50);
/// Looks in that time. A process that gets the processor late finds one timer over and the answer not yet read; not so several in a row.
const LOOKS: u32 = 5;

/// Between two looks at whether an address still leads to the same server, while it is in use.
const PROBE: Duration = Duration::from_secs(10);

/// The connections to a server.
pub(super) struct Pool {
    target: Target,
    connector: Arc<Connector>,
    state: Mutex<State>,
    most: usize,
    limits: Limits,
    /// A silence from which on another connection is tried.
    silence: Duration,
    /// Numbers the connections in the order in which they were begun.
    begun: AtomicU64,
    /// When it was last looked at where the address leads.
    probed: Moment,
    /// With sentinels: when they were last asked with success, which task asks them, and whether none can be reached.
    confirmed: Moment,
    confirming: tokio::sync::Mutex<()>,
    watch: AtomicU64,
    alone: AtomicBool,
}

/// Which server it is.
pub(super) enum Target {
    /// The one behind an address, in whose place another may come.
    Address(Address),
    /// The node of a cluster, whose other nodes tell where its slots have gone.
    Node(Address),
    /// The one that the sentinels call the primary.
    Primary(Arc<Group>),
}

/// Which server the connections lead to. Another one in its place begins a new epoch, and ends every connection to the former.
struct State {
    epoch: u64,
    /// The primary, and in which failover it was chosen.
    primary: Option<(Address, u64)>,
    /// The server's own name for itself, and the number of the connection on which it gave that.
    run_id: Option<(Box<str>, u64)>,
    crews: Vec<Crew>,
    /// Connections for news, which are no runtime's to share.
    news: Vec<Weak<Link>>,
    watchers: Vec<Weak<dyn Watcher>>,
}

/// A connection, and the epoch in which it was opened.
pub(super) struct Opened {
    pub(super) link: Link,
    pub(super) epoch: u64,
}

impl State {
    /// Another server has taken the place of the one that was there.
    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.run_id = None;
        for crew in &mut self.crews {
            crew.close();
        }
        for link in self.news.drain(..).filter_map(|link| link.upgrade()) {
            link.close();
        }
        // Nobody tells of changes to what was read from the former server.
        self.watchers.retain(|watcher| watcher.strong_count() > 0);
        for watcher in self.watchers.iter().filter_map(Weak::upgrade) {
            watcher.deaf();
        }
    }
}

impl Pool {
    pub(super) fn new(target: Target, connector: Arc<Connector>, settings: &Settings) -> Pool {
        let state = State {
            epoch: 0,
            primary: None,
            run_id: None,
            crews: Vec::new(),
            news: Vec::new(),
            watchers: Vec::new(),
        };
        Pool {
            target,
            connector,
            state: Mutex::new(state),
            most: settings.pool,
            limits: Limits { patience: settings.call_timeout, idle: settings.idle_timeout },
            // While the server waits for its replicas, it says nothing on the connection that asked.
            silence: settings.call_timeout / 8 + settings.wait.map_or(Duration::ZERO, |wait| wait.limit),
            begun: AtomicU64::new(0),
            probed: Moment::none(),
            confirmed: Moment::none(),
            confirming: tokio::sync::Mutex::default(),
            watch: AtomicU64::new(0),
            alone: AtomicBool::new(false),
        }
    }

    fn group(&self) -> Option<&Arc<Group>> {
        match &self.target {
            Target::Address(_) | Target::Node(_) => None,
            Target::Primary(group) => Some(group),
        }
    }

    /// A connection to send something on at once: none where one is to be opened, or the sentinels are to be asked first.
    pub(super) fn ready(self: &Arc<Self>, now: Instant) -> Option<Arc<Link>> {
        if !self.is_confirmed(now) {
            return None;
        }
        if self.probed.is_past(now, PROBE) {
            self.probe(now);
        }
        match self.best(now) {
            Best::Ready(link) => Some(link),
            Best::Busy(_) | Best::None => None,
        }
    }

    /// Has a new connection tell, beside the calls, whether the address leads to another server now.
    fn probe(self: &Arc<Self>, now: Instant) {
        self.probed.set(now);
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = pool.open_for(Purpose::Data).await {
                tracing::debug!(%error, "it is not known whether the address still leads to the same Redis server");
            }
        });
    }

    fn best(&self, now: Instant) -> Best {
        let runtime = Handle::current().id();
        let mut state = self.state.lock();
        let crew = state.crews.iter_mut().find(|crew| crew.runtime == runtime);
        crew.map_or(Best::None, |crew| crew.best(now, self.limits))
    }

    /// A connection to send something on; opened where that is worth it.
    pub(super) async fn link(self: &Arc<Self>) -> Result<Arc<Link>, StoreError> {
        self.confirm().await?;
        let opening = self.of_crew(|crew| Arc::clone(&crew.opening));
        match self.best(Instant::now()) {
            Best::Ready(link) => Ok(link),
            Best::Busy(busy) => {
                // There is one that works; another is only for speed.
                let Ok(_opening) = opening.try_lock() else { return Ok(busy) };
                Ok(self.open().await.unwrap_or(busy))
            }
            Best::None => {
                // The holder may have been left unpolled: nobody waits for it longer than it takes to open one.
                let _opening = tokio::time::timeout(self.connector.limit(), opening.lock()).await;
                match self.best(Instant::now()) {
                    Best::Ready(link) | Best::Busy(link) => Ok(link),
                    Best::None => self.open().await,
                }
            }
        }
    }

    /// Works on the state of the current runtime. The states of runtimes that have ended go.
    fn of_crew<T>(&self, what: impl FnOnce(&mut Crew) -> T) -> T {
        let runtime = Handle::current().id();
        let mut state = self.state.lock();
        state.crews.retain(|crew| crew.runtime == runtime || !crew.is_over());
        if !state.crews.iter().any(|crew| crew.runtime == runtime) {
            state.crews.push(Crew::new(runtime, self.most));
        }
        let place = state.crews.iter().position(|crew| crew.runtime == runtime).unwrap_or(0);
        what(&mut state.crews[place])
    }

    /// Waits for a call on `link` until `deadline`, and has a look at the connection each time that the server has been silent for a while.
    pub(super) async fn watch<T>(
        self: &Arc<Self>,
        link: &Arc<Link>,
        mut call: Pin<&mut impl Future<Output = T>>,
        began: Instant,
        deadline: Deadline,
    ) -> Result<T, Failure> {
        let mut look = began;
        loop {
            look += self.silence;
            match tokio::time::timeout_at(look.min(deadline.at()), call.as_mut()).await {
                Ok(answer) => return Ok(answer),
                Err(_) if deadline.is_over() => return Err(deadline.late()),
                Err(_) => self.suspect(link),
            }
        }
    }

    /// Opens another connection beside one that is silent. If the server answers on the new one and not on the old one, it is not the
    /// server that is slow: the old connection is dead, and nobody need wait on it any longer.
    fn suspect(self: &Arc<Self>, link: &Arc<Link>) {
        let now = Instant::now();
        link.expect_answer(now);
        if !link.is_silent(now, self.silence) {
            return;
        }
        let Some(judging) = link.judge() else { return };
        let (pool, link) = (Arc::clone(self), Arc::clone(link));
        tokio::spawn(async move {
            let _judging = judging;
            let place = pool.of_crew(|crew| Arc::clone(&crew.places)).try_acquire_owned().ok();
            let Ok(opened) = pool.open_for(Purpose::Data).await else { return };
            // Each time the server answers on the new connection in between.
            for _ in 0..LOOKS {
                tokio::time::sleep(GRACE / LOOKS).await;
                if !link.is_silent(Instant::now(), pool.silence) {
                    break;
                }
                if opened.link.ask(redis::cmd("PING"), pool.connector.limit()).await.is_err() {
                    return;
                }
            }
            if link.is_silent(Instant::now(), pool.silence) {
                link.close();
            }
            // Where all places were taken, the dead one's is free now; beside one that lives there is none for another.
            let place =
                place.or_else(|| pool.of_crew(|crew| Arc::clone(&crew.places)).try_acquire_owned().ok());
            if let Some(place) = place {
                let _ = pool.admit(opened, place);
            }
        });
    }

    async fn open(self: &Arc<Self>) -> Result<Arc<Link>, StoreError> {
        let places = self.of_crew(|crew| Arc::clone(&crew.places));
        let Ok(place) = places.acquire_owned().await else { return Err(StoreError::NoNode) };
        let opened = self.open_for(Purpose::Data).await?;
        self.admit(opened, place)
    }

    /// Takes a connection among those to share, unless another server has taken the place of the one it leads to.
    fn admit(&self, opened: Opened, place: OwnedSemaphorePermit) -> Result<Arc<Link>, StoreError> {
        let runtime = Handle::current().id();
        let mut state = self.state.lock();
        if state.epoch != opened.epoch {
            return Err(StoreError::NotPrimary);
        }
        opened.link.hold(place);
        let link = Arc::new(opened.link);
        match state.crews.iter_mut().find(|crew| crew.runtime == runtime) {
            Some(crew) => crew.links.push(Arc::clone(&link)),
            None => return Err(StoreError::NotPrimary),
        }
        Ok(link)
    }

    /// A connection that is nobody's yet.
    pub(super) async fn open_for(self: &Arc<Self>, purpose: Purpose) -> Result<Opened, StoreError> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let address = match &self.target {
            Target::Address(address) | Target::Node(address) => address.clone(),
            Target::Primary(group) => {
                self.confirm().await?;
                let primary = self.state.lock().primary.clone();
                primary.ok_or_else(|| StoreError::NoPrimary { master: group.master.clone() })?.0
            }
        };
        let opened = async {
            let (link, description) = self.connector.open(&address, purpose).await?;
            if self.group().is_some() {
                sentinel::check_primary(&link, self.connector.limit()).await?;
            }
            Ok((link, description))
        };
        // One that cannot be reached, or is no primary, may have been replaced.
        let (link, description) = opened.await.inspect_err(|_| self.doubt())?;
        let epoch = self.identify(&address, description.run_id(), number)?;
        Ok(Opened { link, epoch })
    }

    /// The epoch of a connection to `address` on which the server has called itself `run_id`. Behind one address, too, another server may
    /// take a former one's place: the one that was met last is right.
    fn identify(&self, address: &Address, run_id: Option<&str>, number: u64) -> Result<u64, StoreError> {
        let mut state = self.state.lock();
        if self.group().is_some() && state.primary.as_ref().is_none_or(|(primary, _)| primary != address) {
            return Err(StoreError::NotPrimary);
        }
        let Some(run_id) = run_id else { return Ok(state.epoch) };
        if let Target::Address(_) = self.target {
            self.probed.set(Instant::now());
        }
        match &state.run_id {
            Some((known, _)) if **known == *run_id => {}
            Some((_, later)) if *later > number => return Err(StoreError::NotPrimary),
            known => {
                if known.is_some() {
                    tracing::info!(
                        "another Redis server answers at the same address: connections to the former are closed"
                    );
                    state.begin_epoch();
                }
                state.run_id = Some((run_id.into(), number));
            }
        }
        Ok(state.epoch)
    }

    /// Keeps a connection for news within reach, so that it ends with its epoch, and has `listen` say that its watcher hears from now on.
    pub(super) fn admit_news(
        &self,
        opened: Opened,
        watcher: &Weak<dyn Watcher>,
        listen: impl FnOnce(),
    ) -> Result<Arc<Link>, StoreError> {
        let mut state = self.state.lock();
        if state.epoch != opened.epoch {
            return Err(StoreError::NotPrimary);
        }
        let link = Arc::new(opened.link);
        state.news.retain(|link| link.strong_count() > 0);
        state.news.push(Arc::downgrade(&link));
        if !state.watchers.iter().any(|known| known.ptr_eq(watcher)) {
            state.watchers.push(Weak::clone(watcher));
        }
        listen();
        Ok(link)
    }

    /// Draws conclusions about the server from a call that failed on `link`.
    pub(super) fn react(&self, link: &Arc<Link>, failure: &Failure) {
        let code = match failure {
            Failure::NotSent(_) => return,
            Failure::Late(_) => None,
            Failure::Call(error) | Failure::Broken(error) => error.code(),
        };
        match code {
            // It was the primary, and is none any more.
            Some("READONLY" | "MASTERDOWN") => self.leave(link),
            // Its replicas may follow another primary, or it is gone.
            Some("NOREPLICAS") | None => self.doubt(),
            Some(_) => {}
        }
    }

    /// Closes every connection to the server that `link` leads to, unless that has been done.
    fn leave(&self, link: &Arc<Link>) {
        self.doubt();
        let mut state = self.state.lock();
        let is_shared = |crew: &Crew| crew.links.iter().any(|known| Arc::ptr_eq(known, link));
        if state.crews.iter().any(is_shared) {
            state.begin_epoch();
        }
    }
}

/// Whom the sentinels call the primary.
impl Pool {
    /// True if the server is the one to ask, as far as can be known at `now`.
    fn is_confirmed(&self, now: Instant) -> bool {
        self.group().is_none() || self.confirmed.is_within(now, LEASE)
    }

    /// The sentinels are to be asked before the next call.
    pub(super) fn doubt(&self) {
        self.confirmed.clear();
    }

    /// Asks the sentinels, unless they were a moment ago.
    pub(super) async fn confirm(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(group) = self.group() else { return Ok(()) };
        if self.is_confirmed(Instant::now()) {
            return Ok(());
        }
        // As with `opening`: nobody waits for ever for a holder that is not polled.
        let _one = tokio::time::timeout(self.connector.limit() * 2, self.confirming.lock()).await;
        if self.is_confirmed(Instant::now()) {
            return Ok(());
        }
        let began = Instant::now();
        match sentinel::ask_all(&self.connector, group).await {
            Ok(word) => self.learn(word, began)?,
            Err(error) => self.stay(error, began).await?,
        }
        // The watch so far has not kept up, or its runtime has ended.
        let number = self.watch.fetch_add(1, Ordering::SeqCst) + 1;
        let (connector, group) = (Arc::clone(&self.connector), Arc::clone(group));
        tokio::spawn(sentinel::watch(Arc::downgrade(self), connector, group, number));
        Ok(())
    }

    /// Stays with the primary that was known, while no sentinel can be asked and it says that it is one.
    async fn stay(&self, error: StoreError, began: Instant) -> Result<(), StoreError> {
        if self.state.lock().primary.is_none() {
            return Err(error);
        }
        if let Best::Ready(link) | Best::Busy(link) = self.best(began) {
            let role = sentinel::check_primary(&link, self.connector.limit()).await;
            if let Err(StoreError::NotPrimary) = role {
                self.leave(&link);
            }
            role?;
        }
        if !self.alone.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "no sentinel can be asked: a failover would be noticed late");
        }
        self.confirmed.set(began);
        Ok(())
    }
}

impl Informed for Pool {
    fn is_watched_by(&self, number: u64) -> bool {
        self.watch.load(Ordering::SeqCst) == number
    }

    fn learn(&self, word: Word, began: Instant) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let known = state.primary.as_ref().map_or(0, |(_, epoch)| *epoch);
        let epoch = word.epoch.unwrap_or(known);
        if epoch < known && !word.by_most {
            // One that was cut off and tells of old times; of sentinels that were set up anew, most say the same.
            return Err(StoreError::NotPrimary);
        }
        if state.primary.as_ref().is_none_or(|(primary, _)| *primary != word.primary) {
            if state.primary.is_some() {
                tracing::info!("the sentinels name another primary: connections to the former are closed");
            }
            state.begin_epoch();
        }
        state.primary = Some((word.primary, epoch));
        self.alone.store(false, Ordering::Relaxed);
        self.confirmed.set(began);
        Ok(())
    }
}
