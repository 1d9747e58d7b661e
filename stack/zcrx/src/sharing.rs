//! Which of several rings own pools and which import them, by the numbers of their hardware queues.

use crate::error::{CreateError, ExportError, ImportError, OwnerGone};
use crate::kernel::Queue;
use crate::owner::RingHandle;

/// What a ring is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Make a pool.
    Owner,
    /// Import the pool of the ring at this place.
    Importer {
        /// The owner's place in the list.
        of: usize,
    },
}

/// Why rings can't share pools.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharingError {
    /// No rings.
    #[error("there is no ring to have a pool")]
    NoRings,
    /// No queues.
    #[error("pools need at least one hardware queue")]
    NoQueues,
    /// A ring's thread is gone.
    #[error("ring {ring}: {source}")]
    Gone {
        /// Its place in the list.
        ring: usize,
        /// That.
        source: OwnerGone,
    },
    /// An owner got no pool.
    #[error("ring {ring} gets no pool: {source}")]
    Create {
        /// Its place in the list.
        ring: usize,
        /// Why.
        source: CreateError,
    },
    /// An owner's pool isn't handed out.
    #[error("the pool of ring {ring} isn't handed out: {source}")]
    Export {
        /// The owner's place in the list.
        ring: usize,
        /// Why.
        source: ExportError,
    },
    /// A pool wasn't attached.
    #[error("ring {ring} can't have the pool of ring {owner}: {source}")]
    Import {
        /// The importer's place in the list.
        ring: usize,
        /// The owner's.
        owner: usize,
        /// Why.
        source: ImportError,
    },
}

/// Assigns roles to rings with these queue numbers (negative: none), when there are so many hardware queues. The rings
/// with the lowest numbers are owners, and the others import from them in turn: which ring that is depends on the numbers,
/// not on the order in which the rings are listed. Rings without a number come last, in that order.
///
/// # Errors
/// [`SharingError::NoRings`], [`SharingError::NoQueues`].
///
/// ```
/// use opx_zcrx::{Role, roles};
///
/// assert_eq!(roles(&[2, 0, 1], 2)?, [Role::Importer { of: 1 }, Role::Owner, Role::Owner]);
/// # Ok::<(), opx_zcrx::SharingError>(())
/// ```
pub fn roles(queue_ids: &[i32], hardware_queues: usize) -> Result<Vec<Role>, SharingError> {
    if queue_ids.is_empty() {
        return Err(SharingError::NoRings);
    }
    if hardware_queues == 0 {
        return Err(SharingError::NoQueues);
    }
    let mut order: Vec<usize> = (0..queue_ids.len()).collect();
    // A stable sort. Negative numbers are the largest as unsigned ones; all of them are the same.
    order.sort_by_key(|ring| queue_ids[*ring].max(-1).cast_unsigned());
    let owners = hardware_queues.min(order.len());
    let mut roles = vec![Role::Owner; order.len()];
    for (place, ring) in order.iter().enumerate().skip(owners) {
        roles[*ring] = Role::Importer { of: order[(place - owners) % owners] };
    }
    Ok(roles)
}

/// Has each ring make or import a pool, on its own thread, as [`roles`] says. The threads have to wait on their rings
/// meanwhile. A ring that has a pool already keeps it.
///
/// # Errors
/// See [`SharingError`]. Pools that were made until then stay with their rings.
pub fn share_pools<Q: Queue>(rings: &[RingHandle<Q>], hardware_queues: usize) -> Result<Vec<Role>, SharingError> {
    let gone = |ring| move |source| SharingError::Gone { ring, source };
    let mut queue_ids = Vec::with_capacity(rings.len());
    for (at, ring) in rings.iter().enumerate() {
        queue_ids.push(ring.run_and_wait(|ring| ring.options().queue_id()).map_err(gone(at))?);
    }
    let roles = roles(&queue_ids, hardware_queues)?;
    let all = || roles.iter().zip(rings).enumerate();
    for (at, (_, ring)) in all().filter(|(_, (role, _))| **role == Role::Owner) {
        let made = ring.run_and_wait(|ring| if ring.has_pool() { Ok(()) } else { ring.create_pool() });
        made.map_err(gone(at))?.map_err(|source| SharingError::Create { ring: at, source })?;
    }
    for (at, (role, ring)) in all() {
        let Role::Importer { of: owner } = *role else { continue };
        if ring.run_and_wait(|ring| ring.has_pool()).map_err(gone(at))? {
            continue;
        }
        let exported = rings[owner].run_and_wait(|ring| ring.export_pool()).map_err(gone(owner))?;
        let exported = exported.map_err(|source| SharingError::Export { ring: owner, source })?;
        let imported = ring.run_and_wait(move |ring| ring.import_pool(exported)).map_err(gone(at))?;
        imported.map_err(|source| SharingError::Import { ring: at, owner, source })?;
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Z14: four rings and so many queues. By place: who is owner, and whose pool the others have.
    #[test]
    fn four_rings_share_what_queues_there_are() {
        let (o, i) = (Role::Owner, |of| Role::Importer { of });
        for (queues, expected) in
            [(1, [o, i(0), i(0), i(0)]), (2, [o, o, i(0), i(1)]), (3, [o, o, o, i(0)]), (4, [o; 4]), (8, [o; 4])]
        {
            assert_eq!(roles(&[0, 1, 2, 3], queues).unwrap(), expected, "{queues} queues");
        }
        assert_eq!(roles(&[-1, 7, -5, 3], 2).unwrap(), [i(3), o, i(1), o], "those without a number come last");
        assert!(matches!(roles(&[], 1), Err(SharingError::NoRings)));
        assert!(matches!(roles(&[0], 0), Err(SharingError::NoQueues)));
    }

    /// For each queue number, the number of the owner's.
    fn owners(queue_ids: &[i32], queues: usize) -> BTreeMap<i32, i32> {
        let roles = roles(queue_ids, queues).unwrap();
        let owner = |(ring, role): (usize, &Role)| match role {
            Role::Owner => (queue_ids[ring], queue_ids[ring]),
            Role::Importer { of } => (queue_ids[ring], queue_ids[*of]),
        };
        roles.iter().enumerate().map(owner).collect()
    }

    proptest! {
        /// Z14: whatever the order of the rings, each has the same owner.
        #[test]
        fn owners_dont_depend_on_the_order_of_the_rings(
            (sorted, shuffled) in prop::collection::btree_set(0_i32..1000, 1..20)
                .prop_map(|ids| ids.into_iter().collect::<Vec<_>>())
                .prop_flat_map(|ids| (Just(ids.clone()), Just(ids).prop_shuffle())),
            queues in 1_usize..25,
        ) {
            prop_assert_eq!(owners(&sorted, queues), owners(&shuffled, queues));
        }

        /// Z14: as many owners as there are queues for, each importer has a real owner, and they are spread evenly.
        #[test]
        fn importers_are_spread_evenly(ids in prop::collection::vec(-3_i32..50, 1..20), queues in 1_usize..25) {
            let roles = roles(&ids, queues).unwrap();
            let mut importers = vec![0; ids.len()];
            for role in &roles {
                if let Role::Importer { of } = role {
                    prop_assert_eq!(roles[*of], Role::Owner);
                    importers[*of] += 1;
                }
            }
            let of_owners: Vec<i32> =
                roles.iter().zip(importers).filter_map(|(role, count)| (*role == Role::Owner).then_some(count)).collect();
            prop_assert_eq!(of_owners.len(), queues.min(ids.len()));
            let (least, most) = (of_owners.iter().min(), of_owners.iter().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
        }
    }
}
