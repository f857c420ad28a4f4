//! The gob codec in a build without the feature `beego`: no envelope exists, so none of this ever runs.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Buffer, Change, Codec, Limits, MAX_DEPTH};
use crate::error::Result;

pub(super) use NoEnvelope as Envelope;

/// The forms of a session's gob, of which this build has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoEnvelope {}

impl NoEnvelope {
    pub(super) fn tag(self) -> u8 {
        match self {}
    }

    pub(super) fn from_tag(_: u8) -> Option<NoEnvelope> {
        None
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(
    _: &str,
    _: &T,
    envelope: NoEnvelope,
    _: &mut Vec<u8>,
) -> Result<Option<usize>> {
    match envelope {}
}

pub(super) fn decode<T: DeserializeOwned>(_: &[u8], envelope: NoEnvelope) -> Result<T> {
    match envelope {}
}

pub(super) fn find(_: &[u8], _: &str, envelope: NoEnvelope) -> Result<Option<Vec<u8>>> {
    match envelope {}
}

pub(super) fn keys(_: &[u8], envelope: NoEnvelope) -> Result<Vec<String>> {
    match envelope {}
}

pub(super) fn merge(_: &[u8], _: &[Change], envelope: NoEnvelope, _: &mut Buffer) -> Result<usize> {
    match envelope {}
}

impl Codec {
    /// Appends the map `data`, encoded with the codec `to`, to `out`. Both codecs can express JSON, and no more is converted.
    pub(crate) fn convert(self, data: &[u8], to: Codec, out: &mut Buffer) -> Result<()> {
        // A stored session is converted even if it exceeds the limits on new data.
        let limits = Limits { bytes: 16 << 20, keys: 65_535, depth: MAX_DEPTH };
        let mut changes = Vec::new();
        for key in self.keys(data)? {
            if let Some(bytes) = self.find(data, &key)? {
                changes.push(to.encode(&key, &self.decode::<Value>(&bytes)?, &limits)?);
            }
        }
        to.merge(b"", &changes, &limits, out)
    }
}
