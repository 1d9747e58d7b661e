//! Elements in shared memory, changed one at a time.

use crate::atomics::Raw;
use opx_bus::SharedMem;
use std::sync::atomic::Ordering;

/// Changes the element of `size` bytes at `start`, which is inside, to what `change` makes of it, if anything; gives what it was.
///
/// An element that lies in one aligned word of 8 bytes is changed by compare-exchange: atomically whoever else has atomic access to
/// that word. Others (long doubles, two doubles, what lies across words) are read and written; the caller keeps others away.
// Inlined where the size is known.
#[inline(always)]
pub fn update(memory: &SharedMem, start: usize, size: usize, change: impl Fn(&Raw) -> Option<Raw>) -> Raw {
    let mut old = Raw::default();
    let within = start % 8;
    if within + size <= 8
        && let Some(word) = memory.words().get(start / 8)
    {
        let mut now = word.load(Ordering::Acquire);
        // Goes round only when another change of the word has got through.
        loop {
            let mut bytes = now.to_ne_bytes();
            let place = &mut bytes[within..within + size];
            old[..size].copy_from_slice(place);
            let Some(new) = change(&old) else { return old };
            place.copy_from_slice(&new[..size]);
            match word.compare_exchange_weak(now, u64::from_ne_bytes(bytes), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return old,
                Err(other) => now = other,
            }
        }
    }
    memory.read(start, &mut old[..size]);
    if let Some(new) = change(&old) {
        memory.write(start, &new[..size]);
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn plus_one(old: &Raw, size: usize) -> Option<Raw> {
        let mut new = *old;
        let carry = new[..size].iter_mut().find_map(|byte| {
            *byte = byte.wrapping_add(1);
            (*byte != 0).then_some(())
        });
        carry.map(|()| new)
    }

    #[test]
    fn a_change_in_between_is_not_lost() {
        let memory = SharedMem::new(4096).unwrap();
        memory.write_u64(8, 0x1111_2222_3333_4444);
        let times = Cell::new(0);
        // The element's word changes twice while its new value is made: once beside it, once itself.
        let old = update(&memory, 10, 2, |old| {
            times.set(times.get() + 1);
            match times.get() {
                1 => memory.write(8, &[0xaa]),
                2 => memory.write(10, &[0x99]),
                _ => {}
            }
            plus_one(old, 2)
        });
        assert_eq!((times.get(), &old[..2]), (3, &[0x99, 0x33][..]));
        assert_eq!(memory.read_u64(8), 0x1111_2222_339a_44aa);
    }

    #[test]
    fn what_does_not_change_is_not_written() {
        let memory = SharedMem::new(4096).unwrap();
        // A lock that its owner gives back with a plain store, while a peer's swap finds it taken, must not stay taken: neither in a
        // word, nor across two, nor in two.
        for (start, size) in [(16, 8), (20, 4), (20, 8), (16, 16), (0, 32)] {
            memory.write(start, &[1; 32][..size]);
            let old = update(&memory, start, size, |_| {
                memory.write(start, &[7; 32][..size]);
                None
            });
            let mut now = [0; 32];
            memory.read(start, &mut now[..size]);
            assert_eq!((&old[..size], &now[..size]), (&[1; 32][..size], &[7; 32][..size]), "{size} bytes at {start}");
        }
    }
}
