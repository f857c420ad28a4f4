//! The memory provider: whatever threads ask of it at once, the answers and what is left are those of one order of the same calls.

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

/// Alice's session stands here.
const HERS: &str = "hers";
/// Bob's, in the other shard.
const HIS: &str = "theirs";
/// One that nobody has collected yet, in that shard, too.
const EXPIRED: &str = "expired";
/// Free ones, in the shard of hers and in the other.
const FREE: [&str; 2] = ["vacant", "empty"];
const EVERY: [&str; 5] = [HERS, HIS, EXPIRED, FREE[0], FREE[1]];

struct Store {
    provider: MemoryProvider,
    time: ManualClock,
    /// Counts beginnings and ends of calls.
    moment: AtomicUsize,
}

/// A call, its answer, and the time between which it took effect.
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
            // Through the front door: a clock that stands still tells the same to both.
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

    /// What is left is what the model holds.
    fn holds(&self, model: &Model) -> bool {
        let store = &self.provider;
        EVERY.iter().all(|at| now(store.load(&key(at))).as_ref() == model.live(at))
            && ["alice", "bob"].iter().all(|user| listed(store, user) == model.of(user))
            && now(store.count()) == model.sessions().count() as u64
    }

    /// Runs a list of calls on each thread, and finds the order that they took effect in.
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
        assert!(self.explains(model, &asked), "no order of these comes to what is left: {asked:#?}");
    }

    /// Whether some order of what is `left`, in which nothing comes before what had ended when it began, has these answers and
    /// this end.
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

/// Every kind of call that the sessions above can meet. What is written says who wrote it.
fn calls(time: &ManualClock, who: &str) -> Vec<Call> {
    let clock = time.clock();
    let made = |version| testkit::record(&clock).version(version).value("by", who).endless();
    let hers = || -> Record { made(2).principal("alice").build() };
    let ended = made(2).ended();
    let left = |at| made(2).tombstone(&key(at), seconds(30));
    let touch = |at| Call::Touch(at, clock.now(), later(clock.now()));
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
fn the_keys_of_these_tests_are_spread_over_both_shards() {
    let told = in_every_order(|| {
        let record = testkit::record(&ManualClock::default().clock()).endless().build();
        let shards = EVERY.map(|at| {
            let alone = MemoryProvider::new();
            assert_eq!(now(alone.create(&key(at), &record)), Created::Done);
            // A cursor begins with the shard that it goes on in.
            let next = now(alone.scan(None, 1)).next.unwrap();
            next.as_str().starts_with("0:")
        });
        assert_eq!(shards, [true, false, false, true, false]);
    });
    assert_eq!(told.runs, 1);
}

#[test]
fn any_two_calls_are_as_if_one_came_after_the_other() {
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
fn any_two_calls_on_each_of_three_threads_are_as_if_one_came_after_the_other() {
    at_random("three threads with two calls each on the store", || {
        let (store, model) = Store::new();
        let threads = ["one", "two", "three"].map(|who| {
            let mut kinds = calls(&store.time, who);
            (0..2).map(|_| kinds.swap_remove(thread_rng().gen_range(0..kinds.len()))).collect()
        });
        store.compare(&model, &threads);
    });
}

/// A store of at most so many.
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

    /// The answers to threads of which each begins one session, sorted.
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

    /// It takes so many visitors more, and then none: what it counts is what it holds.
    fn has_room_for(&self, visitors: usize) {
        let visit = self.made.clone().build();
        for place in 0..visitors {
            assert_eq!(self.begin(&format!("visitor{place}"), &visit), Ok(Created::Done), "{place}");
        }
        assert_eq!(self.begin("onemore", &visit), Err(ErrorKind::TooLarge));
    }
}

#[test]
fn a_full_store_puts_out_nobody_who_is_logged_in_and_holds_no_more_than_it_may() {
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
fn what_has_expired_in_a_full_store_makes_room_for_as_many_and_no_more() {
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
        // One comes to the very place of one that has expired.
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
fn of_two_logins_under_one_id_in_a_full_store_one_is_told_that_it_is_taken_and_none_is_counted_twice() {
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
