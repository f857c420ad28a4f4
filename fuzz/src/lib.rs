//! What the targets share.

mod allocation;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// What `step` gives.
///
/// # Panics
///
/// If it had more than `most` bytes allocated at one time, which is a finding.
pub fn within<T>(most: usize, step: impl FnOnce() -> T) -> T {
    let (answer, peak) = allocation::peak_of(step);
    assert!(peak <= most, "{peak} bytes were allocated at one time, and not {most} at the most");
    answer
}

/// The answer of a future that never waits. The stores here are in memory: a runtime for each input would cost more than
/// the input.
///
/// # Panics
///
/// If it does wait, which is a finding.
pub fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a store in memory made its caller wait"),
    }
}
