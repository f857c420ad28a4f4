//! The gob codec in a build without the feature `beego`: no envelope exists, so none of this ever runs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Buffer, Change};
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
