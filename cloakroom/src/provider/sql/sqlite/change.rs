//! A change that waits for the thread that writes, and the answer that its caller waits for.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::SqliteError;
use super::steps::ChangeStep;

/// A change in the queue of the thread that writes.
pub(super) trait PendingChange: Send {
    /// Returns false if nobody waits for the answer any more, or the deadline is over.
    fn is_wanted(&self) -> bool;

    /// Returns true for a change that makes nothing longer, such as the end of a session. It runs on a full disk too.
    fn frees_room(&self) -> bool;

    /// Runs the change and keeps its outcome. It may run again after its transaction was rolled back.
    fn run(&mut self, step: &ChangeStep<'_>);

    /// Returns the error of the last run.
    fn error(&self) -> Option<&SqliteError>;

    /// Gives the kept outcome to the caller. The transaction is committed, or the outcome is an error.
    fn answer(self: Box<Self>);

    /// Gives `error` to the caller in place of the outcome.
    fn fail(self: Box<Self>, error: SqliteError);
}

/// A change of one type.
pub(super) struct TypedChange<T, S> {
    pub(super) step: S,
    pub(super) frees_room: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) outcome: Option<Result<T, SqliteError>>,
    pub(super) caller: oneshot::Sender<Result<T, SqliteError>>,
}

impl<T, S> PendingChange for TypedChange<T, S>
where
    T: Send,
    S: Fn(&ChangeStep<'_>) -> Result<T, SqliteError> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.caller.is_closed() && self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    fn frees_room(&self) -> bool {
        self.frees_room
    }

    fn run(&mut self, step: &ChangeStep<'_>) {
        self.outcome = Some((self.step)(step));
    }

    fn error(&self) -> Option<&SqliteError> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().err())
    }

    fn answer(self: Box<Self>) {
        // A caller that has gone needs no answer.
        let _ = self.caller.send(self.outcome.unwrap_or(Err(SqliteError::Stopped)));
    }

    fn fail(self: Box<Self>, error: SqliteError) {
        let _ = self.caller.send(Err(error));
    }
}

/// Returns the end of a time limit that begins now.
pub(super) fn deadline_of(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| Instant::now().checked_add(limit))
}
