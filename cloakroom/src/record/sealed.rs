//! The sealed form of a record: its data can neither be read nor forged nor moved, what stands beside it stays readable for
//! the store.

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

    /// This record with its data sealed, to be stored under `key` of `namespace` and to be opened nowhere else.
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

    /// The record that was sealed for `key` of `namespace`.
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
        // Sealed bytes too short to name a key are by none that a ring holds.
        Sealing::By(self.data().first_chunk().copied().unwrap_or_default())
    }

    /// True if the record is sealed in a format that only a newer release can open.
    pub(crate) fn is_sealed_anew(&self) -> bool {
        self.is_sealed() && self.is_newer()
    }

    /// Header and fields.
    fn head(&self) -> &[u8] {
        &self.0[..self.0.len() - self.data().len()]
    }

    fn of_parts(mut head: Vec<u8>, data: &[u8]) -> Record {
        // A record's data is bounded far below 4 GiB by the limits of whoever encoded it.
        head[AT_DATA_LEN..HEADER].copy_from_slice(&(data.len() as u32).to_be_bytes());
        head.extend_from_slice(data);
        Record(Arc::from(head))
    }
}

/// All that stands beside the data is bound to it but the two times that a touch rewrites, which cannot seal anew.
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
