//! One request's work on its session: lookup, changes, plan, outcome.
//!
//! The decisions are state machines without I/O. [`lookup`] decides what a loaded record means, [`plan`] which step the changes
//! need, and [`outcome`] what each answer of the store means. A machine asks for one thing at a time and takes the answer, so the two
//! drivers share every decision: the one in [`load`] and [`commit`] that polls a provider which never waits, and the one that awaits.
//!
//! | file | part |
//! |---|---|
//! | `exchange.rs` | the handle that all clones of a request's session share |
//! | `state.rs`, `changes.rs`, `view.rs` | the record as loaded, the changes since, and both together as the handler sees them |
//! | `lookup.rs`, `load.rs` | the session of the request's ids: the decision, and its drivers |
//! | `plan.rs`, `outcome.rs` | the step that stores the changes, and the meaning of its answer |
//! | `commit.rs`, `perform.rs` | the drivers of a commit, and its steps as calls of the provider |
//! | `respond.rs` | the headers of the response |
//! | `turn.rs`, `guards.rs`, `undo.rs` | what is restored if a call is cancelled or fails |
//! | `reserved.rs` | the keys that belong to the library |
//!
//! # The phases of a request
//!
//! | phase | meaning | event | next phase |
//! |---|---|---|---|
//! | `Untouched` | nobody asked for the session, nothing was parsed | `load` | `Asked` |
//! | | | the response leaves | `Closed` |
//! | `Asked` | the load is under way, or it failed and may be tried again | the load succeeds | `Loaded` |
//! | | | the response leaves | `Closed` |
//! | `Loaded` | changes are collected; `save` and `update` commit and stay here | `release` | `Releasing` |
//! | `Releasing` | the last commit is under way, so further changes are refused | it succeeds | `Released` |
//! | | | it fails or is cancelled | `Loaded`, with the changes pending |
//! | `Released` | the outcome is kept for a second layer of the same manager | | |
//! | `Closed` | the response has left: every call is the error `Released` | | |
//!
//! A release with nothing to store, or on a provider that never waits, goes from `Loaded` to `Released` at once.
//!
//! # The lookup
//!
//! Each id is followed by a [`Trail`](lookup::Trail):
//!
//! | record under the key | it is | meaning |
//! |---|---|---|
//! | none | the first | unknown; perhaps the session still has its key from before ids were hashed |
//! | none | a successor | ended |
//! | a session | the first | the session, under its own id |
//! | a session | a successor | the session, under an id in its grace: the response does not tell the new id |
//! | a tombstone: ended, or replaced by a login | any | ended; the first one may name a session for a login to join |
//! | a tombstone: rotated | within its grace | load the successor, for at most [`MOST_ROTATIONS`](crate::engine::MOST_ROTATIONS) steps |
//! | a tombstone: rotated | past its grace | reuse of the id: reported, and perhaps the user's sessions are ended |
//!
//! For the holder of a session that was found before, a rotation's grace never ends: a slow commit still reaches its session.
//!
//! Several ids in one request are [merged](lookup::Merge). One live session is used, whatever the others lead to. Of two, neither is
//! used: an attacker who plants a cookie must not choose. A logout ends both.
//!
//! # The plan
//!
//! The first row that applies gives the step:
//!
//! | the request has | and | step |
//! |---|---|---|
//! | no session | its id had ended before it came, and it only ends its session; or the id was replaced a moment ago, and it does not log in | `Refuse` |
//! | no session | several live sessions, and a logout | `EndAll` |
//! | no session | a value that is set, or a login | `Create` |
//! | no session | | `Nothing` |
//! | a session | a logout | `End`, then the plan for the changes made after it |
//! | a session | a login, another level, `regenerate`, or a rotation that is due | `Rename` |
//! | a session | changed values or fields | `Update` |
//! | a session | a use that is due to be written | `Touch`; `Update` if the configured idle timeout has changed |
//! | a session | | `Nothing` |
//!
//! # The commit
//!
//! [`Commit`](outcome::Commit) says what to do next, and the driver does it:
//!
//! | the machine asks for | the driver | then calls |
//! |---|---|---|
//! | `Plan` | for `update`, computes the change from the newest record | `make_plan` |
//! | `Perform` | calls the provider | `answered` |
//! | `Queue` | waits for this process's lock of the session, which it holds until the commit ends | `waited` |
//! | `Pause` | sleeps for a random time of up to 16 ms | `waited` |
//! | `LookAgain` | follows the session's id again | `looked_up` |
//! | `LoadToJoin` | loads the session that replaced the request's id | `loaded` |
//! | `Done` | returns the outcome | |
//!
//! `outcome.rs` has the meaning of each answer. The driver that polls carries out `Plan` and `Perform` alone. If the machine asks for
//! more, the driver that awaits begins again with the same changes.
//!
//! # Cancellation
//!
//! A future may be dropped at any `await`: the client has gone, or a timeout layer has fired. Guards restore the state then. The
//! changes in flight are pending again, the turn passes to the next call, and a release under way is open again. If the provider
//! has made the change nevertheless, the version differs at the next try, and the changes are replayed on the newest record.

mod changes;
mod commit;
mod exchange;
mod guards;
mod load;
mod lookup;
mod outcome;
mod perform;
mod plan;
mod reserved;
mod respond;
mod state;
#[cfg(test)]
#[cfg(feature = "memory")]
mod tests;
mod turn;
mod undo;
mod view;

pub(crate) use changes::Changes;
pub(crate) use exchange::Exchange;
pub(crate) use load::{find_id, look_again};
pub(crate) use lookup::Reached;
pub(crate) use reserved::{CSRF, FLASH, refuse as refuse_reserved};
pub(crate) use state::{CookieSecret, too_late};

/// The outcome of [`Session::release`](crate::Session::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a session that is gone took no changes"]
pub enum Released {
    /// There was nothing to store.
    Unchanged,
    /// The time of last use was written. Nothing else was to be stored.
    Touched,
    /// The changes are stored.
    Saved,
    /// The session was created, and the client is sent its id.
    Created,
    /// The session has a new id, and its changes are stored.
    Regenerated,
    /// The session has ended, and the client is told to forget its id.
    Destroyed,
    /// The session was destroyed, rotated away or has expired since it was loaded. Nothing was written and no cookie is
    /// set.
    Gone {
        /// True if changes are lost. A success would acknowledge them.
        lost_write: bool,
    },
}
