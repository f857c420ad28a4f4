//! The sentinels' word: which server is the primary.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, PushInfo, Value};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::connect::{Connector, Purpose};
use super::error::StoreError;
use super::failure::{Failure, first_error};
use super::link::{Commands, Link};
use super::settings::{Address, address};

/// For how long the sentinels' word is taken: a link is not used before it has been confirmed within this time. Less than the shortest
/// time in which sentinels replace a primary by themselves (a `down-after-milliseconds` of 1 s, and the vote).
pub(super) const LEASE: Duration = Duration::from_millis(1500);
/// Between two looks at the sentinels, so that calls find the lease running.
const CHECK: Duration = Duration::from_millis(500);
/// How long the others are waited for once a sentinel has answered.
const GRACE: Duration = Duration::from_millis(200);
/// Between two looks that the sentinels' own messages ask for.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// The installation that sentinels watch over.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) sentinels: Vec<Address>,
    pub(super) master: Box<str>,
}

/// The word of a sentinel, or of several of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) primary: Address,
    /// The number of the failover that made it the primary, where the sentinel tells. The highest is right: a sentinel that was cut
    /// off tells of old times.
    pub(super) epoch: Option<u64>,
    /// Set if more than half of all sentinels say so.
    pub(super) by_most: bool,
}

/// The sentinels' answers so far.
struct Answers {
    of: usize,
    words: Vec<Word>,
    refusal: Option<StoreError>,
}

impl Answers {
    fn new(of: usize) -> Answers {
        Answers { of, words: Vec::new(), refusal: None }
    }

    fn take(&mut self, answer: Result<Option<Word>, StoreError>) {
        match answer {
            Ok(Some(word)) => self.words.push(word),
            Ok(None) => {}
            // One that refuses says more than one that is away.
            Err(
                error @ (StoreError::Refused { .. } | StoreError::Reply { .. } | StoreError::Rights { .. }),
            ) => self.refusal = Some(error),
            Err(_) => {}
        }
    }

    fn is_most(&self, count: usize) -> bool {
        count * 2 > self.of
    }

    /// The word of the latest failover, once more than half have answered or `all` who can.
    fn word(&self, all: bool) -> Option<Word> {
        if !all && !self.is_most(self.words.len()) {
            return None;
        }
        let best = self.words.iter().max_by_key(|word| word.epoch)?;
        let votes = self.words.iter().filter(|word| word.primary == best.primary).count();
        Some(Word { by_most: self.is_most(votes), ..best.clone() })
    }

    fn into_error(self, master: &str) -> StoreError {
        self.refusal.unwrap_or_else(|| StoreError::NoPrimary { master: master.into() })
    }
}

/// Asks all sentinels at once, on connections of their own.
pub(super) async fn ask_all(connector: &Connector, group: &Group) -> Result<Word, StoreError> {
    let questions = group.sentinels.iter().map(async |sentinel| {
        let link = connector.open_sentinel(sentinel, Purpose::Sentinel).await?;
        ask(&link, &group.master, connector.limit()).await
    });
    let mut questions = questions.collect::<FuturesUnordered<_>>();
    let mut answers = Answers::new(group.sentinels.len());
    let mut end = Instant::now() + connector.limit() * 2;
    while let Ok(Some(answer)) = tokio::time::timeout_at(end, questions.next()).await {
        answers.take(answer);
        if let Some(word) = answers.word(false) {
            return Ok(word);
        }
        if !answers.words.is_empty() {
            end = end.min(Instant::now() + GRACE);
        }
    }
    answers.word(true).ok_or_else(|| answers.into_error(&group.master))
}

/// None of a name that the sentinel does not know.
async fn ask(link: &Link, master: &str, limit: Duration) -> Result<Option<Word>, StoreError> {
    let mut question = Pipeline::new();
    // This one knows of a promotion while the others still hear of it.
    question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    question.cmd("SENTINEL").arg("MASTER").arg(master);
    let answers = link.ask_all(&Commands::Several(question), limit).await?;
    let mut answers = first_error(answers).map_err(Failure::into_error)?.into_iter();
    let form = |_| StoreError::Form { expected: "SENTINEL GET-MASTER-ADDR-BY-NAME" };
    let found: Option<(String, u16)> =
        redis::from_redis_value(answers.next().unwrap_or(Value::Nil)).map_err(form)?;
    let Some((host, port)) = found else { return Ok(None) };
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let primary = address(&text, port).ok();
    let epoch = answers.next().and_then(config_epoch);
    Ok(primary.map(|primary| Word { primary, epoch, by_most: false }))
}

/// None where the user may not ask for it.
fn config_epoch(answer: Value) -> Option<u64> {
    let fields: std::collections::HashMap<String, String> = redis::from_redis_value(answer).ok()?;
    fields.get("config-epoch")?.parse().ok()
}

/// Sentinels may be behind, and a primary that was replaced may not know yet: it is asked itself, as Redis's guide for clients says.
pub(super) async fn check_primary(link: &Link, limit: Duration) -> Result<(), StoreError> {
    let role = match link.ask(redis::cmd("ROLE"), limit).await? {
        Value::Array(parts) => parts.into_iter().next(),
        _ => None,
    };
    match role.map(redis::from_redis_value::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        _ => Err(StoreError::NotPrimary),
    }
}

/// One who goes by the sentinels' word.
pub(super) trait Informed: Send + Sync + 'static {
    /// True if the watch of this number is still the one that is wanted.
    fn is_watched_by(&self, number: u64) -> bool;

    /// Goes by the sentinels' word, which was asked for at `began`.
    fn learn(&self, word: Word, began: Instant) -> Result<(), StoreError>;
}

/// Keeps `pool` informed for as long as it lives, or until a later watch takes over: the sentinels tell of a failover at once, and are asked
/// at intervals besides.
pub(super) async fn watch(
    pool: Weak<impl Informed>,
    connector: Arc<Connector>,
    group: Arc<Group>,
    number: u64,
) {
    let (sender, mut pushes) = unbounded_channel();
    let mut links: Vec<Option<Link>> = Vec::new();
    loop {
        match pool.upgrade() {
            Some(pool) if pool.is_watched_by(number) => {
                round(&*pool, (&connector, &group), &mut links, &sender).await
            }
            _ => return,
        }
        tokio::time::sleep(LEAST_PAUSE).await;
        // Any message is a reason to ask.
        let _ = tokio::time::timeout(CHECK, pushes.recv()).await;
        while pushes.try_recv().is_ok() {}
    }
}

/// Asks every sentinel once.
async fn round(
    pool: &impl Informed,
    (connector, group): (&Connector, &Group),
    links: &mut Vec<Option<Link>>,
    sender: &UnboundedSender<PushInfo>,
) {
    links.resize_with(group.sentinels.len(), || None);
    let began = Instant::now();
    let questions = group.sentinels.iter().zip(links.iter_mut()).map(async |(sentinel, place)| {
        let link = match place.take().filter(|link| !link.is_closed()) {
            Some(link) => link,
            None => listen(connector, sentinel, sender).await?,
        };
        let answer = ask(&link, &group.master, connector.limit()).await;
        if answer.is_ok() {
            *place = Some(link);
        }
        answer
    });
    let mut answers = Answers::new(group.sentinels.len());
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
        if let Some(word) = answers.word(all) {
            let _ = pool.learn(word, began);
        }
        if all {
            return;
        }
    }
}

/// A connection on which the sentinel tells of failovers; where it cannot, one on which it can be asked.
async fn listen(
    connector: &Connector,
    sentinel: &Address,
    sender: &UnboundedSender<PushInfo>,
) -> Result<Link, StoreError> {
    let told = async {
        let link = connector.open_sentinel(sentinel, Purpose::SentinelNews(sender.clone())).await?;
        link.subscribe("+switch-master", connector.limit()).await?;
        Ok(link)
    };
    match told.await {
        Ok(link) => Ok(link),
        Err(StoreError::Connect { address, cause }) => Err(StoreError::Connect { address, cause }),
        Err(error) => {
            tracing::debug!(%error, "this sentinel tells of no failover: it is asked at intervals");
            connector.open_sentinel(sentinel, Purpose::Sentinel).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(host: &str, epoch: u64) -> Word {
        Word { primary: Address::Tcp { host: host.into(), port: 1 }, epoch: Some(epoch), by_most: false }
    }

    #[test]
    fn the_word_of_the_latest_failover_counts() {
        let mut answers = Answers::new(3);
        answers.take(Ok(Some(word("old", 1))));
        assert_eq!(answers.word(false), None, "one of three may be behind");
        answers.take(Err(StoreError::NotPrimary));
        assert_eq!(answers.word(true), Some(word("old", 1)), "the others are away");
        answers.take(Ok(Some(word("new", 2))));
        assert_eq!(answers.word(false), Some(word("new", 2)));
        answers.take(Ok(Some(word("new", 2))));
        assert_eq!(answers.word(false), Some(Word { by_most: true, ..word("new", 2) }));
    }
}
