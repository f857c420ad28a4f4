//! The Redis provider on real servers: the whole contract on each kind of installation, and what is its own.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "redis/commands.rs"]
mod commands;
#[path = "redis/failover.rs"]
mod failover;
#[path = "redis/fixtures.rs"]
mod fixtures;
#[path = "redis/model.rs"]
mod model;
#[path = "redis/near.rs"]
mod near;
#[path = "redis/own.rs"]
mod own;
#[path = "redis/places.rs"]
mod places;
#[path = "redis/refusals.rs"]
mod refusals;
#[path = "redis/refusing.rs"]
mod refusing;
#[path = "redis/runtimes.rs"]
mod runtimes;
#[path = "redis/users.rs"]
mod users;
use fixtures::{cluster, sentinels, server, socket, tls, two_sides};

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    on_a_server,
    server
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    on_a_server_from_two_sides,
    two_sides
);

cloakroom::conformance!(
    #[ignore = "needs redis-server: cargo xtask test"]
    behind_a_near_cache,
    |clock| async { fixtures::as_elsewhere(near::watching(clock).await) }
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
