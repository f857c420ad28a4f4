//! A deadline for a future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Timer, timer};

pin_project! {
    /// Waits for a future at most `limit`. Also returns how long it waited: zero if the answer was there at the first poll, in which case
    /// no timer was made.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        // Boxed, because a timer is large and this future is moved.
        timer: Option<(Pin<Box<Timer>>, Instant)>,
    }
}

/// Gives `future` a deadline of `limit`.
pub(crate) fn within<F>(limit: Duration, future: F) -> Within<F> {
    Within { future, limit, timer: None }
}

impl<T, F: Future<Output = Result<T>>> Future for Within<F> {
    type Output = (Result<T>, Duration);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let waited = |timer: &Option<(_, Instant)>| {
            timer.as_ref().map_or(Duration::ZERO, |(_, start)| start.elapsed())
        };
        if let Poll::Ready(answer) = this.future.poll(context) {
            return Poll::Ready((answer, waited(this.timer)));
        }
        let limit = *this.limit;
        let (sleep, _) = this.timer.get_or_insert_with(|| (Box::pin(timer(limit)), Instant::now()));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready((Err(Error::new(ErrorKind::Timeout, Late { limit })), waited(this.timer)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected an answer within {limit:?}, found none; see whether the store is up, or raise the deadline"
)]
struct Late {
    limit: Duration,
}
