//! An endpoint that its domain's thread drives, and that any thread may use.

use super::counter::Counting;
use super::progress::{Member, State};
use super::{Completed, CompletionQueue, Domain, EndpointFailed, EndpointId};
use crate::{Address, Endpoint, Generation};
use opx_bus::PciFunction;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};

/// An endpoint that makes progress by itself (FI_PROGRESS_AUTO): its domain's thread drives it, and its operations complete in a
/// [`CompletionQueue`]. Any thread may use it; for the time of an operation it has a lock. Made by [`Domain::endpoint`], where
/// there is an example.
///
/// Dropping it closes it. One that is forgotten goes on, with the buffers of its operations, which it owns.
#[derive(Debug)]
pub struct SharedEndpoint<B: PciFunction> {
    id: EndpointId,
    address: Address,
    generation: Generation,
    member: Arc<Member<B>>,
    domain: Domain<B>,
}

impl<B: PciFunction> SharedEndpoint<B> {
    pub(crate) fn new(
        id: EndpointId,
        address: Address,
        generation: Generation,
        member: Arc<Member<B>>,
        domain: Domain<B>,
    ) -> Self {
        Self { id, address, generation, member, domain }
    }

    /// Its name in completions and events.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What peers put into their address vectors, see [`Endpoint::name`].
    pub fn name(&self) -> Vec<u8> {
        self.address.name(self.generation)
    }

    /// Where its operations complete.
    pub fn queue(&self) -> &CompletionQueue {
        &self.member.queue
    }

    /// The domain.
    pub fn domain(&self) -> &Domain<B> {
        &self.domain
    }

    /// The endpoint itself, to post operations; nobody else has it, nor does it make progress, until that is dropped. Completions
    /// come from the queue, not from [`Endpoint::poll_completion`].
    ///
    /// # Errors
    /// When it can't go on, or belongs to the process that this one was forked from.
    pub fn lock(&self) -> Result<EndpointGuard<'_, B>, EndpointFailed> {
        // A forked child may find the lock taken for ever.
        if !self.domain.progress().is_here() {
            return Err(EndpointFailed::forked(self.id));
        }
        let state = self.member.lock();
        match &state.driven {
            Some(driven) => match &driven.failed {
                None => Ok(EndpointGuard { state, member: &self.member }),
                Some(failed) => Err(failed.clone()),
            },
            None => unreachable!("it is closed by its owner only, who is gone then"),
        }
    }

    /// Lets it count what completes from now on. In a forked child it does nothing.
    pub fn count(&self, counting: Counting) {
        if self.domain.progress().is_here()
            && let Some(driven) = &mut self.member.lock().driven
        {
            driven.count(counting);
        }
    }

    /// Closes it. Operations that were under way fail; their completions, and those that found no room in the queue, are given.
    /// What is in the queue stays there. In a forked child there is nothing to close, and nothing is given.
    pub fn close(self) -> Vec<Completed> {
        self.take_away()
    }

    fn take_away(&self) -> Vec<Completed> {
        if !self.domain.progress().is_here() {
            return Vec::new();
        }
        self.domain.progress().remove(&self.member);
        let Some(mut driven) = self.member.close() else { return Vec::new() };
        driven.engine.cancel_all();
        driven.publish();
        let endpoint = self.id;
        driven.engine.completions().drain(usize::MAX).map(|completion| Completed { endpoint, completion }).collect()
    }
}

impl<B: PciFunction> Drop for SharedEndpoint<B> {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// An endpoint, for as long as its owner does something with it.
#[derive(Debug)]
pub struct EndpointGuard<'a, B: PciFunction> {
    state: MutexGuard<'a, State<B>>,
    member: &'a Member<B>,
}

impl<B: PciFunction> Deref for EndpointGuard<'_, B> {
    type Target = Endpoint<B>;

    #[inline]
    fn deref(&self) -> &Endpoint<B> {
        match &self.state.driven {
            Some(driven) => &driven.engine,
            None => unreachable!("it was there when it was locked"),
        }
    }
}

impl<B: PciFunction> DerefMut for EndpointGuard<'_, B> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Endpoint<B> {
        match &mut self.state.driven {
            Some(driven) => &mut driven.engine,
            None => unreachable!("it was there when it was locked"),
        }
    }
}

impl<B: PciFunction> Drop for EndpointGuard<'_, B> {
    fn drop(&mut self) {
        // Its holder may have forked meanwhile: then the queue is the parent's, and so is the thread that would be woken.
        if self.member.queue.is_here() {
            self.member.settle(&mut self.state);
        }
    }
}
