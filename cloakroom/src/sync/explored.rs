//! The same names for shuttle, which may switch to another task at every use of one.

use std::future::Pending;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::PoisonError;
use std::time::Duration;

use shuttle::rand::RngCore;
use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

pub(crate) use shuttle::sync::MutexGuard;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// A hasher that is the same in every run, so that a schedule can be repeated.
pub(crate) type RandomState = BuildHasherDefault<DefaultHasher>;

/// A deadline that never comes, since no time passes.
pub(crate) type Timer = Pending<()>;

pub(crate) fn timer(_: Duration) -> Timer {
    std::future::pending()
}

/// Lets other tasks run first.
pub(crate) async fn sleep(_: Duration) {
    shuttle::future::yield_now().await;
}

/// Fills `buffer` with bytes that repeat with the schedule.
pub(crate) fn fill_random(buffer: &mut [u8]) -> Result<(), std::io::Error> {
    shuttle::rand::thread_rng().fill_bytes(buffer);
    Ok(())
}

/// A mutex that a panic does not poison, as in `locks`.
#[derive(Debug, Default)]
pub(crate) struct ShuttleMutex<T>(shuttle::sync::Mutex<T>);

impl<T> ShuttleMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        ShuttleMutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader-writer lock that a panic does not poison, as in `locks`.
#[derive(Debug)]
pub(crate) struct ShuttleRwLock<T>(shuttle::sync::RwLock<T>);

impl<T> ShuttleRwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        ShuttleRwLock(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokio's semaphore, which needs no runtime. An atomic access before each wait lets shuttle switch tasks.
#[derive(Debug)]
pub(crate) struct Semaphore(tokio::sync::Semaphore);

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Semaphore(tokio::sync::Semaphore::new(permits))
    }

    pub(crate) async fn acquire(
        &self,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, tokio::sync::AcquireError> {
        AtomicBool::new(false).load(Ordering::SeqCst);
        self.0.acquire().await
    }

    pub(crate) fn add_permits(&self, permits: usize) {
        self.0.add_permits(permits);
    }

    pub(crate) fn forget_permits(&self, permits: usize) -> usize {
        self.0.forget_permits(permits)
    }
}
