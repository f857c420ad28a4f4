//! The fields of a record: the optional parts between header and data, each with a tag.

use super::{Device, Label, Lifetime, Mark, Meta};
use crate::clock::Millis;
use crate::id::StoreKey;
use crate::principal::{Level, Principal};

/// The maximum length of all fields in bytes. A length beyond it is corruption, which is seen before anything is allocated.
pub(super) const MAX_LEN: usize = 4096;

/// The first tag of the optional fields. A reader must know every field with a tag below it before it reads the data.
const OPTIONAL_TAGS: u8 = 128;
const TAG_PRINCIPAL: u8 = 1;
const TAG_SUCCESSOR: u8 = 2;
const TAG_GRACE_END: u8 = 3;
const TAG_ENDED: u8 = 4;
const TAG_LIFETIME: u8 = 5;
const TAG_ENDS_BY: u8 = 6;
const TAG_LEVEL: u8 = 7;
pub(super) const TAG_ID: u8 = 128;
const TAG_USER_AGENT: u8 = 129;
const TAG_NETWORK: u8 = 130;
pub(super) const TAG_SUCCESSOR_ID: u8 = 131;
pub(super) const TAG_NAMESPACE: u8 = 132;
/// The only tag that a record may have several times.
const TAG_LABEL: u8 = 133;

/// The fields of a record as they are stored.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of the first field with this tag.
    pub(super) fn find(self, tag: u8) -> Option<&'a [u8]> {
        self.well_formed().find(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Returns the user's name.
    pub(super) fn user(self) -> Option<&'a [u8]> {
        self.find(TAG_PRINCIPAL)
    }

    /// Returns the texts of the labels.
    pub(super) fn labels(self) -> impl Iterator<Item = &'a [u8]> {
        self.well_formed().filter(|(tag, _)| *tag == TAG_LABEL).map(|(_, value)| value)
    }

    pub(super) fn lifetime(self) -> Option<Lifetime> {
        self.find(TAG_LIFETIME).and_then(Lifetime::from_bytes)
    }

    pub(super) fn ends_by(self) -> Option<Millis> {
        self.find(TAG_ENDS_BY).and_then(millis)
    }

    pub(super) fn level(self) -> Option<Level> {
        self.find(TAG_LEVEL)?.first().map(|number| Level::new(*number))
    }

    pub(super) fn device(self) -> Option<Device> {
        let text = |tag| self.find(tag).and_then(|value| std::str::from_utf8(value).ok()).map(Box::from);
        let device = Device { user_agent: text(TAG_USER_AGENT), network: text(TAG_NETWORK) };
        (!device.is_empty()).then_some(device)
    }

    /// Returns true if the fields are those of a tombstone.
    pub(super) fn has_mark(self) -> bool {
        self.well_formed().any(|(tag, _)| matches!(tag, TAG_SUCCESSOR | TAG_ENDED))
    }

    /// Returns what a tombstone says; `None` for a session.
    pub(super) fn mark(self) -> Option<Mark> {
        let key = |value| std::str::from_utf8(value).ok()?.parse().ok();
        match (self.find(TAG_SUCCESSOR), self.find(TAG_GRACE_END)) {
            (Some(successor), Some(end)) => {
                Some(Mark::Rotated { successor: key(successor)?, until: millis(end)? })
            }
            (Some(successor), None) => Some(Mark::Replaced { successor: key(successor)? }),
            (None, _) => self.find(TAG_ENDED).map(|_| Mark::Ended),
        }
    }

    /// Returns true if a session that this build reads may have all of these fields.
    pub(super) fn are_of_session(self) -> bool {
        self.well_formed().all(|(tag, _)| is_of_session(tag))
    }

    /// Returns the tag of a field that only a newer release knows, and that a reader must know.
    pub(super) fn newer_tag(self) -> Option<u8> {
        self.well_formed().map(|(tag, _)| tag).find(|tag| !is_of_session(*tag) && !is_of_tombstone(*tag))
    }

    /// Returns these fields with `meta` and `mark` in them. The fields that neither has stay as they are.
    pub(super) fn rewritten(self, meta: &Meta, mark: Option<&Mark>) -> Vec<u8> {
        let mut fields = encode(meta, mark);
        let unknown = self.well_formed().filter(|(tag, _)| is_unknown(*tag));
        unknown.for_each(|(tag, value)| push(&mut fields, tag, value));
        fields
    }

    /// Returns these fields with one more. It replaces a field with the same tag.
    pub(super) fn with(self, tag: u8, value: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        let others = self.well_formed().filter(|(other, _)| *other != tag);
        others.for_each(|(other, value)| push(&mut fields, other, value));
        push(&mut fields, tag, value);
        fields
    }

    /// Answers whether every field is well-formed and none contradicts another. Of a `newer` format, it checks the fields that every
    /// format has.
    pub(super) fn check(self, newer: bool) -> Result<(), MalformedField> {
        let (mut successor, mut grace_end, mut ended, mut labels) = (false, false, false, 0);
        for field in self.iter() {
            let (tag, value) = field?;
            let text = std::str::from_utf8(value).ok();
            let well_formed = match tag {
                TAG_PRINCIPAL => text.is_some_and(|name| Principal::new(name).is_ok()),
                TAG_SUCCESSOR => {
                    successor = true;
                    text.is_some_and(|key| key.parse::<StoreKey>().is_ok())
                }
                TAG_GRACE_END => {
                    grace_end = true;
                    value.len() == 8
                }
                TAG_ENDED => {
                    ended = true;
                    value.is_empty()
                }
                _ if newer => true,
                TAG_LIFETIME => Lifetime::from_bytes(value).is_some(),
                TAG_ENDS_BY => value.len() == 8,
                TAG_LEVEL => value.len() == 1,
                TAG_USER_AGENT | TAG_NETWORK => text.is_some(),
                TAG_LABEL => {
                    labels += 1;
                    labels <= Label::MAX_COUNT && text.is_some_and(|label| Label::new(label).is_ok())
                }
                // A newer release's own.
                _ => true,
            };
            if !well_formed {
                return Err(MalformedField { tag });
            }
        }
        // A successor is of an id that was rotated, which has a grace, or of one that has ended, which has none.
        match (successor, grace_end, ended) {
            (false, false, _) | (true, true, false) | (true, false, true) => Ok(()),
            _ => Err(MalformedField { tag: TAG_SUCCESSOR }),
        }
    }

    fn well_formed(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        self.iter().flatten()
    }

    fn iter(self) -> FieldIter<'a> {
        FieldIter(self.0)
    }
}

/// The fields one after another: a tag, a length in two bytes and the value, each.
struct FieldIter<'a>(&'a [u8]);

impl<'a> Iterator for FieldIter<'a> {
    type Item = Result<(u8, &'a [u8]), MalformedField>;

    fn next(&mut self) -> Option<Self::Item> {
        let tag = *self.0.first()?;
        let split = self.0.get(1..3).and_then(|len| {
            let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
            self.0[3..].split_at_checked(len)
        });
        let (value, rest) = split.unwrap_or_default();
        self.0 = rest;
        Some(if split.is_some() { Ok((tag, value)) } else { Err(MalformedField { tag }) })
    }
}

/// Encodes the fields in the order of the specification, which golden files compare. An absent field takes no bytes.
pub(super) fn encode(meta: &Meta, mark: Option<&Mark>) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut add =
        |tag, value: Option<&[u8]>| value.into_iter().for_each(|value| push(&mut fields, tag, value));
    add(TAG_PRINCIPAL, meta.principal.as_ref().map(|principal| principal.as_str().as_bytes()));
    match mark {
        None => {}
        Some(Mark::Ended) => add(TAG_ENDED, Some(b"")),
        Some(Mark::Replaced { successor }) => {
            add(TAG_SUCCESSOR, Some(successor.as_bytes()));
            add(TAG_ENDED, Some(b""));
        }
        Some(Mark::Rotated { successor, until }) => {
            add(TAG_SUCCESSOR, Some(successor.as_bytes()));
            add(TAG_GRACE_END, Some(&until.0.to_be_bytes()));
        }
    }
    add(TAG_LIFETIME, meta.lifetime.map(Lifetime::to_bytes).as_ref().map(|bytes| &bytes[..]));
    add(TAG_ENDS_BY, meta.ends_by.map(|end| end.0.to_be_bytes()).as_ref().map(|bytes| &bytes[..]));
    add(TAG_LEVEL, meta.level.map(|level| [level.number()]).as_ref().map(|bytes| &bytes[..]));
    if let Some(device) = &meta.device {
        add(TAG_USER_AGENT, device.user_agent().map(str::as_bytes));
        add(TAG_NETWORK, device.network().map(str::as_bytes));
    }
    meta.labels.iter().for_each(|label| add(TAG_LABEL, Some(label.as_str().as_bytes())));
    fields
}

pub(super) fn push(fields: &mut Vec<u8>, tag: u8, value: &[u8]) {
    fields.push(tag);
    // Every field is bounded by its own type, at 256 bytes or less.
    fields.extend_from_slice(&(value.len() as u16).to_be_bytes());
    fields.extend_from_slice(value);
}

/// Returns true if neither [`Meta`] nor [`Mark`] has this field, so that a rewrite must keep it.
fn is_unknown(tag: u8) -> bool {
    let optional = tag >= OPTIONAL_TAGS && !matches!(tag, TAG_USER_AGENT | TAG_NETWORK | TAG_LABEL);
    optional || (!is_of_session(tag) && !is_of_tombstone(tag))
}

/// Returns true if a session that this build reads may have this field.
fn is_of_session(tag: u8) -> bool {
    matches!(tag, TAG_PRINCIPAL | TAG_LIFETIME | TAG_ENDS_BY | TAG_LEVEL | OPTIONAL_TAGS..)
}

fn is_of_tombstone(tag: u8) -> bool {
    matches!(tag, TAG_SUCCESSOR | TAG_GRACE_END | TAG_ENDED)
}

fn millis(value: &[u8]) -> Option<Millis> {
    Some(Millis(u64::from_be_bytes(value.try_into().ok()?)))
}

#[derive(Debug, thiserror::Error)]
#[error("field {tag} is malformed")]
pub(super) struct MalformedField {
    tag: u8,
}
