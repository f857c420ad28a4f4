//! A pool of connections to a SQL server.
//!
//! `guide/mysql.md` says why this is not the driver's pool, with the measurement. In short: the driver's pool pings a connection after every
//! use, reuses a connection whose call was dropped in the middle of a reply, and shares connections between runtimes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::locks::Mutex;

/// The time after which an idle connection is closed, so that the connections of a burst do not stay open.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(30);
/// The time after which an idle connection is checked before it is used. A check costs a round trip, and a busy site never needs
/// one.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// The operations on connections of one kind.
pub(super) trait SqlConnector: Send + Sync + 'static {
    /// A connection.
    type Connection: Send + 'static;
    /// The error of a connection that failed.
    type Error: Send;

    /// Opens a connection that is ready for use.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Returns true if a connection is known to have ended, without asking the server.
    fn is_closed(&self, _connection: &Self::Connection) -> bool {
        false
    }

    /// Returns true if an idle connection still works.
    fn is_alive(&self, connection: &mut Self::Connection) -> impl Future<Output = bool> + Send;

    /// Closes a connection without waiting for the server.
    fn close(&self, connection: Self::Connection);

    /// Reads the reply to a call that was dropped, and returns the connection if it can be used again. `None` closes it at once.
    fn recover(&self, _connection: Self::Connection) -> Option<Recovery<Self::Connection>> {
        None
    }
}

/// A wait for the reply to a call that was dropped.
pub(super) type Recovery<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

/// A pool with a limit on open connections. It reuses the connection that was used last.
///
/// A connection serves only calls on the runtime that opened it, since that runtime drives its socket. A call on another runtime would
/// wait for ever while the first one has nothing to run, and would fail once it has ended.
pub(super) struct SqlPool<C: SqlConnector> {
    connector: C,
    permits: Arc<Semaphore>,
    size: usize,
    checks: bool,
    idle: IdleList<C::Connection>,
}

type IdleList<T> = Arc<Mutex<Vec<Idle<T>>>>;

/// A connection that no call uses, the time since then, and the runtime that drives it.
struct Idle<T> {
    connection: T,
    since: Instant,
    runtime: Option<Id>,
}

/// Returns the id of the current runtime.
fn current_runtime() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

impl<C: SqlConnector> SqlPool<C> {
    /// The largest size of a pool; more than any server allows.
    pub(super) const MAX_SIZE: usize = 10_000;

    /// Creates a pool of at most `size` connections. With `checks`, idle connections are checked before use.
    pub(super) fn new(connector: C, size: usize, checks: bool) -> Self {
        SqlPool {
            connector,
            permits: Arc::new(Semaphore::new(size)),
            size,
            checks,
            idle: IdleList::default(),
        }
    }

    /// Waits for a free permit and leases a connection for one call. No reply is pending on it.
    pub(super) async fn lease(&self) -> Result<Lease<'_, C>, C::Error> {
        // The semaphore is never closed, so this does not fail.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let runtime = current_runtime();
        while let Some(mut idle) = self.pop(runtime) {
            if self.connector.is_closed(&idle.connection) {
                continue;
            }
            let age = idle.since.elapsed();
            if age < CHECK_AFTER
                || !self.checks
                || Box::pin(self.connector.is_alive(&mut idle.connection)).await
            {
                let connection = Some(idle.connection);
                return Ok(Lease { pool: self, connection, idle_reply: true, runtime, permit });
            }
            // The server has probably restarted, so the other connections have failed too.
            self.drop_idle();
        }
        self.make_room(runtime);
        // Boxed like the check above: both are rare, and 17 KiB of them would be part of every call's future.
        let connection = Some(Box::pin(self.connector.connect()).await?);
        Ok(Lease { pool: self, connection, idle_reply: true, runtime, permit })
    }

    /// Drops all idle connections, after the server has ended or changed.
    pub(super) fn drop_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }

    pub(super) fn connector(&self) -> &C {
        &self.connector
    }

    /// Takes the idle connection that `runtime` used last, and closes those that are too old.
    fn pop(&self, runtime: Option<Id>) -> Option<Idle<C::Connection>> {
        let (last, old) = {
            let mut idle = self.idle.lock();
            let old = idle.iter().take_while(|idle| idle.since.elapsed() > MAX_IDLE).count();
            let old: Vec<_> = idle.drain(..old).collect();
            let last = idle.iter().rposition(|idle| idle.runtime == runtime);
            (last.map(|permit| idle.remove(permit)), old)
        };
        for idle in old {
            self.connector.close(idle.connection);
        }
        last
    }

    /// Closes the least recently used idle connection of another runtime, if a new connection of `runtime` would exceed the limit.
    fn make_room(&self, runtime: Option<Id>) {
        let former = {
            let mut idle = self.idle.lock();
            // The caller holds the permit of the new connection, so `available_permits` does not count it.
            let is_full = idle.len() > self.permits.available_permits();
            let other = idle.iter().position(|idle| idle.runtime != runtime);
            other.filter(|_| is_full).map(|permit| idle.remove(permit))
        };
        if let Some(former) = former {
            self.connector.close(former.connection);
        }
    }
}

impl<C: SqlConnector> fmt::Debug for SqlPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlPool")
            .field("size", &self.size)
            .field("idle", &self.idle.lock().len())
            .finish_non_exhaustive()
    }
}

/// A leased connection. On drop it goes back to the pool. If a reply is still pending on it, it is [recovered](SqlConnector::recover) first
/// or closed, since the next call would read that reply.
pub(super) struct Lease<'a, C: SqlConnector> {
    pool: &'a SqlPool<C>,
    /// `None` only while the lease is dropped.
    connection: Option<C::Connection>,
    idle_reply: bool,
    runtime: Option<Id>,
    // Fields drop after `Drop::drop`, so the next call finds the connection in the pool.
    permit: Option<OwnedSemaphorePermit>,
}

impl<C: SqlConnector> Lease<'_, C> {
    /// Returns the connection for a statement, and marks a reply as pending until [`finish`](Self::finish). It never returns `None`.
    pub(super) fn start(&mut self) -> Option<&mut C::Connection> {
        self.idle_reply = false;
        self.connection.as_mut()
    }

    /// Marks the reply as completely read.
    pub(super) fn finish(&mut self) {
        self.idle_reply = true;
    }

    /// Returns the connection for reading its fields.
    pub(super) fn connection(&self) -> Option<&C::Connection> {
        self.connection.as_ref()
    }
}

#[cfg(feature = "postgres")]
impl<C: SqlConnector> Lease<'_, C> {
    /// Closes the connection instead of giving it back.
    pub(super) fn discard(&mut self) {
        self.connection = None;
    }

    /// Returns the connector that opened the connection.
    pub(super) fn connector(&self) -> &C {
        &self.pool.connector
    }
}

impl<C: SqlConnector> Drop for Lease<'_, C> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let (idle, runtime) = (Arc::clone(&self.pool.idle), self.runtime);
        let give_back = move |connection| {
            idle.lock().push(Idle { connection, since: Instant::now(), runtime });
        };
        if self.idle_reply {
            return give_back(connection);
        }
        let permit = self.permit.take();
        if let (Some(recovery), Ok(runtime)) =
            (self.pool.connector.recover(connection), Handle::try_current())
        {
            runtime.spawn(async move {
                if let Some(connection) = recovery.await {
                    give_back(connection);
                }
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A connector whose connections are numbers. Connections below `gone` have failed.
    #[derive(Default)]
    struct Numbers {
        made: AtomicUsize,
        gone: AtomicUsize,
    }

    impl SqlConnector for Numbers {
        type Connection = usize;
        type Error = ();

        async fn connect(&self) -> Result<usize, ()> {
            Ok(self.made.fetch_add(1, Ordering::SeqCst))
        }

        async fn is_alive(&self, connection: &mut usize) -> bool {
            *connection >= self.gone.load(Ordering::SeqCst)
        }

        fn close(&self, _connection: usize) {}
    }

    #[tokio::test]
    async fn a_connection_with_a_pending_reply_is_closed() {
        let pool = SqlPool::new(Numbers::default(), 2, true);
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(lease.start(), Some(&mut 0));
        lease.finish();
        drop(lease);
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(lease.start(), Some(&mut 0));
        drop(lease);
        assert_eq!(pool.lease().await.unwrap().start(), Some(&mut 1));
    }

    #[tokio::test]
    async fn a_pool_never_exceeds_its_size() {
        let pool = SqlPool::new(Numbers::default(), 2, true);
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
    async fn a_failed_idle_connection_is_replaced() {
        let pool = SqlPool::new(Numbers::default(), 3, true);
        let leases = (pool.lease().await.unwrap(), pool.lease().await.unwrap(), pool.lease().await.unwrap());
        drop(leases);
        pool.connector().gone.store(3, Ordering::SeqCst);
        let before = Instant::now().checked_sub(2 * CHECK_AFTER).unwrap();
        pool.idle.lock().iter_mut().for_each(|idle| idle.since = before);
        assert_eq!(pool.lease().await.unwrap().start(), Some(&mut 3));
        assert!(pool.idle.lock().is_empty());
    }

    fn on_a_runtime<T>(run: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run)
    }

    #[test]
    fn a_connection_serves_only_its_own_runtime() {
        let pool = SqlPool::new(Numbers::default(), 2, true);
        let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let used = async || pool.lease().await.unwrap().connection().copied();
        assert_eq!(one.block_on(used()), Some(0));
        assert_eq!(on_a_runtime(used()), Some(1));
        assert_eq!(one.block_on(used()), Some(0));
        assert_eq!(pool.idle.lock().len(), 2);
        // The pool is full, so it closes the least recently used connection.
        assert_eq!(on_a_runtime(used()), Some(2));
        assert_eq!(pool.idle.lock().iter().map(|idle| idle.connection).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(one.block_on(used()), Some(0));
    }
}
