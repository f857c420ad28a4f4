//! The ids by which a request names sessions of the old library.

use std::fmt;

/// The id of a session in the old store, as the request's old cookie names it.
///
/// Anyone who knows it can act as the visitor, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OldId(Box<str>);

impl OldId {
    /// Wraps the id that an old cookie contains, after its signature was checked.
    ///
    /// ```
    /// use cloakroom::migration::OldId;
    ///
    /// let id = OldId::new("4964887021784b5975bc56b27a0a5b6b");
    /// assert_eq!(id.as_str().len(), 32);
    /// assert_eq!(format!("{id:?}"), "OldId(32 bytes)");
    /// ```
    pub fn new(text: impl Into<Box<str>>) -> Self {
        OldId(text.into())
    }

    /// Returns the id itself. Never log it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OldId({} bytes)", self.0.len())
    }
}

/// The old ids of one request, and the values in their place that are no ids.
///
/// A browser sends several cookies of one name if their paths or domains differ.
///
/// ```
/// use cloakroom::migration::{OldId, OldIds};
///
/// let mut found = OldIds::default();
/// found.push(OldId::new("4964887021784b5975bc56b27a0a5b6b"));
/// found.reject(b"a cookie whose signature is wrong");
/// assert_eq!(found.ids().len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct OldIds {
    ids: Vec<OldId>,
    malformed: Vec<Box<[u8]>>,
}

/// Shows how many values there are. A rejected one may be a valid cookie under a key that this process lacks.
impl fmt::Debug for OldIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldIds")
            .field("ids", &self.ids.len())
            .field("malformed", &self.malformed.len())
            .finish()
    }
}

impl OldIds {
    /// The largest number of values that are kept of each kind. One more than are looked up shows that there are too many.
    const MOST: usize = 5;

    /// Adds an id. Repeated ids count once, and more than five are dropped.
    pub fn push(&mut self, id: OldId) {
        if self.ids.len() < OldIds::MOST && !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }

    /// Adds the value of an old cookie that is no id, such as one with a wrong signature. It becomes an event
    /// ([`MalformedId`](crate::event::EventKind::MalformedId)).
    pub fn reject(&mut self, value: &[u8]) {
        if self.malformed.len() < OldIds::MOST {
            self.malformed.push(value.into());
        }
    }

    /// Returns the ids.
    pub fn ids(&self) -> &[OldId] {
        &self.ids
    }

    /// Returns the number of values that are no ids.
    pub fn rejected(&self) -> usize {
        self.malformed.len()
    }

    pub(crate) fn malformed(&self) -> impl Iterator<Item = &[u8]> {
        self.malformed.iter().map(|value| &**value)
    }
}
