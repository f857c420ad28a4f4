//! The routing in a cluster: finds the node of each partition, and follows the slots when they move.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::atomic_instant::AtomicInstant;
use super::connection::Commands;
use super::connector::RedisConnector;
use super::error::StoreError;
use super::failure::{Deadline, Failure, first_error};
use super::layout::Layout;
use super::pool::{ServerPool, Target};
use super::send_once::send_once;
use super::settings::{RedisSettings, ServerAddress, address};

/// The pause between two reads of the slot map while calls fail.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// The nodes of a cluster, and the node of each partition.
pub(super) struct Cluster {
    initial_nodes: Vec<ServerAddress>,
    connector: Arc<RedisConnector>,
    settings: RedisSettings,
    pools: Mutex<HashMap<ServerAddress, Arc<ServerPool>>>,
    /// The slot of each partition. It never changes.
    slots: RwLock<Vec<u16>>,
    /// The primary of each partition, if it is known.
    owners: RwLock<Vec<Option<ServerAddress>>>,
    /// The start of the current read of the slot map.
    refreshing: AtomicInstant,
    first: tokio::sync::Mutex<()>,
}

/// Marks the slot map as being read, until it is dropped.
struct Refreshing(Arc<Cluster>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.clear();
    }
}

impl Cluster {
    pub(super) fn new(
        initial_nodes: Vec<ServerAddress>,
        connector: Arc<RedisConnector>,
        settings: &RedisSettings,
    ) -> Cluster {
        Cluster {
            initial_nodes,
            connector,
            settings: settings.clone(),
            pools: Mutex::default(),
            slots: RwLock::default(),
            owners: RwLock::default(),
            refreshing: AtomicInstant::none(),
            first: tokio::sync::Mutex::default(),
        }
    }

    /// Sends the commands to the node of the partition. Follows a redirection, and remembers `MOVED`.
    pub(super) async fn send_once(
        self: &Arc<Self>,
        partition: u16,
        commands: &Commands,
        deadline: Deadline,
    ) -> Result<Vec<Value>, Failure> {
        let owner = match self.known_owner(partition) {
            Some(owner) => owner,
            None => Box::pin(deadline.wait_for(self.owner(partition))).await?.map_err(Failure::NotSent)?,
        };
        let failure = match send_once(&self.pool(&owner), commands, deadline).await {
            Err(Failure::Call(error)) => error,
            answer => return answer,
        };
        match (failure.kind(), redirection(&failure)) {
            (ErrorKind::Server(ServerErrorKind::Moved), Some(node)) => {
                if let Some(owner) = self.owners.write().get_mut(usize::from(partition)) {
                    *owner = Some(node);
                }
                Err(Failure::Call(failure))
            }
            // The slot is being migrated. The importing node accepts this one call after `ASKING`.
            (ErrorKind::Server(ServerErrorKind::Ask), Some(node)) => {
                let answers =
                    Box::pin(send_once(&self.pool(&node), &commands.with_asking(), deadline)).await?;
                first_error(answers.into_iter().skip(1).collect())
            }
            _ => Err(Failure::Call(failure)),
        }
    }

    /// Returns one partition of each primary.
    pub(super) async fn primaries(self: &Arc<Self>) -> Result<Vec<u16>, StoreError> {
        self.owner(0).await?;
        let owners = self.owners.read();
        let mut first = BTreeMap::new();
        for (partition, owner) in (0..).zip(owners.iter()) {
            if let Some(owner) = owner {
                first.entry(owner.to_string()).or_insert(partition);
            }
        }
        Ok(first.into_values().collect())
    }

    async fn owner(self: &Arc<Self>, partition: u16) -> Result<ServerAddress, StoreError> {
        if let Some(owner) = self.known_owner(partition) {
            return Ok(owner);
        }
        // The holder's future may not be polled any more. So the wait is bounded by the time that a read takes.
        let _first = tokio::time::timeout(self.connector.limit() * 2, self.first.lock()).await;
        if self.known_owner(partition).is_none() {
            self.refresh().await?;
        }
        self.known_owner(partition).ok_or(StoreError::NoNode)
    }

    fn known_owner(&self, partition: u16) -> Option<ServerAddress> {
        self.owners.read().get(usize::from(partition)).cloned().flatten()
    }

    fn pool(&self, address: &ServerAddress) -> Arc<ServerPool> {
        let mut pools = self.pools.lock();
        let pool = pools.entry(address.clone()).or_insert_with(|| {
            Arc::new(ServerPool::new(
                Target::Node(address.clone()),
                Arc::clone(&self.connector),
                &self.settings,
            ))
        });
        Arc::clone(pool)
    }

    /// Reads the slot map in a task of its own, unless another task reads it already.
    pub(super) fn refresh_soon(self: &Arc<Self>) {
        let now = Instant::now();
        // If a read takes longer, its runtime is not being driven.
        if self.refreshing.is_within(now, self.connector.limit() * 2 + 2 * REFRESH_PAUSE) {
            return;
        }
        self.refreshing.set(now);
        let refreshing = Refreshing(Arc::clone(self));
        tokio::spawn(async move {
            if let Err(error) = refreshing.0.refresh().await {
                tracing::debug!(%error, "the slot map of the Redis cluster could not be read");
            }
            tokio::time::sleep(REFRESH_PAUSE).await;
        });
    }

    /// Asks all known nodes at once, and adopts the map of the highest epoch. Nodes that were cut off report an old map.
    async fn refresh(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut nodes: Vec<ServerAddress> = self.pools.lock().keys().cloned().collect();
        nodes.extend(
            self.initial_nodes.iter().filter(|node| !nodes.contains(node)).cloned().collect::<Vec<_>>(),
        );
        let mut asked = JoinSet::new();
        for node in nodes {
            let cluster = Arc::clone(self);
            asked.spawn(async move { cluster.ask(&node).await });
        }
        let (mut best, mut last) = (None::<SlotMap>, StoreError::NoNode);
        // A node that does not answer delays this only briefly once another node has answered.
        let mut end = Instant::now() + self.connector.limit() * 2;
        while let Ok(Some(answer)) = tokio::time::timeout_at(end, asked.join_next()).await {
            match answer {
                Ok(Ok(map)) => {
                    end = end.min(Instant::now() + REFRESH_PAUSE);
                    if best.as_ref().is_none_or(|best| map.epoch > best.epoch) {
                        best = Some(map);
                    }
                }
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        let Some(map) = best else { return Err(last) };
        self.adopt(&map);
        Ok(())
    }

    /// Takes over a map. The pools of nodes that are no longer in it are dropped, and their connections with them. Those of the
    /// initial nodes stay, since a later map is asked for there.
    fn adopt(&self, map: &SlotMap) {
        *self.slots.write() = map.slots.clone();
        let owner = |slot: &u16| map.ranges.iter().find(|range| (range.0..=range.1).contains(slot));
        let owners: Vec<_> =
            map.slots.iter().map(|slot| owner(slot).map(|(_, _, address)| address.clone())).collect();
        // Dropping the pool of a removed node closes its connections.
        let stays = |address: &ServerAddress| {
            map.ranges.iter().any(|range| range.2 == *address) || self.initial_nodes.contains(address)
        };
        self.pools.lock().retain(|address, _| stays(address));
        *self.owners.write() = owners;
    }

    /// Asks one node for its map. The first time, the server also computes the slots of the partitions.
    async fn ask(&self, node: &ServerAddress) -> Result<SlotMap, StoreError> {
        let slots = self.slots.read().clone();
        let mut question = Pipeline::new();
        question.cmd("CLUSTER").arg("SLOTS");
        question.cmd("CLUSTER").arg("INFO");
        // The server computes the slots, so this code needs no second implementation of the hash.
        if slots.is_empty() {
            for partition in Layout::cluster(&self.settings.prefix).partitions() {
                question.cmd("CLUSTER").arg("KEYSLOT").arg(partition.keys());
            }
        }
        let asked = async {
            let connection = self.pool(node).connection().await?;
            connection
                .call(&Commands::Several(question), Instant::now())
                .await
                .map_err(|error| StoreError::of_call(&error))
        };
        let limit = self.settings.call_timeout;
        let answers = tokio::time::timeout(limit, asked).await.map_err(|_| StoreError::Late { limit })??;
        read_map(answers, node, slots)
    }
}

/// A node's view of the cluster.
struct SlotMap {
    epoch: u64,
    slots: Vec<u16>,
    ranges: Vec<(u16, u16, ServerAddress)>,
}

/// Reads the answers to [`ask`](Cluster::ask). `known` are the slots of the partitions, if they were computed before.
fn read_map(answers: Vec<Value>, node: &ServerAddress, known: Vec<u16>) -> Result<SlotMap, StoreError> {
    let form = StoreError::Form { expected: "CLUSTER SLOTS" };
    if let Some(Value::ServerError(error)) = answers.first() {
        let error = RedisError::from(error.clone());
        return Err(match error.kind() {
            // The error says that cluster support is off.
            ErrorKind::Server(ServerErrorKind::ResponseError) => {
                StoreError::Topology { expected: "a node of a cluster", found: "a single server" }
            }
            _ => StoreError::of_call(&error),
        });
    }
    let mut answers = answers.into_iter();
    let (Some(Value::Array(ranges)), Some(info)) = (answers.next(), answers.next()) else { return Err(form) };
    let ranges: Option<Vec<_>> = ranges.into_iter().map(|range| read_range(range, node)).collect();
    let Some(ranges) = ranges else { return Err(form) };
    let info: String = redis::from_redis_value(info).map_err(|_| form)?;
    let epoch = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
    let slots = if known.is_empty() {
        answers.map(redis::from_redis_value::<u16>).collect::<Result<_, _>>()
    } else {
        Ok(known)
    };
    let slots = slots.map_err(|_| StoreError::Form { expected: "CLUSTER KEYSLOT" })?;
    Ok(SlotMap { epoch: epoch.and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0), slots, ranges })
}

/// Reads one range of `CLUSTER SLOTS`: its first and last slot, and the address of its primary, the first node listed.
/// A primary without a host is on the host of the node that was asked.
fn read_range(range: Value, node: &ServerAddress) -> Option<(u16, u16, ServerAddress)> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let (from, to) = (parts.next()?, parts.next()?);
    let Value::Array(primary) = parts.next()? else { return None };
    let mut primary = primary.into_iter();
    let host: Option<String> = redis::from_redis_value(primary.next()?).ok()?;
    let port: u16 = redis::from_redis_value(primary.next()?).ok()?;
    let host = match (host.filter(|host| !host.is_empty() && host != "?"), node) {
        (Some(host), _) => host,
        (None, ServerAddress::Tcp { host, .. }) => host.to_string(),
        (None, ServerAddress::Unix(_)) => return None,
    };
    let number = |value| redis::from_redis_value::<u16>(value).ok();
    Some((number(from)?, number(to)?, ServerAddress::Tcp { host: host.into(), port }))
}

fn redirection(error: &RedisError) -> Option<ServerAddress> {
    let (node, _slot) = error.redirect_node()?;
    // The server writes an IPv6 address without brackets.
    let (host, port) = node.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    address(&text, port).ok()
}
