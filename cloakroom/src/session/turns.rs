//! Whose turn it is to ask the provider for a request's session: one call at a time, in the order in which they came.

use std::sync::Arc;

use crate::sync::Semaphore;

/// Part of a session's state.
#[derive(Default)]
pub(super) struct Turns {
    /// Somebody has the turn, or it waits in the queue for whoever comes next.
    taken: bool,
    waiting: usize,
    /// Holds a permit while the turn is handed on; there once somebody has waited.
    queue: Option<Arc<Semaphore>>,
}

impl Turns {
    pub(super) fn are_taken(&self) -> bool {
        self.taken
    }

    /// Takes the turn if it is free.
    pub(super) fn take(&mut self) -> bool {
        !std::mem::replace(&mut self.taken, true)
    }

    /// Hands the turn to the one who has waited longest, or frees it.
    pub(super) fn end(&mut self) {
        match &self.queue {
            Some(queue) if self.waiting > 0 => queue.add_permits(1),
            _ => self.taken = false,
        }
    }

    /// Takes a place in the queue, which is to be [left](Self::leave) again.
    pub(super) fn join(&mut self) -> Arc<Semaphore> {
        self.waiting += 1;
        Arc::clone(self.queue.get_or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    /// Somebody waits no more. A turn that was handed to them and not taken is free, if nobody else waits.
    pub(super) fn leave(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 && self.queue.as_ref().is_some_and(|queue| queue.forget_permits(1) == 1) {
            self.taken = false;
        }
    }
}
