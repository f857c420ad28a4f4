//! The cap on a single allocation. libFuzzer's own `-malloc_limit_mb` needs a sanitizer's hooks, and there is none here.

use std::alloc::{GlobalAlloc, Layout, System};

/// Far more than any input of 4 KiB should ever take.
const MOST: usize = 64 << 20;

struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

// The one unsafe thing here, and there is no other way to a global allocator: it forwards to the system's, or answers
// null, which aborts the process with the number of bytes asked for.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}
