//! The releases of Redis and Valkey that the library promises to work with.

use std::path::{Path, PathBuf};

use super::PACKAGE;
use crate::process::program;

/// The folder where `cargo xtask test` puts the servers that Debian does not have. `xtask/src/wheels.rs` has the same
/// path.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/servers");

/// A release of Redis or Valkey. Only [`Redis70`](Flavor::Redis70) supports TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flavor {
    /// Redis 6.2, the oldest supported release.
    Redis62,
    /// Redis 7.0, the release in Debian.
    #[default]
    Redis70,
    /// Valkey 9.
    Valkey9,
}

impl Flavor {
    /// Returns the path of the server's program.
    ///
    /// # Panics
    /// If the server is not installed.
    pub(crate) fn program(self) -> PathBuf {
        let file = match self {
            Flavor::Redis62 => Path::new(FOLDER).join("redis-6.2/redis-server"),
            Flavor::Redis70 => return program("redis-server", PACKAGE),
            Flavor::Valkey9 => Path::new(FOLDER).join("valkey-9/valkey-server"),
        };
        assert!(file.is_file(), "{self:?} is not installed; run `cargo xtask test`");
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Redis, RedisCluster, RedisOptions, RedisSentinels};

    fn version(flavor: Flavor) -> String {
        let info: String = Redis::with(RedisOptions::of(flavor)).ask(&["INFO", "server"]);
        let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line("valkey_version:").or_else(|| line("redis_version:")).expect("a version")
    }

    #[test]
    #[ignore = "needs Redis 6.2, Redis 7.0 and Valkey 9: cargo xtask test"]
    fn each_server_has_the_version_of_its_name() {
        assert!(version(Flavor::Redis62).starts_with("6.2."));
        assert!(version(Flavor::Redis70).starts_with("7.0."));
        assert!(version(Flavor::Valkey9).starts_with("9."));
    }

    #[test]
    #[ignore = "needs Redis 6.2 and Valkey 9: cargo xtask test"]
    fn each_release_runs_as_a_cluster_and_with_sentinels() {
        for flavor in [Flavor::Redis62, Flavor::Valkey9] {
            assert_eq!(RedisCluster::with(RedisOptions::of(flavor)).primaries(), [0, 1, 2]);
            assert_eq!(RedisSentinels::with(RedisOptions::of(flavor)).primary(), Some(0));
        }
    }
}
