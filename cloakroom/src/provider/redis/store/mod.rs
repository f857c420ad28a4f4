//! What the provider does, in commands. Each change is one script and so one step; only a rename from slot to slot, on a cluster, is
//! several: see `moves.rs`.

pub(super) mod moves;
mod users;

use std::sync::{Arc, Weak};

use redis::{Cmd, Value};

use self::moves::Note;
use super::call::{Caller, Repeat, pause};
use super::error::StoreError;
use super::failure::Deadline;
use super::invalidations::Followers;
use super::layout::{Layout, Place};
use super::script::{self, Answer, Script};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::{Collected, Created, Cursor, Listed, Page, Renamed, Touched, Updated, Watcher};
use crate::record::Record;

/// The most entries of a page, and the most records that one step of a collection looks at.
const MOST_AT_ONCE: usize = 1000;
/// How long a record that cannot be read is kept aside: a week, in milliseconds.
const ASIDE: &[u8] = b"604800000";

pub(super) struct Store {
    pub(super) caller: Arc<Caller>,
    pub(super) layout: Layout,
    pub(super) clock: Clock,
    /// On a cluster sessions move from slot to slot, and a change has to ask whether one does.
    pub(super) is_cluster: bool,
    /// The watchers that are told of changes.
    pub(super) followers: Followers,
}

/// What a script said.
pub(super) enum Said {
    Answer(Answer),
    /// The session is on its way, and whether the time for that is over.
    Moving(Note, bool),
}

impl Store {
    pub(super) fn new(caller: Caller, layout: Layout, clock: Clock, is_cluster: bool) -> Store {
        let caller = Arc::new(caller);
        let prefix = layout.numbered(0).map(|place| place.sessions()).unwrap_or_default();
        let followers = Followers::new(Arc::clone(&caller), prefix);
        Store { caller, layout, clock, is_cluster, followers }
    }

    pub(super) async fn follow(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        Ok(self.followers.follow(watcher).await?)
    }

    pub(super) async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let place = self.layout.of(key);
        let keys = self.keys(&place, key);
        match self.answer(&place, key, &script::CREATE, &keys, &[record.as_bytes()]).await? {
            Answer::Done => Ok(Created::Done),
            Answer::Taken => Ok(Created::Taken),
            other => Err(unexpected(other).into()),
        }
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.followers.tend();
        let place = self.layout.of(key);
        let mut get = Cmd::with_capacity(2, 256);
        get.arg("GET");
        place.write_session(key, &mut get);
        let answer = self.caller.read(place.partition, get).await;
        if let Err(StoreError::NoRecord) = answer {
            Box::pin(self.put_aside(&place, key, b"")).await;
        }
        let bytes = match answer? {
            Value::Nil => return Ok(None),
            Value::BulkString(bytes) => bytes,
            _ => return Err(StoreError::Form { expected: "GET" }.into()),
        };
        match Record::from_bytes(&bytes) {
            Ok(record) => Ok(Some(record).filter(|record| !record.expired_at(self.clock.millis()))),
            Err(corrupt) => {
                Box::pin(self.put_aside(&place, key, &bytes)).await;
                Err(corrupt)
            }
        }
    }

    /// The next visitor with this id gets a fresh session, and the operator finds the bytes. Without `bytes`, what no script can read
    /// either, whatever it is.
    async fn put_aside(&self, place: &Place<'_>, key: &StoreKey, bytes: &[u8]) {
        let mut keys = self.keys(place, key);
        keys.truncate(3);
        keys.push(place.corrupt(key));
        let times = (Repeat::IfNotDone, self.caller.deadline());
        match self.run(place, key, &script::ASIDE, &keys, &[bytes, ASIDE], times).await {
            Ok(Said::Answer(Answer::Done)) => {
                tracing::warn!("a record that cannot be read was put aside in Redis, for a week");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a record that cannot be read could not be put aside"),
        }
    }

    pub(super) async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        // The script finds in the stored record which sets the session leaves.
        let args = [record.as_bytes(), &base.version().to_be_bytes()];
        match self.change(key, &script::UPDATE, &args).await? {
            Answer::Done => Ok(Updated::Done),
            Answer::Stale => Ok(Updated::Stale),
            Answer::Gone => Ok(Updated::Gone),
            other => Err(unexpected(other).into()),
        }
    }

    pub(super) async fn touch(&self, key: &StoreKey, at: Millis) -> Result<Touched> {
        let place = self.layout.of(key);
        let mut keys = self.keys(&place, key);
        keys.truncate(3);
        let args = [&at.0.to_be_bytes()[..]];
        let deadline = self.caller.deadline();
        match self.said(&place, key, &script::TOUCH, &keys, &args, (Repeat::Freely, deadline)).await? {
            Said::Answer(Answer::Done) => Ok(Touched::Done),
            Said::Answer(Answer::Gone) => Ok(Touched::Gone),
            Said::Answer(other) => Err(unexpected(other).into()),
            Said::Moving(..) => Err(StoreError::Moving.into()),
        }
    }

    pub(super) async fn delete(&self, key: &StoreKey) -> Result<bool> {
        match self.change(key, &script::DELETE, &[]).await? {
            Answer::Done => Ok(true),
            Answer::Gone => Ok(false),
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
        let place = self.layout.of(old);
        let mut keys = self.keys(&place, old);
        keys.push(place.session(new));
        let tombstone = tombstone.map_or(&b""[..], Record::as_bytes);
        let args = [record.as_bytes(), &expected.to_be_bytes(), new.as_bytes(), tombstone];
        let answer = self.answer(&place, old, &script::RENAME, &keys, &args).await;
        if let Err(StoreError::NoRecord) = answer {
            // It may be either of the two.
            Box::pin(self.put_aside(&place, new, b"")).await;
        }
        match answer? {
            Answer::Done => Ok(Renamed::Done),
            Answer::Stale => Ok(Renamed::Stale),
            Answer::Gone => Ok(Renamed::Gone),
            Answer::Taken => Ok(Renamed::Taken),
            other => Err(unexpected(other).into()),
        }
    }

    /// Counts the entries of the sets. It first looks at those whose place is over and takes the dead out. Where the server evicts,
    /// what stands there and is gone is taken out, too.
    pub(super) async fn count(&self) -> Result<u64> {
        let counts = self.layout.partitions().map(|place| async move { self.count_in(&place).await });
        Ok(futures_util::future::try_join_all(counts).await?.into_iter().sum())
    }

    async fn count_in(&self, place: &Place<'_>) -> Result<u64, StoreError> {
        let (mut sum, mut from) = (0, "-".to_owned());
        loop {
            let now = self.clock.millis().0.to_string();
            let (users, sessions, limit) = (place.users(), place.sessions(), MOST_AT_ONCE.to_string());
            let mut args = vec![now.as_bytes(), users.as_bytes(), sessions.as_bytes(), limit.as_bytes()];
            if self.caller.evicts() {
                args.extend([from.as_bytes(), limit.as_bytes()]);
            }
            // A script's first key is a session, which this one has none of.
            let keys = [place.deadlines(), place.deadlines(), place.keys()];
            let form = StoreError::Form { expected: "our script's answer" };
            let Value::Array(parts) =
                self.caller.ask(place.partition, &script::COUNT.call(&keys, &args)).await?
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
        let mut places = self.layout.partitions();
        let mut place = places.next();
        while let Some(here) = &place {
            let step = self.collect(here, MOST_AT_ONCE.min(limit - removed)).await?;
            removed += step.removed;
            if step.more && removed >= limit {
                return Ok(Collected { removed, more: true });
            }
            if !step.more {
                place = places.next();
            }
        }
        Ok(Collected { removed, more: false })
    }

    /// One step of a collection in a partition.
    async fn collect(&self, place: &Place<'_>, limit: usize) -> Result<Step, StoreError> {
        let (now, users, sessions) = (self.clock.millis().0.to_string(), place.users(), place.sessions());
        let limit = limit.to_string();
        // A script's first key is a session, which this one has none of.
        let keys = [place.deadlines(), place.deadlines(), place.keys()];
        let args = [now.as_bytes(), users.as_bytes(), sessions.as_bytes(), limit.as_bytes()];
        match self.caller.ask(place.partition, &script::COLLECT.call(&keys, &args)).await? {
            Value::Array(parts) => match parts[..] {
                [Value::Int(removed), Value::Int(_), Value::Int(due)] => {
                    Ok(Step { removed: removed as usize, more: due > 0 })
                }
                _ => Err(StoreError::Form { expected: "our script's answer" }),
            },
            _ => Err(StoreError::Form { expected: "our script's answer" }),
        }
    }

    /// A page lies within one partition; there the keys are in order, which is how the next page knows where to go on.
    pub(super) async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let from = cursor.as_ref().map_or(Some((0, None)), |cursor| read_cursor(cursor.as_str()));
        let Some((partition, last)) = from else { return Ok(Page::default()) };
        let Some(place) = self.layout.numbered(partition) else { return Ok(Page::default()) };
        let limit = limit.clamp(1, MOST_AT_ONCE);
        let from = last.map_or("-".to_owned(), |last| format!("({}", last.as_str()));
        let List { names, entries, .. } = self.list(&place, place.keys(), &from, After::Start, limit).await?;
        let next = match names.last() {
            Some(last) if names.len() == limit => Some(format!("{partition}.{}", last.as_str())),
            _ => self.layout.numbered(partition + 1).map(|next| format!("{}.", next.partition)),
        };
        Ok(Page { entries, next: next.map(Cursor::new) })
    }

    /// A page of a set: from the name `from` on of a partition's keys, or what comes after `after` of a user's.
    async fn list(
        &self,
        place: &Place<'_>,
        set: String,
        from: &str,
        after: After<'_>,
        limit: usize,
    ) -> Result<List> {
        let (now, sessions) = (self.clock.millis().0.to_string(), place.sessions());
        let limit = limit.to_string();
        let (moving, arriving) = (place.all_moving(), place.all_arriving());
        let (score, name) = match after {
            After::Start => ("", ""),
            After::Entry { score, name } => (score, name.as_str()),
        };
        let mut args = vec![now.as_bytes(), sessions.as_bytes(), limit.as_bytes(), from.as_bytes()];
        args.extend([score.as_bytes(), name.as_bytes()]);
        if self.is_cluster {
            args.extend([moving.as_bytes(), arriving.as_bytes()]);
        }
        let answer = self.caller.ask(place.partition, &script::LIST.call(&[set], &args)).await?;
        read_list(answer)
    }

    /// Runs a script that changes a session where it is; on a cluster, when it is not on its way.
    pub(super) async fn change(
        &self,
        key: &StoreKey,
        script: &Script,
        args: &[&[u8]],
    ) -> Result<Answer, StoreError> {
        let place = self.layout.of(key);
        let keys = self.keys(&place, key);
        let deadline = self.caller.deadline();
        for turn in 0.. {
            match self.said(&place, key, script, &keys, args, (Repeat::IfNotDone, deadline)).await? {
                Said::Answer(answer) => return Ok(answer),
                Said::Moving(note, true) => Box::pin(moves::undo(self, key, &note)).await?,
                Said::Moving(..) => {}
            }
            if !pause(deadline, turn).await {
                break;
            }
        }
        Err(StoreError::Moving)
    }

    /// Runs a script that meets no session on its way.
    pub(super) async fn answer(
        &self,
        place: &Place<'_>,
        key: &StoreKey,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Answer, StoreError> {
        let deadline = self.caller.deadline();
        match self.said(place, key, script, keys, args, (Repeat::IfNotDone, deadline)).await? {
            Said::Answer(answer) => Ok(answer),
            Said::Moving(..) => Err(StoreError::Moving),
        }
    }

    /// Runs a script. What is no record is put aside, and is an error once.
    pub(super) async fn said(
        &self,
        place: &Place<'_>,
        key: &StoreKey,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
        times: (Repeat, Deadline),
    ) -> Result<Said, StoreError> {
        match self.run(place, key, script, keys, args, times).await? {
            Said::Answer(Answer::Corrupt) => {
                Box::pin(self.put_aside(place, key, b"")).await;
                Err(StoreError::NoRecord)
            }
            said => Ok(said),
        }
    }

    async fn run(
        &self,
        place: &Place<'_>,
        key: &StoreKey,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
        (repeat, deadline): (Repeat, Deadline),
    ) -> Result<Said, StoreError> {
        let (now, users) = (self.clock.millis().0.to_string(), place.users());
        let mut all = vec![now.as_bytes(), users.as_bytes(), key.as_bytes()];
        all.extend(args);
        let form = StoreError::Form { expected: "our script's answer" };
        match self.caller.run(place.partition, &script.call(keys, &all), repeat, deadline).await? {
            Value::Int(number) => Ok(Said::Answer(Answer::of(number).ok_or(form)?)),
            Value::Array(parts) => match &parts[..] {
                [_, Value::BulkString(note), Value::Int(over)] => {
                    Ok(Said::Moving(Note::read(note).ok_or(form)?, *over == 1))
                }
                _ => Err(form),
            },
            _ => Err(form),
        }
    }

    /// The keys that each script begins with.
    pub(super) fn keys(&self, place: &Place<'_>, key: &StoreKey) -> Vec<String> {
        let mut keys = vec![place.session(key), place.deadlines(), place.keys()];
        if self.is_cluster {
            keys.push(place.moving(key));
        }
        keys
    }
}

/// What a step of a collection has done to a partition.
struct Step {
    removed: usize,
    /// Whether there is more to look at.
    more: bool,
}

fn read_cursor(text: &str) -> Option<(u16, Option<StoreKey>)> {
    let (partition, last) = text.split_once('.')?;
    let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    Some((partition.parse().ok()?, last))
}

/// The entry of a user's set after which a page begins.
#[derive(Clone, Copy)]
enum After<'a> {
    Start,
    Entry { score: &'a str, name: &'a StoreKey },
}

/// What `list.lua` answers.
struct List {
    /// Those of the dead, too.
    names: Vec<StoreKey>,
    entries: Vec<Listed>,
    moving: bool,
    /// The score of the last entry of a user's set, if others come after it.
    more: Option<String>,
}

/// The number of sessions on their way, the last score, then each name with its record, which has no data; or with nothing where none lives.
fn read_list(answer: Value) -> Result<List> {
    let form = || StoreError::Form { expected: "our script's answer" };
    let Value::Array(parts) = answer else { return Err(form().into()) };
    let mut parts = parts.into_iter();
    let moving = integer(parts.next().ok_or_else(form)?)? > 0;
    let more: String = redis::from_redis_value(parts.next().ok_or_else(form)?).map_err(|_| form())?;
    let more = Some(more).filter(|more| !more.is_empty());
    let mut list = List { names: Vec::new(), entries: Vec::new(), moving, more };
    while let (Some(name), Some(record)) = (parts.next(), parts.next()) {
        let (Value::BulkString(name), Value::BulkString(record)) = (name, record) else {
            return Err(form().into());
        };
        // A name that is no key was put there by somebody else, and reaches no session.
        let Some(key) = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<StoreKey>().ok()) else {
            continue;
        };
        // What cannot be read is told of when it is loaded.
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

pub(super) fn unexpected(_: Answer) -> StoreError {
    StoreError::Form { expected: "our script's answer" }
}
