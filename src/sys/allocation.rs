//! Io: an allocator that counts what each thread takes from it, for tests that hold the data path to taking nothing
//! (invariant 3). A test's binary makes it its global one; the real binary has another.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
pub struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory so far, where [`Counting`] is the global allocator.
pub fn taken() -> u64 {
    TAKEN.get()
}

fn count() {
    // Fails only while the thread ends.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get().wrapping_add(1)));
}

// SAFETY: every call goes to `System` with what the caller gave, and comes back as it is. Counting neither allocates, its cell
// being constant and without a destructor, nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller vouches for `layout` as `System` asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from here, so from `System`, with this layout; the caller vouches for `size`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from here, so from `System`, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_takes_is_counted_and_what_another_takes_is_not() {
        let before = taken();
        let mut grows: Vec<u8> = std::hint::black_box(Vec::with_capacity(1));
        assert_eq!(taken() - before, 1);
        grows.extend([0; 100]);
        let zeroed = std::hint::black_box(vec![0_u8; 100]);
        assert_eq!(taken() - before, 3, "one grew, one came zeroed");
        drop((grows, zeroed));
        let (go, gone) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                go.wait();
                drop(std::hint::black_box(vec![0_u8; 10]));
                gone.wait();
            });
            let before = taken();
            go.wait();
            gone.wait();
            assert_eq!(taken() - before, 0);
        });
    }
}
