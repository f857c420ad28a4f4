//! The progress of garbage collection, which a store keeps between its steps.

/// A round of garbage collection over all keys, which may take several steps.
#[derive(Debug, Default)]
pub(super) struct CollectionRound {
    /// The key after which the round began, and at which it ends.
    pub(super) start: String,
    /// The last key that was read.
    pub(super) last: String,
    /// True once the round has passed the last key of all and gone on from the first.
    pub(super) wrapped: bool,
}

impl CollectionRound {
    pub(super) fn from(start: &str) -> CollectionRound {
        CollectionRound { start: start.to_owned(), last: start.to_owned(), wrapped: false }
    }
}
