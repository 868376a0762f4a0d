//! Singly linked chains in which any thread may insert and remove: Harris' mark and Michael's validation, as types
//! (Harris, DISC 2001; Michael, SPAA 2002).
//!
//! A link is *live* if it is the root, or belongs to a node that is in the chain, frozen or not. ONE-LIVE-LINK: exactly
//! one live link leads to a node that is in the chain.
//!
//! - `insert` links a new node by an exchange of the predecessor's link. Before it, that link is the live link to the
//!   following node. From the exchange on, the new node's link is.
//! - A frozen link never changes: every exchange expects a link that is not frozen. So if a frozen link of node A leads
//!   to node B, no thread can unlink B before A is unlinked. When A is unlinked, the link of A's predecessor becomes
//!   the live link to B.
//! - `unlink` takes a node whose link is frozen out of the chain, by replacing the one live link to it. Only one thread
//!   can do so, and that thread retires the node.
//!
//! So if a link is not frozen, its node is in the chain (or is new, and no other thread sees it), and the node to which
//! it leads is not retired at that moment. `follow` checks that after its publication (LINKED).

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use crate::family::{Family, Global};
use crate::link::{Follow, Link, Tagged};
use crate::panics::through_panics;
use crate::pointer::HazardPointer;
use crate::sync::Ordering::Relaxed;
use crate::sync::get_mut;

/// A link of a chain.
type Next<T, F> = Link<Node<T, F>, F>;

struct Node<T, F: Family> {
    next: Next<T, F>,
    value: T,
}

/// Where a chain of nodes begins. Owns the nodes.
///
/// The base of lists and of structures made of lists. It has only operations that keep it sound, so structures built on
/// it need no `unsafe`:
///
/// - *insert* a node;
/// - *freeze* its link: from then on the link does not change, and the node counts as removed, although readers may
///   still pass it;
/// - *unlink* the node, which retires it.
///
/// A [`Cursor`] searches a sorted chain. [`Place`] and [`NodeGuard`] walk over a chain by hand.
///
/// A sorted set:
///
/// ```
/// #![forbid(unsafe_code)]
/// use asymfence_hazard::{Chain, NewNode};
///
/// static SET: Chain<u32> = Chain::new();
///
/// fn insert(value: u32) -> bool {
///     let (mut cursor, mut new) = (SET.cursor(), NewNode::new(value));
///     loop {
///         if cursor.seek(|other| *other < value) == Some(&value) {
///             return false;
///         }
///         match cursor.insert(new) {
///             Ok(()) => return true,
///             Err(back) => new = back, // another thread was first: seek again
///         }
///     }
/// }
///
/// fn remove(value: u32) -> bool {
///     let mut cursor = SET.cursor();
///     while cursor.seek(|other| *other < value) == Some(&value) {
///         if cursor.remove() {
///             return true;
///         }
///     }
///     false
/// }
///
/// assert!(insert(2) && insert(1) && !insert(2));
/// assert!(remove(2) && !remove(2));
/// ```
///
/// Guards and cursors borrow the chain, so a chain that is dropped frees its nodes at once. (If destructors panic, the
/// first panic is resumed when all nodes have been freed. Without `std` a panic is not caught, and the nodes behind
/// that one are leaked.)
///
/// ```compile_fail,E0505
/// let chain = asymfence_hazard::Chain::<String>::new();
/// let mut cursor = chain.cursor();
/// drop(chain);
/// cursor.seek(|_| false);
/// ```
pub struct Chain<T, F: Family = Global> {
    first: Next<T, F>,
    owns: PhantomData<Node<T, F>>,
}

// SAFETY: it gives `&T` to many threads, and frees `T` in any thread.
unsafe impl<T: Send + Sync, F: Family> Send for Chain<T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F: Family> Sync for Chain<T, F> {}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// Creates an empty chain.
        #[must_use]
        pub $($constness)? fn new() -> Self {
            Chain { first: Link::null(), owns: PhantomData }
        }
    };
}

impl<T: Send + Sync + 'static, F: Family> Chain<T, F> {
    crate::sync::const_where_possible!(new);

    /// A cursor at the beginning, with two hazard pointers of its own.
    #[inline]
    pub fn cursor(&self) -> Cursor<'_, T, F> {
        let [behind, ahead] = HazardPointer::array();
        Cursor { chain: self, link: &self.first, node: ptr::null_mut(), behind, ahead }
    }
}

impl<T: Send + Sync + 'static, F: Family> Default for Chain<T, F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, F: Family> Drop for Chain<T, F> {
    fn drop(&mut self) {
        let mut next = Tagged::from_word(get_mut(self.first.word_mut()));
        through_panics(|| {
            while next != Tagged::null() {
                // SAFETY: still in the chain, and no guard borrows the chain.
                let mut node = unsafe { Box::from_raw(next.as_ptr()) };
                next = Tagged::from_word(get_mut(node.next.word_mut())).with_tag(0);
            }
        });
    }
}

impl<T, F: Family> fmt::Debug for Chain<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").field(&self.first).finish()
    }
}

/// A node that is not linked yet.
///
/// ```
/// let node: asymfence_hazard::NewNode<u32> = asymfence_hazard::NewNode::new(7);
/// assert_eq!((*node, node.into_inner()), (7, 7));
/// ```
pub struct NewNode<T, F: Family = Global> {
    node: Box<Node<T, F>>,
}

impl<T, F: Family> NewNode<T, F> {
    /// Allocates a node.
    #[must_use]
    pub fn new(value: T) -> Self {
        NewNode { node: Box::new(Node { next: Link::null(), value }) }
    }

    /// The value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.node.value
    }

    /// Links the node at `link`, before `next`, if `link` holds `next`.
    fn link(mut self, link: &Next<T, F>, next: *mut Node<T, F>) -> Result<(), Self> {
        self.node.next = Link::of(next);
        let new = Tagged::from(self.node);
        // SAFETY: LINKED: if `link` holds `next`, it is the one live link to it. From now on the new node has that link
        // (ONE-LIVE-LINK). The new node is retired after it was frozen and this link was changed.
        match unsafe { link.compare_exchange(Tagged::from_word(next), new) } {
            Ok(_) => Ok(()),
            Err(_) => {
                // SAFETY: from a box, and not linked.
                let node = unsafe { Box::from_raw(new.as_ptr()) };
                Err(NewNode { node })
            }
        }
    }
}

impl<T, F: Family> Deref for NewNode<T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.node.value
    }
}

impl<T: fmt::Debug, F: Family> fmt::Debug for NewNode<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewNode").field(&**self).finish()
    }
}

/// Removes a node by freezing its link. Returns whether this call did it.
fn freeze<T, F: Family>(node: &Node<T, F>) -> bool {
    // The removal synchronises with a thread that finds it: see `Link::fetch_or`.
    !node.next.freeze().is_frozen()
}

/// Unlinks `node` at `link` and retires it, if it is frozen and `link` leads to it.
#[cold]
fn unlink<T: Send + Sync + 'static, F: Family>(
    link: &Next<T, F>,
    node: NonNull<Node<T, F>>,
    next: Tagged<Node<T, F>>,
) -> bool {
    debug_assert!(next.is_frozen(), "`next` is what the node's link holds for good");
    // SAFETY: LINKED: the node's link is frozen, so the next node stays in the chain until this node is unlinked, here.
    // From then on this link is the live one (ONE-LIVE-LINK).
    match unsafe { link.compare_exchange(Tagged::from_word(node.as_ptr()), next.with_tag(0)) } {
        Ok(old) => {
            // SAFETY: from a box. This was the one live link to it, and only we have replaced it.
            unsafe { F::domain().retire(old.as_ptr()) };
            true
        }
        Err(_) => false,
    }
}

/// A node of a chain, and a hazard pointer that protects it. It may have been removed, and unlinked.
///
/// ```
/// use asymfence_hazard::{Chain, NewNode};
///
/// let chain = Chain::<u32>::new();
/// chain.cursor().insert(NewNode::new(7)).unwrap();
/// let mut cursor = chain.cursor();
/// cursor.seek(|_| false);
/// let seven = cursor.into_guard().expect("a node");
/// assert_eq!(*seven, 7);
/// ```
pub struct NodeGuard<'c, T, F: Family = Global> {
    node: NonNull<Node<T, F>>,
    hazard: HazardPointer<F>,
    chain: PhantomData<&'c Chain<T, F>>,
}

// SAFETY: a `&T`, and a hazard pointer, which any thread may use.
unsafe impl<T: Send + Sync, F: Family> Send for NodeGuard<'_, T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F: Family> Sync for NodeGuard<'_, T, F> {}

impl<T, F: Family> NodeGuard<'_, T, F> {
    #[inline]
    fn node(&self) -> &Node<T, F> {
        // SAFETY: protected, by a hazard pointer that we own and do not expose.
        unsafe { self.node.as_ref() }
    }

    /// Whether the node has been removed: its link is frozen.
    #[inline]
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.node().next.load().is_frozen()
    }

    /// Removes the node by freezing its link. Returns whether this call did it. The node stays in the chain until a
    /// thread [unlinks](Place::unlink) it.
    pub fn freeze(&self) -> bool {
        freeze(self.node())
    }

    /// Returns the hazard pointer.
    #[inline]
    #[must_use]
    pub fn into_hazard(self) -> HazardPointer<F> {
        self.hazard
    }
}

impl<T, F: Family> Deref for NodeGuard<'_, T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.node().value
    }
}

impl<T: fmt::Debug, F: Family> fmt::Debug for NodeGuard<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeGuard").field(&**self).finish()
    }
}

/// A link to follow: the link of the chain, or that of a node.
///
/// ```
/// use asymfence_hazard::{Chain, Follow, HazardPointer, NewNode, Place};
///
/// let chain = Chain::<u32>::new();
/// Place::First(&chain).insert(None, NewNode::new(1)).unwrap();
/// let Follow::To(one) = Place::First(&chain).follow(HazardPointer::new()) else { panic!() };
/// let Follow::End(hazard) = Place::After(one).follow(HazardPointer::new()) else { panic!() };
///
/// // Removing: freeze, then unlink.
/// let Follow::To(one) = Place::First(&chain).follow(hazard) else { panic!() };
/// assert!(one.freeze() && Place::First(&chain).unlink(&one));
/// assert!(matches!(Place::After(one).follow(HazardPointer::new()), Follow::Frozen(_)));
/// ```
///
/// A walk over a chain. It unlinks the removed nodes that it finds. If the current node has been removed it begins
/// again, because the link of such a node leads nowhere any more:
///
/// ```
/// #![forbid(unsafe_code)]
/// use std::mem;
///
/// use asymfence_hazard::{Chain, Follow, HazardPointer, NewNode, Place};
///
/// fn values(chain: &Chain<u32>) -> Vec<u32> {
///     'again: loop {
///         let (mut place, mut spare) = (Place::First(chain), HazardPointer::new());
///         let mut values = Vec::new();
///         loop {
///             match place.follow(spare) {
///                 Follow::To(node) if node.is_frozen() => {
///                     place.unlink(&node);
///                     spare = node.into_hazard(); // and follow `place` again
///                 }
///                 Follow::To(node) => {
///                     values.push(*node);
///                     spare = match mem::replace(&mut place, Place::After(node)) {
///                         Place::After(behind) => behind.into_hazard(),
///                         Place::First(_) => HazardPointer::new(),
///                     };
///                 }
///                 Follow::End(_) => return values,
///                 Follow::Frozen(_) => continue 'again,
///             }
///         }
///     }
/// }
///
/// let chain = Chain::<u32>::new();
/// for value in [3, 2, 1] {
///     let mut cursor = chain.cursor();
///     cursor.seek(|_| false);
///     cursor.insert(NewNode::new(value)).unwrap();
/// }
/// assert_eq!(values(&chain), [1, 2, 3]);
/// let Follow::To(one) = Place::First(&chain).follow(HazardPointer::new()) else { panic!() };
/// assert!(one.freeze());
/// assert_eq!(values(&chain), [2, 3]);
/// ```
#[derive(Debug)]
pub enum Place<'c, T, F: Family = Global> {
    /// Before the first node.
    First(&'c Chain<T, F>),
    /// After this node.
    After(NodeGuard<'c, T, F>),
}

impl<'c, T: Send + Sync + 'static, F: Family> Place<'c, T, F> {
    #[inline]
    fn link(&self) -> &Next<T, F> {
        match self {
            Place::First(chain) => &chain.first,
            Place::After(guard) => &guard.node().next,
        }
    }

    /// To the next node, protected by `hazard`.
    #[inline]
    #[must_use]
    pub fn follow(&self, hazard: HazardPointer<F>) -> Follow<NodeGuard<'c, T, F>, F> {
        match hazard.follow(self.link()) {
            Follow::To(node) => {
                let (node, hazard) = node.into_parts();
                Follow::To(NodeGuard { node, hazard, chain: PhantomData })
            }
            Follow::End(hazard) => Follow::End(hazard),
            Follow::Frozen(hazard) => Follow::Frozen(hazard),
        }
    }

    /// Links `new` at this place, in front of the node `before`, if that node still comes next; with `None`, if no node
    /// comes next.
    ///
    /// # Errors
    ///
    /// `new`, if something else comes next, or if this place is behind a node that has been removed.
    pub fn insert(
        &self,
        before: Option<&NodeGuard<'c, T, F>>,
        new: NewNode<T, F>,
    ) -> Result<(), NewNode<T, F>> {
        // The guard keeps its address from being reused.
        new.link(self.link(), before.map_or(ptr::null_mut(), |before| before.node.as_ptr()))
    }

    /// Unlinks `node` and retires it, if it is frozen and comes next here. Returns whether this call did it.
    pub fn unlink(&self, node: &NodeGuard<'c, T, F>) -> bool {
        let next = node.node().next.load();
        next.is_frozen() && unlink(self.link(), node.node, next)
    }
}

/// A place in a chain and the next node, with the two hazard pointers that they need. It searches a sorted chain by
/// Michael's algorithm.
pub struct Cursor<'c, T, F: Family = Global> {
    chain: &'c Chain<T, F>,
    /// The link of the chain, or of the node that `behind` protects.
    link: *const Next<T, F>,
    /// The node to which the link led, protected by `ahead`; or null.
    node: *mut Node<T, F>,
    behind: HazardPointer<F>,
    ahead: HazardPointer<F>,
}

impl<'c, T: Send + Sync + 'static, F: Family> Cursor<'c, T, F> {
    #[inline]
    fn link(&self) -> &Next<T, F> {
        // SAFETY: the chain is borrowed. If the link is in a node, `behind` protects that node.
        unsafe { &*self.link }
    }

    #[inline]
    fn node(&self) -> Option<&Node<T, F>> {
        // SAFETY: protected by `ahead`.
        unsafe { self.node.as_ref() }
    }

    /// Moves from the beginning to the first node for which `before` is false. Unlinks removed nodes on the way.
    ///
    /// In a chain that is sorted by `before` this is the place of the value that is sought.
    #[inline]
    pub fn seek(&mut self, mut before: impl FnMut(&T) -> bool) -> Option<&T> {
        // The state of the search is in local variables, except the hazard pointers. `before` may panic: until the end
        // this cursor is at the beginning.
        (self.link, self.node) = (&self.chain.first, ptr::null_mut());
        let (mut link, mut node): (*const Next<T, F>, *mut Node<T, F>);
        'again: loop {
            link = &self.chain.first;
            // Relaxed: a guess. `look_again` finds the value that is used.
            let mut next = self.chain.first.word().load(Relaxed);
            loop {
                node = next;
                if Tagged::from_word(node).is_frozen() {
                    continue 'again;
                }
                // SAFETY: the chain's, or in a node that `behind` protects.
                let the_link = unsafe { &*link };
                match self.ahead.look_again(node, node, the_link.word()) {
                    Ok(found) => node = found,
                    Err(found) => {
                        next = found;
                        continue;
                    }
                }
                // SAFETY: protected, and after that still linked by a link that was not frozen (LINKED).
                let Some(here) = (unsafe { node.as_ref() }) else { break 'again };
                // Acquire, in `load`: `unlink` passes on the frozen link's next node; and a thread that finds a node
                // removed sees what came before the removal.
                let held = here.next.load();
                if held.is_frozen() {
                    // guard survives: whether the search begins again or goes on here, `look_again` decides what is found.
                    if !unlink(the_link, NonNull::from(here), held) {
                        continue 'again;
                    }
                    next = held.with_tag(0).word();
                } else {
                    if !before(&here.value) {
                        break 'again;
                    }
                    link = &here.next;
                    next = held.word();
                    core::mem::swap(&mut self.behind, &mut self.ahead);
                }
            }
        }
        (self.link, self.node) = (link, node);
        self.get()
    }

    /// The node that the last [`seek`](Cursor::seek) found.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.node().map(|node| &node.value)
    }

    /// Links `new` before the node that the last [`seek`](Cursor::seek) found, or at the end if it found none. Without
    /// a `seek` before, this succeeds only if the chain is empty.
    ///
    /// # Errors
    ///
    /// `new`, if the chain has changed here: seek again.
    pub fn insert(&mut self, new: NewNode<T, F>) -> Result<(), NewNode<T, F>> {
        // `ahead` keeps the node's address from being reused.
        new.link(self.link(), self.node)
    }

    /// Removes the node that the last [`seek`](Cursor::seek) found. Returns whether this call did it. Unlinks the node
    /// too, or leaves that to the next search that finds it.
    pub fn remove(&mut self) -> bool {
        let Some(node) = self.node() else { return false };
        let removed = freeze(node);
        if removed {
            let held = node.next.load();
            unlink(self.link(), NonNull::from(node), held);
        }
        removed
    }

    /// Returns a guard of the node that the last [`seek`](Cursor::seek) found.
    #[inline]
    #[must_use]
    pub fn into_guard(self) -> Option<NodeGuard<'c, T, F>> {
        let node = NonNull::new(self.node)?;
        Some(NodeGuard { node, hazard: self.ahead, chain: PhantomData })
    }
}

impl<T: fmt::Debug + Send + Sync + 'static, F: Family> fmt::Debug for Cursor<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cursor").field(&self.get()).finish()
    }
}
