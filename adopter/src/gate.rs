//! A gate before a value: many visit the value, until somebody closes the gate and takes it away.
//!
//! Windows calls this run-down protection (`EX_RUNDOWN_REF`); the Linux kernel has `percpu_ref_kill` for it. A visit
//! writes a word of the visitor's own, so visitors do not disturb each other, and the one who closes pays.
//!
//! ```text
//! A (store buffering)   enter               close
//!                       inside = true       closed = true
//!                       light_fence()       heavy_fence()
//!                       r1 = closed         r2 = inside
//!                       forbidden: r1 == false && r2 == false
//! ```
//!
//! Either the visitor finds the gate closed and turns back, or it is seen inside and waited for.

use core::ops::Deref;

use crossbeam_utils::CachePadded;

use super::fences::{heavy_fence, light_fence};
use super::sync::{Acquire, AtomicBool, Relaxed, Release, UnsafeCell, yield_now};

/// A value that up to `PLACES` visitors use, each as often as it likes, until [`close`](Gate::close) takes
/// it away.
///
/// ```
/// use adopter::Gate;
///
/// let gate = Gate::<_, 4>::new(vec![1, 2, 3]);
/// let taken = std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let mut visitor = gate.visitor().expect("one of four");
///         while let Some(inside) = visitor.enter() {
///             assert_eq!(*inside, [1, 2, 3]);
///         }
///     });
///     gate.close()
/// });
/// assert_eq!(taken, Some(vec![1, 2, 3]));
/// ```
#[derive(Debug)]
pub struct Gate<T, const PLACES: usize> {
    closed: CachePadded<AtomicBool>,
    places: [CachePadded<Place>; PLACES],
    /// Read by those inside; taken by the one that has closed the gate, when nobody is.
    value: UnsafeCell<Option<T>>,
}

#[derive(Debug)]
struct Place {
    taken: AtomicBool,
    inside: AtomicBool,
}

// SAFETY: visitors of several threads share a `&T`, and any thread may take the value away.
unsafe impl<T: Send + Sync, const PLACES: usize> Sync for Gate<T, PLACES> {}

impl<T, const PLACES: usize> Gate<T, PLACES> {
    /// An open gate before `value`.
    pub fn new(value: T) -> Self {
        let place = || Place { taken: AtomicBool::new(false), inside: AtomicBool::new(false) };
        Gate {
            closed: AtomicBool::new(false).into(),
            places: core::array::from_fn(|_| place().into()),
            value: UnsafeCell::new(Some(value)),
        }
    }

    /// A visitor, for a thread to keep; `None` while there are `PLACES` of them.
    pub fn visitor(&self) -> Option<Visitor<'_, T, PLACES>> {
        // Acquire: the last visitor's word there comes before ours. Pairs with: Release in
        // `Visitor::drop`.
        let place = self.places.iter().find(|place| !place.taken.swap(true, Acquire))?;
        Some(Visitor { gate: self, place })
    }

    /// Closes the gate, waits until nobody is inside, and returns the value. `None`, at once, if somebody
    /// else has closed it or is about to.
    ///
    /// With the feature `asymmetric` it interrupts the other threads, for microseconds, and **aborts the process**
    /// where `asymfence::heavy_fence` does. A thread that calls this while it is inside waits for itself for ever. A
    /// visit whose guard is leaked is waited for without end, too.
    pub fn close(&self) -> Option<T> {
        // Relaxed: a thread that finds the gate closed accesses nothing. An exchange, so that only one closes it.
        if self.closed.swap(true, Relaxed) {
            return None;
        }
        // Heavy fence: the gate is closed before we look who is inside.
        // Pairs with: the light fence in `Visitor::enter` (scenario A).
        heavy_fence();
        for place in &self.places {
            // Acquire: what was done inside comes before what becomes of the value. Pairs with: Release
            // in `Inside::drop`.
            while place.inside.load(Acquire) {
                yield_now();
            }
        }
        // SAFETY: nobody is inside, and nobody comes in, by scenario A; and `close` gets here once.
        self.value.with_mut(|value| unsafe { (*value).take() })
    }
}

/// Somebody who may [`enter`](Visitor::enter), over and over.
#[derive(Debug)]
pub struct Visitor<'gate, T, const PLACES: usize> {
    gate: &'gate Gate<T, PLACES>,
    place: &'gate Place,
}

impl<T, const PLACES: usize> Visitor<'_, T, PLACES> {
    /// Goes in, until the guard is dropped; `None` if the gate is closed. Wait-free. With the feature `asymmetric` it
    /// executes no fence instruction in an asymmetric process. (Before `asymfence::init()` or the first heavy fence,
    /// and in a symmetric process, it executes a full fence.)
    #[inline]
    pub fn enter(&mut self) -> Option<Inside<'_, T>> {
        // Relaxed: ordered by the fence.
        self.place.inside.store(true, Relaxed);
        let inside = Inside { value: &self.gate.value, place: self.place };
        // Light fence: our word stands before the look at the gate.
        // Pairs with: the heavy fence in `Gate::close` (scenario A).
        //  - our word came first: the one that closes sees it, and waits;
        //  - the heavy fence came first: we see that the gate is closed, and turn back.
        light_fence();
        // Relaxed: an open gate hands over nothing, and at a closed one we touch nothing.
        if self.gate.closed.load(Relaxed) { None } else { Some(inside) }
    }
}

impl<T, const PLACES: usize> Drop for Visitor<'_, T, PLACES> {
    fn drop(&mut self) {
        // Release: our word comes before the next visitor's. Pairs with: Acquire in `Gate::visitor`.
        self.place.taken.store(false, Release);
    }
}

/// A visit. The value stays while it lasts.
#[derive(Debug)]
pub struct Inside<'visitor, T> {
    value: &'visitor UnsafeCell<Option<T>>,
    place: &'visitor Place,
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while we are inside nobody takes the value, which is there: `close` takes it after it
        // has closed the gate, which we found open.
        let value = self.value.with(|value| unsafe { &*value });
        value.as_ref().expect("the gate was open")
    }
}

impl<T> Drop for Inside<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: what we did inside comes before what becomes of the value. Pairs with: Acquire in `Gate::close`. A
        // visit that turns back needs it too: `close` may load its `false`, and never see the `false` of the visit
        // before it.
        self.place.inside.store(false, Release);
    }
}
