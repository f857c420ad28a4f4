//! Asks the sentinels which server is the primary.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, PushInfo, Value};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::connection::{Commands, RedisConnection};
use super::connector::{Purpose, RedisConnector};
use super::error::StoreError;
use super::failure::{Failure, first_error};
use super::settings::{ServerAddress, address};

/// The lease of a confirmed primary: no connection is used unless the sentinels confirmed the primary within this time.
/// It is shorter than the fastest failover that sentinels start themselves (a `down-after-milliseconds` of 1 s and the vote).
pub(super) const LEASE: Duration = Duration::from_millis(1500);
/// The interval at which the sentinels are asked. It is shorter than the lease, so that calls need not wait.
const CHECK: Duration = Duration::from_millis(500);
/// The longest wait for the other sentinels once one has answered.
const GRACE: Duration = Duration::from_millis(200);
/// The shortest pause between two rounds, when messages of the sentinels trigger them.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// The sentinels, and the name under which they know the primary.
#[derive(Debug)]
pub(super) struct SentinelGroup {
    pub(super) sentinels: Vec<ServerAddress>,
    pub(super) master: Box<str>,
}

/// The primary that one sentinel, or several together, report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PrimaryReport {
    pub(super) primary: ServerAddress,
    /// The number of the failover that promoted it, if the sentinel tells. The highest number is right, since a sentinel that
    /// was cut off reports an old state.
    pub(super) epoch: Option<u64>,
    /// True if more than half of all sentinels agree.
    pub(super) by_majority: bool,
}

/// The replies of the sentinels so far.
struct SentinelReports {
    of: usize,
    reports: Vec<PrimaryReport>,
    refusal: Option<StoreError>,
}

impl SentinelReports {
    fn new(of: usize) -> SentinelReports {
        SentinelReports { of, reports: Vec::new(), refusal: None }
    }

    fn take(&mut self, answer: Result<Option<PrimaryReport>, StoreError>) {
        match answer {
            Ok(Some(report)) => self.reports.push(report),
            Ok(None) => {}
            // A refusal tells the operator more than a sentinel that cannot be reached.
            Err(
                error @ (StoreError::Refused { .. } | StoreError::Reply { .. } | StoreError::Rights { .. }),
            ) => self.refusal = Some(error),
            Err(_) => {}
        }
    }

    fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.of
    }

    /// Returns the report of the latest failover, once more than half have answered, or once `all` reachable ones have.
    fn report(&self, all: bool) -> Option<PrimaryReport> {
        if !all && !self.is_majority(self.reports.len()) {
            return None;
        }
        let best = self.reports.iter().max_by_key(|report| report.epoch)?;
        let votes = self.reports.iter().filter(|report| report.primary == best.primary).count();
        Some(PrimaryReport { by_majority: self.is_majority(votes), ..best.clone() })
    }

    fn into_error(self, master: &str) -> StoreError {
        self.refusal.unwrap_or_else(|| StoreError::NoPrimary { master: master.into() })
    }
}

/// Asks all sentinels at once, on new connections.
pub(super) async fn ask_all(
    connector: &RedisConnector,
    group: &SentinelGroup,
) -> Result<PrimaryReport, StoreError> {
    let questions = group.sentinels.iter().map(async |sentinel| {
        let connection = connector.open_sentinel(sentinel, Purpose::Sentinel).await?;
        ask(&connection, &group.master, connector.limit()).await
    });
    let mut questions = questions.collect::<FuturesUnordered<_>>();
    let mut answers = SentinelReports::new(group.sentinels.len());
    let mut end = Instant::now() + connector.limit() * 2;
    while let Ok(Some(answer)) = tokio::time::timeout_at(end, questions.next()).await {
        answers.take(answer);
        if let Some(report) = answers.report(false) {
            return Ok(report);
        }
        if !answers.reports.is_empty() {
            end = end.min(Instant::now() + GRACE);
        }
    }
    answers.report(true).ok_or_else(|| answers.into_error(&group.master))
}

/// Asks one sentinel for the primary. Returns `None` if it does not know the name.
async fn ask(
    connection: &RedisConnection,
    master: &str,
    limit: Duration,
) -> Result<Option<PrimaryReport>, StoreError> {
    let mut question = Pipeline::new();
    // Unlike `MASTER`, it reports a promotion while the replicas are still being reconfigured.
    question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    question.cmd("SENTINEL").arg("MASTER").arg(master);
    let answers = connection.ask_all(&Commands::Several(question), limit).await?;
    let mut answers = first_error(answers).map_err(Failure::into_error)?.into_iter();
    let form = |_| StoreError::Form { expected: "SENTINEL GET-MASTER-ADDR-BY-NAME" };
    let found: Option<(String, u16)> =
        redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(form)?;
    let Some((host, port)) = found else { return Ok(None) };
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let primary = address(&text, port).ok();
    let epoch = answers.next().and_then(config_epoch);
    Ok(primary.map(|primary| PrimaryReport { primary, epoch, by_majority: false }))
}

/// Reads the number of the failover from `SENTINEL MASTER`. Returns `None` if the user may not run it.
fn config_epoch(answer: Value) -> Option<u64> {
    let fields: std::collections::HashMap<String, String> = redis::from_redis_value(answer).ok()?;
    fields.get("config-epoch")?.parse().ok()
}

/// Asks the server for its role, as Redis's guide for Sentinel clients requires. The sentinels' report may be out of date.
pub(super) async fn check_primary(connection: &RedisConnection, limit: Duration) -> Result<(), StoreError> {
    let role = match connection.ask(redis::cmd("ROLE"), limit).await? {
        Value::Array(parts) => parts.into_iter().next(),
        _ => None,
    };
    match role.map(redis::from_redis_value::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        _ => Err(StoreError::NotPrimary),
    }
}

/// The receiver of the sentinels' reports.
pub(super) trait SentinelClient: Send + Sync + 'static {
    /// Returns true if the watch task of this number is the current one.
    fn is_current_watch(&self, number: u64) -> bool;

    /// Applies a report that was asked for at `began`.
    fn apply_report(&self, report: PrimaryReport, began: Instant) -> Result<(), StoreError>;
}

/// Keeps `pool` informed until it is dropped or a later watch takes over.
///
/// The sentinels announce a failover at once. They are also asked at intervals.
pub(super) async fn watch(
    pool: Weak<impl SentinelClient>,
    connector: Arc<RedisConnector>,
    group: Arc<SentinelGroup>,
    number: u64,
) {
    let (sender, mut pushes) = unbounded_channel();
    let mut connections: Vec<Option<RedisConnection>> = Vec::new();
    loop {
        match pool.upgrade() {
            Some(pool) if pool.is_current_watch(number) => {
                round(&*pool, (&connector, &group), &mut connections, &sender).await
            }
            _ => return,
        }
        tokio::time::sleep(LEAST_PAUSE).await;
        // Any message triggers a round.
        let _ = tokio::time::timeout(CHECK, pushes.recv()).await;
        while pushes.try_recv().is_ok() {}
    }
}

/// Asks every sentinel once.
async fn round(
    pool: &impl SentinelClient,
    (connector, group): (&RedisConnector, &SentinelGroup),
    connections: &mut Vec<Option<RedisConnection>>,
    sender: &UnboundedSender<PushInfo>,
) {
    connections.resize_with(group.sentinels.len(), || None);
    let began = Instant::now();
    let questions = group.sentinels.iter().zip(connections.iter_mut()).map(async |(sentinel, place)| {
        let connection = match place.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => listen(connector, sentinel, sender).await?,
        };
        let answer = ask(&connection, &group.master, connector.limit()).await;
        if answer.is_ok() {
            *place = Some(connection);
        }
        answer
    });
    let mut answers = SentinelReports::new(group.sentinels.len());
    let mut questions = pin!(questions.collect::<FuturesUnordered<_>>());
    let end = began + connector.limit();
    loop {
        let answer = tokio::time::timeout_at(end, questions.next()).await;
        let all = match answer {
            Ok(Some(answer)) => {
                answers.take(answer);
                false
            }
            _ => true,
        };
        if let Some(report) = answers.report(all) {
            let _ = pool.apply_report(report, began);
        }
        if all {
            return;
        }
    }
}

/// Opens a connection on which the sentinel announces failovers. If it refuses that, opens one for questions alone.
async fn listen(
    connector: &RedisConnector,
    sentinel: &ServerAddress,
    sender: &UnboundedSender<PushInfo>,
) -> Result<RedisConnection, StoreError> {
    let told = async {
        let connection = connector.open_sentinel(sentinel, Purpose::SentinelEvents(sender.clone())).await?;
        connection.subscribe("+switch-master", connector.limit()).await?;
        Ok(connection)
    };
    match told.await {
        Ok(connection) => Ok(connection),
        Err(StoreError::Connect { address, cause }) => Err(StoreError::Connect { address, cause }),
        Err(error) => {
            tracing::debug!(%error, "this sentinel refuses to announce failovers: it is asked at intervals instead");
            connector.open_sentinel(sentinel, Purpose::Sentinel).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(host: &str, epoch: u64) -> PrimaryReport {
        PrimaryReport {
            primary: ServerAddress::Tcp { host: host.into(), port: 1 },
            epoch: Some(epoch),
            by_majority: false,
        }
    }

    #[test]
    fn the_report_of_the_latest_failover_counts() {
        let mut answers = SentinelReports::new(3);
        answers.take(Ok(Some(report("old", 1))));
        assert_eq!(answers.report(false), None, "one of three may be behind");
        answers.take(Err(StoreError::NotPrimary));
        assert_eq!(answers.report(true), Some(report("old", 1)), "the others are away");
        answers.take(Ok(Some(report("new", 2))));
        assert_eq!(answers.report(false), Some(report("new", 2)));
        answers.take(Ok(Some(report("new", 2))));
        assert_eq!(answers.report(false), Some(PrimaryReport { by_majority: true, ..report("new", 2) }));
    }
}
