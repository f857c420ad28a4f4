//! The deadlines of sessions and tombstones, computed from the configured times.

use std::time::Duration;

use crate::clock::Millis;
use crate::config::{Config, touch_interval};
use crate::record::{Lifetime, Record, Times};

/// The configured times, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    idle: u64,
    anonymous: u64,
    /// [`NEVER`] if there is no absolute timeout.
    absolute: u64,
    /// The least time between two stored uses of a session with a login.
    touch_users: u64,
    /// The same for a session without one.
    touch_anonymous: u64,
    /// The age at which a token that is the record is refused.
    token_age: Option<Duration>,
    arrival_grace: u64,
    rotation_grace: u64,
    longest_request: u64,
}

/// A time after which no session lasts: added to any time, it gives [`Millis::NEVER`].
const NEVER: u64 = u64::MAX;

impl Deadlines {
    pub(crate) fn new(config: &Config, token_age: Option<Duration>) -> Self {
        let touch = |idle| Millis::count_in(touch_interval([Some(idle), config.cookie.lifetime, token_age]));
        Deadlines {
            idle: Millis::count_in(config.idle_timeout),
            anonymous: Millis::count_in(config.anonymous_timeout()),
            absolute: config.absolute_timeout.map_or(NEVER, Millis::count_in),
            touch_users: touch(config.idle_timeout),
            touch_anonymous: touch(config.anonymous_timeout()),
            token_age,
            arrival_grace: Millis::count_in(config.arrival_grace()),
            rotation_grace: Millis::count_in(config.rotation_grace),
            longest_request: Millis::count_in(config.longest_request),
        }
    }

    /// Returns the times of a session that begins `now`, with a login or without.
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

    /// Returns the time at which a session expires that was last used `now`. Its own lifetime, if it has one, replaces the configured
    /// times.
    pub(crate) fn idle_deadline(
        &self,
        own: Option<Lifetime>,
        authenticated: Option<Millis>,
        now: Millis,
    ) -> Millis {
        let timeout = match own {
            Some(own) => Millis::count_in(own.idle),
            None if authenticated.is_some() => self.idle,
            None => self.anonymous,
        };
        later(now, timeout)
    }

    /// Returns the time at which a session expires however much it is used. `from` is its login, or its beginning if it has none.
    pub(crate) fn absolute_deadline(&self, own: Option<Lifetime>, from: Millis) -> Millis {
        let timeout = own.map_or(self.absolute, |own| own.absolute.map_or(NEVER, Millis::count_in));
        later(from, timeout)
    }

    /// Returns true if a use of `record` at `now` is due to be stored.
    #[inline]
    pub(crate) fn touch_due(&self, record: &Record, times: &Times, now: Millis) -> bool {
        let unstored = now.0.saturating_sub(times.last_active.0);
        let interval = match record.lifetime() {
            None if times.authenticated.is_none() => self.touch_anonymous,
            None => self.touch_users,
            Some(own) => Millis::count_in(touch_interval([Some(own.idle), self.token_age])),
        };
        unstored >= interval
    }

    /// Returns true if a login that replaced an id `at` that time may still be on its way to the browser.
    pub(crate) fn is_arriving(&self, at: Millis, now: Millis) -> bool {
        now < later(at, self.arrival_grace)
    }

    /// Returns the time until which the tombstone of an id is kept that was ended or replaced `at` that time. No request that began
    /// before lasts longer.
    pub(crate) fn ended_until(&self, at: Millis) -> Millis {
        later(at, self.longest_request)
    }

    /// Returns the time until which an id that is rotated `now` still leads to its session.
    pub(crate) fn rotated_until(&self, now: Millis) -> Millis {
        later(now, self.rotation_grace)
    }

    /// Returns the time until which the tombstone of a rotated id is kept, if the id leads to its session until `grace_end`. A thief
    /// who presents the id within the idle timeout is noticed.
    pub(crate) fn reuse_noticed_until(&self, grace_end: Millis) -> Millis {
        later(grace_end, self.longest_request.max(self.idle))
    }
}

fn later(from: Millis, millis: u64) -> Millis {
    Millis(from.0.saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn deadlines() -> Deadlines {
        Deadlines::new(&Config::default(), None)
    }

    #[test]
    fn a_session_without_an_absolute_timeout_never_reaches_it() {
        let endless = Deadlines::new(&Config { absolute_timeout: None, ..Config::default() }, None);
        assert_eq!(endless.absolute_deadline(None, Millis(5)), Millis::NEVER);
        let kiosk = Lifetime::idle(Duration::from_secs(60)).at_most(Duration::from_secs(120));
        assert_eq!(endless.absolute_deadline(Some(kiosk), Millis(5)), Millis(5 + 2 * MINUTE));
        let own = Lifetime::idle(Duration::from_secs(60));
        assert_eq!(deadlines().absolute_deadline(Some(own), Millis(5)), Millis::NEVER);
    }

    #[test]
    fn an_anonymous_session_may_expire_sooner_than_a_users() {
        let config = Config { anonymous_timeout: Some(Duration::from_secs(120)), ..Config::default() };
        let deadlines = Deadlines::new(&config, None);
        assert_eq!(deadlines.idle_deadline(None, None, Millis(0)), Millis(2 * MINUTE));
        assert_eq!(deadlines.idle_deadline(None, Some(Millis(0)), Millis(0)), Millis(30 * MINUTE));
    }
}
