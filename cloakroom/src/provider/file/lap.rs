//! Where garbage collection stands.

/// A lap of garbage collection around all keys, which may take many steps.
#[derive(Debug, Default)]
pub(super) struct Lap {
    /// The lap began behind this key, and ends there.
    pub(super) origin: String,
    /// The last key looked at.
    pub(super) last: String,
    /// Past the last key of all, and on from the first one.
    pub(super) over_the_end: bool,
}

impl Lap {
    pub(super) fn from(origin: &str) -> Lap {
        Lap { origin: origin.to_owned(), last: origin.to_owned(), over_the_end: false }
    }
}
