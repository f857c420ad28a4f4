//! The store: tower-sessions' four methods on a provider, without tower-sessions' types.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloakroom::config::Codec;
use cloakroom::providers::{AnyProvider, Capabilities, Created, Record, StoreKey, Updated};
use cloakroom::{Clock, Error, ErrorKind, Principal, Provider, SessionId};
use serde_json::Value;

use crate::axum_login;
use crate::base::{Base, stored, values_of};
use crate::error::{Reason, Result};
use crate::requests::{Data, Ended, Fingerprint, Loads, Seen, digest};

/// The deadline of a call of the provider, as a manager of cloakroom has it.
const DEADLINE: Duration = Duration::from_secs(2);
/// The largest data of a session, as a manager of cloakroom has it.
const MAX_BYTES: usize = 64 * 1024;
/// The time for which the id of an ended session stays taken: longer than nearly every request.
const TOMBSTONE: Duration = Duration::from_secs(600);
/// The number of tries when others change the same session.
const TRIES: u32 = 16;
/// The number of expired records that one step removes.
const PAGE: usize = 1000;

/// Returns the user whom the values of a session name.
type PrincipalOf = dyn Fn(&Data) -> Option<Principal> + Send + Sync;

/// A `SessionStore` for tower-sessions on any provider of cloakroom.
///
/// A clone is a handle on the same store. The [crate's page](crate) says what it promises.
///
/// ```
/// use cloakroom::MemoryProvider;
/// use cloakroom_tower_sessions::CloakroomStore;
/// use tower_sessions::SessionManagerLayer;
///
/// let layer = SessionManagerLayer::new(CloakroomStore::new(MemoryProvider::new()));
/// ```
#[derive(Clone)]
pub struct CloakroomStore {
    provider: AnyProvider,
    namespace: Arc<str>,
    deadline: Duration,
    max_bytes: usize,
    principal_of: Arc<PrincipalOf>,
    loads: Loads,
    ended: Ended,
}

impl CloakroomStore {
    /// Returns a store that keeps its sessions in `provider`.
    ///
    /// The provider must keep records and tombstones. [`check`](Self::check) says whether it does; each call fails if it does not.
    pub fn new(provider: impl Provider) -> Self {
        CloakroomStore {
            provider: AnyProvider::new(provider),
            namespace: "".into(),
            deadline: DEADLINE,
            max_bytes: MAX_BYTES,
            principal_of: Arc::new(axum_login::principal),
            loads: Loads::new(),
            ended: Ended::default(),
        }
    }

    /// Sets the namespace, so that several applications can share one provider. The default is the empty text.
    ///
    /// It is part of every key: see [`StoreKey::derive`].
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl AsRef<str>) -> Self {
        self.namespace = namespace.as_ref().into();
        self
    }

    /// Sets the time within which the provider must answer each call. The default is 2 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the largest data of a session in bytes, as it is stored. The default is 65,536.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how the user of a session is found in its values. The default finds the user of axum-login, under the key
    /// `axum-login.data`, if the user's id is a text or an integer.
    ///
    /// cloakroom lists and ends the sessions of a user by this [`Principal`].
    ///
    /// ```
    /// use cloakroom::{MemoryProvider, Principal};
    /// use cloakroom_tower_sessions::CloakroomStore;
    ///
    /// let store = CloakroomStore::new(MemoryProvider::new())
    ///     .with_principal(|values| Principal::new(values.get("user")?.as_str()?).ok());
    /// ```
    #[must_use]
    pub fn with_principal<F>(mut self, principal_of: F) -> Self
    where
        F: Fn(&std::collections::HashMap<String, Value>) -> Option<Principal> + Send + Sync + 'static,
    {
        self.principal_of = Arc::new(principal_of);
        self
    }

    /// Checks that the provider can keep these sessions: it stores records in a format of cloakroom, ends them from the server's side,
    /// and holds tombstones.
    ///
    /// ```
    /// use cloakroom::seal::SealKey;
    /// use cloakroom::{CookieProvider, ErrorKind, KeyRing, MemoryProvider};
    /// use cloakroom_tower_sessions::CloakroomStore;
    ///
    /// CloakroomStore::new(MemoryProvider::new()).check()?;
    ///
    /// let in_cookies = CookieProvider::new(KeyRing::new(SealKey::generate()?));
    /// let error = CloakroomStore::new(in_cookies).check().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the provider cannot.
    pub fn check(&self) -> cloakroom::Result<()> {
        let capabilities = self.provider.capabilities();
        let Capabilities { name, revocable, tombstones, codec, .. } = capabilities;
        let readable = codec.is_none_or(|codec| codec == Codec::MESSAGE_PACK);
        if revocable && tombstones && readable && !capabilities.token_is_record() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, Unfit { name }))
    }

    pub(crate) async fn load_session(&self, id: &SessionId) -> Result<Option<(Data, SystemTime)>> {
        let key = self.key(id)?;
        let Some(record) = self.live(&key).await? else { return Ok(None) };
        let (mut data, _) = values_of(&record)?;
        let base = Base::of(&key, &record, digest(&data, &data));
        base.put_into(&mut data);
        self.loads.remember(Fingerprint::of(&data), base.seen);
        Ok(Some((data, record.expires())))
    }

    pub(crate) async fn save_session(&self, id: &SessionId, data: &Data, ends: SystemTime) -> Result<()> {
        let key = self.key(id)?;
        let request = Fingerprint::of(data);
        let base = Base::read(data);
        let seen = match &base {
            // The data of one session does not replace those of another.
            Some(base) if base.key != key => return Err(Reason::Changed),
            Some(base) => Some(base.seen),
            None => self.loads.seen_by(request),
        };
        if let Some(base) = &base {
            // In nearly every case nobody was faster, and this is the only call of the provider.
            let next = self.record(base, data, request, ends)?;
            match self.within(self.provider.update(&key, &next, &base.stand_in()?)).await? {
                Updated::Done => return Ok(()),
                Updated::Gone => return Err(Reason::Ended),
                Updated::Stale => {}
            }
        }
        for _ in 0..TRIES {
            let Some(current) = self.live(&key).await? else { return Err(Reason::Ended) };
            let next = self.next(&key, &current, data, seen, ends)?;
            match self.within(self.provider.update(&key, &next, &current)).await? {
                Updated::Done => return Ok(()),
                Updated::Gone => return Err(Reason::Ended),
                Updated::Stale => {}
            }
        }
        Err(Reason::Changed)
    }

    /// Returns the record that a save makes of `current`, if the request may replace it.
    fn next(
        &self,
        key: &StoreKey,
        current: &Record,
        data: &Data,
        seen: Option<Seen>,
        ends: SystemTime,
    ) -> Result<Record> {
        let request = Fingerprint::of(data);
        let (values, writer) = values_of(current)?;
        let base = Base::of(key, current, digest(data, &values));
        if is_own(&base, writer, request, seen) {
            return self.record(&base, data, request, ends);
        }
        // A request that changed nothing but the expiry keeps the newer values.
        let unchanged = seen.is_some_and(|seen| seen.digest == digest(data, data));
        if !unchanged {
            return Err(Reason::Changed);
        }
        self.record(&base, &values, writer.unwrap_or(request), ends)
    }

    /// Returns the record that follows `base`.
    fn record(&self, base: &Base, values: &Data, writer: Fingerprint, ends: SystemTime) -> Result<Record> {
        let meta = base.next((self.principal_of)(values), Clock::system().now(), ends);
        Ok(Record::encode(&meta, &stored(values, &Value::from(writer.0)), self.max_bytes)?)
    }

    /// Begins the creation of a session. [`Creation::store`] finishes it.
    ///
    /// Data with the version of another id comes from `cycle_id`, which has deleted the session under that id before. The new session is
    /// refused unless exactly that state was deleted, once: else it would revive a session that a logout has ended meanwhile, or lose
    /// what another request has saved.
    pub(crate) fn begin_session(&self, data: &Data, ends: SystemTime) -> Result<Creation<'_>> {
        let request = Fingerprint::of(data);
        let now = Clock::system().now();
        let meta = match Base::read(data) {
            None => {
                let meta = cloakroom::providers::Meta::begin(now, ends);
                match (self.principal_of)(data) {
                    Some(principal) => meta.with_principal(principal, now),
                    None => meta,
                }
            }
            Some(base) => {
                let last = self.ended.take(&base.key).ok_or(Reason::Ended)?;
                let (values, writer) = values_of(&last)?;
                let last = Base::of(&base.key, &last, digest(data, &values));
                if !is_own(&last, writer, request, Some(base.seen)) {
                    return Err(Reason::Changed);
                }
                last.next((self.principal_of)(data), now, ends)
            }
        };
        let record = Record::encode(&meta, &stored(data, &Value::from(request.0)), self.max_bytes)?;
        Ok(Creation { store: self, record, tries: 0 })
    }

    pub(crate) async fn end_session(&self, id: &SessionId) -> Result<()> {
        let key = self.key(id)?;
        self.ended.begin(&key);
        for _ in 0..TRIES {
            let current = match self.live(&key).await {
                Ok(Some(current)) => current,
                Ok(None) => return Ok(()),
                // A session that cannot be read must end all the same.
                Err(Reason::Store(error)) if error.kind() == ErrorKind::Corrupt => break,
                Err(reason) => return Err(reason),
            };
            let now = Clock::system().now();
            let tombstone = current.ended(now, now + TOMBSTONE);
            match self.within(self.provider.update(&key, &tombstone, &current)).await {
                Ok(Updated::Done) => {
                    self.ended.found(&key, current);
                    return Ok(());
                }
                Ok(Updated::Gone) => return Ok(()),
                Ok(Updated::Stale) => {}
                // A store that takes no tombstone, such as one on a full disk, may still delete.
                Err(_) => break,
            }
        }
        self.within(self.provider.delete(&key)).await?;
        Ok(())
    }

    pub(crate) async fn collect(&self) -> Result<()> {
        self.check()?;
        while self.within(self.provider.delete_expired(PAGE)).await?.more {}
        Ok(())
    }

    /// Returns the live session under `key`.
    async fn live(&self, key: &StoreKey) -> Result<Option<Record>> {
        let record = self.within(self.provider.load(key)).await?;
        Ok(record.filter(|record| !record.is_tombstone()))
    }

    fn key(&self, id: &SessionId) -> Result<StoreKey> {
        self.check()?;
        Ok(StoreKey::derive(&self.namespace, id))
    }

    async fn within<T>(&self, call: impl Future<Output = cloakroom::Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Reason::Late { limit: self.deadline }),
        }
    }
}

/// Returns true if the request has seen this state of the session: it loaded it or stored it, or only the expiry has changed since.
/// A request that has seen none began with a `clear`, and replaces any.
fn is_own(present: &Base, writer: Option<Fingerprint>, request: Fingerprint, seen: Option<Seen>) -> bool {
    let Some(seen) = seen else { return true };
    present.seen.version == seen.version || present.seen.digest == seen.digest || writer == Some(request)
}

/// A session about to be created.
pub(crate) struct Creation<'a> {
    store: &'a CloakroomStore,
    record: Record,
    tries: u32,
}

impl Creation<'_> {
    /// Stores the session under `id`, and notes it in `data`. Returns false if the id is taken.
    pub(crate) async fn store(&mut self, id: &SessionId, data: &mut Data) -> Result<bool> {
        let (store, record) = (self.store, &self.record);
        let key = store.key(id)?;
        match store.within(store.provider.create(&key, record)).await? {
            Created::Done => {
                let base = Base::of(&key, record, digest(data, data));
                base.put_into(data);
                store.loads.remember(Fingerprint::of(data), base.seen);
                Ok(true)
            }
            Created::Taken => {
                self.tries += 1;
                if self.tries == TRIES { Err(Reason::NoFreeId { tries: TRIES }) } else { Ok(false) }
            }
        }
    }
}

impl fmt::Debug for CloakroomStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloakroomStore")
            .field("provider", &self.provider.capabilities().name)
            .field("namespace", &self.namespace)
            .field("deadline", &self.deadline)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a provider that stores records and tombstones in cloakroom's format, found \"{name}\"; use one of memory, file, redis, \
     sqlite, mysql and postgres, not in another library's format"
)]
struct Unfit {
    name: &'static str,
}
