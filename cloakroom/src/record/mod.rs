//! One stored session: what a provider keeps, and when it ends.

mod format;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Millis;
use crate::codec::Codec;
use crate::id::StoreKey;
use crate::principal::Principal;

/// One stored session: its data as one encoded map, and beside it what the store has to know.
///
/// A provider keeps it as it is, or as [`to_bytes`](Self::to_bytes) in the native format (`docs/format.md`), and gives
/// the same back. A clone shares the data. `Debug` shows no data.
#[derive(Clone, PartialEq)]
pub struct Record {
    pub(crate) meta: Meta,
    pub(crate) codec: Codec,
    pub(crate) data: Arc<[u8]>,
    /// Set on a tombstone: where the session went when its id was replaced.
    pub(crate) successor: Option<Box<Successor>>,
}

/// What stands beside a session's data: versions, times and the user.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub(crate) version: u64,
    pub(crate) created: Millis,
    /// When the present id was issued.
    pub(crate) issued: Millis,
    pub(crate) last_active: Millis,
    pub(crate) idle_deadline: Millis,
    pub(crate) absolute_deadline: Millis,
    pub(crate) authenticated: Option<Millis>,
    pub(crate) principal: Option<Principal>,
}

/// Where a rotated session went, and until when the old id still leads there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Successor {
    pub(crate) key: StoreKey,
    pub(crate) until: Millis,
}

impl Record {
    /// What stands beside the data.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The encoded map of the session's keys and values.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Whether this is no session but the mark that one was here: an id that routine rotation has replaced.
    ///
    /// Providers store and load tombstones like any record; [`count`](crate::Provider::count), [`scan`](crate::Provider::scan)
    /// and [`of_principal`](crate::Provider::of_principal) leave them out, and nothing but deletion and expiry changes them.
    pub fn is_tombstone(&self) -> bool {
        self.successor.is_some()
    }

    /// Notes a use: [`Meta::touch`] for a provider that keeps whole records.
    pub fn touch(&mut self, at: SystemTime, deadline: SystemTime) {
        self.meta.touch(at, deadline);
    }

    /// The tombstone that leads from a rotated id to `successor` until `until`, and is remembered until `forgotten`.
    pub(crate) fn tombstone(of: &Meta, successor: Successor, forgotten: Millis, codec: Codec) -> Record {
        let meta = Meta { idle_deadline: forgotten.min(of.absolute_deadline), principal: None, ..of.clone() };
        Record { meta, codec, data: Arc::default(), successor: Some(Box::new(successor)) }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("meta", &self.meta)
            .field("bytes", &self.data.len())
            .field("tombstone", &self.is_tombstone())
            .finish_non_exhaustive()
    }
}

impl Meta {
    /// The number that every change raises; a provider compares it and swaps.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When the session began.
    pub fn created(&self) -> SystemTime {
        self.created.into()
    }

    /// When the session was last used, to within the touch interval.
    pub fn last_active(&self) -> SystemTime {
        self.last_active.into()
    }

    /// When the session ends if nobody uses it, or at the latest; from this instant on it is expired.
    pub fn expires(&self) -> SystemTime {
        self.deadline().into()
    }

    /// When the session ends however much it is used; `None` where the policy sets no such time.
    pub fn absolute_deadline(&self) -> Option<SystemTime> {
        (self.absolute_deadline != Millis::NEVER).then(|| self.absolute_deadline.into())
    }

    /// When the user last proved who they are; `None` for an anonymous session.
    pub fn authenticated(&self) -> Option<SystemTime> {
        self.authenticated.map(SystemTime::from)
    }

    /// The user the session belongs to; `None` for an anonymous session.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Whether the session has ended by `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expired_at(Millis::from(now))
    }

    /// Notes a use at `at` and moves the idle deadline to `deadline`, though never past the absolute one.
    ///
    /// What a provider that keeps whole records does for [`touch`](crate::Provider::touch).
    pub fn touch(&mut self, at: SystemTime, deadline: SystemTime) {
        self.last_active = at.into();
        self.idle_deadline = Millis::from(deadline).min(self.absolute_deadline);
    }

    pub(crate) fn deadline(&self) -> Millis {
        self.idle_deadline.min(self.absolute_deadline)
    }

    pub(crate) fn expired_at(&self, now: Millis) -> bool {
        self.deadline() <= now
    }
}
