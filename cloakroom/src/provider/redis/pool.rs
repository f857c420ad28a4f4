//! The pool of connections to one server. All its connections lead to the same server at any time.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::atomic_instant::AtomicInstant;
use super::connection::RedisConnection;
use super::connector::{Purpose, RedisConnector};
use super::error::StoreError;
use super::failure::{Deadline, Failure};
use super::runtime_pool::{ConnectionLimits, RuntimePool, Selection};
use super::sentinel::{self, LEASE, PrimaryReport, SentinelClient, SentinelGroup};
use super::settings::{RedisSettings, ServerAddress};
use crate::provider::Watcher;

/// The time in which a silent connection must answer once a new one beside it was answered. A server that was stopped and
/// goes on answers both at once.
const GRACE: Duration = Duration::from_millis(50);
/// The number of checks within the grace. A process that gets the processor late may find a timer expired and the answer
/// not yet read. Several checks in a row do not fail that way.
const CHECKS: u32 = 5;

/// The interval at which an address in use is checked: does it still lead to the same server?
const PROBE: Duration = Duration::from_secs(10);

/// The connections to one server, shared by all runtimes of the process.
pub(super) struct ServerPool {
    target: Target,
    connector: Arc<RedisConnector>,
    state: Mutex<PoolState>,
    most: usize,
    limits: ConnectionLimits,
    /// The silence of a connection after which another connection is tried.
    silence: Duration,
    /// Numbers the connections in the order in which they were begun. See `identify`.
    opened_count: AtomicU64,
    /// The time of the last check where the address leads.
    probed: AtomicInstant,
    // The next four are for sentinels.
    /// The start of the last round in which the sentinels confirmed the primary.
    confirmed: AtomicInstant,
    /// Held while a call asks the sentinels.
    confirming: tokio::sync::Mutex<()>,
    /// The number of the current watch task.
    watch: AtomicU64,
    /// True while no sentinel can be reached.
    sentinels_lost: AtomicBool,
}

/// The server that the pool connects to.
pub(super) enum Target {
    /// The server behind an address. Another server may take its place.
    Address(ServerAddress),
    /// A node of a cluster. The other nodes tell where its slots have moved.
    Node(ServerAddress),
    /// The server that the sentinels name as the primary.
    Primary(Arc<SentinelGroup>),
}

/// The server that the connections lead to. When another server takes its place, a new epoch begins and every connection
/// to the former server is closed.
struct PoolState {
    epoch: u64,
    /// The primary, and the number of the failover that promoted it.
    primary: Option<(ServerAddress, u64)>,
    /// The server's `run_id`, and the number of the connection on which it was read.
    run_id: Option<(Box<str>, u64)>,
    runtimes: Vec<RuntimePool>,
    /// Connections for invalidations. Calls do not share them.
    invalidations: Vec<Weak<RedisConnection>>,
    watchers: Vec<Weak<dyn Watcher>>,
}

/// A new connection, and the epoch in which it was opened.
pub(super) struct NewConnection {
    pub(super) connection: RedisConnection,
    pub(super) epoch: u64,
}

impl PoolState {
    /// Begins a new epoch, since another server has taken the place of the former one.
    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.run_id = None;
        for runtime_pool in &mut self.runtimes {
            runtime_pool.close();
        }
        for connection in self.invalidations.drain(..).filter_map(|connection| connection.upgrade()) {
            connection.close();
        }
        // No invalidations arrive any more for records that were read from the former server.
        self.watchers.retain(|watcher| watcher.strong_count() > 0);
        for watcher in self.watchers.iter().filter_map(Weak::upgrade) {
            watcher.deaf();
        }
    }
}

impl ServerPool {
    pub(super) fn new(
        target: Target,
        connector: Arc<RedisConnector>,
        settings: &RedisSettings,
    ) -> ServerPool {
        let state = PoolState {
            epoch: 0,
            primary: None,
            run_id: None,
            runtimes: Vec::new(),
            invalidations: Vec::new(),
            watchers: Vec::new(),
        };
        ServerPool {
            target,
            connector,
            state: Mutex::new(state),
            most: settings.pool,
            limits: ConnectionLimits { silence: settings.call_timeout, idle: settings.idle_timeout },
            // While a `WAIT` runs, the server does not answer on that connection.
            silence: settings.call_timeout / 8 + settings.wait.map_or(Duration::ZERO, |wait| wait.limit),
            opened_count: AtomicU64::new(0),
            probed: AtomicInstant::none(),
            confirmed: AtomicInstant::none(),
            confirming: tokio::sync::Mutex::default(),
            watch: AtomicU64::new(0),
            sentinels_lost: AtomicBool::new(false),
        }
    }

    fn group(&self) -> Option<&Arc<SentinelGroup>> {
        match &self.target {
            Target::Address(_) | Target::Node(_) => None,
            Target::Primary(group) => Some(group),
        }
    }

    /// Returns a connection that can be used at once. Returns `None` if one must be opened or the sentinels must be asked first.
    pub(super) fn ready(self: &Arc<Self>, now: Instant) -> Option<Arc<RedisConnection>> {
        if !self.is_confirmed(now) {
            return None;
        }
        if self.probed.is_past(now, PROBE) {
            self.probe(now);
        }
        match self.select(now) {
            Selection::Ready(connection) => Some(connection),
            Selection::Busy(_) | Selection::None => None,
        }
    }

    /// Opens a new connection in a task of its own, to check whether the address leads to another server now.
    fn probe(self: &Arc<Self>, now: Instant) {
        self.probed.set(now);
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = pool.connect(Purpose::Data).await {
                tracing::debug!(%error, "could not check whether the address still leads to the same Redis server");
            }
        });
    }

    fn select(&self, now: Instant) -> Selection {
        let runtime = Handle::current().id();
        let mut state = self.state.lock();
        let runtime_pool = state.runtimes.iter_mut().find(|runtime_pool| runtime_pool.runtime == runtime);
        runtime_pool.map_or(Selection::None, |runtime_pool| runtime_pool.select(now, self.limits))
    }

    /// Returns a connection for a call. Opens one if there is none, or if all others are busy.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Arc<RedisConnection>, StoreError> {
        self.confirm().await?;
        let opening = self.with_runtime_pool(|runtime_pool| Arc::clone(&runtime_pool.opening));
        match self.select(Instant::now()) {
            Selection::Ready(connection) => Ok(connection),
            Selection::Busy(busy) => {
                // One connection works. Another one only adds speed.
                let Ok(_opening) = opening.try_lock() else { return Ok(busy) };
                Ok(self.open().await.unwrap_or(busy))
            }
            Selection::None => {
                // The holder's future may not be polled any more. So the wait is bounded by the time that opening takes.
                let _opening = tokio::time::timeout(self.connector.limit(), opening.lock()).await;
                match self.select(Instant::now()) {
                    Selection::Ready(connection) | Selection::Busy(connection) => Ok(connection),
                    Selection::None => self.open().await,
                }
            }
        }
    }

    /// Runs `what` on the pool of the current runtime. Removes the pools of runtimes that have ended.
    fn with_runtime_pool<T>(&self, what: impl FnOnce(&mut RuntimePool) -> T) -> T {
        let runtime = Handle::current().id();
        let mut state = self.state.lock();
        state.runtimes.retain(|runtime_pool| runtime_pool.runtime == runtime || !runtime_pool.is_unused());
        if !state.runtimes.iter().any(|runtime_pool| runtime_pool.runtime == runtime) {
            state.runtimes.push(RuntimePool::new(runtime, self.most));
        }
        let permit =
            state.runtimes.iter().position(|runtime_pool| runtime_pool.runtime == runtime).unwrap_or(0);
        what(&mut state.runtimes[permit])
    }

    /// Waits for the reply to a call until `deadline`. Checks the connection each time the server has been silent for a while.
    pub(super) async fn wait_for_reply<T>(
        self: &Arc<Self>,
        connection: &Arc<RedisConnection>,
        mut call: Pin<&mut impl Future<Output = T>>,
        began: Instant,
        deadline: Deadline,
    ) -> Result<T, Failure> {
        let mut next_check = began;
        loop {
            next_check += self.silence;
            match tokio::time::timeout_at(next_check.min(deadline.at()), call.as_mut()).await {
                Ok(answer) => return Ok(answer),
                Err(_) if deadline.is_over() => return Err(deadline.late()),
                Err(_) => self.check_liveness(connection),
            }
        }
    }

    /// Opens another connection beside a silent one. If the server answers on the new connection and not on the old one, the
    /// server is not slow: the old connection is dead, and is closed.
    fn check_liveness(self: &Arc<Self>, connection: &Arc<RedisConnection>) {
        let now = Instant::now();
        connection.expect_answer(now);
        if !connection.is_silent(now, self.silence) {
            return;
        }
        let Some(check) = connection.begin_liveness_check() else { return };
        let (pool, connection) = (Arc::clone(self), Arc::clone(connection));
        tokio::spawn(async move {
            let _check = check;
            let permit = pool
                .with_runtime_pool(|runtime_pool| Arc::clone(&runtime_pool.permits))
                .try_acquire_owned()
                .ok();
            let Ok(opened) = pool.connect(Purpose::Data).await else { return };
            // Between two checks the server must answer on the new connection.
            for _ in 0..CHECKS {
                tokio::time::sleep(GRACE / CHECKS).await;
                if !connection.is_silent(Instant::now(), pool.silence) {
                    break;
                }
                if opened.connection.ask(redis::cmd("PING"), pool.connector.limit()).await.is_err() {
                    return;
                }
            }
            if connection.is_silent(Instant::now(), pool.silence) {
                connection.close();
            }
            // If the pool was full, the permit of the dead connection is free now. If the old one lives, there is no permit.
            let permit = permit.or_else(|| {
                pool.with_runtime_pool(|runtime_pool| Arc::clone(&runtime_pool.permits))
                    .try_acquire_owned()
                    .ok()
            });
            if let Some(permit) = permit {
                let _ = pool.add_connection(opened, permit);
            }
        });
    }

    async fn open(self: &Arc<Self>) -> Result<Arc<RedisConnection>, StoreError> {
        let permits = self.with_runtime_pool(|runtime_pool| Arc::clone(&runtime_pool.permits));
        let Ok(permit) = permits.acquire_owned().await else { return Err(StoreError::NoNode) };
        let opened = self.connect(Purpose::Data).await?;
        self.add_connection(opened, permit)
    }

    /// Adds a connection to those that calls share. Fails if another server has taken the place of the one it leads to.
    fn add_connection(
        &self,
        opened: NewConnection,
        permit: OwnedSemaphorePermit,
    ) -> Result<Arc<RedisConnection>, StoreError> {
        let runtime = Handle::current().id();
        let mut state = self.state.lock();
        if state.epoch != opened.epoch {
            return Err(StoreError::NotPrimary);
        }
        opened.connection.attach_permit(permit);
        let connection = Arc::new(opened.connection);
        match state.runtimes.iter_mut().find(|runtime_pool| runtime_pool.runtime == runtime) {
            Some(runtime_pool) => runtime_pool.connections.push(Arc::clone(&connection)),
            None => return Err(StoreError::NotPrimary),
        }
        Ok(connection)
    }

    /// Opens a connection, and identifies the server it leads to. The pool does not hold it yet.
    pub(super) async fn connect(self: &Arc<Self>, purpose: Purpose) -> Result<NewConnection, StoreError> {
        let number = self.opened_count.fetch_add(1, Ordering::Relaxed);
        let address = match &self.target {
            Target::Address(address) | Target::Node(address) => address.clone(),
            Target::Primary(group) => {
                self.confirm().await?;
                let primary = self.state.lock().primary.clone();
                primary.ok_or_else(|| StoreError::NoPrimary { master: group.master.clone() })?.0
            }
        };
        let opened = async {
            let (connection, info) = self.connector.open(&address, purpose).await?;
            if self.group().is_some() {
                sentinel::check_primary(&connection, self.connector.limit()).await?;
            }
            Ok((connection, info))
        };
        // A server that cannot be reached, or is not a primary, may have been replaced.
        let (connection, info) = opened.await.inspect_err(|_| self.require_confirmation())?;
        let epoch = self.identify(&address, info.run_id(), number)?;
        Ok(NewConnection { connection, epoch })
    }

    /// Returns the epoch of a new connection to `address`, on which the server reported `run_id`.
    ///
    /// Another server may take over an address. The connection that was begun last decides which server is current.
    fn identify(
        &self,
        address: &ServerAddress,
        run_id: Option<&str>,
        number: u64,
    ) -> Result<u64, StoreError> {
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
                        "another Redis server answers at the same address: connections to the former server are closed"
                    );
                    state.begin_epoch();
                }
                state.run_id = Some((run_id.into(), number));
            }
        }
        Ok(state.epoch)
    }

    /// Adds a connection for invalidations, so that it is closed with its epoch. Calls `listen` under the same lock: no epoch
    /// can end between the two.
    pub(super) fn add_invalidations(
        &self,
        opened: NewConnection,
        watcher: &Weak<dyn Watcher>,
        listen: impl FnOnce(),
    ) -> Result<Arc<RedisConnection>, StoreError> {
        let mut state = self.state.lock();
        if state.epoch != opened.epoch {
            return Err(StoreError::NotPrimary);
        }
        let connection = Arc::new(opened.connection);
        state.invalidations.retain(|connection| connection.strong_count() > 0);
        state.invalidations.push(Arc::downgrade(&connection));
        if !state.watchers.iter().any(|known| known.ptr_eq(watcher)) {
            state.watchers.push(Weak::clone(watcher));
        }
        listen();
        Ok(connection)
    }

    /// Reacts to a failed call on `connection`: the server may have been replaced.
    pub(super) fn handle_failure(&self, connection: &Arc<RedisConnection>, failure: &Failure) {
        let code = match failure {
            Failure::NotSent(_) => return,
            Failure::Late(_) => None,
            Failure::Call(error) | Failure::Broken(error) => error.code(),
        };
        match code {
            // The server was the primary and is now a replica.
            Some("READONLY" | "MASTERDOWN") => self.abandon_server(connection),
            // Its replicas may follow another primary, or the server is gone.
            Some("NOREPLICAS") | None => self.require_confirmation(),
            Some(_) => {}
        }
    }

    /// Closes every connection to the server that `connection` leads to, unless that was done before.
    fn abandon_server(&self, connection: &Arc<RedisConnection>) {
        self.require_confirmation();
        let mut state = self.state.lock();
        let is_shared = |runtime_pool: &RuntimePool| {
            runtime_pool.connections.iter().any(|known| Arc::ptr_eq(known, connection))
        };
        if state.runtimes.iter().any(is_shared) {
            state.begin_epoch();
        }
    }
}

/// The confirmation of the primary by the sentinels.
impl ServerPool {
    /// Returns true if the sentinels have confirmed the primary recently, or if there are no sentinels.
    fn is_confirmed(&self, now: Instant) -> bool {
        self.group().is_none() || self.confirmed.is_within(now, LEASE)
    }

    /// Makes the next call ask the sentinels first.
    pub(super) fn require_confirmation(&self) {
        self.confirmed.clear();
    }

    /// Asks the sentinels, unless they have confirmed the primary recently.
    pub(super) async fn confirm(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(group) = self.group() else { return Ok(()) };
        if self.is_confirmed(Instant::now()) {
            return Ok(());
        }
        // As with `opening`, the holder's future may not be polled any more. So the wait is bounded.
        let _one = tokio::time::timeout(self.connector.limit() * 2, self.confirming.lock()).await;
        if self.is_confirmed(Instant::now()) {
            return Ok(());
        }
        let began = Instant::now();
        match sentinel::ask_all(&self.connector, group).await {
            Ok(report) => self.apply_report(report, began)?,
            Err(error) => self.keep_primary(error, began).await?,
        }
        // The previous watch task has not kept up, or its runtime has ended.
        let number = self.watch.fetch_add(1, Ordering::SeqCst) + 1;
        let (connector, group) = (Arc::clone(&self.connector), Arc::clone(group));
        tokio::spawn(sentinel::watch(Arc::downgrade(self), connector, group, number));
        Ok(())
    }

    /// Keeps the known primary while no sentinel answers, if it reports the role of a primary.
    async fn keep_primary(&self, error: StoreError, began: Instant) -> Result<(), StoreError> {
        if self.state.lock().primary.is_none() {
            return Err(error);
        }
        if let Selection::Ready(connection) | Selection::Busy(connection) = self.select(began) {
            let role = sentinel::check_primary(&connection, self.connector.limit()).await;
            if let Err(StoreError::NotPrimary) = role {
                self.abandon_server(&connection);
            }
            role?;
        }
        if !self.sentinels_lost.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "no sentinel answers: a failover would be noticed late");
        }
        self.confirmed.set(began);
        Ok(())
    }
}

impl SentinelClient for ServerPool {
    fn is_current_watch(&self, number: u64) -> bool {
        self.watch.load(Ordering::SeqCst) == number
    }

    /// Takes over a report that was asked for at `began`, and begins a new epoch if it names another primary.
    ///
    /// The lease counts from `began`, not from the answer: the sentinels may have decided otherwise right after they answered.
    fn apply_report(&self, report: PrimaryReport, began: Instant) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let known = state.primary.as_ref().map_or(0, |(_, epoch)| *epoch);
        let epoch = report.epoch.unwrap_or(known);
        if epoch < known && !report.by_majority {
            // A sentinel that was cut off reports an old state. If the sentinels were set up anew, a majority agrees.
            return Err(StoreError::NotPrimary);
        }
        if state.primary.as_ref().is_none_or(|(primary, _)| *primary != report.primary) {
            if state.primary.is_some() {
                tracing::info!(
                    "the sentinels name another primary: connections to the former one are closed"
                );
            }
            state.begin_epoch();
        }
        state.primary = Some((report.primary, epoch));
        self.sentinels_lost.store(false, Ordering::Relaxed);
        self.confirmed.set(began);
        Ok(())
    }
}
