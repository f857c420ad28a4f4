//! The Redis provider on real servers: the whole contract on each kind of installation, and the tests of this provider alone.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "redis/commands.rs"]
mod commands;
#[path = "redis/failover.rs"]
mod failover;
#[path = "redis/fixtures.rs"]
mod fixtures;
#[path = "redis/index_sets.rs"]
mod index_sets;
#[path = "redis/model.rs"]
mod model;
#[path = "redis/near_cache.rs"]
mod near_cache;
#[path = "support/random.rs"]
mod random;
#[path = "redis/refusals.rs"]
mod refusals;
#[path = "redis/refusing.rs"]
mod refusing;
#[path = "redis/runtimes.rs"]
mod runtimes;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/users.rs"]
mod users;
use fixtures::{cluster, sentinels, single, socket, tls, two_handles};

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    on_a_server,
    single
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    on_a_server_with_two_handles,
    two_handles
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    behind_a_near_cache,
    |clock| async { fixtures::without_repeated_parts(near_cache::watching(clock).await) }
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    over_tls,
    tls
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    on_a_socket,
    socket
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    on_a_cluster,
    cluster
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    with_sentinels,
    sentinels
);
