//! The parts that a manager and its sessions share.
//!
//! Each file has one type, built from the types it uses. The module `request` decides with them what a request does.
//!
//! | part | files |
//! |---|---|
//! | ids and what a request presents | `ids.rs`, `presented.rs`, `plain_ids.rs` |
//! | the store | `storage.rs`, `records.rs`, `stored.rs`, `within.rs` |
//! | the end of sessions | `deadlines.rs`, `tombstones.rs`, `revocation.rs`, `succession.rs`, `collection.rs` |
//! | users and limits | `users.rs`, `user_limit.rs`, `admission.rs`, `locks.rs` |
//! | responses | `responses.rs`, `form_cookie.rs`, `plain_http.rs` |
//! | another library's sessions | `migration.rs` |
//!
//! # The promise of each part
//!
//! | type | promise |
//! |---|---|
//! | [`Ids`] | an id is made here or has the form of one, before the store is asked; a request causes at most [`Candidates::MOST`] lookups |
//! | [`Records`] | a record that this build cannot read is an error, never an absent session |
//! | [`Deadlines`] | every deadline is computed here, so that times which depend on each other cannot disagree |
//! | [`Tombstones`] | where keys are hashes, the store learns neither the old id nor the new one, which is masked with the old |
//! | [`Revocation`] | a session ends if the store can do anything at all: a tombstone, else a delete |
//! | [`UserSessions`] | "log out everywhere" ends each session that exists when it begins, also one that gets a new id meanwhile |
//! | [`UserLimit`] | once the logins of a user have ended, the user has no more sessions than allowed, across processes |
//! | [`Admission`] | a flood of first visits has each process count the store at most once a second |
//! | [`Responses`] | at most one `Set-Cookie` for the session, and `Cache-Control: no-store` beside it |
//! | [`Collection`], [`PlainHttpWatch`](plain_http::PlainHttpWatch) | one warning for each manager, not one for each request |
//!
//! # Deadlines that follow from others
//!
//! | time | kept for | because |
//! |---|---|---|
//! | tombstone of an id that ended or was replaced | `longest_request` | no request that began before lasts longer |
//! | tombstone of a rotated id | the grace, then `longest_request` or the idle timeout, the longer | a thief who presents the id is noticed |
//! | claim on a session that was moved from another store | the last deadline that the session had there, then as above | a copy that is left there must not bring it back |
//! | least time between two writes of the last use | a twentieth of the shortest of idle timeout and cookie lifetime, at most a minute | a use must be written well before what it renews ends |
//!
//! # Locks
//!
//! Two sets of locks keep tasks of one process from conflicting in the store: `commits` by session, and one by user in [`UserLimit`]. A
//! login may hold one of each, and takes the session's first. No lock is needed for a promise: other processes do not share it, and
//! the store compares versions. Each wait for a lock counts against the deadline of its request.

mod admission;
mod collection;
mod deadlines;
mod form_cookie;
mod ids;
mod locks;
mod migration;
mod plain_http;
mod plain_ids;
mod presented;
mod records;
mod responses;
mod revocation;
mod storage;
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
use crate::migration::MigrationSource;
use crate::provider::{AnyProvider, Capabilities, Provider, SealedTokens};

pub(crate) use admission::{Admission, AdmitCallback};
pub(crate) use collection::Collection;
pub(crate) use deadlines::Deadlines;
pub(crate) use form_cookie::{FormCookie, FormSecret, SECRET_LEN, form_secret_from_text, form_secret_text};
pub(crate) use ids::{COLLISIONS, Candidates, Ids, repeats_itself};
pub(crate) use locks::KeyedLocks;
pub(crate) use migration::{Migration, MoveOutcome};
pub(crate) use plain_http::is_plain;
pub(crate) use plain_ids::PlainIds;
pub(crate) use presented::{Presented, RequestReader};
pub(crate) use records::{LoadedAtOnce, Records};
pub(crate) use responses::Responses;
pub(crate) use revocation::Revocation;
pub(crate) use storage::Storage;
pub(crate) use stored::{By, Stored};
pub(crate) use succession::{Former, Login};
pub(crate) use tombstones::{MOST_ROTATIONS, Tombstones};
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
    pub(crate) migration: Migration,
    /// The locks of sessions. A commit takes one after its first version conflict, so that within a process there is no second.
    pub(crate) commits: KeyedLocks,
}

impl Engine {
    pub(crate) fn new(
        provider: AnyProvider,
        former: Option<MigrationSource>,
        config: Config,
        clock: Clock,
        maker: IdMaker,
        events: Events,
        guard: Option<AdmitCallback>,
    ) -> Self {
        let capabilities = provider.capabilities();
        let tokens = capabilities.sealed_tokens().cloned();
        let (keying, namespace) = keying(&config, &capabilities);
        let deadlines = Deadlines::new(&config, tokens.as_ref().and_then(SealedTokens::max_age));
        let tombstones = Tombstones::new(keying.clone(), deadlines, capabilities.tombstones);
        let ids = Arc::new(Ids::new(maker, keying.clone(), tokens.clone(), namespace, &config.cookie.name));
        let storage = Storage { provider, clock, events: Arc::new(events) };
        let records = Arc::new(Records::new(storage.clone(), Arc::clone(&ids)));
        let revocation =
            Revocation::new(storage.clone(), Arc::clone(&records), Arc::clone(&ids), tombstones.clone());
        let revocation = Arc::new(revocation);
        let provider = storage.provider.clone();
        let users = Arc::new(UserSessions::new(provider.clone(), Arc::clone(&revocation), config.deadline));
        // A reader of another library's cookie gets a copy of the request's head.
        let has_reader = former.as_ref().is_some_and(|former| former.reader().is_some());
        Engine {
            requests: RequestReader::new(config.id_header.clone(), guard.is_some() || has_reader),
            responses: Responses::new(&config, tokens, storage.clock.clone()),
            form_cookie: FormCookie::beside(&config.cookie),
            collection: Collection::new(
                storage.clock.clone(),
                config.gc_interval,
                capabilities.native_expiry,
            ),
            user_limit: UserLimit::new(&config, Arc::clone(&users), Arc::clone(&revocation)),
            admission: Admission::new(guard, config.session_quota, storage.clone(), config.deadline),
            plain_ids: PlainIds::new(&config, storage.clone(), Arc::clone(&records), Arc::clone(&ids)),
            migration: Migration::new(
                former,
                storage.clone(),
                Arc::clone(&ids),
                keying,
                deadlines,
                tombstones.clone(),
                Arc::clone(&revocation),
                &config,
            ),
            commits: KeyedLocks::new(),
            provider,
            clock: storage.clock,
            events: storage.events,
            deadlines,
            tombstones,
            ids,
            records,
            revocation,
            users,
            config,
        }
    }

    /// Returns the time now.
    pub(crate) fn now(&self) -> Millis {
        self.clock.millis()
    }
}

/// Returns how ids become keys, and the mark of the namespace for the records if their keys do not contain it.
fn keying(config: &Config, provider: &Capabilities) -> (Keying, Option<[u8; 8]>) {
    let namespace = config.namespace();
    if provider.token_is_record() {
        // The id leads to nothing in the store.
        (Keying::Clear, None)
    } else if !provider.persistent {
        (Keying::tagged(namespace), None)
    } else if config.hash_ids {
        (Keying::hashed(namespace), None)
    } else {
        // Another library's layout has no room for a mark.
        let marks = provider.codec.is_none();
        (Keying::Clear, marks.then(|| Keying::mark(namespace)))
    }
}
