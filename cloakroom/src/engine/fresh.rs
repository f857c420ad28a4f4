//! What a session begins with: its times, and an id that is not taken.

use std::time::Duration;

use super::Engine;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind};
use crate::record::{Lifetime, Times};

/// Fresh ids that may be taken before the generator must be broken.
pub(crate) const COLLISIONS: u32 = 3;

impl Engine {
    /// The times of a session that begins `now`, with a login or without.
    pub(crate) fn times_of_new(&self, now: Millis, authenticated: Option<Millis>) -> Times {
        Times {
            version: 1,
            created: now,
            issued: now,
            last_active: now,
            idle_deadline: self.idle_deadline(None, authenticated, now),
            absolute_deadline: self.absolute_deadline(None, now),
            authenticated,
        }
    }

    /// When a session ends that nobody uses from `now` on: sooner, perhaps, where nobody is `authenticated`.
    pub(crate) fn idle_deadline(
        &self,
        own: Option<Lifetime>,
        authenticated: Option<Millis>,
        now: Millis,
    ) -> Millis {
        now.after(self.idle_timeout(own, authenticated))
    }

    /// How long a session lives unused.
    pub(super) fn idle_timeout(&self, own: Option<Lifetime>, authenticated: Option<Millis>) -> Duration {
        let timeout = match authenticated {
            Some(_) => self.config.idle_timeout,
            None => self.config.anonymous_timeout(),
        };
        own.map_or(timeout, |own| own.idle)
    }

    /// When a session ends that began, or was logged in to, at `from`, however much it is used.
    pub(crate) fn absolute_deadline(&self, own: Option<Lifetime>, from: Millis) -> Millis {
        let timeout = own.map_or(self.config.absolute_timeout, |own| own.absolute);
        timeout.map_or(Millis::NEVER, |timeout| from.after(timeout))
    }
}

/// The error of one who has drawn more than [`COLLISIONS`] ids that are taken.
#[cold]
pub(crate) fn repeats_itself() -> Error {
    Error::new(ErrorKind::Random, Collisions)
}

#[derive(Debug, thiserror::Error)]
#[error("expected a fresh id, found {} in a row that are taken: the random generator repeats itself", COLLISIONS + 1)]
struct Collisions;
