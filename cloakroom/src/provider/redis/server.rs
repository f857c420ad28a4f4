//! What a server says of itself: whether it is new enough, and whether it may throw sessions away.

use redis::{Cmd, Value};

use super::call::Caller;
use super::error::StoreError;
use super::settings::Topology;

/// The oldest version that this is written for. Scripts that ask for the time and then write need 5.0; nobody mends what is older
/// than 6.2.
const OLDEST: (u32, u32) = (6, 2);

/// Asks every server that holds sessions, refuses what is too old or something else than it was called, and warns of an eviction policy
/// that drops live sessions.
pub(super) async fn inspect(caller: &Caller, topology: &Topology) -> Result<(), StoreError> {
    for partition in caller.primaries().await? {
        match caller.read(partition, Cmd::new().arg("INFO").clone()).await {
            Ok(info) => check(&text(info)?, topology)?,
            Err(StoreError::Reply { code, .. }) if code == "NOPERM" => {
                tracing::warn!(
                    "this user may not ask Redis for INFO: its version and maxmemory-policy are not checked"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn text(info: Value) -> Result<String, StoreError> {
    redis::from_redis_value(info).map_err(|_| StoreError::Form { expected: "INFO" })
}

fn check(info: &str, topology: &Topology) -> Result<(), StoreError> {
    let of = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    // Valkey says 7.2.4 here, the Redis that it began from.
    let version = of("redis_version").unwrap_or("another kind of server");
    if !is_new_enough(version) {
        return Err(StoreError::Version { found: version.chars().take(40).collect() });
    }
    if of("cluster_enabled") == Some("1") && !matches!(topology, Topology::Cluster(_)) {
        return Err(StoreError::Topology { expected: "a server of its own", found: "the node of a cluster" });
    }
    if let Some(policy) = of("maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")) {
        tracing::warn!(
            policy,
            "Redis may drop live sessions, and with them what keeps them countable, when its memory is full: \
             set maxmemory-policy to noeviction, or give sessions a server of their own"
        );
    }
    Ok(())
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let version = (parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0));
    version >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::super::settings::Address;
    use super::*;

    fn server() -> Topology {
        Topology::Server(Address::Unix("/socket".into()))
    }

    #[test]
    fn a_server_before_6_2_is_refused_with_what_to_do() {
        for (version, fits) in [
            ("6.2.0", true),
            ("7.0.15", true),
            ("8.2.1", true),
            ("10.0", true),
            ("6.0.20", false),
            ("5.0.14", false),
        ] {
            let info = format!("# Server\r\nredis_version:{version}\r\ncluster_enabled:0\r\n");
            assert_eq!(check(&info, &server()).is_ok(), fits, "{version}");
        }
        let error = check("redis_version:6.0.20\r\n", &server()).unwrap_err().to_string();
        assert_eq!(error, "expected Redis 6.2 or later, or Valkey, found 6.0.20; use a newer server");
        assert!(check("# Other\r\n", &server()).unwrap_err().to_string().contains("another kind of server"));
    }

    #[test]
    fn a_clusters_node_is_no_server_of_its_own() {
        let info = "redis_version:7.0.15\r\ncluster_enabled:1\r\n";
        assert!(check(info, &Topology::Cluster(vec![])).is_ok());
        let error = check(info, &server()).unwrap_err().to_string();
        assert!(error.contains("found the node of a cluster"), "{error}");
    }
}
