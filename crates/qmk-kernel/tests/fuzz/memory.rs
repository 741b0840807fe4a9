//! What memory a thread holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that the thread holds, and most that it held since the peak was last set.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: i64,
    pub(crate) peak: i64,
}

thread_local! {
    pub(crate) static MEMORY: Cell<Memory> = const { Cell::new(Memory { now: 0, peak: 0 }) };
}

pub(crate) struct Counting;

pub(crate) fn count(bytes: i64) {
    let _ = MEMORY.try_with(|m| {
        let now = m.get().now + bytes;
        m.set(Memory { now, peak: m.get().peak.max(now) });
    });
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
pub(crate) static ALLOCATOR: Counting = Counting;
