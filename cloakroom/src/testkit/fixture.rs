//! `Fixture`: the store under test, its time, and calls that fail the test on an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;

use crate::clock::{Clock, ManualClock};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Listed, Provider, Renamed, Touched, Updated,
};
use crate::record::{IndexEntry, Label, Record};
use crate::sync::locks::Mutex;
use crate::testkit::store::{Advance, Parts, Switch};
use crate::testkit::{Part, RecordBuilder, Store, base, record};

/// The most pages of a walk. No case needs that many, so a longer walk has no end.
const MOST_PAGES: usize = 10_000;

/// A store under test and its time. A clone is the same store.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) provider: AnyProvider,
    pub(crate) second: AnyProvider,
    pub(crate) time: ManualClock,
    pub(crate) clock: Clock,
    pub(crate) slack: Duration,
    parts: Parts,
    on_advance: Advance,
    home: Home,
}

/// The runtime that the factory ran in, for a case that shuts it down.
pub(crate) type Home = Arc<Mutex<Option<Runtime>>>;

impl Fixture {
    pub(crate) fn new(store: &Store, time: ManualClock) -> Self {
        Fixture {
            provider: store.provider.clone(),
            second: store.parts.second.as_ref().unwrap_or(&store.provider).clone(),
            parts: store.parts.clone(),
            home: Home::default(),
            clock: time.clock(),
            time,
            slack: store.slack,
            on_advance: Arc::clone(&store.on_advance),
        }
    }

    /// Sets the runtime that the factory ran in, if it was not the runtime of the case.
    pub(crate) fn opened_in(self, home: Option<Runtime>) -> Self {
        Fixture { home: Arc::new(Mutex::new(home)), ..self }
    }

    /// Takes the runtime that the store was opened in, for a case that shuts it down.
    pub(crate) fn take_home(&self) -> Runtime {
        self.home.lock().take().expect("a case of this module is run apart from the runtime of its store")
    }

    /// Returns the two handles of the store in turn, so that parallel calls come from both.
    pub(crate) fn handle(&self, turn: usize) -> AnyProvider {
        [&self.provider, &self.second][turn % 2].clone()
    }

    /// Returns the same store with its two handles swapped.
    pub(crate) fn swapped(&self) -> Fixture {
        Fixture { provider: self.second.clone(), second: self.provider.clone(), ..self.clone() }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Moves the clock, and the store's own time where it has one.
    pub(crate) async fn advance(&self, step: Duration) {
        self.time.advance(step);
        (self.on_advance)(step).await;
    }

    /// Returns the parts that the capabilities ask for and the store neither gives nor leaves out.
    pub(crate) fn missing_parts(&self) -> Vec<Part> {
        let Capabilities { shared, persistent, .. } = self.capabilities();
        let parts = &self.parts;
        let asked = [
            (Part::Second, shared, parts.second.is_some()),
            (Part::Planting, persistent, parts.plant.is_some()),
            (Part::Full, persistent, parts.full.is_some()),
            (Part::ReadOnly, persistent, parts.read_only.is_some()),
        ];
        let left_out = |part: Part| parts.left_out.iter().any(|(left, _)| *left == part);
        let missing = asked.into_iter().filter(|(part, asked, given)| *asked && !given && !left_out(*part));
        missing.map(|(part, ..)| part).collect()
    }

    /// Returns the parts that the store leaves out, with the reasons.
    pub(crate) fn left_out(&self) -> &[(Part, String)] {
        &self.parts.left_out
    }

    /// Returns true if a case can plant bytes in the store.
    pub(crate) fn plants(&self) -> bool {
        self.parts.plant.is_some()
    }

    /// Overwrites the stored record under `key` with `bytes`.
    pub(crate) async fn plant(&self, key: &StoreKey, bytes: &[u8]) {
        let plant = self.parts.plant.as_ref().expect("the case has asked whether the store plants");
        plant(key.clone(), bytes.to_vec()).await;
    }

    /// Returns the switch that fills the store, if it has one.
    pub(crate) fn full(&self) -> Option<Switch> {
        self.parts.full.clone()
    }

    /// Returns the switch that makes the store refuse every change, if it has one.
    pub(crate) fn read_only(&self) -> Option<Switch> {
        self.parts.read_only.clone()
    }

    /// Begins a record that is created now.
    pub(crate) fn record(&self) -> RecordBuilder {
        record(&self.clock)
    }

    /// Returns true if the provider can list. If not, checks that the three methods return `Unsupported`.
    pub(crate) async fn lists(&self) -> bool {
        let lists = self.capabilities().lists;
        if !lists {
            unsupported("count", self.provider.count().await);
            unsupported("scan", self.provider.scan(None, 10).await);
            unsupported("indexed", self.provider.indexed(&user("alice"), None, 10).await);
            unsupported("indexed", self.provider.indexed(&label("device"), None, 10).await);
        }
        lists
    }

    /// Returns true if the provider can end a session. If not, checks that `delete` returns `Unsupported`.
    pub(crate) async fn revokes(&self) -> bool {
        let revocable = self.capabilities().revocable;
        if !revocable {
            unsupported("delete", self.provider.delete(&key("any-key")).await);
        }
        revocable
    }

    pub(crate) async fn create(&self, key: &StoreKey, record: &Record) -> Created {
        answer("create", self.provider.create(key, record).await)
    }

    /// Stores `record` under `key`, which must be free.
    pub(crate) async fn put(&self, key: &StoreKey, record: &Record) {
        assert_eq!(self.create(key, record).await, Created::Done, "create under a key that nothing is under");
    }

    pub(crate) async fn load(&self, key: &StoreKey) -> Option<Record> {
        answer("load", self.provider.load(key).await)
    }

    /// Updates from the record under `key` as it was at version `expected`: the stored one, or another if that has another version.
    pub(crate) async fn update(&self, key: &StoreKey, record: &Record, expected: u64) -> Updated {
        let stored = self.load(key).await.filter(|stored| stored.version() == expected);
        let base = stored.unwrap_or_else(|| base(expected));
        answer("update", self.provider.update(key, record, &base).await)
    }

    /// Touches the session under `key` now.
    pub(crate) async fn touch(&self, key: &StoreKey) -> Touched {
        answer("touch", self.provider.touch(key, self.now()).await)
    }

    pub(crate) async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Renamed {
        answer("rename", self.provider.rename(old, new, record, expected, tombstone).await)
    }

    pub(crate) async fn delete(&self, key: &StoreKey) -> bool {
        answer("delete", self.provider.delete(key).await)
    }

    pub(crate) async fn count(&self) -> u64 {
        answer("count", self.provider.count().await)
    }

    pub(crate) async fn delete_expired(&self, limit: usize) -> Collected {
        answer("delete_expired", self.provider.delete_expired(limit).await)
    }

    /// Collects in steps of `limit` until no expired record remains. Returns the number of removed records.
    pub(crate) async fn collect_all(&self, limit: usize) -> usize {
        let mut total = 0;
        for _ in 0..MOST_PAGES {
            let step = self.delete_expired(limit).await;
            assert!(step.removed <= limit, "delete_expired({limit}) says that it removed {}", step.removed);
            total += step.removed;
            if !step.more {
                return total;
            }
            assert!(step.removed > 0, "delete_expired({limit}) removed nothing and says that more remain");
        }
        panic!("delete_expired({limit}) still says that more remain after {MOST_PAGES} rounds");
    }

    /// Scans in pages of `limit`. Returns each key once, with the last of its entries.
    pub(crate) async fn scan(&self, limit: usize) -> Vec<Listed> {
        let mut met = BTreeMap::new();
        let mut cursor = None;
        for _ in 0..MOST_PAGES {
            let page = answer("scan", self.provider.scan(cursor, limit).await);
            let found = page.entries.len();
            assert!(found <= limit, "scan was asked for a page of {limit} and answered with {found}");
            met.extend(page.entries.into_iter().map(|entry| (entry.key.clone(), entry)));
            cursor = page.next;
            if cursor.is_none() {
                return met.into_values().collect();
            }
        }
        panic!("scan in pages of {limit} has no end: {MOST_PAGES} pages and still a cursor");
    }

    /// Returns the sessions of the user `name` in one page.
    pub(crate) async fn of_user(&self, name: &str) -> Vec<Listed> {
        self.indexed(&user(name), 1000).await
    }

    /// Returns the sessions of `entry` in pages of `limit`; one that is met twice is in the list twice.
    pub(crate) async fn indexed(&self, entry: &IndexEntry, limit: usize) -> Vec<Listed> {
        let (mut met, mut cursor) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = answer("indexed", self.provider.indexed(entry, cursor, limit).await);
            assert!(page.entries.len() <= limit, "a page of at most {limit} has {}", page.entries.len());
            met.extend(page.entries);
            cursor = page.next;
            if cursor.is_none() {
                return met;
            }
        }
        panic!("indexed in pages of {limit} has no end: {MOST_PAGES} pages and still a cursor");
    }

    /// Checks that `record` is stored under `key`.
    pub(crate) async fn holds(&self, key: &StoreKey, record: &Record, why: &str) {
        let found = self.load(key).await;
        assert!(found.as_ref() == Some(record), "{why}\n expected {record:?}\n    found {found:?}");
    }

    /// Checks that no record is stored under `key`.
    pub(crate) async fn lacks(&self, key: &StoreKey, why: &str) {
        let found = self.load(key).await;
        assert!(found.is_none(), "{why}\n expected nothing\n    found {found:?}");
    }

    /// Checks that the sessions of `name` are exactly those under `expected`.
    pub(crate) async fn belong_to(&self, name: &str, expected: &[&StoreKey], why: &str) {
        self.have(&user(name), expected, why).await;
    }

    /// Checks that the sessions of `entry` are those under `expected` and no others.
    pub(crate) async fn have(&self, entry: &IndexEntry, expected: &[&StoreKey], why: &str) {
        let found = keys_of(&self.indexed(entry, 1000).await);
        let mut expected: Vec<StoreKey> = expected.iter().copied().cloned().collect();
        expected.sort();
        assert_eq!(found, expected, "{why}");
    }
}

/// Returns the key with the text `text`.
pub(crate) fn key(text: &str) -> StoreKey {
    text.parse().expect("a case names its keys in the alphabet of keys")
}

/// Returns `count` different keys.
pub(crate) fn keys(count: usize) -> Vec<StoreKey> {
    (0..count).map(|n| key(&format!("session-{n:04}"))).collect()
}

/// Returns the index entry of the user `name`.
pub(crate) fn user(name: &str) -> IndexEntry {
    IndexEntry::from(&Principal::new(name).expect("a case names its users in 1 to 256 bytes"))
}

/// Returns the index entry of the label `text`.
pub(crate) fn label(text: &str) -> IndexEntry {
    IndexEntry::from(&Label::new(text).expect("a case has labels of 1 to 256 bytes"))
}

pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Returns the keys of a list, sorted.
pub(crate) fn keys_of(listed: &[Listed]) -> Vec<StoreKey> {
    let mut keys: Vec<StoreKey> = listed.iter().map(|entry| entry.key.clone()).collect();
    keys.sort();
    keys
}

fn answer<T>(method: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{method} is expected to answer, not to fail: {error} ({error:?})"))
}

fn unsupported<T>(method: &str, result: Result<T>) {
    match result {
        Ok(_) => panic!("{method} answers, though the capabilities say that the provider cannot do it"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{method}: {error}"),
    }
}
