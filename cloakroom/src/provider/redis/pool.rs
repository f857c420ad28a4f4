//! The connections to one server: as few as do, as many as are allowed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connect::{Connector, Purpose};
use super::error::StoreError;
use super::failure::{Deadline, Failure};
use super::link::Link;
use super::sentinel;
use super::settings::{Address, Settings};

/// Calls on one connection at a time before another is opened.
const BUSY: usize = 32;
/// What a connection has to answer in when a new one beside it has been answered: a server that was stopped answers both at once.
const GRACE: Duration = Duration::from_millis(50);

/// The connections to a server.
pub(super) struct Pool {
    target: Target,
    connector: Arc<Connector>,
    links: Mutex<Vec<Arc<Link>>>,
    /// One for each connection there may be.
    places: Arc<Semaphore>,
    /// Held by whoever opens one, so that a server that comes back is not met by all at once.
    opening: Arc<tokio::sync::Mutex<()>>,
    patience: Duration,
    /// A silence from which on another connection is tried.
    silence: Duration,
    idle: Option<Duration>,
}

/// Which server it is.
pub(super) enum Target {
    Address(Address),
    /// The one that the sentinels call the primary; asked anew for each connection.
    Primary {
        sentinels: Vec<Address>,
        master: Box<str>,
    },
}

impl Pool {
    pub(super) fn new(target: Target, connector: Arc<Connector>, settings: &Settings) -> Pool {
        Pool {
            target,
            connector,
            links: Mutex::default(),
            places: Arc::new(Semaphore::new(settings.pool)),
            opening: Arc::default(),
            patience: settings.call_timeout,
            // While the server waits for its replicas, it says nothing on the connection that asked.
            silence: settings.call_timeout / 8 + settings.wait.map_or(Duration::ZERO, |wait| wait.limit),
            idle: settings.idle_timeout,
        }
    }

    /// A connection to send something on at once: none where one is to be opened first.
    pub(super) fn ready(&self, now: Instant) -> Option<Arc<Link>> {
        self.best(now).filter(|link| self.will_do(link))
    }

    /// Whether another connection beside the best one would not help, or may not be.
    fn will_do(&self, best: &Link) -> bool {
        best.load() < BUSY || self.places.available_permits() == 0
    }

    /// A connection to send something on; opened where that is worth it.
    pub(super) async fn link(&self) -> Result<Arc<Link>, StoreError> {
        let Some(busy) = self.best(Instant::now()) else {
            let _opening = self.opening.lock().await;
            // Whoever held this before may have opened one.
            return match self.best(Instant::now()) {
                Some(link) => Ok(link),
                None => self.open().await,
            };
        };
        if self.will_do(&busy) {
            return Ok(busy);
        }
        // There is one that works; another is only for speed.
        let Ok(_opening) = self.opening.try_lock() else { return Ok(busy) };
        Ok(self.open().await.unwrap_or(busy))
    }

    /// The usable one with the fewest calls. Those that are no longer usable are closed.
    fn best(&self, now: Instant) -> Option<Arc<Link>> {
        let mut links = self.links.lock();
        let usable = |link: &Arc<Link>| link.is_usable(now, self.patience, self.idle);
        if !links.iter().all(usable) {
            links.extract_if(.., |link| !usable(link)).for_each(|link| link.close());
        }
        links.iter().min_by_key(|link| link.load()).map(Arc::clone)
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

    /// Opens another connection beside one that is silent. If the new one is answered and the old one is not, it is not the server that
    /// is slow: the old connection is dead, and whoever waits on it need not wait any longer.
    fn suspect(self: &Arc<Self>, link: &Arc<Link>) {
        if !link.is_silent(Instant::now(), self.silence) {
            return;
        }
        let Ok(opening) = Arc::clone(&self.opening).try_lock_owned() else { return };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let (pool, link) = (Arc::clone(self), Arc::clone(link));
        tokio::spawn(async move {
            if pool.open_in(place).await.is_ok() {
                tokio::time::sleep(GRACE).await;
                if link.is_silent(Instant::now(), pool.silence) {
                    link.close();
                }
            }
            drop(opening);
        });
    }

    async fn open(&self) -> Result<Arc<Link>, StoreError> {
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => self.open_in(place).await,
            Err(_) => Err(StoreError::NoNode),
        }
    }

    async fn open_in(&self, place: OwnedSemaphorePermit) -> Result<Arc<Link>, StoreError> {
        let link = self.open_for(Purpose::Data).await?;
        link.hold(place);
        let link = Arc::new(link);
        self.links.lock().push(Arc::clone(&link));
        Ok(link)
    }

    /// A connection that is none of the pool's.
    pub(super) async fn open_for(&self, purpose: Purpose) -> Result<Link, StoreError> {
        match &self.target {
            Target::Address(address) => self.connector.open(address, purpose).await,
            Target::Primary { sentinels, master } => {
                let address = sentinel::primary(&self.connector, sentinels, master).await?;
                let link = self.connector.open(&address, purpose).await?;
                sentinel::check_primary(&link, self.patience).await?;
                Ok(link)
            }
        }
    }

    /// Closes every connection: the server is not what it was.
    pub(super) fn close_all(&self) {
        for link in self.links.lock().drain(..) {
            link.close();
        }
    }
}
