//! The methods of the provider, as commands. Each change is one script, and so one atomic step. Only a rename between two slots
//! of a cluster takes several: see `moves.rs`.

pub(super) mod moves;
mod users;

use std::sync::{Arc, Weak};

use redis::{Cmd, Value};

use self::moves::MoveLock;
use super::client::{CallKind, RedisClient, pause};
use super::error::StoreError;
use super::failure::Deadline;
use super::invalidations::Subscribers;
use super::layout::{Layout, Partition};
use super::script::{self, Script, ScriptOutcome};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::{Collected, Created, Cursor, Listed, Page, Renamed, Touched, Updated, Watcher};
use crate::record::Record;

/// The most entries of a page, and the most records that one step of garbage collection examines.
const MOST_AT_ONCE: usize = 1000;
/// The time for which an unreadable record is kept: a week, in milliseconds.
const KEPT_ASIDE: &[u8] = b"604800000";

/// The contract on top of the client: it names the keys, chooses the scripts, and reads their answers.
pub(super) struct RedisStore {
    pub(super) client: Arc<RedisClient>,
    pub(super) layout: Layout,
    pub(super) clock: Clock,
    /// True on a cluster, where a session may be locked while it is moved to another slot.
    pub(super) is_cluster: bool,
    /// The watchers that receive invalidations.
    pub(super) subscribers: Subscribers,
}

/// The reply of a script that changes a session.
pub(super) enum ScriptReply {
    Outcome(ScriptOutcome),
    /// The session is being moved to another slot: the lock, and true if the lock has expired.
    Moving(MoveLock, bool),
}

impl RedisStore {
    pub(super) fn new(client: RedisClient, layout: Layout, clock: Clock, is_cluster: bool) -> RedisStore {
        let client = Arc::new(client);
        let prefix = layout.partition(0).map(|partition| partition.sessions()).unwrap_or_default();
        let subscribers = Subscribers::new(Arc::clone(&client), prefix);
        RedisStore { client, layout, clock, is_cluster, subscribers }
    }

    pub(super) async fn subscribe(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        Ok(self.subscribers.subscribe(watcher).await?)
    }

    pub(super) async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let partition = self.layout.partition_of(key);
        let keys = self.keys(&partition, key);
        match self.outcome(&partition, key, &script::CREATE, &keys, &[record.as_bytes()]).await? {
            ScriptOutcome::Done => Ok(Created::Done),
            ScriptOutcome::Taken => Ok(Created::Taken),
            other => Err(unexpected(other).into()),
        }
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.subscribers.restart_stopped();
        let partition = self.layout.partition_of(key);
        let mut get = Cmd::with_capacity(2, 256);
        get.arg("GET");
        partition.write_session(key, &mut get);
        let answer = self.client.read(partition.number, get).await;
        if let Err(StoreError::NotARecord) = answer {
            Box::pin(self.put_aside(&partition, key, b"")).await;
        }
        let bytes = match answer? {
            Value::Nil => return Ok(None),
            Value::BulkString(bytes) => bytes,
            _ => return Err(StoreError::Form { expected: "GET" }.into()),
        };
        match Record::from_bytes(&bytes) {
            Ok(record) => Ok(Some(record).filter(|record| !record.expired_at(self.clock.millis()))),
            Err(corrupt) => {
                Box::pin(self.put_aside(&partition, key, &bytes)).await;
                Err(corrupt)
            }
        }
    }

    /// Sets aside an unreadable record. The next visitor with this id gets a new session, and the operator finds the bytes.
    ///
    /// If `bytes` is empty, any value that is not a record is set aside, whatever its type.
    async fn put_aside(&self, partition: &Partition<'_>, key: &StoreKey, bytes: &[u8]) {
        let mut keys = self.keys(partition, key);
        keys.truncate(3);
        keys.push(partition.corrupt(key));
        let times = (CallKind::NotIdempotent, self.client.deadline());
        match self.run(partition, key, &script::ASIDE, &keys, &[bytes, KEPT_ASIDE], times).await {
            Ok(ScriptReply::Outcome(ScriptOutcome::Done)) => {
                tracing::warn!("an unreadable record was set aside in Redis for a week");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "an unreadable record could not be set aside in Redis"),
        }
    }

    pub(super) async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        // The script reads from the stored record which sets the session must leave.
        let args = [record.as_bytes(), &base.version().to_be_bytes()];
        match self.change(key, &script::UPDATE, &args).await? {
            ScriptOutcome::Done => Ok(Updated::Done),
            ScriptOutcome::Stale => Ok(Updated::Stale),
            ScriptOutcome::Gone => Ok(Updated::Gone),
            other => Err(unexpected(other).into()),
        }
    }

    pub(super) async fn touch(&self, key: &StoreKey, at: Millis) -> Result<Touched> {
        let partition = self.layout.partition_of(key);
        let mut keys = self.keys(&partition, key);
        keys.truncate(3);
        let args = [&at.0.to_be_bytes()[..]];
        let deadline = self.client.deadline();
        match self
            .reply(&partition, key, &script::TOUCH, &keys, &args, (CallKind::Idempotent, deadline))
            .await?
        {
            ScriptReply::Outcome(ScriptOutcome::Done) => Ok(Touched::Done),
            ScriptReply::Outcome(ScriptOutcome::Gone) => Ok(Touched::Gone),
            ScriptReply::Outcome(other) => Err(unexpected(other).into()),
            ScriptReply::Moving(..) => Err(StoreError::Moving.into()),
        }
    }

    pub(super) async fn delete(&self, key: &StoreKey) -> Result<bool> {
        match self.change(key, &script::DELETE, &[]).await? {
            ScriptOutcome::Done => Ok(true),
            ScriptOutcome::Gone => Ok(false),
            other => Err(unexpected(other).into()),
        }
    }

    pub(super) async fn rename(
        self: &Arc<Self>,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        if self.is_cluster {
            return Ok(moves::rename(self, old, new, record, expected, tombstone).await?);
        }
        let partition = self.layout.partition_of(old);
        let mut keys = self.keys(&partition, old);
        keys.push(partition.session(new));
        let tombstone = tombstone.map_or(&b""[..], Record::as_bytes);
        let args = [record.as_bytes(), &expected.to_be_bytes(), new.as_bytes(), tombstone];
        let answer = self.outcome(&partition, old, &script::RENAME, &keys, &args).await;
        if let Err(StoreError::NotARecord) = answer {
            // Either of the two values may be the unreadable one.
            Box::pin(self.put_aside(&partition, new, b"")).await;
        }
        match answer? {
            ScriptOutcome::Done => Ok(Renamed::Done),
            ScriptOutcome::Stale => Ok(Renamed::Stale),
            ScriptOutcome::Gone => Ok(Renamed::Gone),
            ScriptOutcome::Taken => Ok(Renamed::Taken),
            other => Err(unexpected(other).into()),
        }
    }

    /// Counts the entries of the sets. Removes expired entries first, and evicted ones if the server evicts sessions.
    pub(super) async fn count(&self) -> Result<u64> {
        let counts = self.layout.partitions().map(|partition| async move { self.count_in(&partition).await });
        Ok(futures_util::future::try_join_all(counts).await?.into_iter().sum())
    }

    /// Counts one partition in steps, each a short script. A step removes expired entries before it counts, and asks to be run again while
    /// there are more.
    ///
    /// On a server that evicts, the sets may name records that are gone. So the walk then looks at each record, a thousand in a step.
    async fn count_in(&self, partition: &Partition<'_>) -> Result<u64, StoreError> {
        let (mut sum, mut from) = (0, "-".to_owned());
        loop {
            let now = self.clock.millis().0.to_string();
            let (users, sessions, limit) =
                (partition.users(), partition.sessions(), MOST_AT_ONCE.to_string());
            let mut args = vec![now.as_bytes(), users.as_bytes(), sessions.as_bytes(), limit.as_bytes()];
            if self.client.evicts() {
                args.extend([from.as_bytes(), limit.as_bytes()]);
            }
            // A script's first key is a session, which this one has none of.
            let keys = [partition.deadlines(), partition.deadlines(), partition.keys()];
            let form = StoreError::Form { expected: "our script's answer" };
            let Value::Array(parts) =
                self.client.ask(partition.number, &script::COUNT.call(&keys, &args)).await?
            else {
                return Err(form);
            };
            let [Value::Int(found), Value::Int(again), Value::BulkString(last)] = &parts[..] else {
                return Err(form);
            };
            if *again == 1 {
                continue;
            }
            sum += *found as u64;
            if last.is_empty() {
                return Ok(sum);
            }
            from = format!("({}", String::from_utf8_lossy(last));
        }
    }

    pub(super) async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let mut removed = 0;
        let mut partitions = self.layout.partitions();
        let mut partition = partitions.next();
        while let Some(here) = &partition {
            let step = self.collect(here, MOST_AT_ONCE.min(limit - removed)).await?;
            removed += step.removed;
            if step.more && removed >= limit {
                return Ok(Collected { removed, more: true });
            }
            if !step.more {
                partition = partitions.next();
            }
        }
        Ok(Collected { removed, more: false })
    }

    /// Runs one step of garbage collection in a partition.
    async fn collect(&self, partition: &Partition<'_>, limit: usize) -> Result<CollectStep, StoreError> {
        let (now, users, sessions) =
            (self.clock.millis().0.to_string(), partition.users(), partition.sessions());
        let limit = limit.to_string();
        // A script's first key is a session, which this one has none of.
        let keys = [partition.deadlines(), partition.deadlines(), partition.keys()];
        let args = [now.as_bytes(), users.as_bytes(), sessions.as_bytes(), limit.as_bytes()];
        match self.client.ask(partition.number, &script::COLLECT.call(&keys, &args)).await? {
            Value::Array(parts) => match parts[..] {
                [Value::Int(removed), Value::Int(_), Value::Int(due)] => {
                    Ok(CollectStep { removed: removed as usize, more: due > 0 })
                }
                _ => Err(StoreError::Form { expected: "our script's answer" }),
            },
            _ => Err(StoreError::Form { expected: "our script's answer" }),
        }
    }

    /// Returns a page of one partition, in the order of the keys. The cursor names the partition and the last key.
    pub(super) async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let from = cursor.as_ref().map_or(Some((0, None)), |cursor| read_cursor(cursor.as_str()));
        let Some((number, last)) = from else { return Ok(Page::default()) };
        let Some(partition) = self.layout.partition(number) else { return Ok(Page::default()) };
        let limit = limit.clamp(1, MOST_AT_ONCE);
        let from = last.map_or("-".to_owned(), |last| format!("({}", last.as_str()));
        let ListPage { names, entries, .. } =
            self.list(&partition, partition.keys(), &from, ListStart::First, limit).await?;
        let next = match names.last() {
            Some(last) if names.len() == limit => Some(format!("{number}.{}", last.as_str())),
            _ => self.layout.partition(number + 1).map(|next| format!("{}.", next.number)),
        };
        Ok(Page { entries, next: next.map(Cursor::new) })
    }

    /// Returns a page of a set: from the name `from` on of a partition's keys, or what comes after `after` of a user's.
    async fn list(
        &self,
        partition: &Partition<'_>,
        set: String,
        from: &str,
        after: ListStart<'_>,
        limit: usize,
    ) -> Result<ListPage> {
        let (now, sessions) = (self.clock.millis().0.to_string(), partition.sessions());
        let limit = limit.to_string();
        let (moving, arriving) = (partition.all_moving(), partition.all_arriving());
        let (score, name) = match after {
            ListStart::First => ("", ""),
            ListStart::After { score, name } => (score, name.as_str()),
        };
        let mut args = vec![now.as_bytes(), sessions.as_bytes(), limit.as_bytes(), from.as_bytes()];
        args.extend([score.as_bytes(), name.as_bytes()]);
        if self.is_cluster {
            args.extend([moving.as_bytes(), arriving.as_bytes()]);
        }
        let answer = self.client.ask(partition.number, &script::LIST.call(&[set], &args)).await?;
        read_list(answer)
    }

    /// Runs a script that changes a session. On a cluster it waits while the session is locked, and breaks an expired lock.
    pub(super) async fn change(
        &self,
        key: &StoreKey,
        script: &Script,
        args: &[&[u8]],
    ) -> Result<ScriptOutcome, StoreError> {
        let partition = self.layout.partition_of(key);
        let keys = self.keys(&partition, key);
        let deadline = self.client.deadline();
        for turn in 0.. {
            match self
                .reply(&partition, key, script, &keys, args, (CallKind::NotIdempotent, deadline))
                .await?
            {
                ScriptReply::Outcome(answer) => return Ok(answer),
                ScriptReply::Moving(lock, true) => Box::pin(moves::undo(self, key, &lock)).await?,
                ScriptReply::Moving(..) => {}
            }
            if !pause(deadline, turn).await {
                break;
            }
        }
        Err(StoreError::Moving)
    }

    /// Runs a script on a session that cannot be locked.
    pub(super) async fn outcome(
        &self,
        partition: &Partition<'_>,
        key: &StoreKey,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<ScriptOutcome, StoreError> {
        let deadline = self.client.deadline();
        match self.reply(partition, key, script, keys, args, (CallKind::NotIdempotent, deadline)).await? {
            ScriptReply::Outcome(answer) => Ok(answer),
            ScriptReply::Moving(..) => Err(StoreError::Moving),
        }
    }

    /// Runs a script. Sets aside a value that is not a record, which is an error once.
    pub(super) async fn reply(
        &self,
        partition: &Partition<'_>,
        key: &StoreKey,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
        times: (CallKind, Deadline),
    ) -> Result<ScriptReply, StoreError> {
        match self.run(partition, key, script, keys, args, times).await? {
            ScriptReply::Outcome(ScriptOutcome::Corrupt) => {
                Box::pin(self.put_aside(partition, key, b"")).await;
                Err(StoreError::NotARecord)
            }
            reply => Ok(reply),
        }
    }

    /// Runs a script with the arguments that every script begins with: the time, the prefix of users' sets, and the session's name.
    ///
    /// The answer is a number, or the lock of a session that is being moved to another slot.
    async fn run(
        &self,
        partition: &Partition<'_>,
        key: &StoreKey,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
        (kind, deadline): (CallKind, Deadline),
    ) -> Result<ScriptReply, StoreError> {
        let (now, users) = (self.clock.millis().0.to_string(), partition.users());
        let mut all = vec![now.as_bytes(), users.as_bytes(), key.as_bytes()];
        all.extend(args);
        let form = StoreError::Form { expected: "our script's answer" };
        match self.client.run(partition.number, &script.call(keys, &all), kind, deadline).await? {
            Value::Int(number) => Ok(ScriptReply::Outcome(ScriptOutcome::of(number).ok_or(form)?)),
            Value::Array(parts) => match &parts[..] {
                [_, Value::BulkString(lock), Value::Int(over)] => {
                    Ok(ScriptReply::Moving(MoveLock::read(lock).ok_or(form)?, *over == 1))
                }
                _ => Err(form),
            },
            _ => Err(form),
        }
    }

    /// Returns the keys that each script begins with.
    pub(super) fn keys(&self, partition: &Partition<'_>, key: &StoreKey) -> Vec<String> {
        let mut keys = vec![partition.session(key), partition.deadlines(), partition.keys()];
        if self.is_cluster {
            keys.push(partition.moving(key));
        }
        keys
    }
}

/// The result of one step of garbage collection.
struct CollectStep {
    removed: usize,
    /// True if more entries may have expired.
    more: bool,
}

fn read_cursor(text: &str) -> Option<(u16, Option<StoreKey>)> {
    let (partition, last) = text.split_once('.')?;
    let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    Some((partition.parse().ok()?, last))
}

/// The entry of a user's set after which a page begins.
#[derive(Clone, Copy)]
enum ListStart<'a> {
    First,
    After { score: &'a str, name: &'a StoreKey },
}

/// The reply of `list.lua`.
struct ListPage {
    /// All names of the page, including those of ended sessions.
    names: Vec<StoreKey>,
    entries: Vec<Listed>,
    moving: bool,
    /// The score of the last entry of a user's set, if others come after it.
    more: Option<String>,
}

/// The number of sessions on their way, the last score, then each name with its record, which has no data; or with nothing where none lives.
fn read_list(answer: Value) -> Result<ListPage> {
    let form = || StoreError::Form { expected: "our script's answer" };
    let Value::Array(parts) = answer else { return Err(form().into()) };
    let mut parts = parts.into_iter();
    let moving = integer(parts.next().ok_or_else(form)?)? > 0;
    let more: String = redis::from_redis_value(parts.next().ok_or_else(form)?).map_err(|_| form())?;
    let more = Some(more).filter(|more| !more.is_empty());
    let mut list = ListPage { names: Vec::new(), entries: Vec::new(), moving, more };
    while let (Some(name), Some(record)) = (parts.next(), parts.next()) {
        let (Value::BulkString(name), Value::BulkString(record)) = (name, record) else {
            return Err(form().into());
        };
        // Another program wrote a name that is not a key. It cannot name a session.
        let Some(key) = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<StoreKey>().ok()) else {
            continue;
        };
        // An unreadable record is reported when it is loaded.
        if let Ok(record) = Record::from_bytes(&record) {
            list.entries.push(Listed { key: key.clone(), meta: record.meta() });
        }
        list.names.push(key);
    }
    Ok(list)
}

fn integer(value: Value) -> Result<u64, StoreError> {
    redis::from_redis_value(value).map_err(|_| StoreError::Form { expected: "a number" })
}

pub(super) fn unexpected(_: ScriptOutcome) -> StoreError {
    StoreError::Form { expected: "our script's answer" }
}
