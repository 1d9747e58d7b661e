//! Which engine a packet goes through: by its virtual lane, by the core that sends it, and spread by a selector.
//!
//! Packets that must stay in order use the same lane, core and selector, and so the same engine: the choice depends on
//! nothing else (`sdma.c:sdma_select_user_engine`).

use opx_defs::units::Vl;

/// Most virtual lanes for data.
const MAX_VLS: usize = 8;

/// Why a map can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// There are no engines, or no lanes.
    #[error("{engines} engines for {vls} virtual lanes: there must be at least one engine, and 1 to 8 lanes")]
    Nothing {
        /// Engines.
        engines: usize,
        /// Lanes.
        vls: usize,
    },
    /// A lane would have no engine.
    #[error(
        "virtual lane {vl} would have no engine: give each lane at least one, or use fewer lanes than the {engines} engines"
    )]
    EmptyLane {
        /// The lane.
        vl: Vl,
        /// Engines.
        engines: usize,
    },
    /// An engine that isn't there.
    #[error("engine {engine} of {engines}: there is no such engine")]
    NoSuchEngine {
        /// The engine.
        engine: usize,
        /// Engines.
        engines: usize,
    },
    /// A lane that isn't there.
    #[error("virtual lane {vl} of {vls}: there is no such lane")]
    NoSuchLane {
        /// The lane.
        vl: Vl,
        /// Lanes.
        vls: usize,
    },
}

/// Engines that share some work: a power of two of places, so that a selector needs no division. The first ones are used
/// again when the number of engines is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spread {
    engines: Box<[u8]>,
}

impl Spread {
    fn new(engines: impl ExactSizeIterator<Item = u8> + Clone) -> Self {
        let places = engines.len().next_power_of_two();
        Self { engines: engines.cycle().take(places).collect() }
    }

    #[inline]
    fn pick(&self, selector: u32) -> Option<usize> {
        let mask = self.engines.len().wrapping_sub(1);
        self.engines.get(selector as usize & mask).map(|engine| usize::from(*engine))
    }
}

/// A choice of engines: for each lane, and for cores that were given engines of their own.
///
/// ```
/// use opx_defs::units::Vl;
/// use opx_sdma::EngineMap;
/// // 16 engines for 3 lanes: the last lane gets the one that is left over.
/// let mut map = EngineMap::new(16, 3)?;
/// assert_eq!(map.by_vl(0, Vl(1)), 5);
/// assert_eq!(map.by_vl(7, Vl(1)), 7, "eight places for five engines: the first three again");
/// // Core 4 has engine 9 for lane 0 to itself.
/// map.pin(4, Vl(0), &[9])?;
/// assert_eq!((map.select(Some(4), 3, Vl(0)), map.select(Some(5), 3, Vl(0))), (9, 3));
/// # Ok::<(), opx_sdma::MapError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EngineMap {
    engines: usize,
    /// By lane, a power of two of them.
    lanes: Box<[Spread]>,
    vls: usize,
    /// By core, then by lane.
    pinned: Vec<[Option<Spread>; MAX_VLS]>,
}

impl EngineMap {
    /// Spreads `engines` evenly over `vls` lanes; those that are left over go to the last lanes
    /// (`sdma.c:sdma_map_init`).
    ///
    /// # Errors
    /// When a lane would have none.
    pub fn new(engines: usize, vls: usize) -> Result<Self, MapError> {
        if engines == 0 || vls == 0 || vls > MAX_VLS {
            return Err(MapError::Nothing { engines, vls });
        }
        let (each, extra) = (engines / vls, engines % vls);
        let counts: Vec<usize> = (0..vls).map(|vl| each + usize::from(vl >= vls - extra)).collect();
        Self::with_counts(engines, &counts)
    }

    /// Gives lane `n` the next `counts[n]` of `engines`.
    ///
    /// # Errors
    /// When a lane would have none, or there are fewer engines than that.
    pub fn with_counts(engines: usize, counts: &[usize]) -> Result<Self, MapError> {
        let vls = counts.len();
        if engines == 0 || vls == 0 || vls > MAX_VLS || engines > usize::from(u8::MAX) {
            return Err(MapError::Nothing { engines, vls });
        }
        let mut next = 0usize;
        let mut lanes = Vec::with_capacity(vls.next_power_of_two());
        for (vl, &count) in (0u8..).zip(counts) {
            if count == 0 {
                return Err(MapError::EmptyLane { vl: Vl(vl), engines });
            }
            let end = next.saturating_add(count);
            if end > engines {
                return Err(MapError::NoSuchEngine { engine: end - 1, engines });
            }
            lanes.push(Spread::new((next..end).map(|engine| engine as u8).collect::<Vec<_>>().into_iter()));
            next = end;
        }
        // Lanes beyond the last use those from the first on again.
        let places = vls.next_power_of_two();
        let lanes = lanes.into_iter().cycle().take(places).collect();
        Ok(Self { engines, lanes, vls, pinned: Vec::new() })
    }

    /// Gives core `core` engines of its own for lane `vl`, in place of those that it had; none to take them away
    /// (`sdma.c:sdma_set_cpu_to_sde_map`).
    ///
    /// # Errors
    /// When an engine or the lane isn't there.
    pub fn pin(&mut self, core: u16, vl: Vl, engines: &[usize]) -> Result<(), MapError> {
        if usize::from(vl.0) >= self.vls {
            return Err(MapError::NoSuchLane { vl, vls: self.vls });
        }
        if let Some(&engine) = engines.iter().find(|engine| **engine >= self.engines) {
            return Err(MapError::NoSuchEngine { engine, engines: self.engines });
        }
        let core = usize::from(core);
        if self.pinned.len() <= core {
            self.pinned.resize_with(core + 1, Default::default);
        }
        let spread = (!engines.is_empty()).then(|| Spread::new(engines.iter().map(|engine| *engine as u8)));
        if let Some(place) = self.pinned.get_mut(core).and_then(|lanes| lanes.get_mut(usize::from(vl.0))) {
            *place = spread;
        }
        Ok(())
    }

    /// The engine of a lane; engine 0 for lanes that aren't there (`sdma.c:sdma_select_engine_vl`).
    #[inline]
    pub fn by_vl(&self, selector: u32, vl: Vl) -> usize {
        let vl = usize::from(vl.0);
        if vl >= self.vls {
            return 0;
        }
        self.lanes.get(vl).and_then(|lane| lane.pick(selector)).unwrap_or(0)
    }

    /// The engine that a sender on `core` uses for a lane; `None` for senders that may move to another core
    /// (`sdma.c:sdma_select_user_engine`).
    #[inline]
    pub fn select(&self, core: Option<u16>, selector: u32, vl: Vl) -> usize {
        let lanes = core.and_then(|core| self.pinned.get(usize::from(core)));
        let own = lanes.and_then(|lanes| lanes.get(usize::from(vl.0)));
        match own {
            Some(Some(spread)) => spread.pick(selector).unwrap_or(0),
            _ => self.by_vl(selector, vl),
        }
    }

    /// The lane that an engine belongs to, if it belongs to one (`sdma.c:sdma_engine_get_vl`).
    pub fn vl_of(&self, engine: usize) -> Option<Vl> {
        let of = |lane: &Spread| lane.engines.iter().any(|one| usize::from(*one) == engine);
        self.lanes.iter().take(self.vls).position(of).map(|vl| Vl(vl as u8))
    }

    /// Engines of a lane, each once.
    pub fn engines_of(&self, vl: Vl) -> impl Iterator<Item = usize> + '_ {
        let lane = self.lanes.get(usize::from(vl.0)).filter(|_| usize::from(vl.0) < self.vls);
        let engines = lane.map_or(&[][..], |lane| &lane.engines[..]);
        let once =
            |(n, engine): (usize, &u8)| (!engines.iter().take(n).any(|e| e == engine)).then_some(usize::from(*engine));
        engines.iter().enumerate().filter_map(once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What `sdma.c:sdma_map_init` says of its map, for all numbers of engines and lanes.
        #[test]
        fn every_engine_has_one_lane_and_every_lane_its_share(engines in 1usize..=16, vls in 1usize..=8) {
            prop_assume!(engines >= vls);
            let map = EngineMap::new(engines, vls).unwrap();
            let shares: Vec<Vec<usize>> = (0..vls).map(|vl| map.engines_of(Vl(vl as u8)).collect()).collect();
            prop_assert_eq!(shares.concat(), (0..engines).collect::<Vec<_>>());
            prop_assert!(shares.is_sorted_by_key(Vec::len) && shares[vls - 1].len() <= shares[0].len() + 1);
            for (vl, share) in shares.iter().enumerate() {
                let vl = Vl(vl as u8);
                let picked: Vec<_> = (0..64).map(|selector| map.by_vl(selector, vl)).collect();
                let places = share.len().next_power_of_two();
                let wanted: Vec<_> = (0..64).map(|selector| share[selector % places % share.len()]).collect();
                prop_assert_eq!(picked, wanted);
                prop_assert!(share.iter().all(|engine| map.vl_of(*engine) == Some(vl)));
            }
            prop_assert_eq!(map.by_vl(5, Vl(15)), 0);
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert!(matches!(EngineMap::new(0, 1), Err(MapError::Nothing { .. })));
        assert!(matches!(EngineMap::new(16, 9), Err(MapError::Nothing { .. })));
        assert!(matches!(EngineMap::new(2, 3), Err(MapError::EmptyLane { vl: Vl(0), .. })));
        assert!(matches!(EngineMap::with_counts(4, &[2, 3]), Err(MapError::NoSuchEngine { engine: 4, .. })));
        let mut map = EngineMap::new(4, 2).unwrap();
        assert!(matches!(map.pin(0, Vl(2), &[0]), Err(MapError::NoSuchLane { .. })));
        assert!(matches!(map.pin(0, Vl(1), &[4]), Err(MapError::NoSuchEngine { .. })));
    }

    #[test]
    fn a_core_keeps_its_engines_until_they_are_taken_away() {
        let mut map = EngineMap::new(4, 1).unwrap();
        map.pin(2, Vl(0), &[3, 1, 2]).unwrap();
        let picked = |map: &EngineMap| (0..4).map(|n| map.select(Some(2), n, Vl(0))).collect::<Vec<_>>();
        assert_eq!(picked(&map), [3, 1, 2, 3]);
        assert_eq!(map.select(None, 1, Vl(0)), 1);
        map.pin(2, Vl(0), &[]).unwrap();
        assert_eq!(picked(&map), [0, 1, 2, 3]);
    }
}
