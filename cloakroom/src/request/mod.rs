//! One request's work on its session: lookup, changes, plan, outcome.
//!
//! The decisions are state machines without I/O. [`lookup`] decides what a loaded record means, [`plan`] which step the changes
//! need, and [`outcome`] what each answer of the store means. A machine asks for one thing at a time and takes the answer, so the two drivers
//! share every decision: the one in [`load`] and [`commit`] that polls a provider which never waits, and the one that awaits.

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
    /// The use of the session was stored.
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
