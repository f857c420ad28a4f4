//! The hosts that have failed lately. They are tried after the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::locks::Mutex;

/// The outcomes of the last attempts, by host.
#[derive(Clone)]
pub(super) struct RecentFailures(Arc<[Mutex<HostHealth>]>);

/// The last news of one host. A host is only tried later, never left out, so a wrong suspicion costs nothing but the order.
#[derive(Clone, Copy, Default)]
enum HostHealth {
    #[default]
    Unsuspected,
    /// An attempt has begun, and none has ended since.
    Begun(Instant),
    Failed(Instant),
}

impl PartialEq for RecentFailures {
    /// Is always true, since the attempts are no part of the settings.
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl RecentFailures {
    /// The time for which a host that has failed is tried after the others.
    const MEMORY: Duration = Duration::from_secs(10);
    /// The time after which an attempt without an outcome counts as failed. Its caller may have given up.
    const SUSPICION: Duration = Duration::from_millis(250);

    pub(super) fn new(hosts: usize) -> RecentFailures {
        RecentFailures((0..hosts).map(|_| Mutex::default()).collect())
    }

    pub(super) fn begin(&self, host: usize) {
        let mut health = self.0[host].lock();
        if matches!(*health, HostHealth::Unsuspected) {
            *health = HostHealth::Begun(Instant::now());
        }
    }

    pub(super) fn end(&self, host: usize, succeeded: bool) {
        *self.0[host].lock() =
            if succeeded { HostHealth::Unsuspected } else { HostHealth::Failed(Instant::now()) };
    }

    pub(super) fn is_suspect(&self, host: usize) -> bool {
        match *self.0[host].lock() {
            HostHealth::Unsuspected => false,
            HostHealth::Begun(at) => (Self::SUSPICION..Self::MEMORY).contains(&at.elapsed()),
            HostHealth::Failed(at) => at.elapsed() < Self::MEMORY,
        }
    }
}
