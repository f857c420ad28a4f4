//! Tests of the PostgreSQL provider on a real server: the contract, the cost of each operation, and failures of the server.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "postgres/connect.rs"]
mod connect;
#[path = "postgres/costs.rs"]
mod costs;
#[path = "postgres/crosstalk.rs"]
mod crosstalk;
#[path = "postgres/full.rs"]
mod full;
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
#[path = "support/random.rs"]
mod random;
#[path = "postgres/runtimes.rs"]
mod runtimes;
#[path = "postgres/server.rs"]
mod server;
#[path = "support/sql/mod.rs"]
mod sql;
#[path = "postgres/tables.rs"]
mod tables;
#[path = "postgres/troubles.rs"]
mod troubles;
#[path = "postgres/unreadable.rs"]
mod unreadable;

use cloakroom::testkit::Store;
use cloakroom::{Clock, PostgresProvider};
use server::{over_socket, over_tls, plain};
use sql::PATIENCE;

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
    sql::store(handles, async |table: &str| {
        let builder = PostgresProvider::builder(url).table(table).pool(5).clock(clock.clone());
        builder.deadline(PATIENCE).connect_timeout(PATIENCE).connect().await
    })
    .await
}
