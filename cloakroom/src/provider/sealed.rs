//! A provider whose records are sealed before they reach the store.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use super::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::{RandomSource, StoreKey, system_random};
use crate::record::{IndexEntry, Meta, Record, Sealing, forged};
use crate::seal::{self, KeyRing, Unopened};

/// The number of sessions up to which a count looks at each of them.
const COUNTED_EXACTLY: u64 = 10_000;

/// The number of sessions of one page of that count.
const PAGE: usize = 1000;

/// Any provider, with the data of its records sealed. [`ManagerBuilder::seal`](crate::ManagerBuilder::seal) puts it in front of the
/// manager's provider.
///
/// A reader of the store sees who has sessions and when they were used, and none of the data. A writer can neither make a session,
/// nor change one, nor put one under another key: the data is bound to its key, the namespace, its version, its user, and all its
/// times but two. A writer can still do this:
///
/// - delete a session
/// - **put back an earlier state** of a session under its own key, even of one that has ended, since it was sealed for that place
/// - move a session's last use and its idle deadline, but not past the absolute one; so set an absolute timeout
/// - add entries to a user's list of sessions that no id reaches
///
/// A record that is not sealed, or that is sealed by a key outside the ring, counts as absent. It is neither loaded nor listed, and
/// does not count against its user's limit. `delete` removes it. In a store of more than 10,000 sessions, `count` includes such
/// records until they expire, since it would have to look at each. A record that was changed is
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
///
/// ```
/// use cloakroom::{KeyRing, MemoryProvider, Provider, providers::{Capabilities, SealedProvider}, seal::SealKey};
///
/// let ring = KeyRing::new(SealKey::generate()?);
/// let provider = SealedProvider::new(MemoryProvider::new(), ring, "shop");
/// assert_eq!(provider.capabilities().name, "memory");
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct SealedProvider {
    inner: AnyProvider,
    ring: KeyRing,
    namespace: Box<str>,
    /// The time until which unsealed records are accepted, and the clock that decides.
    unsealed_until: Option<(Millis, Clock)>,
    random: RandomSource,
}

impl SealedProvider {
    /// Returns `inner` with its records sealed by `ring`, for the manager whose namespace is `namespace`.
    ///
    /// A manager does this by itself with [`ManagerBuilder::seal`](crate::ManagerBuilder::seal). Programs that read a store without a manager
    /// call this. The chapter [sealing](crate::guide::sealing) describes the keys.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Clock, KeyRing, MemoryProvider, Provider, providers::SealedProvider, seal::SealKey, testkit};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let store = MemoryProvider::new();
    /// let sealed = SealedProvider::new(store.clone(), ring, "shop");
    /// let (key, record) = ("key-1".parse()?, testkit::record(&Clock::system()).value("card", "4711").build());
    /// let _ = sealed.create(&key, &record).await?;
    /// assert_eq!(sealed.load(&key).await?.unwrap().data(), record.data());
    /// assert_ne!(store.load(&key).await?.unwrap().data(), record.data(), "the store holds ciphertext");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn new(inner: impl Provider, ring: KeyRing, namespace: impl Into<Box<str>>) -> Self {
        SealedProvider {
            inner: AnyProvider::new(inner),
            ring,
            namespace: namespace.into(),
            unsealed_until: None,
            random: system_random,
        }
    }

    pub(crate) fn accept_unsealed_until(self, until: Option<Millis>, clock: Clock) -> Self {
        SealedProvider { unsealed_until: until.map(|until| (until, clock)), ..self }
    }

    pub(crate) fn random(self, random: RandomSource) -> Self {
        SealedProvider { random, ..self }
    }

    fn seal(&self, key: &StoreKey, record: &Record) -> Result<Record> {
        record.seal(&self.ring, &self.namespace, key, self.random)
    }

    fn open(&self, key: &StoreKey, record: Record) -> Result<Option<Record>> {
        if !record.is_sealed() {
            let accepted = self.accepts_unsealed();
            if !accepted {
                tracing::warn!("a stored session is not sealed, and is not taken for one");
            }
            return Ok(accepted.then_some(record));
        }
        if record.is_sealed_anew() {
            return self.pass_on(record);
        }
        match record.unseal(&self.ring, &self.namespace, key) {
            Ok(record) => record.map(Some),
            Err(Unopened::UnknownKey) => {
                tracing::warn!("a stored session was sealed by a key that the ring does not hold");
                Ok(None)
            }
            Err(Unopened::Forged) => Err(forged()),
        }
    }

    fn accepts_unsealed(&self) -> bool {
        self.unsealed_until.as_ref().is_some_and(|(until, clock)| clock.millis() < *until)
    }

    /// Returns true if the metadata allows to open the session. Loads, lists and the count share this definition.
    fn is_ours(&self, meta: &Meta) -> bool {
        match meta.sealing {
            Sealing::Open => self.accepts_unsealed(),
            Sealing::By(key) => self.ring.holds(&key),
        }
    }

    /// Returns the page without sessions that a load would not find.
    fn ours(&self, mut page: Page) -> Page {
        page.entries.retain(|listed| self.is_ours(&listed.meta));
        page
    }

    /// Counts the sessions of the store that cannot be opened. No process can change or move one, so a walk meets each of them.
    async fn count_foreign(&self) -> Result<u64> {
        let (mut foreign, mut cursor) = (HashSet::new(), None);
        loop {
            let page = self.inner.scan(cursor, PAGE).await?;
            let found = page.entries.into_iter().filter(|listed| !self.is_ours(&listed.meta));
            foreign.extend(found.map(|listed| listed.key));
            cursor = page.next;
            if cursor.is_none() {
                return Ok(foreign.len() as u64);
            }
        }
    }

    /// Returns a record that only a newer release can open. A session goes to the manager still sealed, to be refused or ended. A tombstone does
    /// not: its seal cannot be checked, and it might lead to another session.
    fn pass_on(&self, record: Record) -> Result<Option<Record>> {
        if !self.is_ours(&record.meta()) {
            return Ok(None);
        }
        if record.is_tombstone() { record.check_readable().map(|()| None) } else { Ok(Some(record)) }
    }
}

impl fmt::Debug for SealedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedProvider")
            .field("inner", &self.inner)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for SealedProvider {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.max_record = capabilities.max_record.map(|most| most.saturating_sub(seal::OVERHEAD));
        capabilities
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.inner.create(key, &self.seal(key, record)?).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        match self.inner.load(key).await? {
            Some(record) => self.open(key, record),
            None => Ok(None),
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        self.inner.update(key, &self.seal(key, record)?, base).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        self.inner.touch(key, at).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let record = self.seal(new, record)?;
        let tombstone = tombstone.map(|tombstone| self.seal(old, tombstone)).transpose()?;
        self.inner.rename(old, new, &record, expected, tombstone.as_ref()).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.inner.delete(key).await
    }

    async fn count(&self) -> Result<u64> {
        let all = self.inner.count().await?;
        if all == 0 || all > COUNTED_EXACTLY {
            return Ok(all);
        }
        Ok(all.saturating_sub(self.count_foreign().await?))
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.inner.delete_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.inner.scan(cursor, limit).await.map(|page| self.ours(page))
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.inner.indexed(entry, cursor, limit).await.map(|page| self.ours(page))
    }
}
