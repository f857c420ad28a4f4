//! The code that the targets share.

mod allocation;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs `step`, and returns its result.
///
/// # Panics
///
/// Panics if it had more than `most` bytes allocated at one time, which is a finding.
pub fn within<T>(most: usize, step: impl FnOnce() -> T) -> T {
    let (answer, peak) = allocation::peak_of(step);
    assert!(peak <= most, "expected at most {most} bytes allocated at one time, found {peak}");
    answer
}

/// Returns the output of a future that never waits.
///
/// The stores here are in memory, and a runtime for each input would cost more than the input.
///
/// # Panics
///
/// Panics if the future waits, which is a finding.
pub fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a store in memory made its caller wait"),
    }
}
