//! A cluster: which node has which partition, and what to do when that changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempt::attempt;
use super::connect::Connector;
use super::error::StoreError;
use super::failure::{Deadline, Failure, first_error};
use super::layout::Layout;
use super::link::Commands;
use super::moment::Moment;
use super::pool::{Pool, Target};
use super::settings::{Address, Settings, address};

/// Between two looks at the map of the cluster while something is wrong with it.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// The nodes of a cluster, and whose each partition is.
pub(super) struct Cluster {
    seeds: Vec<Address>,
    connector: Arc<Connector>,
    settings: Settings,
    pools: Mutex<HashMap<Address, Arc<Pool>>>,
    /// The slot of each partition, which never changes.
    slots: RwLock<Vec<u16>>,
    /// The primary of each partition, as far as is known.
    owners: RwLock<Vec<Option<Address>>>,
    /// Since when somebody looks at the map.
    refreshing: Moment,
    first: tokio::sync::Mutex<()>,
}

/// Held by the one who looks at the map, for as long as it does.
struct Refreshing(Arc<Cluster>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.clear();
    }
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Address>, connector: Arc<Connector>, settings: &Settings) -> Cluster {
        Cluster {
            seeds,
            connector,
            settings: settings.clone(),
            pools: Mutex::default(),
            slots: RwLock::default(),
            owners: RwLock::default(),
            refreshing: Moment::none(),
            first: tokio::sync::Mutex::default(),
        }
    }

    /// Sends the commands to the node that has the partition, and learns from what it says.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        partition: u16,
        commands: &Commands,
        deadline: Deadline,
    ) -> Result<Vec<Value>, Failure> {
        let owner = match self.known_owner(partition) {
            Some(owner) => owner,
            None => Box::pin(deadline.wait_for(self.owner(partition))).await?.map_err(Failure::NotSent)?,
        };
        let failure = match attempt(&self.pool(&owner), commands, deadline).await {
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
            // The slot is on its way: the new node takes this one call if it is told that it was sent there.
            (ErrorKind::Server(ServerErrorKind::Ask), Some(node)) => {
                let answers =
                    Box::pin(attempt(&self.pool(&node), &commands.after_asking(), deadline)).await?;
                first_error(answers.into_iter().skip(1).collect())
            }
            _ => Err(Failure::Call(failure)),
        }
    }

    /// One partition of each primary.
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

    async fn owner(self: &Arc<Self>, partition: u16) -> Result<Address, StoreError> {
        if let Some(owner) = self.known_owner(partition) {
            return Ok(owner);
        }
        // The holder may have been left unpolled: nobody waits for it longer than a look takes.
        let _first = tokio::time::timeout(self.connector.limit() * 2, self.first.lock()).await;
        if self.known_owner(partition).is_none() {
            self.refresh().await?;
        }
        self.known_owner(partition).ok_or(StoreError::NoNode)
    }

    fn known_owner(&self, partition: u16) -> Option<Address> {
        self.owners.read().get(usize::from(partition)).cloned().flatten()
    }

    fn pool(&self, address: &Address) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        let pool = pools.entry(address.clone()).or_insert_with(|| {
            Arc::new(Pool::new(Target::Node(address.clone()), Arc::clone(&self.connector), &self.settings))
        });
        Arc::clone(pool)
    }

    /// Looks at the map once, beside the calls, unless somebody does already.
    pub(super) fn refresh_soon(self: &Arc<Self>) {
        let now = Instant::now();
        // A look that takes longer is one whose runtime stands still.
        if self.refreshing.is_within(now, self.connector.limit() * 2 + 2 * REFRESH_PAUSE) {
            return;
        }
        self.refreshing.set(now);
        let refreshing = Refreshing(Arc::clone(self));
        tokio::spawn(async move {
            if let Err(error) = refreshing.0.refresh().await {
                tracing::debug!(%error, "the map of the Redis cluster could not be read");
            }
            tokio::time::sleep(REFRESH_PAUSE).await;
        });
    }

    /// Asks all nodes that are known at once. Nodes that were cut off tell of old times; the one that has seen the latest vote is
    /// right.
    async fn refresh(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut nodes: Vec<Address> = self.pools.lock().keys().cloned().collect();
        nodes.extend(self.seeds.iter().filter(|seed| !nodes.contains(seed)).cloned().collect::<Vec<_>>());
        let mut asked = JoinSet::new();
        for node in nodes {
            let cluster = Arc::clone(self);
            asked.spawn(async move { cluster.ask(&node).await });
        }
        let (mut best, mut last) = (None::<Map>, StoreError::NoNode);
        // A node that does not answer holds nobody up for long, and once another has answered hardly at all.
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

    fn adopt(&self, map: &Map) {
        *self.slots.write() = map.slots.clone();
        let owner = |slot: &u16| map.ranges.iter().find(|range| (range.0..=range.1).contains(slot));
        let owners: Vec<_> =
            map.slots.iter().map(|slot| owner(slot).map(|(_, _, address)| address.clone())).collect();
        // Connections to nodes that have gone are closed with their pool.
        let stays = |address: &Address| {
            map.ranges.iter().any(|range| range.2 == *address) || self.seeds.contains(address)
        };
        self.pools.lock().retain(|address, _| stays(address));
        *self.owners.write() = owners;
    }

    async fn ask(&self, node: &Address) -> Result<Map, StoreError> {
        let slots = self.slots.read().clone();
        let mut question = Pipeline::new();
        question.cmd("CLUSTER").arg("SLOTS");
        question.cmd("CLUSTER").arg("INFO");
        // The server knows best which slot a name is in.
        if slots.is_empty() {
            for place in Layout::cluster(&self.settings.prefix).partitions() {
                question.cmd("CLUSTER").arg("KEYSLOT").arg(place.keys());
            }
        }
        let asked = async {
            let link = self.pool(node).link().await?;
            link.call(&Commands::Several(question), Instant::now())
                .await
                .map_err(|error| StoreError::of_call(&error))
        };
        let limit = self.settings.call_timeout;
        let answers = tokio::time::timeout(limit, asked).await.map_err(|_| StoreError::Late { limit })??;
        read_map(answers, node, slots)
    }
}

/// What a node says of the cluster.
struct Map {
    epoch: u64,
    slots: Vec<u16>,
    ranges: Vec<(u16, u16, Address)>,
}

fn read_map(answers: Vec<Value>, node: &Address, known: Vec<u16>) -> Result<Map, StoreError> {
    let form = StoreError::Form { expected: "CLUSTER SLOTS" };
    if let Some(Value::ServerError(error)) = answers.first() {
        let error = RedisError::from(error.clone());
        return Err(match error.kind() {
            // Which says that cluster support is off.
            ErrorKind::Server(ServerErrorKind::ResponseError) => {
                StoreError::Topology { expected: "the node of a cluster", found: "a server of its own" }
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
    let slots = match known.is_empty() {
        true => answers.map(redis::from_redis_value::<u16>).collect::<Result<_, _>>(),
        false => Ok(known),
    };
    let slots = slots.map_err(|_| StoreError::Form { expected: "CLUSTER KEYSLOT" })?;
    Ok(Map { epoch: epoch.and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0), slots, ranges })
}

/// From, to, and first of the nodes the primary: its host, which may be unsaid, and its port.
fn read_range(range: Value, node: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let (from, to) = (parts.next()?, parts.next()?);
    let Value::Array(primary) = parts.next()? else { return None };
    let mut primary = primary.into_iter();
    let host: Option<String> = redis::from_redis_value(primary.next()?).ok()?;
    let port: u16 = redis::from_redis_value(primary.next()?).ok()?;
    let host = match (host.filter(|host| !host.is_empty() && host != "?"), node) {
        (Some(host), _) => host,
        (None, Address::Tcp { host, .. }) => host.to_string(),
        (None, Address::Unix(_)) => return None,
    };
    let number = |value| redis::from_redis_value::<u16>(value).ok();
    Some((number(from)?, number(to)?, Address::Tcp { host: host.into(), port }))
}

fn redirection(error: &RedisError) -> Option<Address> {
    let (node, _slot) = error.redirect_node()?;
    // An IPv6 address comes without brackets.
    let (host, port) = node.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    address(&text, port).ok()
}
