//! Two or three concurrent requests on one session, in thousands of random orders. Each seed is one order.
//!
//! The provider logs the order in which the steps took effect. A plain model applies them one after the other. In the
//! end both must hold the same.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cloakroom::{ErrorKind, Manager, MemoryProvider, Principal, Released, Result, Session};
use http::HeaderMap;
use support::hooked::{Call, Hook, Hooked, Verdict, give_way};
use support::{alice, cookies, pair};
use tokio::task::LocalSet;

/// The number of seeds. `CLOAKROOM_SEEDS` sets another number, and `CLOAKROOM_SEED` runs one seed alone.
const SEEDS: u64 = 20_000;

/// A random generator that repeats with its seed (splitmix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(bound)) as u32
    }
}

/// A change of a session by a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A key that no other request writes.
    Own,
    /// A key that every request writes.
    Common,
    Delete,
    Flush,
    Regenerate,
    Authenticate,
    Destroy,
}

const CHANGES: [Change; 7] = [
    Change::Own,
    Change::Common,
    Change::Delete,
    Change::Flush,
    Change::Regenerate,
    Change::Authenticate,
    Change::Destroy,
];

/// A request: one atomic increment, or changes that are committed together.
#[derive(Clone, Debug)]
enum Plan {
    Increment,
    Changes(Vec<Change>),
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let change = |random: &mut Random| CHANGES[random.below(CHANGES.len() as u32) as usize];
        match random.below(10) {
            0..3 => Plan::Increment,
            3..8 => Plan::Changes(vec![change(random)]),
            _ => Plan::Changes(vec![change(random), change(random)]),
        }
    }
}

/// A session in the model.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    values: BTreeMap<String, u64>,
    user: Option<Principal>,
}

impl Model {
    /// Applies the changes of request `who`. Changes after a destroy belong to another session.
    fn apply(&mut self, who: usize, plan: &Plan) {
        let Plan::Changes(changes) = plan else {
            *self.values.entry("n".to_owned()).or_default() += 1;
            return;
        };
        for change in changes {
            match change {
                Change::Own => drop(self.values.insert(format!("own-{who}"), 1)),
                Change::Common => drop(self.values.insert("common".to_owned(), who as u64)),
                Change::Delete => drop(self.values.remove("base")),
                Change::Flush => self.values.clear(),
                Change::Authenticate => self.user = Some(alice()),
                Change::Regenerate => {}
                Change::Destroy => *self = Model::default(),
            }
        }
    }

    async fn stored(manager: &Manager, cookie: &str) -> Option<Model> {
        let session = manager.start(&cookies(cookie)).await.unwrap();
        session.id()?;
        let values = session.keys().unwrap().into_iter().map(|key| {
            let value = session.get(&key).unwrap().unwrap();
            (key, value)
        });
        Some(Model { values: values.collect(), user: session.principal() })
    }
}

tokio::task_local! {
    /// The number of the current request.
    static WHO: usize;
}

/// A hook that yields a random number of times before and after each call, and logs the order in which the calls took
/// effect.
#[derive(Clone)]
struct Scheduler(Arc<Mutex<Schedule>>);

struct Schedule {
    random: Random,
    /// The request and its call, in the order of effect.
    log: Vec<(usize, Call)>,
}

impl Scheduler {
    async fn step_aside(&self) {
        let times = self.0.lock().unwrap().random.below(5);
        give_way(times).await;
    }
}

impl Hook for Scheduler {
    async fn before(&self, _: Call) -> Result<Verdict> {
        self.step_aside().await;
        Ok(Verdict::Forward)
    }

    async fn after(&self, call: Call, done: bool) -> Result<()> {
        // The memory provider is never pending, so this is the order in which the steps were done.
        if done && call != Call::Load {
            self.0.lock().unwrap().log.push((WHO.get(), call));
        }
        self.step_aside().await;
        Ok(())
    }
}

/// The outcome of a request.
#[derive(Clone, Debug)]
struct Outcome {
    /// True if the request found the session alive.
    found: bool,
    released: Result<Released, ErrorKind>,
    /// The result of its increment.
    n: Option<u64>,
    /// The cookie of the response. It is empty if it removes the cookie.
    cookie: Option<String>,
}

fn change(session: &Session, who: usize, change: Change) {
    match change {
        Change::Own => session.set(&format!("own-{who}"), 1),
        Change::Common => session.set("common", who),
        Change::Delete => session.delete("base"),
        Change::Flush => session.clear(),
        Change::Regenerate => session.regenerate(),
        Change::Authenticate => session.authenticate(alice()),
        Change::Destroy => session.destroy(),
    }
    .unwrap();
}

async fn request(manager: Manager, scheduler: Scheduler, cookie: String, who: usize, plan: Plan) -> Outcome {
    scheduler.step_aside().await;
    let session = manager.start(&cookies(&cookie)).await.unwrap();
    let (found, mut n) = (session.id().is_some(), None);
    let mut failed = None;
    match &plan {
        Plan::Increment => match session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await {
            Ok(became) => n = Some(became),
            Err(error) => failed = Some(error.kind()),
        },
        Plan::Changes(changes) => changes.iter().for_each(|kind| change(&session, who, *kind)),
    }
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await.map_err(|error| error.kind());
    Outcome { found, released: failed.map_or(released, Err), n, cookie: pair(&headers) }
}

/// The plans and outcomes of one seed, and the order of their steps.
struct Round {
    seed: u64,
    plans: Vec<Plan>,
    outcomes: Vec<Outcome>,
    log: Vec<(usize, Call)>,
    first: String,
    store: Manager,
}

impl Round {
    async fn run(seed: u64) -> Self {
        let mut random = Random(seed);
        let provider = MemoryProvider::new();
        let store = Manager::builder(provider.clone()).build().unwrap();
        let session = store.start(&HeaderMap::new()).await.unwrap();
        session.set("base", 7).unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        let first = pair(&headers).unwrap();

        let plans: Vec<_> = (0..2 + random.below(2)).map(|_| Plan::draw(&mut random)).collect();
        // The requests belong to one process, or each to its own.
        let apart = random.below(2) == 0;
        let scheduler = Scheduler(Arc::new(Mutex::new(Schedule { random, log: Vec::new() })));
        let manager = || Manager::builder(Hooked::new(provider.clone(), scheduler.clone())).build().unwrap();
        let shared = manager();
        let local = LocalSet::new();
        let outcomes = Rc::new(RefCell::new(vec![None; plans.len()]));
        for (who, plan) in plans.iter().cloned().enumerate() {
            let manager = if apart { manager() } else { shared.clone() };
            let (scheduler, first, outcomes) = (scheduler.clone(), first.clone(), Rc::clone(&outcomes));
            local.spawn_local(WHO.scope(who, async move {
                let outcome = request(manager, scheduler, first, who, plan).await;
                outcomes.borrow_mut()[who] = Some(outcome);
            }));
        }
        local.await;
        let outcomes = outcomes.borrow().iter().cloned().map(Option::unwrap).collect();
        let log = scheduler.0.lock().unwrap().log.clone();
        Round { seed, plans, outcomes, log, first, store }
    }

    fn fail(&self, what: &str) -> ! {
        panic!(
            "seed {}: {what}\n plans: {:?}\n order: {:?}\n outcomes: {:?}",
            self.seed, self.plans, self.log, self.outcomes
        )
    }

    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, found: T, expected: T) {
        if found != expected {
            self.fail(&format!("{what}: {found:?}, where {expected:?} is expected"));
        }
    }

    /// Applies the logged steps to the model one after the other, and compares.
    async fn check(&self) {
        let mut session = Some(Model { values: BTreeMap::from([("base".to_owned(), 7)]), user: None });
        let mut cookie = self.first.clone();
        let mut others = 0;
        for &(who, call) in &self.log {
            let (plan, outcome) = (&self.plans[who], &self.outcomes[who]);
            match call {
                Call::Update | Call::Rename => {
                    let Some(model) = &mut session else { self.fail("an ended session was changed") };
                    model.apply(who, plan);
                    if let Some(n) = outcome.n {
                        self.same("an increment", Some(&n), model.values.get("n"));
                    }
                    if call == Call::Rename {
                        let Some(new) = &outcome.cookie else { self.fail("no response has the new id") };
                        if Model::stored(&self.store, &cookie).await.is_some() {
                            self.fail("the old id lives");
                        }
                        cookie.clone_from(new);
                    }
                }
                Call::End => self.same("a second end", session.take().is_some(), true),
                Call::Create => {
                    others += 1;
                    self.check_other(who).await;
                }
                _ => {}
            }
        }
        others += u64::from(session.is_some());
        self.same("the session", Model::stored(&self.store, &cookie).await, session);
        self.same("the number of sessions", self.store.active_sessions().await.unwrap(), others);
        (0..self.plans.len()).for_each(|who| self.check_outcome(who));
    }

    /// Checks a session that request `who` began: it holds only the data of that request.
    async fn check_other(&self, who: usize) {
        let mut model = Model::default();
        model.apply(who, &self.plans[who]);
        let Some(cookie) = &self.outcomes[who].cookie else {
            self.fail("no response has the new session's id")
        };
        self.same("the new session", Model::stored(&self.store, cookie).await, Some(model));
    }

    /// Returns true if request `who` got the id of a session that another request's login began.
    fn joined(&self, who: usize) -> bool {
        let own =
            self.log.iter().any(|entry| matches!(entry, (by, Call::Rename | Call::Create) if *by == who));
        let logs_in = |who: &usize| matches!(&self.plans[*who], Plan::Changes(changes) if changes.contains(&Change::Authenticate));
        let same = |other: &usize| self.outcomes[*other].cookie == self.outcomes[who].cookie;
        let mut renamed = self.log.iter().filter(|(_, call)| *call == Call::Rename).map(|(by, _)| by);
        let cookie = self.outcomes[who].cookie.is_some();
        !own && cookie && logs_in(&who) && renamed.any(|other| logs_in(other) && same(other))
    }

    /// Returns true if request `who` begins no session.
    fn leaves_nothing(&self, who: usize) -> bool {
        let mut model = Model::default();
        model.apply(who, &self.plans[who]);
        model == Model::default()
    }

    /// Returns true if the first id was ended, not replaced.
    fn ended_first(&self) -> bool {
        let mut changes = self.log.iter().map(|(_, call)| *call);
        changes.find(|call| matches!(call, Call::End | Call::Rename)) == Some(Call::End)
    }

    /// Checks that the outcome of request `who` fits its calls.
    fn check_outcome(&self, who: usize) {
        let outcome = &self.outcomes[who];
        let calls: Vec<_> = self.log.iter().filter(|(by, _)| *by == who).map(|(_, call)| *call).collect();
        let changes = match &self.plans[who] {
            Plan::Increment => {
                match calls[..] {
                    [] => self.same("an increment", &outcome.released, &Err(ErrorKind::Gone)),
                    _ => self.same("an increment", &outcome.released, &Ok(Released::Unchanged)),
                }
                return;
            }
            Plan::Changes(changes) => changes,
        };
        let lost_write = changes.iter().any(|change| *change != Change::Destroy);
        let gone = Ok(Released::Gone { lost_write });
        let joined = self.joined(who);
        let expected = match calls[..] {
            [] | [Call::Update] if joined => Ok(Released::Regenerated),
            [Call::Update] => Ok(Released::Saved),
            [Call::Rename] => Ok(Released::Regenerated),
            [Call::End] => Ok(Released::Destroyed),
            [Call::End, Call::Create] => Ok(Released::Created),
            // The request arrived after the end of the session, or after a login had replaced the id.
            [Call::Create] if !outcome.found => Ok(Released::Created),
            [] if !outcome.found && self.ended_first() && self.leaves_nothing(who) => match changes[..] {
                [.., Change::Destroy] => Ok(Released::Gone { lost_write: false }),
                _ => Ok(Released::Unchanged),
            },
            // The request arrived after the end of the id, or the id ended while it ran.
            [] => match changes[..] {
                // A destroy undoes the changes before it.
                [_, Change::Destroy] => Ok(Released::Gone { lost_write: false }),
                _ => gone,
            },
            _ => self.fail("a request made more calls than it needed"),
        };
        self.same("the outcome of a release", &outcome.released, &expected);
        let told = outcome.cookie.is_some();
        let due = matches!(expected, Ok(Released::Regenerated | Released::Created | Released::Destroyed));
        self.same("a cookie was set", told, due);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_equal_some_serial_order() {
    let seeds = match number("CLOAKROOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CLOAKROOM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut races, mut ends) = (0_u64, 0_u64);
    for seed in seeds {
        let round = Round::run(seed).await;
        round.check().await;
        let gone =
            |outcome: &Outcome| matches!(outcome.released, Ok(Released::Gone { .. }) | Err(ErrorKind::Gone));
        ends += u64::from(round.outcomes.iter().any(gone));
        races += u64::from(round.outcomes.iter().filter(|outcome| outcome.found).count() > 1);
    }
    servers::tell(format_args!(
        "{races} rounds in which requests had the session at once, {ends} in which it ended under one of them"
    ));
}
