//! The future of a service that may have to check a request before its handler runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// The response of a service that checks requests: [`CsrfLayer`](crate::CsrfLayer), [`LoginLayer`](crate::LoginLayer).
    #[must_use = "futures do nothing unless polled"]
    pub struct CheckedFuture<F, R, E> {
        #[pin]
        state: CheckState<F, R, E>,
    }
}

type Checked<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

pin_project! {
    #[project = CheckStateProjection]
    enum CheckState<F, R, E> {
        Pass { #[pin] handler: F },
        Check { checked: Checked<R, E> },
    }
}

impl<F, R, E> CheckedFuture<F, R, E> {
    /// Returns the future of a request that needs no check.
    pub(super) fn pass(handler: F) -> Self {
        CheckedFuture { state: CheckState::Pass { handler } }
    }

    /// Returns the future of a check and of what follows it.
    pub(super) fn check(checked: impl Future<Output = Result<R, E>> + Send + 'static) -> Self {
        CheckedFuture { state: CheckState::Check { checked: Box::pin(checked) } }
    }
}

impl<F, R, E> fmt::Debug for CheckedFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedFuture")
    }
}

impl<F: Future<Output = Result<R, E>>, R, E> Future for CheckedFuture<F, R, E> {
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            CheckStateProjection::Pass { handler } => handler.poll(context),
            CheckStateProjection::Check { checked } => checked.as_mut().poll(context),
        }
    }
}
