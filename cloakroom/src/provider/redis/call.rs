//! A call: what is sent to the server of a partition, how long it may take, and when it is sent again.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::attempt::attempt;
use super::cluster::Cluster;
use super::connect::Connector;
use super::description::{self, Description};
use super::error::StoreError;
use super::failure::{Deadline, Failure};
use super::link::Commands;
use super::pool::{Pool, Target};
use super::script::Call;
use super::sentinel::Group;
use super::settings::{Settings, Topology, Wait};

/// The servers, and how calls reach them.
pub(super) struct Caller {
    backend: Backend,
    connector: Arc<Connector>,
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
                let target = Target::Address(address);
                Backend::Server(Arc::new(Pool::new(target, Arc::clone(&connector), settings)))
            }
            Topology::Sentinels { sentinels, master } => {
                let target = Target::Primary(Arc::new(Group { sentinels, master }));
                Backend::Server(Arc::new(Pool::new(target, Arc::clone(&connector), settings)))
            }
            Topology::Cluster(seeds) => {
                Backend::Cluster(Arc::new(Cluster::new(seeds, Arc::clone(&connector), settings)))
            }
        };
        let (timeout, retries, wait) = (settings.call_timeout, settings.retries, settings.wait);
        Ok(Caller { backend, connector, timeout, retries, wait })
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

    /// The one server that tells of changes; none where there are many.
    pub(super) fn for_news(&self) -> Result<&Arc<Pool>, StoreError> {
        match &self.backend {
            Backend::Server(pool) => Ok(pool),
            Backend::Cluster(_) => Err(StoreError::NoNews),
        }
    }

    /// Asks the server of a partition to describe itself.
    pub(super) async fn describe(&self, partition: u16) -> Result<Description, StoreError> {
        match self.read(partition, redis::cmd("INFO")).await {
            Ok(info) => description::describe(vec![info]),
            Err(StoreError::Reply { .. } | StoreError::Rights { .. }) => Ok(Description::default()),
            Err(error) => Err(error),
        }
    }

    /// True if a server may evict what is not over, as far as the servers have told.
    pub(super) fn evicts(&self) -> bool {
        self.connector.policy().evicts()
    }

    /// Until when a call that begins now may take.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    /// Sends one command that may be done any number of times and need not reach a replica, such as one that reads.
    pub(super) async fn read(&self, partition: u16, command: Cmd) -> Result<Value, StoreError> {
        self.send(partition, &Commands::One(command), Repeat::Freely, self.deadline()).await
    }

    /// Runs a script that changes something.
    pub(super) async fn run(
        &self,
        partition: u16,
        call: &Call<'_>,
        repeat: Repeat,
        deadline: Deadline,
    ) -> Result<Value, StoreError> {
        match self.send(partition, &self.durable(call.by_hash()), repeat, deadline).await {
            // A script that is not known was not run.
            Err(error) if error.is_unknown_script() => {
                Box::pin(self.send(partition, &self.durable(call.by_text()), repeat, deadline)).await
            }
            answer => answer,
        }
    }

    /// The same with a script that lists or tidies up, and need not reach a replica.
    pub(super) async fn ask(&self, partition: u16, call: &Call<'_>) -> Result<Value, StoreError> {
        let deadline = self.deadline();
        let send = |command| async move {
            self.send(partition, &Commands::One(command), Repeat::Freely, deadline).await
        };
        match send(call.by_hash()).await {
            Err(error) if error.is_unknown_script() => Box::pin(send(call.by_text())).await,
            answer => answer,
        }
    }

    /// Removes a key, of which it makes no difference whether it is there.
    pub(super) async fn forget(&self, partition: u16, key: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        self.read(partition, command).await.map(drop)
    }

    /// The command, and after it the wait for replicas, if there is one.
    fn durable(&self, command: Cmd) -> Commands {
        let Some(wait) = self.wait else { return Commands::One(command) };
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(command);
        commands.cmd("WAIT").arg(wait.replicas).arg(wait.limit.as_millis() as u64);
        Commands::Several(commands)
    }

    async fn send(
        &self,
        partition: u16,
        commands: &Commands,
        repeat: Repeat,
        deadline: Deadline,
    ) -> Result<Value, StoreError> {
        let (mut tries, mut former) = (0, None);
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
            let (again, pause) = match after(&failure, repeat) {
                Again::Soon => (true, pause_after(tries).max(LEAST_PAUSE)),
                Again::Perhaps => (tries < self.retries, pause_after(tries)),
                Again::No => (false, Duration::ZERO),
            };
            let next = Instant::now() + pause;
            if !again || next >= deadline.at() {
                // That the time is over says less than what has taken it.
                let former = former.filter(|_| matches!(failure, Failure::Late(_)));
                return Err(former.unwrap_or(failure).into_error());
            }
            if let Failure::NotSent(_) = failure {
                former = Some(failure);
            }
            tries += 1;
            tokio::time::sleep_until(next).await;
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
        if let Backend::Cluster(cluster) = &self.backend
            && !matches!(failure, Failure::Late(_))
        {
            cluster.refresh_soon();
        }
    }
}

/// The answer to "is this call tried again?"
enum Again {
    /// Surely not done, and only for a moment: until the deadline.
    Soon,
    /// As often as the settings say.
    Perhaps,
    No,
}

fn after(failure: &Failure, repeat: Repeat) -> Again {
    match failure {
        Failure::NotSent(_) => Again::Perhaps,
        Failure::Late(_) => Again::No,
        Failure::Call(error) => match error.code() {
            // The server says that it has done nothing, and may do it soon, or another one will.
            Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN") => {
                Again::Soon
            }
            Some(_) => Again::No,
            None if repeat == Repeat::Freely => Again::Perhaps,
            None => Again::No,
        },
        // A script that was refused on its way.
        Failure::Broken(_) if repeat == Repeat::Freely => Again::Perhaps,
        Failure::Broken(_) => Again::No,
    }
}

/// Before the first repetition, where the server asks for one.
const LEAST_PAUSE: Duration = Duration::from_millis(5);

/// None before the first repetition; then 40 ms and up to 320 ms.
fn pause_after(tries: u32) -> Duration {
    match tries {
        0 => Duration::ZERO,
        tries => Duration::from_millis(20 << tries.min(4)),
    }
}

/// Waits a little more each time, until the deadline; false from then on.
pub(super) async fn pause(deadline: Deadline, turn: u32) -> bool {
    let next = Instant::now() + Duration::from_millis(1 << turn.min(6));
    if next >= deadline.at() {
        return false;
    }
    tokio::time::sleep_until(next).await;
    true
}
