//! Every pair of methods works at the same time on one handle, each on its own sessions. Counts stay exact, lists meet every
//! session, no ended session comes back, and the store ends up with what both did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::id::StoreKey;
use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::record::Record;
use crate::sync::locks::Mutex;
use crate::testkit::fixture::{Fixture, key, keys_of, minutes, user};

/// The number of alice's sessions that exist throughout.
const BASE: usize = 12;
/// The number of steps that each of the two workers takes.
const STEPS: usize = 10;
/// The size of a page. It is below `BASE`, so that a list takes several pages.
const LIMIT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Create,
    Load,
    Update,
    Touch,
    Rename,
    Delete,
    DeleteExpired,
    Count,
    Scan,
    OfPrincipal,
}

const METHODS: [Method; 10] = [
    Method::Create,
    Method::Load,
    Method::Update,
    Method::Touch,
    Method::Rename,
    Method::Delete,
    Method::DeleteExpired,
    Method::Count,
    Method::Scan,
    Method::OfPrincipal,
];

/// The steps that both workers have begun and done. They give exact bounds for a concurrent count.
#[derive(Default)]
struct Census {
    creating: AtomicUsize,
    created: AtomicUsize,
    deleting: AtomicUsize,
    deleted: AtomicUsize,
    /// The number of renames under way. A session that moves may be counted under both keys or under neither.
    moving: AtomicUsize,
    moved: AtomicUsize,
    /// Keys whose session has ended or moved away. A list that meets one later shows an ended session.
    dead: Mutex<BTreeSet<StoreKey>>,
    removed: AtomicUsize,
}

/// The bounds of a count that began when this value was made.
struct Bounds {
    created: usize,
    deleted: usize,
    moved: usize,
}

impl Census {
    fn begin(&self) -> Bounds {
        let [created, deleted, moved] =
            [&self.created, &self.deleted, &self.moved].map(|number| number.load(Ordering::SeqCst));
        Bounds { created, deleted, moved }
    }

    /// Checks that the store had `found` sessions at some instant since `bounds` was made.
    fn fits(&self, base: usize, bounds: &Bounds, found: usize, slack: Slack) {
        let [creating, deleting, moving] =
            [&self.creating, &self.deleting, &self.moving].map(|number| number.load(Ordering::SeqCst));
        let slack = if slack == Slack::Moves { moving - bounds.moved } else { 0 };
        let least = (base + bounds.created).saturating_sub(deleting + slack);
        let most = base + creating + slack - bounds.deleted;
        assert!((least..=most).contains(&found), "expected {least} to {most} sessions, found {found}");
    }
}

/// The exactness of a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slack {
    None,
    Moves,
}

/// One of the two workers, with sessions of its own, which are bob's.
struct Worker {
    f: Fixture,
    method: Method,
    name: String,
    base: Arc<BTreeMap<StoreKey, Record>>,
    census: Arc<Census>,
    /// The records under this worker's keys.
    own: BTreeMap<StoreKey, Record>,
}

impl Worker {
    fn key(&self, part: &str, n: usize) -> StoreKey {
        key(&format!("{}-{part}-{n}", self.name))
    }

    fn record(&self, version: u64) -> Record {
        self.f.record().principal("bob").value("n", version).version(version).build()
    }

    async fn create(&mut self, name: StoreKey) {
        let record = self.record(1);
        self.census.creating.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.f.create(&name, &record).await, Created::Done, "nobody else has the key");
        self.census.created.fetch_add(1, Ordering::SeqCst);
        self.own.insert(name, record);
    }

    /// Makes the records that the method needs.
    async fn prepare(&mut self) {
        match self.method {
            Method::Update | Method::Touch | Method::Rename => self.create(self.key("own", 0)).await,
            Method::Delete => {
                for n in 0..STEPS {
                    self.create(self.key("own", n)).await;
                }
            }
            _ => {}
        }
    }

    async fn works(mut self) -> Self {
        for n in 0..STEPS {
            match self.method {
                Method::Create => self.create(self.key("own", n)).await,
                Method::Load => {
                    let (name, record) = self.base.iter().nth(n % BASE).expect("there are some");
                    self.f.holds(name, record, "nobody changes it").await;
                }
                Method::Update => self.update(n as u64 + 2).await,
                Method::Touch => self.touch(n as u64).await,
                Method::Rename => self.rename(n).await,
                Method::Delete => self.delete(self.key("own", n)).await,
                Method::DeleteExpired => self.delete_expired(n).await,
                Method::Count => self.count().await,
                Method::Scan => self.scan().await,
                Method::OfPrincipal => self.indexed().await,
            }
            tokio::task::yield_now().await;
        }
        self
    }

    async fn update(&mut self, version: u64) {
        let (name, record) = (self.key("own", 0), self.record(version));
        assert_eq!(self.f.update(&name, &record, version - 1).await, Updated::Done, "nobody else changes it");
        self.own.insert(name, record);
    }

    async fn touch(&mut self, n: u64) {
        let (name, at) = (self.key("own", 0), self.f.now() + minutes(1 + n));
        let touched = self.f.provider.touch(&name, at).await.expect("a touch beside other calls");
        assert_eq!(touched, Touched::Done, "nobody else ends it");
        self.own.entry(name).and_modify(|record| record.touch(at));
    }

    async fn rename(&mut self, n: usize) {
        let (old, new, version) = (self.key("own", n), self.key("own", n + 1), n as u64 + 2);
        let record = self.record(version);
        let mark = self.f.record().version(version).tombstone(&new, minutes(5));
        let mark = Some(&mark).filter(|_| n.is_multiple_of(2));
        self.census.moving.fetch_add(1, Ordering::SeqCst);
        let renamed = self.f.rename(&old, &new, &record, version - 1, mark).await;
        assert_eq!(renamed, Renamed::Done, "nobody else moves it");
        self.census.moved.fetch_add(1, Ordering::SeqCst);
        self.own.remove(&old);
        self.own.insert(new, record);
        self.census.dead.lock().insert(old);
    }

    async fn delete(&mut self, name: StoreKey) {
        self.census.deleting.fetch_add(1, Ordering::SeqCst);
        assert!(self.f.delete(&name).await, "nobody else ends it");
        self.census.deleted.fetch_add(1, Ordering::SeqCst);
        self.own.remove(&name);
        self.census.dead.lock().insert(name);
    }

    async fn delete_expired(&mut self, n: usize) {
        let over = self.f.record().principal("bob").idle(minutes(0)).build();
        let name = self.key("over", n);
        assert_eq!(self.f.create(&name, &over).await, Created::Done, "nobody else has the key");
        self.census.dead.lock().insert(name);
        let removed = self.f.delete_expired(3).await.removed;
        assert!(removed <= 3, "at most 3 were asked for, {removed} were removed");
        self.census.removed.fetch_add(removed, Ordering::SeqCst);
    }

    async fn count(&self) {
        let bounds = self.census.begin();
        let found = self.f.count().await as usize;
        self.census.fits(BASE, &bounds, found, Slack::Moves);
    }

    async fn scan(&self) {
        let dead = self.census.dead.lock().clone();
        let met = self.f.scan(LIMIT).await;
        let missed: Vec<_> =
            self.base.keys().filter(|name| !met.iter().any(|entry| entry.key == **name)).collect();
        assert!(missed.is_empty(), "a walk has not met {missed:?}, which are there throughout");
        for entry in met {
            assert!(!dead.contains(&entry.key), "a walk met {:?}, which has ended", entry.key);
            if let Some(record) = self.base.get(&entry.key) {
                assert_eq!(entry.meta, record.meta(), "nobody changes it");
            }
        }
    }

    async fn indexed(&self) {
        let mut hers = keys_of(&self.f.indexed(&user("alice"), LIMIT).await);
        hers.dedup();
        assert!(hers.iter().eq(self.base.keys()), "hers are those that are there throughout, found {hers:?}");
        let (dead, bounds) = (self.census.dead.lock().clone(), self.census.begin());
        let his = keys_of(&self.f.of_user("bob").await);
        self.census.fits(0, &bounds, his.len(), Slack::None);
        let revived: Vec<_> = his.iter().filter(|name| dead.contains(*name)).collect();
        assert!(revived.is_empty(), "{revived:?} have ended, and are his again");
    }
}

/// Lets the two methods work at the same time, and checks the store afterwards.
async fn meet(f: &Fixture, base: &Arc<BTreeMap<StoreKey, Record>>, methods: [Method; 2], number: usize) {
    let census = Arc::new(Census::default());
    let mut tasks = Vec::new();
    for (side, method) in methods.into_iter().enumerate() {
        let (f, base, census) = (f.clone(), Arc::clone(base), Arc::clone(&census));
        let name = format!("meeting-{number}-{side}");
        let mut worker = Worker { f, method, name, base, census, own: BTreeMap::new() };
        worker.prepare().await;
        tasks.push(worker);
    }
    let tasks: Vec<_> = tasks.into_iter().map(|worker| tokio::spawn(worker.works())).collect();
    let mut left = Vec::new();
    for task in tasks {
        left.push(task.await.unwrap_or_else(|failed| {
            println!("{methods:?} beside each other");
            std::panic::resume_unwind(failed.into_panic())
        }));
    }
    let why = format!("{methods:?} have worked beside each other");
    let own: BTreeMap<_, _> = left.iter().flat_map(|worker| worker.own.clone()).collect();
    for (name, record) in own.iter().chain(base.iter()) {
        f.holds(name, record, &why).await;
    }
    if f.capabilities().lists && f.capabilities().revocable {
        assert_eq!(f.count().await as usize, BASE + own.len(), "{why}: a count");
        assert_eq!(f.scan(LIMIT).await.len(), BASE + own.len(), "{why}: a walk");
        f.belong_to("bob", &own.keys().collect::<Vec<_>>(), &why).await;
    }
    for mut worker in left {
        for name in worker.own.keys().cloned().collect::<Vec<_>>() {
            if f.capabilities().revocable {
                worker.delete(name).await;
            }
        }
    }
    let over = methods.iter().filter(|method| **method == Method::DeleteExpired).count() * STEPS;
    let removed = census.removed.load(Ordering::SeqCst) + if over > 0 { f.collect_all(50).await } else { 0 };
    let marks = methods.iter().filter(|method| **method == Method::Rename).count() * STEPS;
    assert!(removed <= over + marks, "{why}: {over} have expired, {removed} were said to be removed");
}

/// Runs each of `methods` beside every method that the store supports.
async fn beside_all(f: &Fixture, methods: &[Method]) {
    let (lists, revokes) = (f.lists().await, f.revokes().await);
    let users = f.capabilities().users;
    let possible = |method: &Method| match method {
        Method::Delete => revokes,
        Method::Count | Method::Scan => lists,
        Method::OfPrincipal => lists && users,
        _ => true,
    };
    let mut base = BTreeMap::new();
    for n in 0..BASE {
        let (name, record) = (key(&format!("base-{n:02}")), f.record().principal("alice").build());
        f.put(&name, &record).await;
        base.insert(name, record);
    }
    let base = Arc::new(base);
    let all: Vec<_> = METHODS.into_iter().filter(possible).collect();
    let mut number = 0;
    for one in methods.iter().filter(|method| possible(method)) {
        for other in &all {
            number += 1;
            meet(f, &base, [*one, *other], number).await;
        }
    }
}

pub(super) async fn creates_and_loads_work_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::Create, Method::Load]).await;
}

pub(super) async fn updates_and_touches_work_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::Update, Method::Touch]).await;
}

pub(super) async fn renames_and_deletes_work_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::Rename, Method::Delete]).await;
}

pub(super) async fn collections_work_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::DeleteExpired]).await;
}

pub(super) async fn counts_are_exact_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::Count]).await;
}

pub(super) async fn walks_meet_everything_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::Scan]).await;
}

pub(super) async fn a_users_list_is_whole_beside_every_method(f: Fixture) {
    beside_all(&f, &[Method::OfPrincipal]).await;
}
