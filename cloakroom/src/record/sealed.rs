//! The sealed form of a record. Its data can be neither read nor forged nor moved to another key. The store can still read the metadata.

use std::sync::Arc;

use super::format::{AT_ABSOLUTE_DEADLINE, AT_CODEC, AT_DATA_LEN, AT_LAST_ACTIVE, HEADER, SEALED};
use super::{Record, Sealing};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RandomSource, StoreKey};
use crate::seal::{Context, KeyRing, Unopened};

/// The version of what a sealed record is bound to.
const VERSION: u8 = 1;

impl Record {
    /// Returns true if the data is sealed. [`data`](Self::data) is then no map.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.0[AT_CODEC] & SEALED != 0
    }

    /// Returns this record with its data sealed. It opens only under `key` of `namespace`.
    pub(crate) fn seal(
        &self,
        ring: &KeyRing,
        namespace: &str,
        key: &StoreKey,
        random: RandomSource,
    ) -> Result<Record> {
        let mut head = self.head().to_vec();
        head[AT_CODEC] |= SEALED;
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
        head[AT_CODEC] &= !SEALED;
        let record = Record::of_parts(head, &data);
        Ok(record.check_data().map(|()| record))
    }

    pub(super) fn sealing(&self) -> Sealing {
        if !self.is_sealed() {
            return Sealing::Open;
        }
        // Sealed bytes that are too short to name a key count as sealed by an unknown one.
        Sealing::By(self.data().first_chunk().copied().unwrap_or_default())
    }

    /// Returns true if the record is sealed in a format that only a newer release can open.
    pub(crate) fn is_sealed_anew(&self) -> bool {
        self.is_sealed() && self.is_newer()
    }

    /// Returns the header and the fields.
    fn head(&self) -> &[u8] {
        &self.0[..self.0.len() - self.data().len()]
    }

    fn of_parts(mut head: Vec<u8>, data: &[u8]) -> Record {
        // The limits of the encoder keep the data far below 4 GiB.
        head[AT_DATA_LEN..HEADER].copy_from_slice(&(data.len() as u32).to_be_bytes());
        head.extend_from_slice(data);
        Record(Arc::from(head))
    }
}

/// Returns the context that the data is bound to: the key, the namespace and the metadata. The two times that a touch rewrites are left out,
/// since a touch does not seal.
fn context(namespace: &str, key: &StoreKey, head: &[u8]) -> Context {
    let mut bound = head.to_vec();
    bound[AT_LAST_ACTIVE..AT_ABSOLUTE_DEADLINE].fill(0);
    bound[AT_DATA_LEN..HEADER].fill(0);
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
