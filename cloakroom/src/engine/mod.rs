//! The parts that a manager and its sessions share.
//!
//! Each file has one type, built from the types it uses. `life.rs` looks up a request's session with them.

mod admission;
mod collection;
mod deadlines;
mod form_cookie;
mod ids;
mod life;
mod locks;
#[cfg(feature = "beego")]
mod migration;
mod plain_http;
mod plain_ids;
mod presented;
mod records;
mod responses;
mod revocation;
mod stored;
mod succession;
mod tombstones;
mod user_limit;
mod users;
mod within;

use std::sync::Arc;

use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::event::Events;
use crate::id::{IdMaker, Keying};
use crate::provider::{AnyProvider, Provider, SealedTokens};

pub use admission::Visit;
pub(crate) use admission::{Admission, AdmitCallback};
pub(crate) use collection::Collection;
pub(crate) use deadlines::Deadlines;
pub(crate) use form_cookie::{FormCookie, FormSecret, SECRET_LEN};
pub(crate) use ids::{COLLISIONS, Candidates, Ids, repeats_itself};
pub(crate) use life::{Found, Reached};
pub(crate) use locks::KeyedLocks;
#[cfg(feature = "beego")]
pub(crate) use migration::Migration;
pub(crate) use plain_http::is_plain;
pub(crate) use plain_ids::PlainIds;
pub(crate) use presented::{Presented, RequestReader};
pub(crate) use records::Records;
pub(crate) use responses::Responses;
pub(crate) use revocation::Revocation;
pub(crate) use stored::{By, Stored};
pub(crate) use succession::{Former, Login};
pub(crate) use tombstones::Tombstones;
pub(crate) use user_limit::UserLimit;
pub(crate) use users::UserSessions;
pub(crate) use within::within;

/// The parts of one manager.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) events: Arc<Events>,
    pub(crate) provider: AnyProvider,
    /// The store whose sessions are moved to `provider`.
    pub(crate) former: Option<AnyProvider>,
    // Parts without I/O.
    pub(crate) ids: Arc<Ids>,
    pub(crate) requests: RequestReader,
    pub(crate) deadlines: Deadlines,
    pub(crate) tombstones: Tombstones,
    pub(crate) responses: Responses,
    pub(crate) form_cookie: FormCookie,
    pub(crate) collection: Collection,
    // Parts that call the provider.
    pub(crate) records: Arc<Records>,
    pub(crate) revocation: Arc<Revocation>,
    pub(crate) users: Arc<UserSessions>,
    pub(crate) user_limit: UserLimit,
    pub(crate) admission: Admission,
    pub(crate) plain_ids: PlainIds,
    #[cfg(feature = "beego")]
    pub(crate) migration: Migration,
    /// The locks of sessions. A commit takes one after its first version conflict, so that within a process there is no second.
    pub(crate) commits: KeyedLocks,
}

impl Engine {
    pub(crate) fn new(
        provider: AnyProvider,
        former: Option<AnyProvider>,
        config: Config,
        clock: Clock,
        maker: IdMaker,
        events: Events,
        guard: Option<AdmitCallback>,
    ) -> Self {
        let capabilities = provider.capabilities();
        let tokens = capabilities.sealed_tokens().cloned();
        let keying = keying(&config, capabilities.persistent, tokens.is_some());
        let in_clear = capabilities.persistent && !config.hash_ids && tokens.is_none();
        // Another library's layout has no room for a mark.
        let marks = in_clear && capabilities.codec.is_none();
        let namespace = marks.then(|| Keying::mark(config.namespace()));

        let events = Arc::new(events);
        let deadlines = Deadlines::new(&config, tokens.as_ref().and_then(SealedTokens::max_age));
        let tombstones = Tombstones::new(keying.clone(), deadlines, capabilities.tombstones);
        let ids = Arc::new(Ids::new(maker, keying, tokens.clone(), namespace, &config.cookie.name));
        let records = Arc::new(Records::new(provider.clone(), Arc::clone(&ids), Arc::clone(&events)));
        let revocation = Arc::new(Revocation::new(
            provider.clone(),
            Arc::clone(&records),
            Arc::clone(&ids),
            tombstones.clone(),
            Arc::clone(&events),
            clock.clone(),
        ));
        let users = Arc::new(UserSessions::new(provider.clone(), Arc::clone(&revocation), config.deadline));
        Engine {
            requests: RequestReader::new(config.id_header.clone(), guard.is_some()),
            responses: Responses::new(&config, tokens, clock.clone()),
            form_cookie: FormCookie::beside(&config.cookie),
            collection: Collection::new(clock.clone(), config.gc_interval, capabilities.native_expiry),
            user_limit: UserLimit::new(&config, Arc::clone(&users), Arc::clone(&revocation)),
            admission: Admission::new(
                guard,
                config.session_quota,
                provider.clone(),
                clock.clone(),
                config.deadline,
            ),
            plain_ids: PlainIds::new(
                config.plain_ids_until,
                provider.clone(),
                Arc::clone(&records),
                Arc::clone(&ids),
                clock.clone(),
            ),
            #[cfg(feature = "beego")]
            migration: Migration::new(
                former.clone(),
                provider.clone(),
                Arc::clone(&ids),
                deadlines,
                tombstones.clone(),
                Arc::clone(&revocation),
                Arc::clone(&events),
                clock.clone(),
                &config,
            ),
            commits: KeyedLocks::new(),
            deadlines,
            tombstones,
            ids,
            records,
            revocation,
            users,
            provider,
            former,
            config,
            clock,
            events,
        }
    }

    /// Returns the time now.
    pub(crate) fn now(&self) -> Millis {
        self.clock.millis()
    }
}

/// Returns how ids become keys. `are_records` is true if a token is its record, so that its id leads to nothing in the store.
fn keying(config: &Config, persistent: bool, are_records: bool) -> Keying {
    if !persistent && !are_records {
        Keying::tagged(config.namespace())
    } else if config.hash_ids && !are_records {
        Keying::hashed(config.namespace())
    } else {
        Keying::Clear
    }
}
