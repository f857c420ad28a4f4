//! The memory provider: the answers to concurrent calls, and the records left, are those of some serial order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom::{
    ErrorKind, ManualClock, MemoryProvider, Provider,
    providers::{Created, Record},
    testkit,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::explore::{Told, at_random, in_every_order};
use crate::model::{Answer, Call, Model, key, later, listed, now, tried};
use crate::visitor::seconds;

/// The key of alice's session.
const HERS: &str = "hers";
/// The key of bob's session, in the other shard.
const HIS: &str = "theirs";
/// The key of an expired session that has not been collected, also in the other shard.
const EXPIRED: &str = "expired";
/// Free keys: one in the shard of alice's session, one in the other.
const FREE: [&str; 2] = ["vacant", "empty"];
const EVERY: [&str; 5] = [HERS, HIS, EXPIRED, FREE[0], FREE[1]];

struct Store {
    provider: MemoryProvider,
    time: ManualClock,
    /// Counts the beginnings and ends of calls.
    moment: AtomicUsize,
}

/// A call with its answer. It took effect between `began` and `ended`.
#[derive(Clone, Debug)]
struct Asked {
    call: Call,
    answer: Answer,
    began: usize,
    ended: usize,
}

impl Store {
    fn new() -> (Arc<Self>, Model) {
        let time = ManualClock::default();
        let provider = MemoryProvider::builder().clock(time.clock()).build();
        let made = |user: &str| testkit::record(&time.clock()).principal(user).endless();
        let expired = testkit::record(&time.clock()).idle(seconds(1)).principal("bob").build();
        time.advance(seconds(1));
        let mut model = Model::new(time.clock().now());
        for (at, record) in [(EXPIRED, expired), (HERS, made("alice").build()), (HIS, made("bob").build())] {
            // Both are filled by the same calls, at the same time of the clock.
            let call = Call::Create(at, record);
            assert_eq!(call.ask(&provider), model.ask(&call));
        }
        (Arc::new(Store { provider, time, moment: AtomicUsize::new(0) }), model)
    }

    fn ask(&self, call: &Call) -> Asked {
        let began = self.moment.fetch_add(1, Ordering::SeqCst);
        let answer = call.ask(&self.provider);
        let ended = self.moment.fetch_add(1, Ordering::SeqCst);
        Asked { call: call.clone(), answer, began, ended }
    }

    fn ask_all(&self, calls: &[Call]) -> Vec<Asked> {
        calls.iter().map(|call| self.ask(call)).collect()
    }

    /// Returns true if the store holds the same records as the model.
    fn holds(&self, model: &Model) -> bool {
        let store = &self.provider;
        EVERY.iter().all(|at| now(store.load(&key(at))).as_ref() == model.live(at))
            && ["alice", "bob"].iter().all(|user| listed(store, user) == model.of(user))
            && now(store.count()) == model.sessions().count() as u64
    }

    /// Runs a list of calls on each thread. Checks that some order of the calls explains the answers.
    fn compare(self: &Arc<Self>, model: &Model, threads: &[Vec<Call>]) {
        let (mine, others) = threads.split_first().unwrap();
        let others: Vec<_> = others
            .iter()
            .cloned()
            .map(|calls| {
                let store = Arc::clone(self);
                thread::spawn(move || store.ask_all(&calls))
            })
            .collect();
        let mut asked = self.ask_all(mine);
        asked.extend(others.into_iter().flat_map(|other| other.join().unwrap()));
        assert!(self.explains(model, &asked), "no order of these calls explains the answers: {asked:#?}");
    }

    /// Returns true if some order of the calls in `left` gives their answers and the store's records. A call that ended
    /// before another began must come first.
    fn explains(&self, model: &Model, left: &[Asked]) -> bool {
        if left.is_empty() {
            return self.holds(model);
        }
        (0..left.len()).any(|next| {
            let mut rest = left.to_vec();
            let Asked { call, answer, began, .. } = rest.remove(next);
            let mut model = model.clone();
            rest.iter().all(|other| other.ended > began)
                && model.ask(&call) == answer
                && self.explains(&model, &rest)
        })
    }
}

/// Every kind of call for the sessions above. Written data names its writer.
fn calls(time: &ManualClock, who: &str) -> Vec<Call> {
    let clock = time.clock();
    let made = |version| testkit::record(&clock).version(version).value("by", who).endless();
    let hers = || -> Record { made(2).principal("alice").build() };
    let ended = made(2).ended();
    let left = |at| made(2).tombstone(&key(at), seconds(30));
    let touch = |at| Call::Touch(at, later(clock.now()));
    let [near, far] = FREE;
    vec![
        Call::Create(HERS, made(1).principal("alice").build()),
        Call::Create(EXPIRED, made(1).principal("alice").build()),
        Call::Create(near, made(1).principal("alice").build()),
        Call::Load(HERS),
        Call::Load(far),
        Call::Update(HERS, hers()),
        Call::Update(HERS, ended),
        touch(HERS),
        Call::Rename(HERS, near, hers(), Some(left(near))),
        Call::Rename(HERS, far, hers(), None),
        Call::Rename(HERS, far, made(2).principal("bob").build(), Some(left(far))),
        Call::Rename(HERS, EXPIRED, hers(), None),
        Call::Rename(HERS, HIS, hers(), None),
        Call::Rename(HIS, HERS, hers(), None),
        Call::Delete(HERS),
        Call::Delete(far),
        Call::Collect,
        Call::List,
    ]
}

#[test]
fn the_test_keys_are_in_both_shards() {
    let told = in_every_order(|| {
        let record = testkit::record(&ManualClock::default().clock()).endless().build();
        let shards = EVERY.map(|at| {
            let alone = MemoryProvider::new();
            assert_eq!(now(alone.create(&key(at), &record)), Created::Done);
            // A cursor begins with the number of the shard in which it continues.
            let next = now(alone.scan(None, 1)).next.unwrap();
            next.as_str().starts_with("0:")
        });
        assert_eq!(shards, [true, false, false, true, false]);
    });
    assert_eq!(told.runs, 1);
}

#[test]
fn any_two_concurrent_calls_are_linearizable() {
    let kinds = calls(&ManualClock::default(), "").len();
    let (mut told, mut pairs, mut whole) = (Told::default(), 0, 0);
    for first in 0..kinds {
        for second in first..kinds {
            let found = in_every_order(move || {
                let (store, model) = Store::new();
                let one = calls(&store.time, "one").swap_remove(first);
                let other = calls(&store.time, "other").swap_remove(second);
                store.compare(&model, &[vec![one], vec![other]]);
            });
            told = Told { runs: told.runs + found.runs, different: told.different + found.different, ..told };
            (pairs, whole) = (pairs + 1, whole + usize::from(found.all));
        }
    }
    told.print(&format!("{pairs} pairs of calls on the store, {whole} of them in every order"), "exhaustive");
}

#[test]
fn two_calls_on_each_of_three_threads_are_linearizable() {
    at_random("three threads with two calls each on the store", || {
        let (store, model) = Store::new();
        let threads = ["one", "two", "three"].map(|who| {
            let mut kinds = calls(&store.time, who);
            (0..2).map(|_| kinds.swap_remove(thread_rng().gen_range(0..kinds.len()))).collect()
        });
        store.compare(&model, &threads);
    });
}

/// A store with a maximal number of sessions.
struct Full {
    provider: MemoryProvider,
    made: testkit::RecordBuilder,
}

impl Full {
    fn of(most: usize) -> Self {
        let time = ManualClock::default();
        let provider = MemoryProvider::builder().clock(time.clock()).max_sessions(most).build();
        Full { provider, made: testkit::record(&time.clock()).endless() }
    }

    fn begin(&self, at: &str, record: &Record) -> Result<Created, ErrorKind> {
        tried(self.provider.create(&key(at), record)).map_err(|error| error.kind())
    }

    /// Begins each session in a thread of its own. Returns the answers.
    fn begin_at_once(
        self: &Arc<Self>,
        sessions: Vec<(&'static str, Record)>,
    ) -> Vec<Result<Created, ErrorKind>> {
        let threads: Vec<_> = sessions
            .into_iter()
            .map(|(at, record)| {
                let store = Arc::clone(self);
                thread::spawn(move || store.begin(at, &record))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    /// Checks that the store takes exactly `visitors` more sessions, so its count is right.
    fn has_room_for(&self, visitors: usize) {
        let visit = self.made.clone().build();
        for place in 0..visitors {
            assert_eq!(self.begin(&format!("visitor{place}"), &visit), Ok(Created::Done), "{place}");
        }
        assert_eq!(self.begin("onemore", &visit), Err(ErrorKind::TooLarge));
    }
}

#[test]
fn a_full_store_evicts_only_anonymous_sessions() {
    at_random("logins and visits in a full store", || {
        let store = Arc::new(Full::of(2));
        let (visit, alice) = (store.made.clone().build(), store.made.clone().principal("alice").build());
        for at in [HERS, HIS] {
            assert_eq!(store.begin(at, &visit), Ok(Created::Done));
        }
        let [near, far] = FREE;
        let answers = store.begin_at_once(vec![(near, alice.clone()), (far, alice), (EXPIRED, visit)]);
        assert_eq!(answers, [Ok(Created::Done), Ok(Created::Done), Err(ErrorKind::TooLarge)]);
        assert_eq!(listed(&store.provider, "alice"), [key(far), key(near)]);
        assert_eq!(now(store.provider.count()), 2);
        store.has_room_for(0);
        assert!(now(store.provider.delete(&key(far))));
        store.has_room_for(1);
    });
}

#[test]
fn expired_sessions_in_a_full_store_make_room() {
    at_random("visits to a full store of which a part has expired", || {
        let time = ManualClock::default();
        let provider = MemoryProvider::builder().clock(time.clock()).max_sessions(3).build();
        let made = testkit::record(&time.clock()).endless();
        let store = Arc::new(Full { provider, made });
        let brief = testkit::record(&time.clock()).idle(seconds(1)).build();
        let stays = store.made.clone().principal("bob").build();
        for (at, record) in [(HERS, &brief), (EXPIRED, &brief), (HIS, &stays)] {
            assert_eq!(store.begin(at, record), Ok(Created::Done));
        }
        time.advance(seconds(1));
        let visit = store.made.clone().build();
        let [near, far] = FREE;
        // One of them takes the key of an expired session.
        let answers =
            store.begin_at_once(vec![(near, visit.clone()), (far, visit.clone()), (EXPIRED, visit)]);
        let refused = answers.iter().filter(|answer| **answer == Err(ErrorKind::TooLarge)).count();
        let let_in = answers.iter().filter(|answer| **answer == Ok(Created::Done)).count();
        assert_eq!((let_in, refused), (2, 1), "{answers:?}");
        assert_eq!(now(store.provider.count()), 3);
        store.has_room_for(0);
        assert!(now(store.provider.delete(&key(HIS))));
        store.has_room_for(1);
    });
}

#[test]
fn of_two_creates_of_one_key_in_a_full_store_one_is_taken() {
    at_random("two logins under one id in a full store", || {
        let store = Arc::new(Full::of(2));
        let visit = store.made.clone().build();
        for at in [HERS, HIS] {
            assert_eq!(store.begin(at, &visit), Ok(Created::Done));
        }
        let login = |user| (FREE[0], store.made.clone().principal(user).build());
        let answers = store.begin_at_once(vec![login("alice"), login("bob")]);
        assert!(answers.contains(&Ok(Created::Done)) && answers.contains(&Ok(Created::Taken)), "{answers:?}");
        let winner = if answers[0] == Ok(Created::Done) { "alice" } else { "bob" };
        assert_eq!(listed(&store.provider, winner), [key(FREE[0])]);
        let left = now(store.provider.count());
        store.has_room_for(2 - left as usize);
    });
}
