//! Injects faults into PostgreSQL under load, with two processes over it. Asserts what `redis_faults.rs` asserts.
//!
//! `CLOAKROOM_FAULT_ROUNDS` sets the number of faults, 24 by default: `cargo xtask faults postgres --rounds 2000`

#![cfg(all(unix, feature = "postgres"))]

#[path = "faults/lateness.rs"]
mod lateness;
#[path = "faults/load.rs"]
mod load;
mod support;
#[path = "faults/visitor.rs"]
mod visitor;

use load::{Load, faults, rounds_or, within_of_sql};
use servers::{Postgres, PostgresOptions, Proxy};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs postgres: cargo xtask test"]
async fn postgres_under_faults_loses_nothing_and_comes_back() {
    // The login by password costs a build without optimization so much time that it would hide the recovery.
    let access = vec![format!("host app {} 127.0.0.1/32 trust", Postgres::USER)];
    let mut server = Postgres::with(PostgresOptions { access, ..PostgresOptions::default() });
    let proxy = Proxy::before(server.address());
    let load = Load::start("postgres", &Postgres::url_at(&format!("127.0.0.1:{}", proxy.port()), "pool=8"));
    faults("PostgreSQL", &mut server, &proxy, load, rounds_or(24), within_of_sql).await;
}
