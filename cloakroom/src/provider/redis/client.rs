//! Calls: routes commands to the server of a partition, within a deadline and with retries.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::connection::Commands;
use super::connector::RedisConnector;
use super::error::StoreError;
use super::failure::{Deadline, Failure};
use super::pool::{ServerPool, Target};
use super::script::ScriptCall;
use super::send_once::send_once;
use super::sentinel::SentinelGroup;
use super::server_info::ServerInfo;
use super::settings::{RedisSettings, ReplicaWait, Topology};

/// The client of all servers: it routes each call to the right one, and retries it.
pub(super) struct RedisClient {
    backend: Backend,
    connector: Arc<RedisConnector>,
    timeout: Duration,
    retries: u32,
    wait: Option<ReplicaWait>,
}

/// The servers behind a client. With sentinels there is one pool too, and its target changes.
enum Backend {
    Server(Arc<ServerPool>),
    Cluster(Arc<Cluster>),
}

/// Tells whether a call may be sent again when the outcome of the previous attempt is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// Running the call twice has the same effect as running it once.
    Idempotent,
    /// The call is sent again only if the previous attempt certainly did nothing.
    NotIdempotent,
}

impl RedisClient {
    pub(super) fn new(settings: &RedisSettings) -> Result<RedisClient, StoreError> {
        let connector = Arc::new(RedisConnector::new(settings)?);
        let backend = match settings.topology.clone() {
            Topology::Server(address) => {
                let target = Target::Address(address);
                Backend::Server(Arc::new(ServerPool::new(target, Arc::clone(&connector), settings)))
            }
            Topology::Sentinels { sentinels, master } => {
                let target = Target::Primary(Arc::new(SentinelGroup { sentinels, master }));
                Backend::Server(Arc::new(ServerPool::new(target, Arc::clone(&connector), settings)))
            }
            Topology::Cluster(initial_nodes) => {
                Backend::Cluster(Arc::new(Cluster::new(initial_nodes, Arc::clone(&connector), settings)))
            }
        };
        let (timeout, retries, wait) = (settings.call_timeout, settings.retries, settings.wait);
        Ok(RedisClient { backend, connector, timeout, retries, wait })
    }

    /// Returns one partition of each server that holds sessions.
    pub(super) async fn primaries(&self) -> Result<Vec<u16>, StoreError> {
        match &self.backend {
            Backend::Server(_) => Ok(vec![0]),
            Backend::Cluster(cluster) => cluster.primaries().await,
        }
    }

    /// Returns the longest that a call may take, including its retries.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the pool of the server that sends invalidations. Fails on a cluster, where there are several.
    pub(super) fn for_invalidations(&self) -> Result<&Arc<ServerPool>, StoreError> {
        match &self.backend {
            Backend::Server(pool) => Ok(pool),
            Backend::Cluster(_) => Err(StoreError::NoInvalidations),
        }
    }

    /// Sends `INFO` to the server of a partition.
    pub(super) async fn describe(&self, partition: u16) -> Result<ServerInfo, StoreError> {
        match self.read(partition, redis::cmd("INFO")).await {
            Ok(info) => ServerInfo::from_replies(vec![info]),
            Err(StoreError::Reply { .. } | StoreError::Rights { .. }) => Ok(ServerInfo::default()),
            Err(error) => Err(error),
        }
    }

    /// Returns true if a server has reported a policy by which it may evict live sessions.
    pub(super) fn evicts(&self) -> bool {
        self.connector.policy().evicts()
    }

    /// Returns the deadline of a call that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    /// Sends one idempotent command that need not reach a replica, such as a read.
    pub(super) async fn read(&self, partition: u16, command: Cmd) -> Result<Value, StoreError> {
        self.send(partition, &Commands::One(command), CallKind::Idempotent, self.deadline()).await
    }

    /// Runs a script that changes a session, and waits for the replicas if the settings say so.
    pub(super) async fn run(
        &self,
        partition: u16,
        call: &ScriptCall<'_>,
        kind: CallKind,
        deadline: Deadline,
    ) -> Result<Value, StoreError> {
        match self.send(partition, &self.durable(call.by_hash()), kind, deadline).await {
            // The server did not know the script, so nothing was run.
            Err(error) if error.is_unknown_script() => {
                Box::pin(self.send(partition, &self.durable(call.by_text()), kind, deadline)).await
            }
            answer => answer,
        }
    }

    /// Runs an idempotent script that need not reach a replica, such as one that lists or collects.
    pub(super) async fn ask(&self, partition: u16, call: &ScriptCall<'_>) -> Result<Value, StoreError> {
        let deadline = self.deadline();
        let send = |command| async move {
            self.send(partition, &Commands::One(command), CallKind::Idempotent, deadline).await
        };
        match send(call.by_hash()).await {
            Err(error) if error.is_unknown_script() => Box::pin(send(call.by_text())).await,
            answer => answer,
        }
    }

    /// Deletes a key. It makes no difference whether the key exists.
    pub(super) async fn forget(&self, partition: u16, key: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        self.read(partition, command).await.map(drop)
    }

    /// Returns the command, followed by `WAIT` if the settings ask for replicas.
    fn durable(&self, command: Cmd) -> Commands {
        let Some(wait) = self.wait else { return Commands::One(command) };
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(command);
        commands.cmd("WAIT").arg(wait.replicas).arg(wait.limit.as_millis() as u64);
        Commands::Several(commands)
    }

    /// Sends the commands until they are answered, the deadline passes, or a retry could repeat a change.
    ///
    /// If the deadline passes after attempts that were not sent, the error names their cause, such as a refused connection: it says
    /// more than "too late".
    async fn send(
        &self,
        partition: u16,
        commands: &Commands,
        kind: CallKind,
        deadline: Deadline,
    ) -> Result<Value, StoreError> {
        let (mut tries, mut not_sent) = (0, None);
        loop {
            let attempt = match &self.backend {
                Backend::Server(pool) => send_once(pool, commands, deadline).await,
                Backend::Cluster(cluster) => Box::pin(cluster.send_once(partition, commands, deadline)).await,
            };
            let failure = match attempt {
                Ok(answers) => return self.check_replicas(answers),
                Err(failure) => failure,
            };
            self.handle_failure(&failure);
            let (retry, pause) = match retry_decision(&failure, kind) {
                RetryDecision::UntilDeadline => (true, pause_after(tries).max(LEAST_PAUSE)),
                RetryDecision::Limited => (tries < self.retries, pause_after(tries)),
                RetryDecision::Never => (false, Duration::ZERO),
            };
            let next = Instant::now() + pause;
            if !retry || next >= deadline.at() {
                // The cause of the delay tells more than the timeout itself.
                let not_sent = not_sent.filter(|_| matches!(failure, Failure::Late(_)));
                return Err(not_sent.unwrap_or(failure).into_error());
            }
            if let Failure::NotSent(_) = failure {
                not_sent = Some(failure);
            }
            tries += 1;
            tokio::time::sleep_until(next).await;
        }
    }

    /// Returns the first reply, if enough replicas have the change.
    fn check_replicas(&self, answers: Vec<Value>) -> Result<Value, StoreError> {
        let mut answers = answers.into_iter();
        let Some(answer) = answers.next() else { return Err(StoreError::Form { expected: "a reply" }) };
        if let (Some(wait), Some(acknowledged)) = (self.wait, answers.next()) {
            match acknowledged {
                Value::Int(found) if found >= i64::from(wait.replicas) => {}
                Value::Int(found) => {
                    return Err(StoreError::Replicas { expected: wait.replicas, found, limit: wait.limit });
                }
                _ => return Err(StoreError::Form { expected: "a number of replicas" }),
            }
        }
        Ok(answer)
    }

    fn handle_failure(&self, failure: &Failure) {
        if let Backend::Cluster(cluster) = &self.backend
            && !matches!(failure, Failure::Late(_))
        {
            cluster.refresh_soon();
        }
    }
}

/// The decision whether a call is sent again.
enum RetryDecision {
    /// The server has done nothing and refuses only for a moment. The call is retried until its deadline.
    UntilDeadline,
    /// The call is retried as often as the settings say.
    Limited,
    Never,
}

/// Decides from the failure alone whether a call may be sent again.
///
/// A server's code tells that the call was refused before it did anything, except in the middle of a script (`Broken`). Without a code
/// the connection broke, and nobody knows how far the server came.
fn retry_decision(failure: &Failure, kind: CallKind) -> RetryDecision {
    match failure {
        Failure::NotSent(_) => RetryDecision::Limited,
        Failure::Late(_) => RetryDecision::Never,
        Failure::Call(error) => match error.code() {
            // The server says that it has done nothing. It, or another server, may accept the call soon.
            Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN") => {
                RetryDecision::UntilDeadline
            }
            Some(_) => RetryDecision::Never,
            None if kind == CallKind::Idempotent => RetryDecision::Limited,
            None => RetryDecision::Never,
        },
        // A script failed after it had written something.
        Failure::Broken(_) if kind == CallKind::Idempotent => RetryDecision::Limited,
        Failure::Broken(_) => RetryDecision::Never,
    }
}

/// The pause before the first retry, if the server itself asks for a retry.
const LEAST_PAUSE: Duration = Duration::from_millis(5);

/// Returns the pause before a retry: none before the first, then 40 ms, doubling up to 320 ms.
fn pause_after(tries: u32) -> Duration {
    match tries {
        0 => Duration::ZERO,
        tries => Duration::from_millis(20 << tries.min(4)),
    }
}

/// Waits a little longer each turn. Returns false, at once, if the deadline would pass.
pub(super) async fn pause(deadline: Deadline, turn: u32) -> bool {
    let next = Instant::now() + Duration::from_millis(1 << turn.min(6));
    if next >= deadline.at() {
        return false;
    }
    tokio::time::sleep_until(next).await;
    true
}
