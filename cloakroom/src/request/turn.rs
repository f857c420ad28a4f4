//! The turn to ask the provider: one call of a request at a time, in the order in which they came.

use std::sync::Arc;

use crate::sync::Semaphore;

/// A fair lock of one request. It lives in the request's state, since most requests never wait for it.
#[derive(Default)]
pub(super) struct Turns {
    pub(super) taken: bool,
    /// There once a call has had to wait.
    queue: Option<Box<Queue>>,
}

/// The calls of this request that wait for the turn.
struct Queue {
    waiting: usize,
    /// Holds a permit while the turn passes to the next call.
    permits: Arc<Semaphore>,
}

impl Turns {
    /// Takes the turn if it is free.
    pub(super) fn try_take(&mut self) -> bool {
        !std::mem::replace(&mut self.taken, true)
    }

    /// Passes the turn to the call that has waited longest, or frees it.
    pub(super) fn end(&mut self) {
        match &self.queue {
            Some(queue) if queue.waiting > 0 => queue.permits.add_permits(1),
            _ => self.taken = false,
        }
    }

    /// Joins the queue, which has to be [left](Self::leave) again.
    pub(super) fn join(&mut self) -> Arc<Semaphore> {
        let queue = self
            .queue
            .get_or_insert_with(|| Box::new(Queue { waiting: 0, permits: Arc::new(Semaphore::new(0)) }));
        queue.waiting += 1;
        Arc::clone(&queue.permits)
    }

    /// Leaves the queue. A turn that was passed on and not taken becomes free, if nobody else waits.
    pub(super) fn leave(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        queue.waiting -= 1;
        if queue.waiting == 0 && queue.permits.forget_permits(1) == 1 {
            self.taken = false;
        }
    }
}
