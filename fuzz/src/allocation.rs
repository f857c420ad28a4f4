//! The cap on a single allocation, and a count of what is allocated at the same time. libFuzzer's own `-malloc_limit_mb` needs a
//! sanitizer's hooks, and there is none here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Far more than any input of 4 KiB should ever take.
const MOST: usize = 64 << 20;

/// Bytes allocated now, and the most since the count was last begun.
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

// The one unsafe thing here, and there is no other way to a global allocator: it counts and forwards to the system's, or answers
// null, which aborts the process with the number of bytes asked for.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            return std::ptr::null_mut();
        }
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

/// What `step` gives, and the most bytes that it had allocated at one time. A fuzz target is one thread: nobody else counts.
pub(crate) fn peak_of<T>(step: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let answer = step();
    (answer, PEAK.load(Ordering::Relaxed) - before)
}
