//! A completion's place in the area, checked before anything is read there.

/// The bit from which an offset has the area's number (`IORING_ZCRX_AREA_SHIFT`).
const AREA_SHIFT: u32 = 48;

/// How an area is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Buffers in it.
    pub buffers: u32,
    /// Bytes of each: a power of two.
    pub buffer_size: u32,
}

/// Where received bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset of the first byte in the area.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// Offset of the buffer that they are in.
    pub buffer: u64,
}

/// What is wrong with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadCompletion {
    /// Another area than the pool's only one.
    #[error("the kernel completed a receive into area {0}; there is only area 0")]
    Area(u16),
    /// No bytes.
    #[error("the kernel completed a receive of {0} bytes")]
    Length(i32),
    /// Outside of the area.
    #[error("the kernel completed a receive at offset {offset:#x}, beyond the area's end at {end:#x}")]
    Outside {
        /// Where the bytes would end.
        offset: u64,
        /// Where the area does.
        end: u64,
    },
    /// In two buffers.
    #[error("the kernel completed a receive of {len} bytes at offset {offset:#x}, across the end of a buffer")]
    Crosses {
        /// Where the bytes begin.
        offset: u64,
        /// How many there are.
        len: u32,
    },
    /// On a ring that has no pool.
    #[error("the kernel completed a receive on a ring that has no pool")]
    NoPool,
}

impl Layout {
    /// Where the bytes of a completion are.
    ///
    /// # Errors
    /// When they can't be there: then nothing may be read.
    ///
    /// ```
    /// use opx_zcrx::{BadCompletion, Layout};
    ///
    /// let layout = Layout { buffers: 64, buffer_size: 4096 };
    /// assert_eq!(layout.locate(4096 + 100, 1500).unwrap().buffer, 4096);
    /// assert_eq!(layout.locate(1 << 48, 1500), Err(BadCompletion::Area(1)));
    /// ```
    pub fn locate(&self, offset: u64, len: i32) -> Result<Place, BadCompletion> {
        let area = (offset >> AREA_SHIFT) as u16;
        if area != 0 {
            return Err(BadCompletion::Area(area));
        }
        let length = match u32::try_from(len) {
            Ok(length) if length > 0 => length,
            _ => return Err(BadCompletion::Length(len)),
        };
        let end = u64::from(self.buffers) * u64::from(self.buffer_size);
        // The offset has 48 bits, so the sum fits.
        if offset + u64::from(length) > end {
            return Err(BadCompletion::Outside { offset: offset + u64::from(length), end });
        }
        // A size of 0 has no bytes, which were refused.
        let inside = offset & (u64::from(self.buffer_size) - 1);
        if inside + u64::from(length) > u64::from(self.buffer_size) {
            return Err(BadCompletion::Crosses { offset, len: length });
        }
        Ok(Place { offset, len: length, buffer: offset - inside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAYOUT: Layout = Layout { buffers: 8, buffer_size: 4096 };

    /// Z7.
    #[test]
    fn a_completion_is_refused_for_each_thing_that_can_be_wrong() {
        let end = 8 * 4096;
        assert_eq!(LAYOUT.locate(1 << 48, 1), Err(BadCompletion::Area(1)));
        assert_eq!(LAYOUT.locate(u64::MAX, 1), Err(BadCompletion::Area(u16::MAX)));
        assert_eq!(LAYOUT.locate(0, 0), Err(BadCompletion::Length(0)));
        assert_eq!(LAYOUT.locate(0, -1), Err(BadCompletion::Length(-1)));
        assert_eq!(LAYOUT.locate(end, 1), Err(BadCompletion::Outside { offset: end + 1, end }));
        assert_eq!(LAYOUT.locate(end - 1, 2), Err(BadCompletion::Outside { offset: end + 1, end }));
        assert_eq!(LAYOUT.locate(4095, 2), Err(BadCompletion::Crosses { offset: 4095, len: 2 }));
        assert_eq!(LAYOUT.locate(0, 4097), Err(BadCompletion::Crosses { offset: 0, len: 4097 }));
        assert_eq!(LAYOUT.locate(end - 4096, 4096), Ok(Place { offset: end - 4096, len: 4096, buffer: end - 4096 }));
        assert_eq!(LAYOUT.locate(4097, 4095), Ok(Place { offset: 4097, len: 4095, buffer: 4096 }));
    }

    proptest! {
        /// Z7: what is accepted lies within one buffer of the area, and holds exactly what was reported.
        #[test]
        fn an_accepted_place_is_within_one_buffer(
            buffers in 0_u32..300,
            shift in 12_u32..22,
            offset in prop_oneof![any::<u64>(), 0_u64..1 << 30],
            len in prop_oneof![any::<i32>(), -2_i32..70_000],
        ) {
            let layout = Layout { buffers, buffer_size: 1 << shift };
            if let Ok(place) = layout.locate(offset, len) {
                prop_assert_eq!(place.offset, offset);
                prop_assert_eq!(i64::from(place.len), i64::from(len));
                prop_assert!(place.len > 0);
                prop_assert_eq!(place.buffer % u64::from(layout.buffer_size), 0);
                prop_assert!(place.buffer < u64::from(buffers) << shift);
                prop_assert!(place.offset >= place.buffer);
                prop_assert!(place.offset + u64::from(place.len) <= place.buffer + u64::from(layout.buffer_size));
            }
        }
    }
}
