//! A server's reply to `INFO`: its version, its identity and its eviction policy.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;

use super::error::StoreError;
use super::failure::{Failure, first_error};
use super::settings::Topology;

/// The oldest supported version. Scripts that read the time and then write need 5.0; releases before 6.2 no longer get fixes.
const OLDEST: (u32, u32) = (6, 2);

/// A server's reply to `INFO`, or nothing if the server refuses the command.
#[derive(Debug, Default)]
pub(super) struct ServerInfo {
    info: Option<String>,
}

/// The eviction policies that the servers have reported.
#[derive(Debug, Default)]
pub(super) struct EvictionPolicy {
    warned: AtomicBool,
    evicts: AtomicBool,
}

impl ServerInfo {
    /// Reads the reply to `INFO`. An error reply yields an empty description, since some servers rename or forbid the command.
    pub(super) fn from_replies(replies: Vec<Value>) -> Result<ServerInfo, StoreError> {
        match first_error(replies) {
            Ok(mut replies) => {
                let info = replies.pop().and_then(|info| redis::from_redis_value::<String>(info).ok());
                Ok(ServerInfo { info })
            }
            Err(Failure::Call(error)) if error.code() == Some("NOAUTH") => {
                Err(StoreError::Refused { code: "NOAUTH".to_owned() })
            }
            Err(_) => Ok(ServerInfo::default()),
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.info.as_deref()?.lines();
        lines.into_iter().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
    }

    /// Returns the id of this run of the server. It differs for another server, and for the same one after a restart.
    pub(super) fn run_id(&self) -> Option<&str> {
        self.field("run_id")
    }

    /// Returns an error if the server is too old, or is of another kind than the configuration says.
    pub(super) fn check(&self, topology: &Topology) -> Result<(), StoreError> {
        if self.info.is_none() {
            tracing::warn!(
                "Redis refuses INFO (it is renamed, or this user may not run it): version and maxmemory-policy were not checked"
            );
            return Ok(());
        }
        // Valkey reports 7.2.4 here, the release of Redis that it was forked from.
        let version = self.field("redis_version").unwrap_or("another kind of server");
        if !is_new_enough(version) {
            return Err(StoreError::Version { found: version.chars().take(40).collect() });
        }
        if self.field("cluster_enabled") == Some("1") && !matches!(topology, Topology::Cluster(_)) {
            return Err(StoreError::Topology { expected: "a single server", found: "a node of a cluster" });
        }
        Ok(())
    }
}

impl EvictionPolicy {
    /// Records a server's policy, and warns once if the server evicts keys when its memory is full.
    pub(super) fn note(&self, info: &ServerInfo) {
        let Some(policy) = info.field("maxmemory_policy").filter(|policy| *policy != "noeviction") else {
            return;
        };
        if info.field("maxmemory") != Some("0") {
            self.evicts.store(true, Ordering::Relaxed);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                policy,
                "Redis evicts live sessions when its memory is full, which logs users out: \
                 set maxmemory-policy to noeviction, or give sessions a server of their own"
            );
        }
    }

    /// Returns true if a server may evict sessions before their deadline.
    pub(super) fn evicts(&self) -> bool {
        self.evicts.load(Ordering::Relaxed)
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let version = (parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0));
    version >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::super::settings::ServerAddress;
    use super::*;

    fn described(info: &str) -> ServerInfo {
        ServerInfo { info: Some(info.to_owned()) }
    }

    fn server() -> Topology {
        Topology::Server(ServerAddress::Unix("/socket".into()))
    }

    #[test]
    fn a_server_before_6_2_is_refused_with_advice() {
        let checked = |version: &str| {
            let info = format!("# Server\r\nredis_version:{version}\r\ncluster_enabled:0\r\n");
            described(&info).check(&server()).map_err(|error| error.to_string())
        };
        for version in ["6.2.0", "7.0.15", "8.2.1", "10.0"] {
            assert_eq!(checked(version), Ok(()), "{version}");
        }
        let refused =
            |found| Err(format!("expected Redis 6.2 or later, or Valkey, found {found}; upgrade the server"));
        for version in ["6.0.20", "5.0.14"] {
            assert_eq!(checked(version), refused(version));
        }
        let other = described("# Other\r\n").check(&server()).map_err(|error| error.to_string());
        assert_eq!(other, refused("another kind of server"));
    }

    #[test]
    fn a_node_of_a_cluster_is_refused_as_a_single_server() {
        let info = "redis_version:7.0.15\r\ncluster_enabled:1\r\n";
        described(info).check(&Topology::Cluster(vec![])).unwrap();
        let error = described(info).check(&server()).unwrap_err().to_string();
        assert!(error.contains("found a node of a cluster"), "{error}");
    }
}
