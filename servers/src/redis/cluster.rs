//! A cluster: three primaries with a replica each.

use std::time::Duration;

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

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key])
    }

    /// Moves a slot to the primary `to`, as live resharding does, with half of its keys on either side for `between`.
    ///
    /// # Panics
    /// If no primary has the slot, or a node does not take a step.
    pub fn move_slot(&self, slot: u16, to: usize, between: Duration) {
        let id = |n: usize| self.nodes[n].ask::<String>(&["CLUSTER", "MYID"]);
        let Some(from) = self.owner(slot) else { panic!("nobody has slot {slot}") };
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
        // The new owner first, or the slot is nobody's for a moment.
        set(to, &["NODE", &ids[1]]);
        set(from, &["NODE", &ids[1]]);
    }

    fn owner(&self, slot: u16) -> Option<usize> {
        // A line has the node's id, its address, its flags, five more fields, and its slots: `5461-10922`, `17`, `[17->-id]`.
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
        // A key that has ended meanwhile is none.
        self.nodes[from].ask::<()>(&words);
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
        assert!(cluster.node(from).try_ask::<String>(&["GET", "{a}3"]).is_err());
    }
}
