//! The machines without a runtime, and the two drivers side by side.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use proptest::prelude::*;

use super::lookup::{Found, LookupKind, Merge, Reached, Trail, TrailStep};
use super::outcome::{Answer, Commit, RareAnswer, Todo};
use super::plan::Step;
use super::state::State;
use super::{Changes, Released};
use crate::clock::ManualClock;
use crate::codec::Change;
use crate::engine::{By, Engine, Former, Stored};
use crate::error::Error;
use crate::error::ErrorKind;
use crate::id::StoreKey;
use crate::manager::Manager;
use crate::principal::Principal;
use crate::provider::memory::MemoryProvider;
use crate::provider::{Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated};
use crate::record::{IndexEntry, Record};

type Outcome<T> = std::result::Result<T, Error>;

/// A memory store whose every call waits once, so that it is never served by the driver that polls once.
struct Waiting(MemoryProvider);

async fn wait() {
    tokio::task::yield_now().await;
}

impl Provider for Waiting {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Outcome<Created> {
        wait().await;
        self.0.create(key, record).await
    }

    async fn load(&self, key: &StoreKey) -> Outcome<Option<Record>> {
        wait().await;
        self.0.load(key).await
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Outcome<Updated> {
        wait().await;
        self.0.update(key, record, base).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Outcome<Touched> {
        wait().await;
        self.0.touch(key, at).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Outcome<Renamed> {
        wait().await;
        self.0.rename(old, new, record, expected, tombstone).await
    }

    async fn delete(&self, key: &StoreKey) -> Outcome<bool> {
        wait().await;
        self.0.delete(key).await
    }

    async fn count(&self) -> Outcome<u64> {
        self.0.count().await
    }

    async fn delete_expired(&self, limit: usize) -> Outcome<Collected> {
        self.0.delete_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Outcome<Page> {
        self.0.scan(cursor, limit).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Outcome<Page> {
        wait().await;
        self.0.indexed(entry, cursor, limit).await
    }
}

/// A call of a request in the random walk.
#[derive(Clone, Debug)]
enum Act {
    Set(u8, u8),
    Delete(u8),
    Clear,
    Destroy,
    Regenerate,
    LogIn(u8),
    Save,
    Update(u8),
    /// Ends the request, waits, and begins the next one.
    TrailStep {
        wait: Duration,
        keeps_cookie: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3_u8, any::<u8>()).prop_map(|(key, value)| Act::Set(key, value)),
        1 => (0..3_u8).prop_map(Act::Delete),
        1 => Just(Act::Clear),
        1 => Just(Act::Destroy),
        1 => Just(Act::Regenerate),
        2 => (0..2_u8).prop_map(Act::LogIn),
        1 => Just(Act::Save),
        1 => (0..3_u8).prop_map(Act::Update),
        6 => (prop_oneof![Just(0), Just(1), Just(61), Just(1000), Just(3000)], prop::bool::weighted(0.9))
            .prop_map(|(secs, keeps_cookie)| Act::TrailStep { wait: Duration::from_secs(secs), keeps_cookie }),
    ]
}

/// Plays `acts` on a manager of `provider` and returns a line for each observation.
async fn play(provider: impl Provider, clock: ManualClock, rotates: bool, acts: &[Act]) -> Vec<String> {
    let mut builder = Manager::builder(provider).clock(clock.clock());
    if rotates {
        builder = builder.rotate_every(Duration::from_secs(600));
    }
    let sessions = builder.build().unwrap();
    let mut seen = Vec::new();
    let mut request = HeaderMap::new();
    let mut session = sessions.start(&request).await.unwrap();
    for act in acts {
        match act {
            Act::Set(key, value) => session.set(&format!("k{key}"), value).unwrap(),
            Act::Delete(key) => session.delete(&format!("k{key}")).unwrap(),
            Act::Clear => session.clear().unwrap(),
            Act::Destroy => session.destroy().unwrap(),
            Act::Regenerate => session.regenerate().unwrap(),
            Act::LogIn(user) => session.authenticate(Principal::new(format!("u{user}")).unwrap()).unwrap(),
            Act::Save => seen.push(format!("{:?}", session.save().await.map_err(|error| error.kind()))),
            Act::Update(key) => {
                let updated =
                    session.update(&format!("k{key}"), |old: Option<u8>| old.unwrap_or(0) ^ 1).await;
                seen.push(format!("{:?}", updated.map_err(|error| error.kind())));
            }
            Act::TrailStep { wait, keeps_cookie } => {
                let mut response = HeaderMap::new();
                let released = session.release(&mut response).await.map_err(|error| error.kind());
                let cookie = response.get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
                let removed = cookie.as_ref().is_some_and(|cookie| cookie.contains("Max-Age=0"));
                seen.push(format!("{released:?} cookie {} removed {removed}", cookie.is_some()));
                if let Some(cookie) = cookie.filter(|_| *keeps_cookie) {
                    let pair = cookie.split(';').next().unwrap().to_owned();
                    request.insert("cookie", pair.parse().unwrap());
                }
                clock.advance(*wait);
                session = sessions.start(&request).await.unwrap();
                let mut values = Vec::new();
                for key in 0..3 {
                    values.push(session.get::<u8>(&format!("k{key}")).unwrap());
                }
                let user = session.principal().map(|user| user.as_str().to_owned());
                let times = (session.created(), session.last_active(), session.expires());
                let stored = sessions.active_sessions().await.unwrap();
                seen.push(format!("{values:?} {user:?} {times:?} {stored}"));
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn both_drivers_decide_alike(acts in prop::collection::vec(act(), 1..40), rotates: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let run = |waits: bool| runtime.block_on(async {
            let clock = ManualClock::starting_at(start);
            let store = MemoryProvider::builder().clock(clock.clock()).build();
            if waits {
                play(Waiting(store), clock, rotates, &acts).await
            } else {
                play(store, clock, rotates, &acts).await
            }
        });
        prop_assert_eq!(run(false), run(true));
    }
}

fn manager() -> Manager {
    Manager::builder(MemoryProvider::new()).build().unwrap()
}

/// Returns a session of `user` as the store would hand it out, and its engine.
fn stored(engine: &Engine, user: Option<&str>) -> Stored {
    let now = engine.now();
    let times = engine.deadlines.times_of_new(now, user.map(|_| now));
    let principal = user.map(|user| Principal::new(user).unwrap());
    let record = Record::new(&crate::record::Meta::new(times, principal), engine.config.codec, &[0x80]);
    Stored { name: engine.ids.new_name().unwrap(), record, by: By::Own }
}

fn set(key: &str) -> Changes {
    let change = Change::new(key, |bytes| bytes.push(1));
    Changes { keys: [change].into_iter().collect(), ..Changes::default() }
}

fn over_limit() -> Answer {
    Answer::Rare(Box::new(RareAnswer::OverLimit(None)))
}

fn refused() -> Answer {
    Answer::Rare(Box::new(RareAnswer::Refused(Error::new(ErrorKind::Refused, std::fmt::Error))))
}

/// Returns an answer that a store may give to `step`, chosen by `choice`.
fn answer(step: Step, choice: u8) -> Answer {
    match step {
        Step::Nothing | Step::Refuse => Answer::None,
        Step::Touch { .. } => Answer::Touched([Touched::Done, Touched::Gone][usize::from(choice % 2)]),
        Step::Create { .. } => match choice % 4 {
            0 => Answer::Created(Created::Taken),
            1 => over_limit(),
            2 => refused(),
            _ => Answer::Created(Created::Done),
        },
        Step::Update { .. } => {
            Answer::Updated([Updated::Done, Updated::Stale, Updated::Gone][usize::from(choice % 3)])
        }
        Step::Rename { .. } => match choice % 6 {
            0 => Answer::Renamed(Renamed::Done),
            1 => Answer::Renamed(Renamed::Stale),
            2 => Answer::Renamed(Renamed::Gone),
            3 => Answer::Renamed(Renamed::Taken),
            4 => over_limit(),
            _ => refused(),
        },
        _ => Answer::Ended(choice.is_multiple_of(2)),
    }
}

/// Drives one commit with the answers that `choices` choose, without any store. Panics if it does not end.
fn drive(engine: &Engine, state: &mut State, choices: &[u8]) -> (Outcome<Released>, bool) {
    let mut commit = Commit::default();
    let mut choices = choices.iter().copied().cycle();
    let mut choice = || choices.next().unwrap_or_default();
    let mut wrote = false;
    let mut todo = Ok(Todo::Plan);
    for _ in 0..2_000 {
        todo = match todo {
            Err(error) => return (Err(error), wrote),
            Ok(Todo::Done(outcome)) => return (Ok(outcome), wrote),
            Ok(Todo::Plan) => commit.make_plan(state, state.in_flight.as_deref(), engine),
            Ok(Todo::Perform) => {
                let answer = answer(commit.plan.step, choice());
                wrote |= matches!(
                    answer,
                    Answer::Created(Created::Done)
                        | Answer::Updated(Updated::Done)
                        | Answer::Renamed(Renamed::Done)
                );
                commit.answered(state, answer, engine)
            }
            Ok(Todo::Queue | Todo::Pause(_)) => commit.waited(state),
            Ok(Todo::LookAgain) => {
                let former = state.stored.clone().unwrap();
                let reached = match choice() % 3 {
                    0 => Reached::Nobody,
                    1 => Reached::Session(former.clone()),
                    _ => Reached::Ended(Former::Replaced {
                        at: engine.now(),
                        successor: Some(engine.ids.new_name().unwrap()),
                    }),
                };
                commit.looked_up(state, &former, reached)
            }
            Ok(Todo::LoadToJoin) => {
                let record = choice().is_multiple_of(2).then(|| stored(engine, Some("alice")).record);
                commit.loaded(state, record, engine)
            }
        };
    }
    panic!("the commit goes on for ever");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_commit_ends_whatever_the_store_answers(
        choices in prop::collection::vec(any::<u8>(), 1..12),
        has_session: bool,
        logs_in: bool,
        ends: bool,
        writes: bool,
    ) {
        let manager = manager();
        let engine = manager.engine();
        let mut changes = if writes { set("key") } else { Changes::default() };
        if logs_in {
            changes.log_in(Principal::new("alice").unwrap(), crate::principal::Level::default());
        }
        changes.end = ends;
        let mut state = State::default();
        if has_session {
            state.found(stored(&engine, None));
        }
        let is_lost_if_gone = changes.would_be_lost();
        state.in_flight = Some(Box::new(changes));
        let (outcome, wrote) = drive(&engine, &mut state, &choices);
        match outcome {
            Ok(Released::Created) => prop_assert!(wrote && state.stored.is_some()),
            // A login that joined may have nothing left to write.
            Ok(Released::Regenerated) => prop_assert!(logs_in && state.stored.is_some()),
            Ok(Released::Saved) => prop_assert!(wrote),
            Ok(Released::Destroyed) => prop_assert!(ends && state.stored.is_none()),
            Ok(Released::Gone { lost_write }) => prop_assert!(lost_write || !is_lost_if_gone || ends),
            Ok(Released::Unchanged | Released::Touched) => prop_assert!(!logs_in && !writes),
            Err(error) => prop_assert!(
                [ErrorKind::Conflict, ErrorKind::Refused, ErrorKind::Random].contains(&error.kind()),
                "{error}"
            ),
        }
    }
}

/// Follows `name` through `records`, in the order in which they are asked for.
fn trace(
    engine: &Engine,
    name: crate::id::Named,
    kind: LookupKind,
    records: Vec<Option<Record>>,
) -> TrailStep {
    let mut next = TrailStep::Load(Trail::new(name, kind));
    for record in records {
        let TrailStep::Load(trail) = next else { return next };
        next = trail.loaded(record, engine);
    }
    next
}

#[test]
fn an_id_in_its_grace_leads_to_the_session() {
    let engine = manager().engine();
    let (old, new) = (stored(&engine, None), stored(&engine, None));
    let tombstone = engine.tombstones.of_rotated(&old.record, &new.name, engine.now());
    let next = trace(&engine, old.name.clone(), LookupKind::Arriving, vec![tombstone, Some(new.record)]);
    let TrailStep::Reached(Reached::Session(found)) = next else { panic!("no session") };
    assert!(found.by == By::Grace && found.name.key() == new.name.key());
    assert_eq!(found.name.id_bytes(), old.name.id_bytes());
}

#[test]
fn after_its_grace_a_rotated_id_is_reused_only_by_requests() {
    let engine = manager().engine();
    let (old, new) = (stored(&engine, None), stored(&engine, None));
    let long_ago = crate::clock::Millis(engine.now().0 - 3_600_000);
    let tombstone = engine.tombstones.of_rotated(&old.record, &new.name, long_ago);
    let next = trace(&engine, old.name.clone(), LookupKind::Arriving, vec![tombstone.clone()]);
    assert!(matches!(next, TrailStep::Reused(_)));
    let next = trace(&engine, old.name, LookupKind::Holder, vec![tombstone, Some(new.record)]);
    assert!(matches!(next, TrailStep::Reached(Reached::Session(_))));
}

#[test]
fn only_the_first_tombstone_tells_a_successor() {
    let engine = manager().engine();
    let (old, middle, new) = (stored(&engine, None), stored(&engine, None), stored(&engine, None));
    let now = engine.now();
    let replaced = engine.tombstones.of_replaced(&middle.name, &middle.record, &new.name, now);
    let next = trace(&engine, middle.name.clone(), LookupKind::Arriving, vec![replaced.clone()]);
    let TrailStep::Reached(Reached::Ended(Former::Replaced { successor, .. })) = next else {
        panic!("not ended")
    };
    assert_eq!(successor.map(|name| name.key().clone()), Some(new.name.key().clone()));

    let rotated = engine.tombstones.of_rotated(&old.record, &middle.name, now);
    let next = trace(&engine, old.name, LookupKind::Arriving, vec![rotated, replaced]);
    let TrailStep::Reached(Reached::Ended(Former::Replaced { successor, .. })) = next else {
        panic!("not ended")
    };
    assert!(successor.is_none());
}

#[test]
fn a_chain_of_rotations_without_end_is_left() {
    let engine = manager().engine();
    let (old, new) = (stored(&engine, None), stored(&engine, None));
    let tombstone = engine.tombstones.of_rotated(&old.record, &new.name, engine.now());
    let next = trace(&engine, old.name, LookupKind::Arriving, vec![tombstone; 17]);
    assert!(matches!(next, TrailStep::Reached(Reached::Ended(Former::Ended))));
}

#[test]
fn two_live_sessions_count_as_none() {
    let engine = manager().engine();
    let (one, other) = (stored(&engine, None), stored(&engine, None));
    let mut merge = Merge::default();
    merge.add(Reached::Session(one.clone()));
    merge.add(Reached::Session(one.clone()));
    merge.add(Reached::Session(other));
    assert!(matches!(merge.found(), Found::Contested(keys) if keys.len() == 2));
    let mut merge = Merge::default();
    merge.add(Reached::Ended(Former::Ended));
    merge.add(Reached::Session(Stored { by: By::Grace, ..one.clone() }));
    merge.add(Reached::Session(one));
    assert!(matches!(merge.found(), Found::One(found) if found.by == By::Own));
}
