//! A call: what is sent to the server of a partition, how long it may take, and when it is sent again.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, PushInfo, RedisError, ServerErrorKind, Value};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::attempt::attempt;
use super::cluster::Cluster;
use super::connect::{Connector, Purpose};
use super::error::StoreError;
use super::failure::{Deadline, Failure};
use super::link::{Commands, Link};
use super::pool::{Pool, Target};
use super::script::Script;
use super::settings::{Settings, Topology, Wait};

/// The servers, and how calls reach them.
pub(super) struct Caller {
    backend: Backend,
    timeout: Duration,
    retries: u32,
    wait: Option<Wait>,
}

enum Backend {
    Server(Arc<Pool>),
    Cluster(Arc<Cluster>),
}

/// Whether a call may be sent again after one of which nobody knows whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Done twice it is as if done once.
    Freely,
    /// Only where the first was surely not done.
    IfNotDone,
}

impl Caller {
    pub(super) fn new(settings: &Settings) -> Result<Caller, StoreError> {
        let connector = Arc::new(Connector::new(settings)?);
        let backend = match settings.topology.clone() {
            Topology::Server(address) => {
                Backend::Server(Arc::new(Pool::new(Target::Address(address), connector, settings)))
            }
            Topology::Sentinels { sentinels, master } => {
                let target = Target::Primary { sentinels, master };
                Backend::Server(Arc::new(Pool::new(target, connector, settings)))
            }
            Topology::Cluster(seeds) => Backend::Cluster(Arc::new(Cluster::new(seeds, connector, settings))),
        };
        let (timeout, retries, wait) = (settings.call_timeout, settings.retries, settings.wait);
        Ok(Caller { backend, timeout, retries, wait })
    }

    /// The servers that hold sessions, for questions to each of them.
    pub(super) async fn primaries(&self) -> Result<Vec<u16>, StoreError> {
        match &self.backend {
            Backend::Server(_) => Ok(vec![0]),
            Backend::Cluster(cluster) => cluster.primaries().await,
        }
    }

    /// What a call may take in all.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection of its own on which the server tells of changes; none where there are many servers.
    pub(super) async fn open_for_news(&self, sender: UnboundedSender<PushInfo>) -> Result<Link, StoreError> {
        match &self.backend {
            Backend::Server(pool) => pool.open_for(Purpose::News(sender)).await,
            Backend::Cluster(_) => Err(StoreError::NoNews),
        }
    }

    /// Sends one command that may be done any number of times and need not reach a replica, such as one that reads.
    pub(super) async fn read(&self, partition: u16, command: Cmd) -> Result<Value, StoreError> {
        self.send(partition, &Commands::One(command), Repeat::Freely).await
    }

    /// Runs a script that changes something.
    pub(super) async fn run(
        &self,
        partition: u16,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
        repeat: Repeat,
    ) -> Result<Value, StoreError> {
        match self.send(partition, &self.durable(script.by_hash(keys, args)), repeat).await {
            // A script that is not known was not run.
            Err(error) if error.is_unknown_script() => {
                Box::pin(self.send(partition, &self.durable(script.by_text(keys, args)), repeat)).await
            }
            answer => answer,
        }
    }

    /// The same by a script, such as one that lists or tidies up.
    pub(super) async fn ask(
        &self,
        partition: u16,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        match self.read(partition, script.by_hash(keys, args)).await {
            Err(error) if error.is_unknown_script() => {
                Box::pin(self.read(partition, script.by_text(keys, args))).await
            }
            answer => answer,
        }
    }

    /// Removes a key, of which it makes no difference whether it is there.
    pub(super) async fn forget(&self, partition: u16, key: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        self.send(partition, &Commands::One(command), Repeat::Freely).await.map(drop)
    }

    /// The command, and after it the wait for replicas, if there is one.
    fn durable(&self, command: Cmd) -> Commands {
        let Some(wait) = self.wait else { return Commands::One(command) };
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(command);
        commands.cmd("WAIT").arg(wait.replicas).arg(wait.limit.as_millis() as u64);
        Commands::Several(commands)
    }

    async fn send(&self, partition: u16, commands: &Commands, repeat: Repeat) -> Result<Value, StoreError> {
        let deadline = Deadline::after(self.timeout);
        let mut tries = 0;
        loop {
            let attempt = match &self.backend {
                Backend::Server(pool) => attempt(pool, commands, deadline).await,
                Backend::Cluster(cluster) => Box::pin(cluster.attempt(partition, commands, deadline)).await,
            };
            let failure = match attempt {
                Ok(answers) => return self.judge(answers),
                Err(failure) => failure,
            };
            self.react(&failure);
            let (again, pause) = after(&failure, repeat, tries);
            if !again || tries >= self.retries {
                return Err(failure.into_error());
            }
            tries += 1;
            tokio::time::sleep_until(deadline.at().min(Instant::now() + pause)).await;
            if deadline.is_over() {
                return Err(deadline.late().into_error());
            }
        }
    }

    /// The first answer, if as many replicas have the change as were asked for.
    fn judge(&self, answers: Vec<Value>) -> Result<Value, StoreError> {
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

    fn react(&self, failure: &Failure) {
        match (&self.backend, failure) {
            // It was the primary, and is none any more.
            (Backend::Server(pool), Failure::Call(error)) if is_demoted(error) => pool.close_all(),
            (Backend::Cluster(cluster), _) => cluster.refresh_soon(),
            _ => {}
        }
    }
}

fn is_demoted(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

/// Whether to try again, and after what pause.
fn after(failure: &Failure, repeat: Repeat, tries: u32) -> (bool, Duration) {
    use ServerErrorKind as S;
    let pause = match tries {
        0 => Duration::ZERO,
        tries => Duration::from_millis(20 << tries.min(4)),
    };
    match failure {
        Failure::NotSent(_) => (true, pause),
        Failure::Late(_) => (false, pause),
        Failure::Call(error) => match error.kind() {
            // The server says that it has done nothing, and may do it soon, or another one will.
            ErrorKind::Server(S::Moved | S::Ask) => (true, Duration::ZERO),
            ErrorKind::Server(
                S::TryAgain | S::ClusterDown | S::BusyLoading | S::ReadOnly | S::MasterDown,
            ) => (true, pause.max(Duration::from_millis(20))),
            ErrorKind::Server(_) | ErrorKind::Extension => (false, pause),
            _ => (repeat == Repeat::Freely, pause),
        },
    }
}

/// Waits a little more each time, until `start` is `limit` ago; false from then on.
pub(super) async fn pause(start: Instant, limit: Duration, turn: u32) -> bool {
    if start.elapsed() >= limit {
        return false;
    }
    tokio::time::sleep(Duration::from_millis(1 << turn.min(6))).await;
    true
}
