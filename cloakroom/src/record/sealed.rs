//! The sealed form of a record. Its data can be neither read nor forged nor moved to another key. The store can still read the metadata.

use std::sync::Arc;

use super::Record;
use super::header::HeaderMut;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RandomSource, StoreKey};
use crate::seal::{Context, KeyRing, Unopened};

/// The version of what a sealed record is bound to.
const VERSION: u8 = 1;

impl Record {
    /// Returns this record with its data sealed. It opens only under `key` of `namespace`.
    pub(crate) fn seal(
        &self,
        ring: &KeyRing,
        namespace: &str,
        key: &StoreKey,
        random: RandomSource,
    ) -> Result<Record> {
        let mut head = self.head().to_vec();
        HeaderMut(&mut head).set_sealed(true);
        let data = ring.seal(&context(namespace, key, &head), self.data(), random)?;
        Ok(Record::of_parts(head, &data))
    }

    /// Returns the record that was sealed for `key` of `namespace`.
    pub(crate) fn unseal(
        &self,
        ring: &KeyRing,
        namespace: &str,
        key: &StoreKey,
    ) -> Result<Result<Record>, Unopened> {
        let mut head = self.head().to_vec();
        let data = ring.open(&context(namespace, key, &head), self.data())?;
        HeaderMut(&mut head).set_sealed(false);
        let record = Record::of_parts(head, &data);
        Ok(record.check_data().map(|()| record))
    }

    /// Returns the header and the fields.
    fn head(&self) -> &[u8] {
        &self.0[..self.0.len() - self.data().len()]
    }

    fn of_parts(mut head: Vec<u8>, data: &[u8]) -> Record {
        HeaderMut(&mut head).set_data_len(data.len());
        head.extend_from_slice(data);
        Record(Arc::from(head))
    }
}

/// Returns the context that the data is bound to: the key, the namespace and the metadata. The two times that a touch rewrites are left out,
/// since a touch does not seal.
fn context(namespace: &str, key: &StoreKey, head: &[u8]) -> Context {
    let mut bound = head.to_vec();
    let mut header = HeaderMut(&mut bound);
    header.set_last_active(Millis(0));
    header.set_idle_deadline(Millis(0));
    header.set_data_len(0);
    Context::new("record", VERSION).with(namespace.as_bytes()).with(key.as_bytes()).with(&bound)
}

/// Returns the error of a record that names a key of the ring and does not open.
pub(crate) fn forged() -> Error {
    Error::new(ErrorKind::Corrupt, Forged)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "a sealed record is not what its key has sealed for this place: the store was changed by others, or its records were moved"
)]
struct Forged;
