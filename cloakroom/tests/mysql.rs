//! Tests of the MySQL provider on a real MariaDB: the contract, the cost of each operation, and failures of the server.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "mysql/costs.rs"]
mod costs;
#[path = "mysql/crosstalk.rs"]
mod crosstalk;
#[path = "mysql/faults.rs"]
mod faults;
#[path = "mysql/hostile.rs"]
mod hostile;
#[path = "mysql/index.rs"]
mod index;
#[path = "mysql/lists.rs"]
mod lists;
#[path = "mysql/model.rs"]
mod model;
#[path = "support/random.rs"]
mod random;
#[path = "mysql/runtimes.rs"]
mod runtimes;
#[path = "mysql/server.rs"]
mod server;
#[path = "mysql/settings.rs"]
mod settings;
#[path = "support/sql/mod.rs"]
mod sql;
#[path = "mysql/tables.rs"]
mod tables;
#[path = "mysql/troubles.rs"]
mod troubles;
#[path = "mysql/unreadable.rs"]
mod unreadable;
#[path = "mysql/visitor.rs"]
mod visitor;

use cloakroom::testkit::Store;
use cloakroom::{Clock, MySqlProvider};
use server::{over_socket, over_tls, plain};
use sql::PATIENCE;

cloakroom::conformance!(
    #[ignore = "needs mariadbd: cargo xtask test"]
    on_tcp,
    |clock| async move { a_store(&plain(), &clock, 1).await }
);

cloakroom::conformance!(
    #[ignore = "needs mariadbd: cargo xtask test"]
    on_tls,
    |clock| async move { a_store(&over_tls(), &clock, 1).await }
);

cloakroom::conformance!(
    #[ignore = "needs mariadbd: cargo xtask test"]
    on_a_socket,
    |clock| async move { a_store(&over_socket(), &clock, 1).await }
);

// Two handles stand for two processes. Neither may cache what the other changes.
cloakroom::conformance!(
    #[ignore = "needs mariadbd: cargo xtask test"]
    from_two_sides,
    |clock| async move { a_store(&plain(), &clock, 2).await }
);

async fn a_store(dsn: &str, clock: &Clock, handles: usize) -> Store {
    sql::store(handles, async |table: &str| {
        MySqlProvider::builder(dsn).table(table).clock(clock.clone()).deadline(PATIENCE).connect().await
    })
    .await
}
