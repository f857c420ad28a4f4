//! The lookup: from the ids of a request to its session, by the records that the store has under them.
//!
//! [`Trail`] follows one id. It asks for one record at a time and decides what the record means. [`Merge`] decides between
//! several ids. Neither does I/O, so the drivers in [`load`](super::load) share every decision.

use crate::clock::Millis;
use crate::engine::{By, Engine, Former, MOST_ROTATIONS, Stored};
use crate::id::{Named, StoreKey};
use crate::record::{Mark, Record};

/// The outcome of looking up one id.
pub(crate) enum Reached {
    Nobody,
    /// The id was replaced or its session ended, so recently that requests may still be under way with it.
    Ended(Former),
    Session(Stored),
}

/// The outcome of looking up the ids of a request.
pub(crate) enum Found {
    Nobody,
    /// See [`Reached::Ended`].
    Ended(Former),
    One(Stored),
    /// Several live sessions. None of them is used, but a logout ends them all.
    Contested(Vec<StoreKey>),
}

/// The kind of a lookup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupKind {
    /// A request that arrives with the id.
    Arriving,
    /// A request that arrives with the cookie of another library. The key is that of the claim on its session.
    Claim,
    /// The holder of a session that was found before. Routine rotation does not part the two, however long ago it was.
    Holder,
}

/// The lookup of one id.
pub(crate) struct Trail {
    name: Named,
    kind: LookupKind,
    /// The tombstones that were followed so far.
    followed: Option<Box<Followed>>,
}

/// The tombstones that a trail has followed. Most lookups follow none, so they are boxed.
struct Followed {
    /// The tombstone under the id's own key.
    first: Record,
    hops: usize,
    /// The key of the next record.
    next: StoreKey,
}

/// The next step of a [`Trail`].
pub(crate) enum TrailStep {
    /// Load the record under [`Trail::key`].
    Load(Trail),
    Reached(Reached),
    /// The store has nothing under the id's key.
    Missing {
        name: Named,
        kind: LookupKind,
    },
    /// The id was rotated away and has come after its grace. The successor may belong to a victim of theft.
    Reused(Box<Reused>),
    /// The id belongs to a session that was moved here from the former store: its client is told the new id.
    Moved(Box<Moved>),
}

/// See [`TrailStep::Reused`].
pub(crate) struct Reused {
    pub(crate) name: Named,
    pub(crate) successor: StoreKey,
    pub(crate) former: Former,
}

/// See [`TrailStep::Moved`].
pub(crate) struct Moved {
    pub(crate) name: Named,
    pub(crate) tombstone: Record,
    pub(crate) successor: StoreKey,
    pub(crate) record: Record,
}

impl Trail {
    pub(crate) fn new(name: Named, kind: LookupKind) -> Self {
        Trail { name, kind, followed: None }
    }

    /// Returns the key of the record that is needed next.
    pub(crate) fn key(&self) -> &StoreKey {
        self.followed.as_ref().map_or(self.name.key(), |followed| &followed.next)
    }

    /// Decides what the record under [`key`](Self::key) means.
    pub(crate) fn loaded(self, record: Option<Record>, engine: &Engine) -> TrailStep {
        match (record, &self.followed) {
            (Some(record), None) if !record.is_tombstone() => {
                TrailStep::Reached(Reached::Session(engine.ids.stored(self.name, record)))
            }
            (None, None) => TrailStep::Missing { name: self.name, kind: self.kind },
            (record, _) => self.follow(record, engine),
        }
    }

    fn follow(self, record: Option<Record>, engine: &Engine) -> TrailStep {
        let Some(record) = record else { return TrailStep::Reached(Reached::Ended(Former::Ended)) };
        let at = record.times().last_active;
        match (record.mark(), self.followed) {
            (None, followed) => Trail::at_session(self.name, record, followed, engine),
            (Some(mark), None) => {
                let followed = Followed { first: record, hops: 0, next: self.name.key().clone() };
                Trail::at_tombstone(self.name, self.kind, mark, at, Box::new(followed), engine)
            }
            (Some(mark), Some(mut followed)) => {
                followed.hops += 1;
                Trail::at_tombstone(self.name, self.kind, mark, at, followed, engine)
            }
        }
    }

    /// Ends the trail at a session. One that was reached over a tombstone is used under its own key, and the response does not tell its id:
    /// the request may come from a thief of the old one.
    fn at_session(
        name: Named,
        record: Record,
        followed: Option<Box<Followed>>,
        engine: &Engine,
    ) -> TrailStep {
        let Some(followed) = followed else {
            return TrailStep::Reached(Reached::Session(engine.ids.stored(name, record)));
        };
        let Followed { first, hops, next } = *followed;
        if hops == 0 && first.successor_id().is_some() {
            return TrailStep::Moved(Box::new(Moved { name, tombstone: first, successor: next, record }));
        }
        TrailStep::Reached(Reached::Session(Stored { name: name.to(next), record, by: By::Grace }))
    }

    /// Takes in a `mark` that was set `at` this time.
    fn at_tombstone(
        name: Named,
        kind: LookupKind,
        mark: Mark,
        at: Millis,
        mut followed: Box<Followed>,
        engine: &Engine,
    ) -> TrailStep {
        if followed.hops == MOST_ROTATIONS {
            return TrailStep::Reached(Reached::Ended(Former::Ended));
        }
        let Mark::Rotated { successor, until } = mark else {
            let former = engine.tombstones.former(&name, &followed.first, mark, at);
            // A client is never told a successor at the end of a chain.
            let former = if followed.hops == 0 { former } else { former.without_successor() };
            return TrailStep::Reached(Reached::Ended(former));
        };
        if kind != LookupKind::Holder && engine.now() >= until {
            let former = Former::Replaced { at: until, successor: None };
            return TrailStep::Reused(Box::new(Reused { name, successor, former }));
        }
        followed.next = successor;
        TrailStep::Load(Trail { name, kind, followed: Some(followed) })
    }
}

/// The decision between several ids of one request.
#[derive(Default)]
pub(crate) struct Merge {
    alive: Vec<Stored>,
    ended: Option<Former>,
}

impl Merge {
    pub(crate) fn add(&mut self, reached: Reached) {
        match reached {
            Reached::Nobody => {}
            Reached::Ended(former) => self.ended = Some(former.or(self.ended.take())),
            Reached::Session(found) => self.add_session(found),
        }
    }

    fn add_session(&mut self, found: Stored) {
        match self.alive.iter_mut().find(|one| one.name.key() == found.name.key()) {
            // An id in its grace and its successor lead to the same session: the successor is used. Two sealed records of one
            // session do as well: the newer is used.
            Some(same) => {
                if same.by != By::Own || found.record.version() > same.record.version() {
                    *same = found;
                }
            }
            None => self.alive.push(found),
        }
    }

    /// Returns the outcome. Two live sessions count as none, since an attacker who plants a cookie must not choose.
    pub(crate) fn found(mut self) -> Found {
        if self.alive.len() > 1 {
            return Found::Contested(
                self.alive.into_iter().map(|stored| stored.name.key().clone()).collect(),
            );
        }
        match (self.alive.pop(), self.ended) {
            (Some(stored), _) => Found::One(stored),
            (None, Some(former)) => Found::Ended(former),
            (None, None) => Found::Nobody,
        }
    }
}
