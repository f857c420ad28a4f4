//! Stores in another library's layout: a key, a value, and the time of the last use.
//!
//! Such a store holds no version. A session's version is a digest of its value, and every change compares the whole value. So
//! concurrent changes of our own processes lose nothing. The other library's programs overwrite without a comparison.

use std::future::Future;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::{Capabilities, Collected, Created, Cursor, Listed, Page, Provider, Renamed, Touched, Updated};
use crate::clock::Millis;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

/// The values of a store. Each method is one atomic step, as the contract of [`Provider`] requires.
///
/// A value is alive until its deadline. An expired value is absent for every method.
pub(crate) trait Values: Send + Sync + 'static {
    /// Returns the capabilities of the store. The layout removes some of them.
    fn capabilities(&self) -> Capabilities;

    /// Returns the value under `key` with its times.
    fn read(&self, key: &StoreKey) -> impl Future<Output = Result<Option<FoundValue>>> + Send;

    /// Stores `value` only if the key is free.
    fn insert(
        &self,
        key: &StoreKey,
        value: &[u8],
        life: Life,
    ) -> impl Future<Output = Result<Created>> + Send;

    /// Replaces the value only if it equals `former`.
    fn swap(
        &self,
        key: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> impl Future<Output = Result<Updated>> + Send;

    /// Moves the last use forward to `used`. The value then lives for the store's lifetime from that time on.
    fn touch(&self, key: &StoreKey, used: Millis) -> impl Future<Output = Result<Touched>> + Send;

    /// Moves the value only if it equals `former` and the key `new` is free.
    fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> impl Future<Output = Result<Renamed>> + Send;

    /// Removes the value. Returns false if there was none.
    fn remove(&self, key: &StoreKey) -> impl Future<Output = Result<bool>> + Send;

    /// Moves the unreadable `value` to another key, which keeps it, unless it has changed meanwhile.
    fn put_aside(&self, key: &StoreKey, value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Returns the number of values.
    fn count(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Removes at most `limit` expired values.
    fn remove_expired(&self, limit: usize) -> impl Future<Output = Result<Collected>> + Send;

    /// Returns some keys with their last use, and the cursor of the next ones. Values may be empty.
    #[expect(clippy::type_complexity, reason = "a page and where the next begins")]
    fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<(StoreKey, FoundValue)>, Option<Cursor>)>> + Send;
}

/// A value that is alive.
#[derive(Clone, Debug)]
pub(crate) struct FoundValue {
    pub(crate) value: Vec<u8>,
    pub(crate) life: Life,
}

/// The time of a value's last use, and its deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) used: Millis,
    pub(crate) deadline: Millis,
}

impl Life {
    fn of(record: &Record) -> Self {
        let times = record.times();
        Life { used: times.last_active, deadline: times.deadline() }
    }
}

/// A provider of sessions on `values`, in the layout of another library.
#[derive(Clone, Debug)]
pub(crate) struct Foreign<V> {
    values: V,
    codec: Codec,
    /// The value of a session without keys.
    empty: &'static [u8],
}

impl<V: Values> Foreign<V> {
    /// Returns a provider of sessions in Beego's layout.
    pub(crate) fn beego(values: V) -> Self {
        /// The output of Beego's `EncodeGob` for an empty map.
        const EMPTY: &[u8] = b"\x0d\x7f\x04\x01\x02\xff\x80\x00\x01\x10\x01\x10\x00\x00\x04\xff\x80\x00\x00";
        Foreign { values, codec: Codec::GOB, empty: EMPTY }
    }

    /// Returns the session in a value. Its creation is taken to be its last use, since the layout does not keep it.
    fn record(&self, found: &FoundValue) -> Result<Record> {
        let Life { used, deadline } = found.life;
        Record::of_value(self.codec, &found.value, version(&found.value), used, deadline)
    }

    /// Returns the value that stores `record`. A part of the record that the layout cannot hold is an error.
    fn value<'a>(&self, record: &'a Record) -> Result<&'a [u8]> {
        let meta = record.meta();
        let homeless = if meta.principal.is_some() {
            Some("a user: keep the name under a key, and call regenerate at a login")
        } else if meta.lifetime.is_some() || meta.ends_by.is_some() {
            Some("a lifetime of the session's own")
        } else if meta.level.is_some() || meta.device.is_some() {
            Some("a level or a device")
        } else if !meta.labels.is_empty() {
            Some("a label")
        } else if meta.times.absolute_deadline != Millis::NEVER {
            Some("an absolute timeout")
        } else if record.codec() != self.codec {
            Some("another encoding than its own")
        } else {
            None
        };
        match (homeless, record.data()) {
            (Some(what), _) => Err(Error::new(ErrorKind::Unsupported, ForeignError::Homeless { what })),
            (None, b"") => Ok(self.empty),
            (None, data) => Ok(data),
        }
    }

    /// Looks for the value under `key` at version `expected`.
    async fn expect(&self, key: &StoreKey, expected: u64) -> Result<Expected> {
        Ok(match self.values.read(key).await? {
            None => Expected::Gone,
            Some(found) if version(&found.value) != expected => Expected::Other,
            Some(found) => Expected::There(found),
        })
    }
}

/// The value under a key, compared with the version that the caller has seen.
///
/// A change needs the whole value for its comparison in the store, and the engine knows only its digest. So each change reads first. The
/// store compares the value that was read, so a change in between is noticed.
enum Expected {
    There(FoundValue),
    Other,
    Gone,
}

/// Returns the version of a value. The engine compares it. The stores compare whole values, so two values with one version do no harm.
fn version(value: &[u8]) -> u64 {
    Sha256::digest(value).first_chunk().map_or(0, |start| u64::from_be_bytes(*start))
}

#[deny(clippy::missing_trait_methods)]
impl<V: Values> Provider for Foreign<V> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            persistent: true,
            tombstones: false,
            users: false,
            labels: false,
            codec: Some(self.codec),
            ..self.values.capabilities()
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.values.insert(key, self.value(record)?, Life::of(record)).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let Some(found) = self.values.read(key).await? else { return Ok(None) };
        match self.record(&found) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // The visitor begins a new session, and an operator can inspect the value.
                self.values.put_aside(key, &found.value).await?;
                Err(error)
            }
            answer => answer.map(Some),
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        if record.is_tombstone() {
            let what = "a mark in the place of a session that has ended";
            return Err(Error::new(ErrorKind::Unsupported, ForeignError::Homeless { what }));
        }
        let value = self.value(record)?;
        match self.expect(key, base.version()).await? {
            Expected::There(found) => self.values.swap(key, &found.value, value, Life::of(record)).await,
            Expected::Other => Ok(Updated::Stale),
            Expected::Gone => Ok(Updated::Gone),
        }
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        self.values.touch(key, at.into()).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        if tombstone.is_some() {
            let what = "a mark in the place of an id that was replaced";
            return Err(Error::new(ErrorKind::Unsupported, ForeignError::Homeless { what }));
        }
        let value = self.value(record)?;
        match self.expect(old, expected).await? {
            Expected::There(found) => {
                self.values.rename(old, new, &found.value, value, Life::of(record)).await
            }
            Expected::Other => Ok(Renamed::Stale),
            Expected::Gone => Ok(Renamed::Gone),
        }
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.values.remove(key).await
    }

    async fn count(&self) -> Result<u64> {
        self.values.count().await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.values.remove_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let (found, next) = self.values.scan(cursor, limit).await?;
        let listed = |(key, found): (StoreKey, FoundValue)| {
            let Life { used, deadline } = found.life;
            let record = Record::of_value(self.codec, b"", version(&found.value), used, deadline)?;
            Ok(Listed { key, meta: record.meta() })
        };
        Ok(Page { entries: found.into_iter().map(listed).collect::<Result<_>>()?, next })
    }

    async fn indexed(&self, _: &IndexEntry, _: Option<Cursor>, _: usize) -> Result<Page> {
        Err(Error::new(ErrorKind::Unsupported, ForeignError::Index))
    }
}

#[derive(Debug, thiserror::Error)]
enum ForeignError {
    #[error("this format has no place for {what}; move to native records to have one")]
    Homeless { what: &'static str },
    #[error("this format keeps neither users nor labels; move to native records to list sessions by them")]
    Index,
}
