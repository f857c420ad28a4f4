//! A cluster of three primaries with one replica each.

use std::time::Duration;

use super::{Redis, RedisOptions, wait};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

/// Three primaries with one replica each. All are killed when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The first primaries, then the replica of each in the same order.
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts a cluster with the default options.
    ///
    /// # Panics
    /// If the cluster does not answer in time.
    pub fn start() -> RedisCluster {
        RedisCluster::with(RedisOptions::default())
    }

    /// Starts a cluster whose nodes run with these options, and waits until it answers.
    ///
    /// # Panics
    /// If the cluster does not answer in time.
    pub fn with(options: RedisOptions) -> RedisCluster {
        let mut options = options;
        // A node counts as dead after one second, so that tests need not wait long for a failover.
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
                // Redis 6.2 does not support ranges of slots.
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

    /// Returns the nodes' addresses, the first primaries before the replicas.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address().to_string()).collect()
    }

    /// Returns a node. The first three are the first primaries, the others their replicas.
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

    /// Returns the nodes that are primaries now, among those that answer.
    pub fn primaries(&self) -> Vec<usize> {
        let role = |node: &Redis| node.try_ask::<Vec<redis::Value>>(&["ROLE"]);
        let is_primary = |node: &Redis| {
            role(node).ok().and_then(|role| redis::from_redis_value::<String>(role.into_iter().next()?).ok())
                == Some("master".to_owned())
        };
        (0..self.nodes.len()).filter(|n| is_primary(&self.nodes[*n])).collect()
    }

    /// Returns the slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key])
    }

    /// Moves a slot to the primary `to`, as live resharding does. For the time `between`, half of its keys are on each
    /// side.
    ///
    /// # Panics
    /// If no primary owns the slot, or a node refuses a step.
    pub fn move_slot(&self, slot: u16, to: usize, between: Duration) {
        let id = |n: usize| self.nodes[n].ask::<String>(&["CLUSTER", "MYID"]);
        let Some(from) = self.owner(slot) else { panic!("no primary owns slot {slot}") };
        if from == to {
            return;
        }
        let (text, ids) = (slot.to_string(), [id(from), id(to)]);
        let set = |n: usize, words: &[&str]| {
            self.nodes[n].ask::<()>(&[&["CLUSTER", "SETSLOT", text.as_str()], words].concat());
        };
        set(to, &["IMPORTING", &ids[0]]);
        set(from, &["MIGRATING", &ids[1]]);
        let here = || self.nodes[from].ask::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &text, "1000"]);
        let keys = here();
        self.migrate(from, to, &keys[..keys.len() / 2]);
        std::thread::sleep(between);
        for keys in std::iter::repeat_with(here).take_while(|keys| !keys.is_empty()) {
            self.migrate(from, to, &keys);
        }
        // The new owner goes first, or nobody owns the slot for a moment.
        set(to, &["NODE", &ids[1]]);
        set(from, &["NODE", &ids[1]]);
    }

    fn owner(&self, slot: u16) -> Option<usize> {
        // A line contains the node's id, its address, its flags, five more fields and its slots: `5461-10922`, `17`,
        // `[17->-id]`.
        let nodes = self.nodes[0].ask::<String>(&["CLUSTER", "NODES"]);
        let has = |range: &str| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            from.parse().is_ok_and(|from: u16| from <= slot) && to.parse().is_ok_and(|to: u16| slot <= to)
        };
        let line = nodes.lines().find(|line| line.split(' ').skip(8).any(has))?;
        let address = line.split(' ').nth(1)?.split('@').next()?;
        self.nodes.iter().position(|node| node.address().to_string() == address)
    }

    fn migrate(&self, from: usize, to: usize, keys: &[String]) {
        if keys.is_empty() {
            return;
        }
        let port = self.nodes[to].address().port().to_string();
        let words = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        let words: Vec<_> = words.into_iter().chain(keys.iter().map(String::as_str)).collect();
        // A key that has expired in the meantime is skipped.
        self.nodes[from].ask::<()>(&words);
    }

    /// Waits until the replica of node `n` has become a primary.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn await_failover_of(&self, n: usize) {
        let replica = n + PRIMARIES;
        wait("the replica becomes a primary", || self.primaries().contains(&replica));
        wait("all slots are served again", || is_ok(&self.nodes[replica]));
    }
}

fn is_ok(node: &Redis) -> bool {
    node.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn a_slot_moves_with_its_keys() {
        let cluster = RedisCluster::start();
        let slot = cluster.slot_of("{a}1");
        let from = cluster.owner(slot).expect("an owner");
        let to = (from + 1) % PRIMARIES;
        for key in ["{a}1", "{a}2", "{a}3"] {
            cluster.node(from).ask::<()>(&["SET", key, "value"]);
        }
        cluster.move_slot(slot, to, Duration::ZERO);
        assert_eq!(cluster.node(to).ask::<String>(&["GET", "{a}3"]), "value");
        let moved = cluster.node(from).try_ask::<String>(&["GET", "{a}3"]).unwrap_err();
        assert_eq!(moved.code(), Some("MOVED"), "{moved}");
    }
}
