//! The model test: runs the same random steps on a provider and on a plain map, and compares their answers.
//!
//! A test with `proptest` needs three lines. If the two differ, `proptest` finds a short series of steps that shows it:
//!
//! ```
//! use cloakroom::testkit::model::{self, Op};
//! use cloakroom::{ManualClock, MemoryProvider};
//! use proptest::prelude::*;
//!
//! proptest! {
//!     // A test has `#[test]` here.
//!     fn the_provider_equals_the_model(steps in proptest::collection::vec(any::<[u8; Op::BYTES]>(), 1..60)) {
//!         let ops: Vec<Op> = steps.into_iter().map(Op::from).collect();
//!         let time = ManualClock::default();
//!         model::run(MemoryProvider::builder().clock(time.clock()).build(), &time, &ops);
//!     }
//! }
//! # the_provider_equals_the_model();
//! ```

mod plain;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use super::fixture::{Fixture, label, user};
use super::{RecordBuilder, Store, record};
use crate::clock::ManualClock;
use crate::id::StoreKey;
use crate::provider::{Listed, Provider, Renamed};
use crate::record::{Meta, Record};

pub(crate) use plain::Model;

/// The keys of the steps. They are few, so that steps meet on one key, and so alike that a careless store confuses them.
const KEYS: [&str; 6] = ["session", "Session", "session-", "se", "s_ssion", "10"];
const PRINCIPALS: [&str; 3] = ["alice", "Alice", "alice/\n%\0"];
const LABELS: [&str; 2] = ["alice", "device"];

/// One step of the model test.
///
/// Keys and principals are indexes into small sets. Times are in minutes. `off` is added to the present version to get the expected
/// one, so only 0 succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the parameters of the provider's methods")]
#[allow(clippy::exhaustive_enums, reason = "a strategy of the caller's own builds it")]
pub enum Op {
    /// [`Provider::load`]. It is the first variant, so that a shrinking test prefers steps that change nothing.
    Load { key: u8 },
    /// [`Provider::create`].
    Create { key: u8, record: Shape },
    /// [`Provider::update`].
    Update { key: u8, record: Shape, off: u8 },
    /// [`Provider::update`] with the tombstone of an ended session, which expires after `idle`.
    End { key: u8, idle: u8, off: u8 },
    /// [`Provider::touch`], of a use now or so many minutes ago.
    Touch { key: u8, ago: u8 },
    /// [`Provider::rename`], with a tombstone that expires after `tombstone`, or with none.
    Rename { old: u8, new: u8, record: Shape, off: u8, tombstone: Option<u8> },
    /// [`Provider::delete`].
    Delete { key: u8 },
    /// [`Provider::count`].
    Count,
    /// [`Provider::scan`], all pages, of `limit` + 1 entries each.
    Scan { limit: u8 },
    /// [`Provider::indexed`], all pages, of `limit` + 1 entries each. The principals come before the labels.
    Indexed { entry: u8, limit: u8 },
    /// [`Provider::delete_expired`].
    DeleteExpired { limit: u8 },
    /// Moves the clock.
    Advance { minutes: u8 },
}

/// The record of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a strategy of the caller's own builds it")]
pub struct Shape {
    /// The index of the user.
    pub principal: Option<u8>,
    /// Its labels, one for each bit.
    pub labels: u8,
    /// Minutes until the idle deadline. A record with 0 has expired.
    pub idle: u8,
    /// Minutes until the absolute deadline.
    pub absolute: Option<u8>,
    /// The size of the data, in units of 64 bytes.
    pub size: u8,
}

impl Op {
    /// The number of bytes that make one step.
    pub const BYTES: usize = 8;
}

impl From<[u8; Op::BYTES]> for Op {
    /// Makes a step from any eight bytes. Smaller bytes make a simpler step.
    ///
    /// ```
    /// use cloakroom::testkit::model::Op;
    ///
    /// assert_eq!(Op::from([0; 8]), Op::Load { key: 0 });
    /// ```
    fn from([kind, key, other, principal, idle, absolute, size, off]: [u8; Op::BYTES]) -> Self {
        // One record in four has no user.
        let user = (principal % 4).checked_sub(1);
        let record = Shape {
            principal: user,
            labels: principal / 4 % 4,
            idle: idle % 16,
            absolute: (absolute % 3 == 2).then_some(absolute % 16),
            size: size % 8,
        };
        let off = if off < 192 { 0 } else { off - 191 };
        let key = key % KEYS.len() as u8;
        match kind % 32 {
            0..3 => Op::Load { key },
            3..10 => Op::Create { key, record },
            10..13 => Op::Update { key, record, off },
            13 => Op::End { key, idle: idle % 16, off },
            14..17 => Op::Touch { key, ago: if off == 0 { 0 } else { idle % 16 } },
            17..22 => {
                let tombstone = (absolute % 2 == 1).then_some(absolute % 16);
                Op::Rename { old: key, new: other % KEYS.len() as u8, record, off, tombstone }
            }
            22..24 => Op::Delete { key },
            24 => Op::Count,
            25 => Op::Scan { limit: size % 8 },
            26 => {
                let entry = principal % (PRINCIPALS.len() + LABELS.len()) as u8;
                Op::Indexed { entry, limit: size % 8 }
            }
            27..29 => Op::DeleteExpired { limit: size % 5 },
            _ => Op::Advance { minutes: idle % 8 },
        }
    }
}

/// Calls [`check`] in a new runtime, for a plain `#[test]`.
///
/// ```
/// use cloakroom::testkit::model::{self, Op};
/// use cloakroom::{ManualClock, MemoryProvider};
///
/// let time = ManualClock::default();
/// let store = MemoryProvider::builder().clock(time.clock()).build();
/// model::run(store, &time, &[Op::Advance { minutes: 5 }, Op::DeleteExpired { limit: 3 }]);
/// ```
///
/// # Panics
///
/// Panics as [`check`] does.
pub fn run(store: impl Into<Store>, time: &ManualClock, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the operating system gives a runtime").block_on(check(store, time, ops));
}

/// Runs every step on the store and on a plain map. Compares each answer and, after each step, all records.
///
/// The store must be empty and use `time`. Where the contract allows several answers, each of them passes.
///
/// ```
/// use cloakroom::testkit::model::{self, Op};
/// use cloakroom::{ManualClock, MemoryProvider};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let time = ManualClock::default();
/// let store = MemoryProvider::builder().clock(time.clock()).build();
/// model::check(store, &time, &[Op::Count, Op::Advance { minutes: 40 }, Op::DeleteExpired { limit: 5 }]).await;
/// # });
/// ```
///
/// # Panics
///
/// Panics at the first difference. The message shows the step, its number, and both answers.
pub async fn check(store: impl Into<Store>, time: &ManualClock, ops: &[Op]) {
    let store = store.into();
    let f = Fixture::new(&store, time.clone());
    let model = Model::new(f.now());
    let mut run = ModelRun { f, model, step: String::new(), changes: 0 };
    for (n, op) in ops.iter().enumerate() {
        run.step = format!("step {} of {}, {op:?}", n + 1, ops.len());
        run.step(op).await;
        run.compare().await;
    }
}

/// The store and the model, after the same steps.
struct ModelRun {
    f: Fixture,
    model: Model,
    step: String,
    /// The number of records made. It is part of their data, so that no two are equal.
    changes: u64,
}

impl ModelRun {
    async fn step(&mut self, op: &Op) {
        match *op {
            Op::Load { key } => {
                let key = key_of(key);
                let found = self.f.load(&key).await;
                self.same(&found.as_ref(), &self.model.load(&key));
            }
            Op::Create { key, record } => {
                let (key, record) = (key_of(key), self.record(record).build());
                let found = self.f.create(&key, &record).await;
                let expected = self.model.create(&key, &record);
                self.same(&found, &expected);
            }
            Op::Update { key, record, off } => self.update(&key_of(key), record, off).await,
            Op::End { key, idle, off } => self.end(&key_of(key), idle, off).await,
            Op::Touch { key, ago } => self.touch(&key_of(key), ago).await,
            Op::Rename { old, new, record, off, tombstone } => {
                self.rename(&key_of(old), &key_of(new), record, off, tombstone).await;
            }
            Op::Delete { key } => self.delete(&key_of(key)).await,
            Op::Count | Op::Scan { .. } | Op::Indexed { .. } => self.list(op).await,
            Op::DeleteExpired { limit } => self.delete_expired(usize::from(limit)).await,
            Op::Advance { minutes: count } => {
                self.f.advance(minutes(count)).await;
                self.model.set_time(self.f.now());
            }
        }
    }

    async fn update(&mut self, key: &StoreKey, shape: Shape, off: u8) {
        let (expected, record) = self.change(key, shape, off);
        let found = self.f.update(key, &record, expected).await;
        let expected = self.model.update(key, &record, expected);
        self.same(&found, &expected);
    }

    async fn touch(&mut self, key: &StoreKey, ago: u8) {
        let at = self.f.now() - minutes(ago);
        let found = self.f.provider.touch(key, at).await;
        let found = found.unwrap_or_else(|error| panic!("{}: {error} ({error:?})", self.step));
        let expected = self.model.touch(key, at);
        self.same(&found, &expected);
    }

    async fn end(&mut self, key: &StoreKey, idle: u8, off: u8) {
        let present = self.model.version(key).unwrap_or(1);
        let mark = record(&self.f.clock).idle(minutes(idle)).version(present).ended();
        let expected = present + u64::from(off);
        let found = self.f.update(key, &mark, expected).await;
        let expected = self.model.update(key, &mark, expected);
        self.same(&found, &expected);
    }

    async fn rename(&mut self, old: &StoreKey, new: &StoreKey, shape: Shape, off: u8, mark: Option<u8>) {
        let (expected, record) = self.change(old, shape, off);
        let mark = mark.map(|idle| self.f.record().idle(minutes(idle)).tombstone(new, minutes(idle)));
        let found = self.f.rename(old, new, &record, expected, mark.as_ref()).await;
        let fits = self.model.rename(old, new, expected);
        assert!(fits.contains(&found), "{}\n expected one of {fits:?}\n    found {found:?}", self.step);
        if found == Renamed::Done {
            self.model.moved(old, new, &record, mark);
        }
    }

    async fn delete(&mut self, key: &StoreKey) {
        if self.f.revokes().await {
            let found = self.f.delete(key).await;
            let expected = self.model.delete(key);
            self.same(&found, &expected);
        }
    }

    async fn list(&mut self, op: &Op) {
        if !self.f.lists().await {
            return;
        }
        match *op {
            Op::Scan { limit } => {
                let found = self.f.scan(usize::from(limit) + 1).await;
                self.same(&by_key(&found), &self.model.live(|_| true));
            }
            Op::Indexed { entry, limit } => {
                let number = usize::from(entry) % (PRINCIPALS.len() + LABELS.len());
                let entry = match PRINCIPALS.get(number) {
                    Some(name) => user(name),
                    None if !self.f.capabilities().labels => return,
                    None => label(LABELS[number - PRINCIPALS.len()]),
                };
                let found = self.f.indexed(&entry, usize::from(limit) + 1).await;
                let theirs = |meta: &Meta| meta.is_indexed_by(&entry);
                self.same(&by_key(&found), &self.model.live(theirs));
            }
            _ => self.same(&self.f.count().await, &(self.model.live(|_| true).len() as u64)),
        }
    }

    /// A store may drop expired records at any time, so the model knows only the largest possible number.
    async fn delete_expired(&mut self, limit: usize) {
        let found = self.f.delete_expired(limit).await;
        let most = self.model.expired();
        let step = &self.step;
        assert!(found.removed <= limit, "{step}\n expected at most {limit}\n    found {found:?}");
        assert!(
            found.removed <= most,
            "{step}\n expected at most {most}, as many as expired\n    found {found:?}"
        );
        if !found.more {
            self.model.collected();
            return;
        }
        assert!(
            found.removed < most,
            "{step}\n {most} have expired, and all are removed\n    found {found:?}"
        );
        assert!(found.removed > 0 || limit == 0, "{step}\n expected a removed record\n    found {found:?}");
    }

    /// Compares all records by `load` and `count`.
    async fn compare(&self) {
        for key in (0..KEYS.len() as u8).map(key_of) {
            let (found, expected) = (self.f.load(&key).await, self.model.load(&key));
            let step = &self.step;
            assert!(
                found.as_ref() == expected,
                "after {step}, {key:?}\n expected {expected:?}\n    found {found:?}"
            );
        }
        if self.f.capabilities().lists {
            let (found, expected) = (self.f.count().await, self.model.live(|_| true).len() as u64);
            assert_eq!(found, expected, "after {}, count", self.step);
        }
    }

    fn same<T: PartialEq + Debug>(&self, found: &T, expected: &T) {
        assert!(found == expected, "{}\n expected {expected:?}\n    found {found:?}", self.step);
    }

    /// Returns the expected version and the next record for `key`.
    fn change(&mut self, key: &StoreKey, shape: Shape, off: u8) -> (u64, Record) {
        let present = self.model.version(key).unwrap_or(1);
        (present + u64::from(off), self.record(shape).version(present + 1).build())
    }

    /// Begins a record of `shape`, with data that no other record has.
    fn record(&mut self, shape: Shape) -> RecordBuilder {
        self.changes += 1;
        let mut record = record(&self.f.clock).value("step", self.changes).idle(minutes(shape.idle));
        if shape.size > 0 {
            record = record.value("fill", "x".repeat(64 * usize::from(shape.size)));
        }
        if let Some(after) = shape.absolute {
            record = record.absolute(minutes(after));
        }
        for (bit, text) in LABELS.iter().enumerate() {
            if shape.labels >> bit & 1 == 1 {
                record = record.label(text);
            }
        }
        match shape.principal {
            Some(user) => record.principal(PRINCIPALS[usize::from(user) % PRINCIPALS.len()]),
            None => record,
        }
    }
}

fn key_of(number: u8) -> StoreKey {
    let text = KEYS[usize::from(number) % KEYS.len()];
    text.parse().expect("every key of the model is in the alphabet")
}

fn minutes(count: u8) -> Duration {
    Duration::from_secs(60 * u64::from(count))
}

fn by_key(listed: &[Listed]) -> BTreeMap<StoreKey, Meta> {
    listed.iter().map(|entry| (entry.key.clone(), entry.meta.clone())).collect()
}
