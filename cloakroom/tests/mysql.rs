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
#[path = "mysql/runtimes.rs"]
mod runtimes;
#[path = "mysql/server.rs"]
mod server;
#[path = "mysql/settings.rs"]
mod settings;
#[path = "mysql/tables.rs"]
mod tables;
#[path = "mysql/troubles.rs"]
mod troubles;
#[path = "mysql/unreadable.rs"]
mod unreadable;
#[path = "mysql/visitor.rs"]
mod visitor;

use std::time::Duration;

use cloakroom::testkit::{Part, Store};
use cloakroom::{Clock, MySqlProvider};
use server::{a_table, over_socket, over_tls, plain};

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
    let table = a_table();
    let open = async || {
        let builder = MySqlProvider::builder(dsn).table(&table);
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
