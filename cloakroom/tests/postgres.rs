//! Tests of the PostgreSQL provider on a real server: the contract, the cost of each operation, and failures of the server.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "postgres/connect.rs"]
mod connect;
#[path = "postgres/server.rs"]
mod server;

use std::time::Duration;

use cloakroom::testkit::{Part, Store};
use cloakroom::{Clock, PostgresProvider};
use server::{a_table, plain};

cloakroom::conformance!(
    #[ignore = "needs postgres: cargo xtask test"]
    on_tcp,
    |clock| async move { a_store(&plain(), &clock, 1).await }
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
        builder.connect().await.expect("the server accepts the connection")
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
