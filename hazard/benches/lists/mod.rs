//! Two more ordered lists: one on raw hazard pointers, one on crossbeam-epoch. Keys and values are numbers.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use asymfence_hazard::{Domain, HazardPointer, Link, Tagged};
use crossbeam_epoch::{Atomic, Guard, Owned, Shared};

/// Michael's list on `protect_raw`, `Link` and addresses.
pub(crate) struct Raw {
    head: Link<RawNode>,
}

struct RawNode {
    key: u64,
    value: u64,
    next: Link<RawNode>,
}

/// The link at which the search stopped, the node that it holds, and whether that node has the key.
type Found = (*const Link<RawNode>, Tagged<RawNode>, bool);

impl Raw {
    pub(crate) fn new() -> Self {
        Raw { head: Link::null() }
    }

    fn unlink(link: &Link<RawNode>, node: Tagged<RawNode>, next: Tagged<RawNode>) -> bool {
        // SAFETY: the node is frozen, so what comes next stays linked until the node itself is unlinked, here.
        let unlinked = unsafe { link.compare_exchange(node, next.with_tag(0)) };
        if let Ok(old) = unlinked {
            // SAFETY: from a box, and unlinked by us alone.
            unsafe { Domain::global().retire(old.as_ptr()) };
        }
        unlinked.is_ok()
    }

    #[inline]
    fn search(&self, key: u64, [behind, ahead]: &mut [HazardPointer; 2]) -> Found {
        'again: loop {
            let mut link: *const Link<RawNode> = &self.head;
            // SAFETY: the head, or in a node that `behind` protects. So everywhere below.
            let mut node = unsafe { &*link }.load();
            loop {
                if node.is_frozen() {
                    continue 'again;
                }
                ahead.protect_raw(node.as_ptr());
                // SAFETY: as above.
                let found = unsafe { &*link }.load();
                if found != node {
                    node = found;
                    continue;
                }
                // SAFETY: protected, and linked after that by a link that was not frozen.
                let Some(here) = (unsafe { node.as_ptr().as_ref() }) else {
                    return (link, node, false);
                };
                let next = here.next.load();
                if next.is_frozen() {
                    // SAFETY: as above.
                    if !Self::unlink(unsafe { &*link }, node, next) {
                        continue 'again;
                    }
                    node = next.with_tag(0);
                } else {
                    if here.key >= key {
                        return (link, node, here.key == key);
                    }
                    link = &here.next;
                    node = next;
                    std::mem::swap(behind, ahead);
                }
            }
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        let mut hazards = HazardPointer::array();
        let (_, node, found) = self.search(key, &mut hazards);
        // SAFETY: protected.
        found.then(|| unsafe { &*node.as_ptr() }.value)
    }

    pub(crate) fn insert(&self, key: u64, value: u64) {
        let mut hazards = HazardPointer::array();
        let new = Tagged::from(Box::new(RawNode { key, value, next: Link::null() }));
        loop {
            let (link, node, _) = self.search(key, &mut hazards);
            // SAFETY: ours until it is linked.
            let next = unsafe { &(*new.as_ptr()).next };
            // SAFETY: nobody follows it before the exchange, which finds `node` linked.
            unsafe { next.store(node) };
            // SAFETY: the head, or in a node that is protected.
            let link = unsafe { &*link };
            // SAFETY: a new node is retired when it has been unlinked.
            if unsafe { link.compare_exchange(node, new) }.is_ok() {
                return;
            }
        }
    }

    pub(crate) fn remove(&self, key: u64) {
        let mut hazards = HazardPointer::array();
        loop {
            let (link, node, found) = self.search(key, &mut hazards);
            if !found {
                return;
            }
            // SAFETY: protected.
            let next = unsafe { &*node.as_ptr() }.next.freeze();
            if !next.is_frozen() {
                // SAFETY: as in `search`.
                Self::unlink(unsafe { &*link }, node, next);
                return;
            }
        }
    }
}

/// Michael's list on crossbeam-epoch.
pub(crate) struct Epoch {
    head: Atomic<EpochNode>,
}

struct EpochNode {
    key: u64,
    value: u64,
    next: Atomic<EpochNode>,
}

impl Epoch {
    pub(crate) fn new() -> Self {
        Epoch { head: Atomic::null() }
    }

    #[inline]
    fn search<'g>(
        &'g self,
        key: u64,
        guard: &'g Guard,
    ) -> (&'g Atomic<EpochNode>, Shared<'g, EpochNode>, bool) {
        'again: loop {
            let mut link = &self.head;
            let mut node = link.load(Acquire, guard);
            loop {
                // SAFETY: destroyed after the guard.
                let Some(here) = (unsafe { node.as_ref() }) else { return (link, node, false) };
                let next = here.next.load(Acquire, guard);
                if next.tag() == 1 {
                    if link
                        .compare_exchange(node, next.with_tag(0), AcqRel, Acquire, guard)
                        .is_err()
                    {
                        continue 'again;
                    }
                    // SAFETY: unlinked by us alone.
                    unsafe { guard.defer_destroy(node) };
                    node = next.with_tag(0);
                } else {
                    if here.key >= key {
                        return (link, node, here.key == key);
                    }
                    link = &here.next;
                    node = next;
                }
            }
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        let guard = crossbeam_epoch::pin();
        let (_, node, found) = self.search(key, &guard);
        // SAFETY: destroyed after the guard.
        found.then(|| unsafe { node.deref() }.value)
    }

    pub(crate) fn insert(&self, key: u64, value: u64) {
        let guard = crossbeam_epoch::pin();
        let mut new = Owned::new(EpochNode { key, value, next: Atomic::null() });
        loop {
            let (link, node, _) = self.search(key, &guard);
            new.next.store(node, Relaxed);
            match link.compare_exchange(node, new, AcqRel, Acquire, &guard) {
                Ok(_) => return,
                Err(error) => new = error.new,
            }
        }
    }

    pub(crate) fn remove(&self, key: u64) {
        let guard = crossbeam_epoch::pin();
        loop {
            let (link, node, found) = self.search(key, &guard);
            if !found {
                return;
            }
            // SAFETY: destroyed after the guard.
            let next = unsafe { node.deref() }.next.fetch_or(1, AcqRel, &guard);
            if next.tag() == 0 {
                if link.compare_exchange(node, next, AcqRel, Acquire, &guard).is_ok() {
                    // SAFETY: unlinked by us alone.
                    unsafe { guard.defer_destroy(node) };
                }
                return;
            }
        }
    }
}
