//! The code that the targets share.

mod allocation;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use cloakroom::Visit;
use cloakroom::migration::{OldBytes, OldSessions, OldStore};
use http::header::COOKIE;
use http::{Extensions, HeaderMap, HeaderValue};

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

/// An old store that has the same bytes under every key.
#[derive(Clone)]
pub struct Anything(pub Vec<u8>);

impl OldStore for Anything {
    async fn load(&self, _: &str) -> cloakroom::Result<Option<OldBytes>> {
        let expires = SystemTime::now().checked_add(Duration::from_secs(3600));
        Ok(Some(OldBytes::new(self.0.clone(), expires)))
    }

    async fn delete(&self, _: &str) -> cloakroom::Result<bool> {
        Ok(true)
    }
}

/// Reads the session that a request with this cookie presents to `old`.
pub fn read_all(old: &impl OldSessions, name: &str, cookie: &str) {
    let Ok(header) = HeaderValue::from_bytes(format!("{name}={cookie}").as_bytes()) else { return };
    let headers = HeaderMap::from_iter([(COOKIE, header)]);
    let found = old.find(&Visit::new(headers, Extensions::new()));
    for id in found.ids() {
        if let Ok(Some(session)) = at_once(old.load(id)) {
            session.keys().for_each(|key| assert!(session.value(key).is_some()));
        }
    }
}
