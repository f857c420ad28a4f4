//! A primary, its replicas, and the sentinels that watch them.

use super::{PATIENCE, Redis, RedisOptions, wait};
use crate::{Process, free_port};
use tempfile::TempDir;

const SENTINELS: usize = 3;

/// A primary and two replicas under three sentinels. All are killed when this is dropped.
#[derive(Debug)]
pub struct RedisSentinels {
    nodes: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl RedisSentinels {
    /// The group's name at the sentinels.
    pub const NAME: &'static str = "mymaster";

    /// Starts a group with the default options.
    ///
    /// # Panics
    /// If the group does not answer in time.
    pub fn start() -> RedisSentinels {
        RedisSentinels::with(RedisOptions::default())
    }

    /// Starts a group whose nodes run with these options, and waits until it answers.
    ///
    /// # Panics
    /// If the group does not answer in time.
    pub fn with(options: RedisOptions) -> RedisSentinels {
        let mut options = options;
        options.settings.extend(["--repl-diskless-sync-delay", "0"].map(str::to_owned));
        let primary = Redis::with(options.clone());
        let following =
            ["--replicaof".to_owned(), "127.0.0.1".to_owned(), primary.address().port().to_string()];
        options.settings.extend(following);
        let replicas = (0..2).map(|_| Redis::with(options.clone()));
        let nodes: Vec<_> = std::iter::once(primary).chain(replicas).collect();
        wait("both replicas follow", || {
            let info = nodes[0].ask::<String>(&["INFO", "replication"]);
            info.matches("state=online").count() == 2
        });
        let sentinels = (0..SENTINELS).map(|_| Sentinel::start(&nodes[0], &options)).collect();
        let group = RedisSentinels { nodes, sentinels };
        wait("the sentinels know each other and the replicas", || {
            group.sentinels.iter().all(|sentinel| sentinel.knows_all())
        });
        group
    }

    /// Returns the sentinels' addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect()
    }

    /// Returns a node. Node 0 is the first primary.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&self, n: usize) -> &Redis {
        &self.nodes[n]
    }

    /// Returns a node so that it can be killed.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node_mut(&mut self, n: usize) -> &mut Redis {
        &mut self.nodes[n]
    }

    /// Returns the node that the sentinels report as the primary.
    pub fn primary(&self) -> Option<usize> {
        let port = self.sentinels[0].primary_port()?;
        self.nodes.iter().position(|node| node.address().port() == port)
    }

    /// Waits until two replicas follow the primary.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn await_replicas(&self) {
        wait("two replicas follow the primary", || {
            let info =
                self.primary().and_then(|n| self.nodes[n].try_ask::<String>(&["INFO", "replication"]).ok());
            info.is_some_and(|info| info.contains("role:master") && info.matches("state=online").count() == 2)
        });
    }

    /// Waits until another node than `n` is the primary, for every sentinel and for that node itself.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn await_failover_of(&self, n: usize) {
        let old = self.nodes[n].address().port();
        wait("the sentinels choose another primary", || {
            self.sentinels.iter().all(|sentinel| sentinel.primary_port().is_some_and(|port| port != old))
        });
        wait("the chosen one is a primary", || {
            let chosen = self.primary().map(|n| &self.nodes[n]);
            chosen
                .and_then(|node| node.try_ask::<String>(&["INFO", "replication"]).ok())
                .is_some_and(|info| info.contains("role:master"))
        });
    }
}

impl Sentinel {
    fn start(primary: &Redis, options: &RedisOptions) -> Sentinel {
        let folder = tempfile::Builder::new().prefix("sentinel-").tempdir().expect("a folder");
        let (port, name) = (free_port(), RedisSentinels::NAME);
        let mut config = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n\
             sentinel monitor {name} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 4000\n",
            folder.path().display(),
            primary.address().port(),
        );
        if let Some(password) = &options.password {
            config.push_str(&format!("sentinel auth-pass {name} {password}\n"));
        }
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, config).expect("the folder can be written to");
        let args = [file.as_os_str(), "--sentinel".as_ref()];
        let sentinel = Sentinel {
            _process: Process::run(&options.flavor.program(), args, folder.path()),
            port,
            _folder: folder,
        };
        wait("a sentinel answers", || sentinel.primary_port().is_some());
        sentinel
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).ok()?;
        let mut connection = client.get_connection_with_timeout(PATIENCE).ok()?;
        super::command(words).query(&mut connection).ok()
    }

    fn primary_port(&self) -> Option<u16> {
        let address: Vec<String> =
            self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", RedisSentinels::NAME])?;
        address.get(1)?.parse().ok()
    }

    fn knows_all(&self) -> bool {
        let names = |what| {
            let found: Option<Vec<redis::Value>> = self.ask(&["SENTINEL", what, RedisSentinels::NAME]);
            found.map_or(0, |found| found.len())
        };
        names("SENTINELS") == SENTINELS - 1 && names("REPLICAS") == 2
    }
}
