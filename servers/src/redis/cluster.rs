//! A cluster: three primaries with a replica each.

use super::{Redis, RedisOptions, wait};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

/// Three primaries with a replica each; all are killed when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries at the start come first, then the replica of each, in the same order.
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// A cluster that answers.
    ///
    /// # Panics
    /// If it does not come up in time.
    pub fn start() -> RedisCluster {
        RedisCluster::with(RedisOptions::default())
    }

    /// One whose nodes run with these options.
    ///
    /// # Panics
    /// If it does not come up in time.
    pub fn with(options: RedisOptions) -> RedisCluster {
        let mut options = options;
        // A node is taken for dead after a second, so that tests need not wait long for its replica.
        for words in [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", "1000"],
            ["--cluster-replica-validity-factor", "0"],
            ["--repl-diskless-sync-delay", "0"],
        ] {
            options.settings.extend(words.map(str::to_owned));
        }
        let nodes: Vec<_> = (0..2 * PRIMARIES).map(|_| Redis::with(options.clone())).collect();
        let cluster = RedisCluster { nodes };
        cluster.join();
        cluster
    }

    fn join(&self) {
        let first = self.nodes[0].address();
        for (n, node) in self.nodes.iter().enumerate() {
            let epoch = (n + 1).to_string();
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if n > 0 {
                node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string()]);
            }
            if n < PRIMARIES {
                let (from, to) = (n * SLOTS / PRIMARIES, (n + 1) * SLOTS / PRIMARIES - 1);
                // Redis 6.2 knows no ranges.
                let slots: Vec<_> = (from..=to).map(|slot| slot.to_string()).collect();
                let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
                node.ask::<()>(&Vec::from_iter(words));
            }
        }
        let known = |node: &Redis| node.ask::<String>(&["CLUSTER", "NODES"]).lines().count();
        wait("every node knows every other", || {
            self.nodes.iter().all(|node| known(node) == self.nodes.len() && is_ok(node))
        });
        for (primary, replica) in self.nodes.iter().zip(&self.nodes[PRIMARIES..]) {
            let id = primary.ask::<String>(&["CLUSTER", "MYID"]);
            replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]);
        }
        wait("every replica follows its primary", || {
            self.nodes[PRIMARIES..]
                .iter()
                .all(|node| node.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up"))
                && self.nodes.iter().all(is_ok)
        });
    }

    /// The addresses of the nodes, primaries of the start first.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address().to_string()).collect()
    }

    /// A node: below three a primary of the start, from three on a replica.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn node(&self, n: usize) -> &Redis {
        &self.nodes[n]
    }

    /// A node that can be killed.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn node_mut(&mut self, n: usize) -> &mut Redis {
        &mut self.nodes[n]
    }

    /// The nodes that are primaries now, of those that answer.
    pub fn primaries(&self) -> Vec<usize> {
        let role = |node: &Redis| node.try_ask::<Vec<redis::Value>>(&["ROLE"]);
        let is_primary = |node: &Redis| {
            role(node).ok().and_then(|role| redis::from_redis_value::<String>(role.into_iter().next()?).ok())
                == Some("master".to_owned())
        };
        (0..self.nodes.len()).filter(|n| is_primary(&self.nodes[*n])).collect()
    }

    /// Waits until the replica of node `n` has taken its place.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn await_failover_of(&self, n: usize) {
        let replica = n + PRIMARIES;
        wait("a replica takes its primary's place", || self.primaries().contains(&replica));
        wait("the cluster is whole again", || is_ok(&self.nodes[replica]));
    }
}

fn is_ok(node: &Redis) -> bool {
    node.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
}
