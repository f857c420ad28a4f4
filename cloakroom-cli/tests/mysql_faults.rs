//! Injects faults into MariaDB under load, with two processes over it. Asserts what `redis_faults.rs` asserts.
//!
//! `CLOAKROOM_FAULT_ROUNDS` sets the number of faults, 24 by default: `cargo xtask faults mysql --rounds 2000`

#![cfg(all(unix, feature = "mysql"))]

#[path = "faults/lateness.rs"]
mod lateness;
#[path = "faults/load.rs"]
mod load;
mod support;
#[path = "faults/visitor.rs"]
mod visitor;

use std::net::SocketAddr;

use load::{Load, faults, rounds_or, within_of_sql};
use servers::{MariaDb, Proxy};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn mariadb_under_faults_loses_nothing_and_comes_back() {
    let mut server = MariaDb::start();
    let proxy = Proxy::before(server.address());
    let address = format!("tcp({})", SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let load = Load::start("mysql", &MariaDb::dsn_at(&address, "pool=8"));
    faults("MariaDB", &mut server, &proxy, load, rounds_or(24), within_of_sql).await;
}
