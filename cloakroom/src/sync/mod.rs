//! Locks, atomics, timers and random numbers.
//!
//! With `--cfg shuttle` they are those of a scheduler that explores interleavings (`tests/shuttle.rs`). The memory provider
//! and the commit use this module for everything whose order can matter.

#[cfg(shuttle)]
mod explored;
pub(crate) mod locks;

#[cfg(not(shuttle))]
pub(crate) use std::{
    hash::RandomState,
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

#[cfg(not(shuttle))]
pub(crate) use getrandom::fill as fill_random;
#[cfg(not(shuttle))]
pub(crate) use locks::{Mutex, MutexGuard, RwLock};
#[cfg(not(shuttle))]
pub(crate) use tokio::sync::Semaphore;
#[cfg(not(shuttle))]
pub(crate) use tokio::time::{Sleep as Timer, sleep, sleep as timer};

#[cfg(shuttle)]
pub(crate) use explored::{
    AtomicBool, AtomicU8, AtomicUsize, MutexGuard, Ordering, RandomState, Semaphore, ShuttleMutex as Mutex,
    ShuttleRwLock as RwLock, Timer, fill_random, sleep, timer,
};
