//! Locks, atomics, timers and chance: the usual ones or, under `--cfg shuttle`, those of a scheduler that tries out interleavings
//! (`tests/shuttle.rs`).
//!
//! What may matter to the order of things goes through here, in the memory provider and the commit.

#[cfg(shuttle)]
mod explored;

#[cfg(not(shuttle))]
pub(crate) use std::{
    hash::RandomState,
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

#[cfg(not(shuttle))]
pub(crate) use getrandom::fill as fill_random;
#[cfg(not(shuttle))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
#[cfg(not(shuttle))]
pub(crate) use tokio::sync::Semaphore;
#[cfg(not(shuttle))]
pub(crate) use tokio::time::{Sleep as Timer, sleep, sleep as timer};

#[cfg(shuttle)]
pub(crate) use explored::{
    AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, Ordering, RandomState, RwLock, Semaphore, Timer,
    fill_random, sleep, timer,
};
