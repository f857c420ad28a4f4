//! The gob codec in a build without the feature `beego`: no [`Envelope`] exists, so none of this ever runs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Buffer, Change};
use crate::error::Result;

/// The forms of a session's gob, of which this build has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {}

impl Envelope {
    pub(super) fn tag(self) -> u8 {
        match self {}
    }

    pub(super) fn from_tag(_: u8) -> Option<Envelope> {
        None
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(
    _: &str,
    _: &T,
    envelope: Envelope,
    _: &mut Vec<u8>,
) -> Result<Option<usize>> {
    match envelope {}
}

pub(super) fn decode<T: DeserializeOwned>(_: &[u8], envelope: Envelope) -> Result<T> {
    match envelope {}
}

pub(super) fn find(_: &[u8], _: &str, envelope: Envelope) -> Result<Option<Vec<u8>>> {
    match envelope {}
}

pub(super) fn keys(_: &[u8], envelope: Envelope) -> Result<Vec<String>> {
    match envelope {}
}

pub(super) fn merge(_: &[u8], _: &[Change], envelope: Envelope, _: &mut Buffer) -> Result<usize> {
    match envelope {}
}
