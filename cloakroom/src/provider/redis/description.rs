//! A server's description of itself: is it new enough, and may it throw sessions away?

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;

use super::error::StoreError;
use super::failure::{Failure, first_error};
use super::settings::Topology;

/// The oldest version that this is written for. Scripts that ask for the time and then write need 5.0; nobody mends what is older
/// than 6.2.
const OLDEST: (u32, u32) = (6, 2);

/// A server's description of itself: `INFO`, or nothing where it does not tell.
#[derive(Debug, Default)]
pub(super) struct Description {
    info: Option<String>,
}

/// Remembers if a server may evict what is not over, as far as the servers have told.
#[derive(Debug, Default)]
pub(super) struct Policy {
    warned: AtomicBool,
    evicts: AtomicBool,
}

/// Reads the answer to `INFO`. A server that does not know the command, or a user who may not ask, is described by nothing.
pub(super) fn describe(answers: Vec<Value>) -> Result<Description, StoreError> {
    match first_error(answers) {
        Ok(mut answers) => {
            let info = answers.pop().and_then(|info| redis::from_redis_value::<String>(info).ok());
            Ok(Description { info })
        }
        Err(Failure::Call(error)) if error.code() == Some("NOAUTH") => {
            Err(StoreError::Refused { code: "NOAUTH".to_owned() })
        }
        Err(_) => Ok(Description::default()),
    }
}

impl Description {
    fn of(&self, name: &str) -> Option<&str> {
        let lines = self.info.as_deref()?.lines();
        lines.into_iter().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
    }

    /// A name that another server, or the same after a restart, does not have.
    pub(super) fn run_id(&self) -> Option<&str> {
        self.of("run_id")
    }

    /// Refuses what is too old or something else than it was called.
    pub(super) fn check(&self, topology: &Topology) -> Result<(), StoreError> {
        if self.info.is_none() {
            tracing::warn!(
                "Redis does not answer INFO (renamed, or not allowed to this user): its version and maxmemory-policy are not checked"
            );
            return Ok(());
        }
        // Valkey says 7.2.4 here, the Redis that it began from.
        let version = self.of("redis_version").unwrap_or("another kind of server");
        if !is_new_enough(version) {
            return Err(StoreError::Version { found: version.chars().take(40).collect() });
        }
        if self.of("cluster_enabled") == Some("1") && !matches!(topology, Topology::Cluster(_)) {
            return Err(StoreError::Topology {
                expected: "a server of its own",
                found: "the node of a cluster",
            });
        }
        Ok(())
    }
}

impl Policy {
    /// Warns once of a server that evicts keys when its memory is full.
    pub(super) fn note(&self, description: &Description) {
        let Some(policy) = description.of("maxmemory_policy").filter(|policy| *policy != "noeviction") else {
            return;
        };
        if description.of("maxmemory") != Some("0") {
            self.evicts.store(true, Ordering::Relaxed);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                policy,
                "Redis drops live sessions when its memory is full, and its users are logged out: \
                 set maxmemory-policy to noeviction, or give sessions a server of their own"
            );
        }
    }

    /// True if what was stored may be gone before its time.
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
    use super::super::settings::Address;
    use super::*;

    fn described(info: &str) -> Description {
        Description { info: Some(info.to_owned()) }
    }

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
            assert_eq!(described(&info).check(&server()).is_ok(), fits, "{version}");
        }
        let error = described("redis_version:6.0.20\r\n").check(&server()).unwrap_err().to_string();
        assert_eq!(error, "expected Redis 6.2 or later, or Valkey, found 6.0.20; use a newer server");
        assert!(
            described("# Other\r\n")
                .check(&server())
                .unwrap_err()
                .to_string()
                .contains("another kind of server")
        );
    }

    #[test]
    fn a_clusters_node_is_no_server_of_its_own() {
        let info = "redis_version:7.0.15\r\ncluster_enabled:1\r\n";
        assert!(described(info).check(&Topology::Cluster(vec![])).is_ok());
        let error = described(info).check(&server()).unwrap_err().to_string();
        assert!(error.contains("found the node of a cluster"), "{error}");
    }
}
