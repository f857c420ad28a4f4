//! The connections that one tokio runtime has to a server.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Id;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::link::Link;

/// Calls on one connection at a time before another is opened.
const BUSY: usize = 32;

/// The connections of one runtime. A connection works only while its own runtime does, so no other runtime uses it.
pub(super) struct Crew {
    pub(super) runtime: Id,
    pub(super) links: Vec<Arc<Link>>,
    /// One for each connection there may be.
    pub(super) places: Arc<Semaphore>,
    /// Held by the one who opens a connection, so that a server that comes back is not met by all at once.
    pub(super) opening: Arc<tokio::sync::Mutex<()>>,
}

/// When a connection is not used any more.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// After so long without any answer.
    pub(super) patience: Duration,
    /// After so long without use.
    pub(super) idle: Option<Duration>,
}

/// A connection to use.
pub(super) enum Best {
    Ready(Arc<Link>),
    /// It can be used; a further one would be quicker.
    Busy(Arc<Link>),
    None,
}

impl Crew {
    pub(super) fn new(runtime: Id, most: usize) -> Crew {
        Crew { runtime, links: Vec::new(), places: Arc::new(Semaphore::new(most)), opening: Arc::default() }
    }

    /// The usable one with the fewest calls. Those that are no longer usable are closed.
    pub(super) fn best(&mut self, now: Instant, limits: Limits) -> Best {
        let Limits { patience, idle } = limits;
        // A silent one on which others wait is theirs to judge.
        let usable = |link: &Arc<Link>| {
            link.is_usable(now, idle) && (link.load() > 0 || !link.is_silent(now, patience))
        };
        if !self.links.iter().all(usable) {
            self.links.extract_if(.., |link| !usable(link)).for_each(|link| link.close());
        }
        let best = self.links.iter().min_by_key(|link| (link.is_silent(now, patience), link.load()));
        let Some(best) = best.map(Arc::clone) else { return Best::None };
        if self.places.available_permits() == 0 {
            return Best::Ready(best);
        }
        if best.is_silent(now, patience) {
            return Best::None;
        }
        if best.load() < BUSY { Best::Ready(best) } else { Best::Busy(best) }
    }

    /// True if nobody needs it: all connections are closed, and none is being opened.
    pub(super) fn is_over(&self) -> bool {
        self.links.iter().all(|link| link.is_closed())
            && Arc::strong_count(&self.places) == 1
            && Arc::strong_count(&self.opening) == 1
    }

    pub(super) fn close(&mut self) {
        for link in self.links.drain(..) {
            link.close();
        }
    }
}
