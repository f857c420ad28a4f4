//! The tests that both SQL servers have to pass. The traits name what differs between the servers.

pub(crate) mod crosstalk;
pub(crate) mod index;
pub(crate) mod runtimes;
pub(crate) mod tables;
pub(crate) mod unreadable;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloakroom::testkit::{Part, Store};
use cloakroom::{Provider, Result};

/// A deadline for a busy machine, where a test is not about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and the provider for it.
pub(crate) trait SqlServer: Sync + 'static {
    type Provider: Provider + Clone + 'static;

    fn address(&self) -> SocketAddr;

    /// Runs statements as the administrator. Returns the result, one line for each row.
    fn sql(&self, statements: &str) -> String;

    /// Returns the connection string of the database at `address`, with parameters such as `table=t&pool=1`.
    fn url_at(&self, address: SocketAddr, params: &str) -> String;

    /// Connects by a connection string, with `limit` for each wait.
    async fn connect(url: &str, limit: Duration) -> Result<Self::Provider>;
}

/// Returns a name that no other table has.
pub(crate) fn a_table() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A table of its own, and a provider for it.
pub(crate) struct Table<S: SqlServer> {
    pub(crate) server: &'static S,
    pub(crate) name: String,
    pub(crate) provider: S::Provider,
}

impl<S: SqlServer> Table<S> {
    pub(crate) async fn new(server: &'static S) -> Self {
        let name = a_table();
        let url = server.url_at(server.address(), &format!("table={name}"));
        let provider = S::connect(&url, PATIENCE).await.unwrap();
        Table { server, name, provider }
    }
}

/// Returns a store for the conformance suite. Each of its `handles`, one or two, is a provider that `open` connects to a table.
pub(crate) async fn store<P: Provider>(handles: usize, open: impl AsyncFn(&str) -> Result<P>) -> Store {
    let table = a_table();
    let connect = async || open(&table).await.expect("the server accepts the connection");
    let store = Store::new(connect().await);
    let store = if handles == 2 {
        store.with_second(connect().await)
    } else {
        store.without(Part::Second, "from_two_sides has it")
    };
    let why = "a server setting would break the concurrent tests; other tests have a server of their own";
    let store = store.without(Part::Full, why).without(Part::ReadOnly, why);
    store.without(Part::Planting, "unreadable.rs plants unreadable rows")
}
