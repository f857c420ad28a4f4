//! Tests of the PostgreSQL provider on a real server: the contract, the cost of each operation, and failures of the server.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "postgres/connect.rs"]
mod connect;
#[path = "postgres/costs.rs"]
mod costs;
#[path = "postgres/crosstalk.rs"]
mod crosstalk;
#[path = "postgres/hostile.rs"]
mod hostile;
#[path = "postgres/index.rs"]
mod index;
#[path = "postgres/model.rs"]
mod model;
#[path = "postgres/near_cache.rs"]
mod near_cache;
#[path = "postgres/pooler.rs"]
mod pooler;
#[path = "postgres/runtimes.rs"]
mod runtimes;
#[path = "postgres/server.rs"]
mod server;
#[path = "postgres/tables.rs"]
mod tables;
#[path = "postgres/troubles.rs"]
mod troubles;
#[path = "postgres/unreadable.rs"]
mod unreadable;

use std::time::Duration;

use cloakroom::testkit::{Part, Store};
use cloakroom::{Clock, PostgresProvider};
use server::{a_table, over_socket, over_tls, plain};

cloakroom::conformance!(
    #[ignore = "needs postgres: cargo xtask test"]
    on_tcp,
    |clock| async move { a_store(&plain(), &clock, 1).await }
);

cloakroom::conformance!(
    #[ignore = "needs postgres: cargo xtask test"]
    on_tls,
    |clock| async move { a_store(&over_tls(), &clock, 1).await }
);

cloakroom::conformance!(
    #[ignore = "needs postgres: cargo xtask test"]
    on_a_socket,
    |clock| async move { a_store(&over_socket(), &clock, 1).await }
);

// Two handles stand for two processes. Neither may cache what the other changes.
cloakroom::conformance!(
    #[ignore = "needs postgres: cargo xtask test"]
    from_two_sides,
    |clock| async move { a_store(&plain(), &clock, 2).await }
);

async fn a_store(url: &str, clock: &Clock, handles: usize) -> Store {
    let table = a_table();
    let open = async || {
        let builder = PostgresProvider::builder(url).table(&table).pool(5);
        // The suite tests the contract. A long deadline allows for a busy machine.
        let builder = builder.clock(clock.clone()).deadline(Duration::from_secs(20));
        builder
            .connect_timeout(Duration::from_secs(20))
            .connect()
            .await
            .expect("the server accepts the connection")
    };
    let store = Store::new(open().await);
    let store = if handles == 2 {
        store.with_second(open().await)
    } else {
        store.without(Part::Second, "from_two_sides has it")
    };
    let why = "a server setting would break the concurrent tests; settings.rs has a server of its own";
    let store = store.without(Part::Full, why).without(Part::ReadOnly, why);
    store.without(Part::Planting, "unreadable.rs plants unreadable rows")
}
