//! Every pair of methods at the same time on one key. The answers and the store are those of one order or the other: both calls are
//! compared with a model that makes them one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Barrier;

use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::{AnyProvider, Created, Listed, Provider, Renamed, Touched, Updated};
use crate::record::{Meta, Record};
use crate::testkit::fixture::{Fixture, key, minutes, user};
use crate::testkit::model::Model;

/// The number of races of each pair in each state.
const ROUNDS: usize = 2;

/// The state of the key when the two begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartState {
    Absent,
    Live,
    Expired,
    Tombstone,
}

/// The methods. A method with two kinds of use is listed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Create,
    Load,
    Update,
    /// An update to a tombstone.
    End,
    Touch,
    /// A rename from the key.
    Leave,
    /// A rename of another session to the key.
    Enter,
    Delete,
    DeleteExpired,
    Count,
    Scan,
    OfPrincipal,
}

const CALLS: [Call; 12] = [
    Call::Create,
    Call::Load,
    Call::Update,
    Call::End,
    Call::Touch,
    Call::Leave,
    Call::Enter,
    Call::Delete,
    Call::DeleteExpired,
    Call::Count,
    Call::Scan,
    Call::OfPrincipal,
];

type Sessions = BTreeMap<StoreKey, Meta>;

#[derive(Clone, Debug, PartialEq)]
enum CallAnswer {
    Created(Created),
    Loaded(Option<Record>),
    Updated(Updated),
    Touched(Touched),
    Renamed(Renamed),
    Deleted(bool),
    /// The number of removed records may differ from store to store.
    Collected,
    Counted(usize),
    /// A walk is not a single step, so it is compared with the store before and after the race.
    Walked(Sessions),
    Listed(Sessions),
}

/// The keys and records of one race.
#[derive(Clone)]
struct Race {
    at: StoreKey,
    away: StoreKey,
    from: StoreKey,
    user: String,
    used: SystemTime,
    first: Record,
    expired: Record,
    created: Record,
    next: Record,
    entered: Record,
    tombstone: Record,
    ended: Record,
}

impl Race {
    fn new(f: &Fixture, number: usize) -> Self {
        let name = |part: &str| key(&format!("race-{number}-{part}"));
        let user = format!("user-{number}");
        let record = |n: u8| f.record().principal(&user).value("n", n);
        let away = name("away");
        Race {
            at: name("at"),
            from: name("from"),
            used: f.now() + minutes(10),
            first: record(1).build(),
            expired: record(1).idle(Duration::ZERO).build(),
            created: record(2).build(),
            next: record(3).version(2).build(),
            entered: record(4).version(2).build(),
            tombstone: f.record().version(1).tombstone(&away, minutes(1)),
            ended: f.record().version(1).ended(),
            away,
            user,
        }
    }

    /// Brings the key into `state` and stores another session beside it, in the store and in the model.
    async fn prepare(&self, f: &Fixture, state: StartState, model: &mut Model) {
        f.put(&self.from, &self.first).await;
        assert_eq!(model.create(&self.from, &self.first), Created::Done, "the key is new");
        if state == StartState::Absent {
            return;
        }
        f.put(&self.at, &self.first).await;
        assert_eq!(model.create(&self.at, &self.first), Created::Done, "the key is new");
        match state {
            StartState::Expired => {
                assert_eq!(f.update(&self.at, &self.expired, 1).await, Updated::Done, "it is alive");
                let _ = model.update(&self.at, &self.expired, 1);
            }
            StartState::Tombstone => {
                assert_eq!(f.update(&self.at, &self.ended, 1).await, Updated::Done, "it is alive");
                let _ = model.update(&self.at, &self.ended, 1);
            }
            StartState::Live | StartState::Absent => {}
        }
    }

    async fn ask(&self, call: Call, provider: &AnyProvider) -> Result<CallAnswer> {
        Ok(match call {
            Call::Create => CallAnswer::Created(provider.create(&self.at, &self.created).await?),
            Call::Load => CallAnswer::Loaded(provider.load(&self.at).await?),
            Call::Update => CallAnswer::Updated(provider.update(&self.at, &self.next, &self.first).await?),
            Call::End => CallAnswer::Updated(provider.update(&self.at, &self.ended, &self.first).await?),
            Call::Touch => CallAnswer::Touched(provider.touch(&self.at, self.used).await?),
            Call::Leave => {
                let mark = Some(&self.tombstone);
                CallAnswer::Renamed(provider.rename(&self.at, &self.away, &self.next, 1, mark).await?)
            }
            Call::Enter => {
                CallAnswer::Renamed(provider.rename(&self.from, &self.at, &self.entered, 1, None).await?)
            }
            Call::Delete => CallAnswer::Deleted(provider.delete(&self.at).await?),
            Call::DeleteExpired => {
                let _ = provider.delete_expired(100).await?;
                CallAnswer::Collected
            }
            Call::Count => CallAnswer::Counted(provider.count().await? as usize),
            Call::Scan => CallAnswer::Walked(walk(provider).await?),
            Call::OfPrincipal => {
                let page = provider.indexed(&user(&self.user), None, 1000).await?;
                CallAnswer::Listed(by_key(page.entries))
            }
        })
    }

    /// Returns every right answer, each with the model after it.
    fn model(&self, call: Call, model: &Model) -> Vec<(CallAnswer, Model)> {
        let mut after = model.clone();
        let theirs = |meta: &Meta| meta.principal().is_some_and(|user| user.as_str() == self.user);
        let answer = match call {
            Call::Create => CallAnswer::Created(after.create(&self.at, &self.created)),
            Call::Load => CallAnswer::Loaded(after.load(&self.at).cloned()),
            Call::Update => CallAnswer::Updated(after.update(&self.at, &self.next, 1)),
            Call::End => CallAnswer::Updated(after.update(&self.at, &self.ended, 1)),
            Call::Touch => CallAnswer::Touched(after.touch(&self.at, self.used)),
            Call::Leave => {
                let mark = Some(&self.tombstone);
                return renames(model, (&self.at, &self.away, &self.next), mark);
            }
            Call::Enter => return renames(model, (&self.from, &self.at, &self.entered), None),
            Call::Delete => CallAnswer::Deleted(after.delete(&self.at)),
            Call::DeleteExpired => CallAnswer::Collected,
            Call::Count => CallAnswer::Counted(after.live(|_| true).len()),
            Call::Scan => CallAnswer::Walked(after.live(|_| true)),
            Call::OfPrincipal => CallAnswer::Listed(after.live(theirs)),
        };
        vec![(answer, after)]
    }

    /// Returns everything that the race may have changed, as the store shows it.
    async fn found(&self, f: &Fixture) -> Vec<Option<Record>> {
        let mut found = Vec::new();
        for name in [&self.at, &self.away, &self.from] {
            found.push(f.load(name).await);
        }
        found
    }

    fn expected(&self, model: &Model) -> Vec<Option<Record>> {
        [&self.at, &self.away, &self.from].map(|name| model.load(name).cloned()).into()
    }

    /// Removes everything that later races would count.
    async fn clear(&self, f: &Fixture) {
        for name in [&self.at, &self.away, &self.from] {
            let _ = f.delete(name).await;
        }
    }
}

fn renames(
    model: &Model,
    (old, new, record): (&StoreKey, &StoreKey, &Record),
    mark: Option<&Record>,
) -> Vec<(CallAnswer, Model)> {
    let outcome = |answer| {
        let mut after = model.clone();
        if answer == Renamed::Done {
            after.moved(old, new, record, mark.cloned());
        }
        (CallAnswer::Renamed(answer), after)
    };
    model.rename(old, new, 1).into_iter().map(outcome).collect()
}

/// Returns the entries of all pages.
async fn walk(provider: &AnyProvider) -> Result<Sessions> {
    let (mut met, mut cursor) = (Sessions::new(), None);
    loop {
        let page = provider.scan(cursor, 1000).await?;
        met.extend(by_key(page.entries));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(met);
        }
    }
}

fn by_key(entries: Vec<Listed>) -> Sessions {
    entries.into_iter().map(|entry| (entry.key, entry.meta)).collect()
}

/// One of the two orders, and the right answers in it.
struct CallOrder {
    answers: [CallAnswer; 2],
    /// The store before, between and after the two calls.
    states: [Model; 3],
}

fn orders(race: &Race, [one, other]: [Call; 2], start: &Model) -> Vec<CallOrder> {
    let mut orders = Vec::new();
    for (first, second, turned) in [(one, other, false), (other, one, true)] {
        for (early, between) in race.model(first, start) {
            for (late, end) in race.model(second, &between) {
                let answers =
                    if turned { [late.clone(), early.clone()] } else { [early.clone(), late.clone()] };
                orders.push(CallOrder { answers, states: [start.clone(), between.clone(), end] });
            }
        }
    }
    orders
}

impl CallOrder {
    fn explains(&self, race: &Race, answers: &[CallAnswer; 2], found: &[Option<Record>]) -> bool {
        let told = self.answers.iter().zip(answers).all(|pair| match pair {
            (CallAnswer::Walked(_), CallAnswer::Walked(met)) => self.walks(met),
            // A session that moves may be counted under both keys or under neither.
            (CallAnswer::Counted(expected), CallAnswer::Counted(found)) => {
                let moves = answers.contains(&CallAnswer::Renamed(Renamed::Done));
                expected.abs_diff(*found) <= usize::from(moves)
            }
            (expected, answer) => expected == answer,
        });
        told && race.expected(&self.states[2]) == found
    }

    /// Checks that a walk meets every session that exists throughout, and none that never exists.
    fn walks(&self, met: &Sessions) -> bool {
        let [start, between, end] = &self.states;
        let all: Vec<Sessions> = [start, between, end].map(|model| model.live(|_| true)).into();
        let throughout = all[0].keys().filter(|name| all.iter().all(|state| state.contains_key(*name)));
        let known = |(name, meta): (&StoreKey, &Meta)| all.iter().any(|state| state.get(name) == Some(meta));
        throughout.into_iter().all(|name| met.contains_key(name)) && met.iter().all(known)
    }
}

/// Makes both calls at the same time and returns their answers.
async fn at_once(f: &Fixture, race: &Race, calls: [Call; 2], turn: usize) -> [CallAnswer; 2] {
    let start = Arc::new(Barrier::new(2));
    // Every other round uses both handles; the rest use one.
    let tasks = [0, 1].map(|n| {
        let (race, start, provider) = (race.clone(), Arc::clone(&start), f.handle(n * turn));
        tokio::spawn(async move {
            let _ = start.wait().await;
            race.ask(calls[n], &provider).await
        })
    });
    let mut answers = Vec::new();
    for (task, call) in tasks.into_iter().zip(calls) {
        let answer = task.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        answers
            .push(answer.unwrap_or_else(|error| panic!("{call:?} of {calls:?} fails: {error} ({error:?})")));
    }
    answers.try_into().unwrap_or_else(|_| unreachable!("two calls have two answers"))
}

fn is_possible(f: &Fixture, call: Call) -> bool {
    let capabilities = f.capabilities();
    match call {
        Call::Delete => capabilities.revocable,
        Call::Count | Call::Scan => capabilities.lists,
        Call::OfPrincipal => capabilities.lists && capabilities.users,
        _ => true,
    }
}

async fn races(f: &Fixture, state: StartState) {
    let clears = f.revokes().await;
    let calls: Vec<_> = CALLS.into_iter().filter(|call| is_possible(f, *call)).collect();
    let mut number = 0;
    let mut kept = Model::new(f.now());
    for turn in 0..ROUNDS {
        for (n, one) in calls.iter().enumerate() {
            for other in &calls[n..] {
                number += 1;
                let (race, pair) = (Race::new(f, number), [*one, *other]);
                let mut model = if clears { Model::new(f.now()) } else { kept.clone() };
                race.prepare(f, state, &mut model).await;
                let answers = at_once(f, &race, pair, turn).await;
                let found = race.found(f).await;
                let orders = orders(&race, pair, &model);
                let order = orders.iter().find(|order| order.explains(&race, &answers, &found));
                let Some(order) = order else {
                    panic!("{}", Unexplained { state, pair, answers, found, orders })
                };
                kept = order.states[2].clone();
                if clears {
                    race.clear(f).await;
                }
            }
        }
    }
}

/// Describes a result that neither order explains.
struct Unexplained {
    state: StartState,
    pair: [Call; 2],
    answers: [CallAnswer; 2],
    found: Vec<Option<Record>>,
    orders: Vec<CallOrder>,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unexplained { state, pair, answers, found, orders } = self;
        writeln!(
            f,
            "{pair:?} at the same time on a key that is {state:?}: neither order explains what came of it"
        )?;
        writeln!(
            f,
            "  answered {answers:?}\n  found at the key, where it leaves to, and where another came from {found:?}"
        )?;
        for order in orders {
            writeln!(f, "  one order answers {:?}", order.answers)?;
        }
        Ok(())
    }
}

pub(super) async fn every_pair_of_calls_on_a_free_key_has_an_order(f: Fixture) {
    races(&f, StartState::Absent).await;
}

pub(super) async fn every_pair_of_calls_on_a_session_has_an_order(f: Fixture) {
    races(&f, StartState::Live).await;
}

pub(super) async fn every_pair_of_calls_on_an_expired_key_has_an_order(f: Fixture) {
    races(&f, StartState::Expired).await;
}

pub(super) async fn every_pair_of_calls_on_a_tombstone_has_an_order(f: Fixture) {
    races(&f, StartState::Tombstone).await;
}
