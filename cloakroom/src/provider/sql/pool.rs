//! Connections that are kept for the next call.
//!
//! Why not the driver's own pool: it sends a ping after every use, which doubles what a read costs, and it hands a connection whose call
//! was dropped half-way to the next one, trusting that the rest of the reply can be read off first.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};

/// An idle connection older than this is closed, so that a burst leaves nothing behind for long.
pub(super) const LONGEST_IDLE: Duration = Duration::from_secs(30);
/// An idle connection older than this is asked whether it still stands. The question costs a round trip, so it is asked on
/// quiet sites alone.
const CHECKED_FROM: Duration = Duration::from_secs(1);

/// How connections of one kind are made and looked after.
pub(super) trait Connector: Send + Sync + 'static {
    /// What is kept.
    type Connection: Send + 'static;
    /// Why there is none.
    type Error: Send;

    /// A new connection, ready for use.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Whether a connection that was idle still stands.
    fn stands(&self, connection: &mut Self::Connection) -> impl Future<Output = bool> + Send;

    /// Says goodbye to the server, as far as that needs no waiting.
    fn close(&self, connection: Self::Connection);
}

/// At most so many connections at a time, used last in first out, each by the runtime alone that made it.
///
/// A socket is driven by the runtime it was made on. Another one would wait for ever if that runtime has nothing to run, and fail if it
/// has ended.
pub(super) struct Pool<C: Connector> {
    connector: C,
    places: Semaphore,
    size: usize,
    checks: bool,
    idle: Mutex<Vec<Idle<C::Connection>>>,
}

struct Idle<T> {
    connection: T,
    since: Instant,
    runtime: Option<Id>,
}

/// The runtime that runs this call.
fn this_runtime() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

impl<C: Connector> Pool<C> {
    /// The most connections that a pool can have: more than any server takes.
    pub(super) const MOST: usize = 10_000;

    /// A pool of at most `size` connections; `checks` says whether those that were idle are asked before they are used.
    pub(super) fn new(connector: C, size: usize, checks: bool) -> Self {
        Pool { connector, places: Semaphore::new(size), size, checks, idle: Mutex::default() }
    }

    /// A connection for one call, once there is a place for it. It was in the middle of no reply.
    pub(super) async fn lease(&self) -> Result<Lease<'_, C>, C::Error> {
        // The semaphore is never closed; were it, a call without its place would do no harm.
        let place = self.places.acquire().await.ok();
        let runtime = this_runtime();
        while let Some(mut idle) = self.pop(runtime) {
            let age = idle.since.elapsed();
            if age < CHECKED_FROM || !self.checks || self.connector.stands(&mut idle.connection).await {
                let connection = Some(idle.connection);
                return Ok(Lease { pool: self, connection, settled: true, runtime, _place: place });
            }
            // Most likely the server was restarted, and the others do not stand either.
            self.forget();
        }
        self.make_room(runtime);
        let connection = Some(self.connector.connect().await?);
        Ok(Lease { pool: self, connection, settled: true, runtime, _place: place })
    }

    /// Drops all idle connections: the server has gone, or is another one.
    pub(super) fn forget(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }

    pub(super) fn connector(&self) -> &C {
        &self.connector
    }

    /// The connection that `runtime` used last; those too old for use are closed on the way.
    fn pop(&self, runtime: Option<Id>) -> Option<Idle<C::Connection>> {
        let (last, old) = {
            let mut idle = self.idle.lock();
            let old = idle.iter().take_while(|idle| idle.since.elapsed() > LONGEST_IDLE).count();
            let old: Vec<_> = idle.drain(..old).collect();
            let last = idle.iter().rposition(|idle| idle.runtime == runtime);
            (last.map(|place| idle.remove(place)), old)
        };
        for idle in old {
            self.connector.close(idle.connection);
        }
        last
    }

    /// Closes the connection that another runtime has not used for longest, if there would be one too many with a new one of `runtime`'s.
    fn make_room(&self, runtime: Option<Id>) {
        let former = {
            let mut idle = self.idle.lock();
            // The place of the new one is no longer among those that are free.
            let is_full = idle.len() > self.places.available_permits();
            let other = idle.iter().position(|idle| idle.runtime != runtime);
            other.filter(|_| is_full).map(|place| idle.remove(place))
        };
        if let Some(former) = former {
            self.connector.close(former.connection);
        }
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size)
            .field("idle", &self.idle.lock().len())
            .finish_non_exhaustive()
    }
}

/// A connection in use. It goes back to the pool when it is dropped, unless an exchange was begun and not settled: what
/// the server is still sending belongs to that one, so the connection is closed.
pub(super) struct Lease<'a, C: Connector> {
    pool: &'a Pool<C>,
    /// Taken when dropped.
    connection: Option<C::Connection>,
    settled: bool,
    runtime: Option<Id>,
    // Given back after the connection, so that whoever waits for the place finds it.
    _place: Option<SemaphorePermit<'a>>,
}

impl<C: Connector> Lease<'_, C> {
    /// The connection, for an exchange that [`settle`](Self::settle) has to end. `None` is never seen.
    pub(super) fn begin(&mut self) -> Option<&mut C::Connection> {
        self.settled = false;
        self.connection.as_mut()
    }

    /// The reply was read to its end.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// The connection, to look at.
    pub(super) fn connection(&self) -> Option<&C::Connection> {
        self.connection.as_ref()
    }
}

impl<C: Connector> Drop for Lease<'_, C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.settled
        {
            self.pool.idle.lock().push(Idle { connection, since: Instant::now(), runtime: self.runtime });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Connections are numbers; those below `gone` stand no more.
    #[derive(Default)]
    struct Numbers {
        made: AtomicUsize,
        gone: AtomicUsize,
    }

    impl Connector for Numbers {
        type Connection = usize;
        type Error = ();

        async fn connect(&self) -> Result<usize, ()> {
            Ok(self.made.fetch_add(1, Ordering::SeqCst))
        }

        async fn stands(&self, connection: &mut usize) -> bool {
            *connection >= self.gone.load(Ordering::SeqCst)
        }

        fn close(&self, _connection: usize) {}
    }

    #[tokio::test]
    async fn what_was_settled_comes_back_and_what_was_not_is_dropped() {
        let pool = Pool::new(Numbers::default(), 2, true);
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(lease.begin(), Some(&mut 0));
        lease.settle();
        drop(lease);
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(lease.begin(), Some(&mut 0));
        drop(lease);
        assert_eq!(pool.lease().await.unwrap().begin(), Some(&mut 1));
    }

    #[tokio::test]
    async fn there_are_never_more_than_there_are_places() {
        let pool = Pool::new(Numbers::default(), 2, true);
        let (one, two) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        let third = pool.lease();
        let mut third = std::pin::pin!(third);
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(third.as_mut().poll(cx).is_pending())).await
        );
        drop(one);
        drop(third.await.unwrap());
        drop(two);
        assert_eq!(pool.connector().made.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn idle_connections_that_no_longer_stand_are_replaced() {
        let pool = Pool::new(Numbers::default(), 3, true);
        let leases = (pool.lease().await.unwrap(), pool.lease().await.unwrap(), pool.lease().await.unwrap());
        drop(leases);
        pool.connector().gone.store(3, Ordering::SeqCst);
        let before = Instant::now().checked_sub(2 * CHECKED_FROM).unwrap();
        pool.idle.lock().iter_mut().for_each(|idle| idle.since = before);
        assert_eq!(pool.lease().await.unwrap().begin(), Some(&mut 3));
        assert!(pool.idle.lock().is_empty());
    }

    fn on_a_runtime<T>(run: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run)
    }

    #[test]
    fn a_connection_serves_the_runtime_that_made_it() {
        let pool = Pool::new(Numbers::default(), 2, true);
        let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let used = async || pool.lease().await.unwrap().connection().copied();
        assert_eq!(one.block_on(used()), Some(0));
        assert_eq!(on_a_runtime(used()), Some(1));
        assert_eq!(one.block_on(used()), Some(0));
        assert_eq!(pool.idle.lock().len(), 2);
        // There is room for two, so the one unused for longest makes way.
        assert_eq!(on_a_runtime(used()), Some(2));
        assert_eq!(pool.idle.lock().iter().map(|idle| idle.connection).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(one.block_on(used()), Some(0));
    }
}
