//! The provider, and what every part that calls it needs besides.

use std::sync::Arc;

use crate::clock::{Clock, Millis};
use crate::event::Events;
use crate::provider::AnyProvider;

/// The provider, the clock that tells its deadlines, and the listener of its events. A clone shares them.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) provider: AnyProvider,
    pub(crate) clock: Clock,
    pub(crate) events: Arc<Events>,
}

impl Storage {
    /// Returns the time now.
    pub(crate) fn now(&self) -> Millis {
        self.clock.millis()
    }
}
