//! How an object is retired: into the ring of the thread, or for a moment into one that nobody has.

use alloc::boxed::Box;

use crate::domain::Domain;
use crate::family::Family;
use crate::item::Item;
use crate::ring::Ring;
use crate::sync::LOOM;
use crate::thread::Local;

impl<F: Family> Domain<F> {
    /// Frees `object`, a box's, as soon as no hazard pointer protects it.
    ///
    /// Once in a while this reclaims, like [`reclaim`](Domain::reclaim): it makes a heavy fence and runs the
    /// destructors of whatever any thread has retired. So hold no lock that one of them may want. May be
    /// called in a destructor.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object = Box::into_raw(Box::new(7));
    /// // SAFETY: from a box, and never linked.
    /// unsafe { Domain::global().retire(object) };
    /// ```
    ///
    /// # Safety
    ///
    /// - `object` came from [`Box::into_raw`] and is retired once. Hand over the pointer that a `swap` or
    ///   `compare_exchange` returned, not one made from a `&T`, which nobody may write through, let alone free.
    /// - It was unlinked *before*: no pointer by which another thread may find and protect it leads to it
    ///   any more, or will again. What unlinked it happens before this call.
    /// - Whoever still uses it has protected it by a hazard pointer of this family with this very address, not
    ///   that of a part of it.
    /// - This is the domain of its family.
    ///
    /// # Panics
    ///
    /// If the destructor of an object that is freed here panics. The panic goes on when all others have been
    /// freed. (Without `std` it goes on at once, and the others stay retired.)
    #[inline]
    pub unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
        // SAFETY: the contract of this function.
        self.put(unsafe { Item::of_box(object) }, size_of::<T>());
    }

    /// Frees `object` by `deleter`, as soon as no hazard pointer protects it.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    /// use std::sync::Arc;
    ///
    /// let object = Arc::into_raw(Arc::new(7)).cast_mut();
    /// // SAFETY: an Arc's, and never linked.
    /// unsafe { Domain::global().retire_with(object, |object| drop(Arc::from_raw(object))) };
    /// ```
    ///
    /// # Safety
    ///
    /// As [`retire`](Domain::retire), except that `object` came from where `deleter` knows; and `deleter`
    /// may be called with it in any thread, and until then the object is valid. It may also never be called.
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub unsafe fn retire_with<T, D>(&self, object: *mut T, deleter: D)
    where
        D: FnOnce(*mut T) + Send + 'static,
    {
        // SAFETY: the contract of this function.
        self.put(unsafe { Item::with(object, deleter) }, size_of::<T>());
    }

    /// Frees `object` with the next reclaim. For what has never been linked: it is freed in the thread that
    /// reclaims, beside others. Allocates a few words.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object: Box<dyn std::any::Any + Send> = Box::new(7);
    /// Domain::global().retire_box(object);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub fn retire_box<T: ?Sized + Send + 'static>(&self, object: Box<T>) {
        let weight = size_of_val(&*object);
        let object = Box::into_raw(object);
        // SAFETY: a box's, which nobody else has.
        let free = move |_: *mut ()| drop(unsafe { Box::from_raw(object) });
        // SAFETY: the object is `Send`, and nobody else's.
        self.put(unsafe { Item::weighing(object.cast::<()>(), weight, free) }, weight);
    }

    /// Frees `object`, a box's, as soon as no hazard pointer protects it; it holds so many bytes, its own size
    /// included.
    ///
    /// What an object owns elsewhere is not in its size. The bytes count towards
    /// [`Thresholds::bytes`](crate::Thresholds), so that less garbage waits. Allocates a few words.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object = vec![0_u8; 1 << 20];
    /// let bytes = size_of_val(&object) + object.len();
    /// let object = Box::into_raw(Box::new(object));
    /// // SAFETY: from a box, and never linked.
    /// unsafe { Domain::global().retire_weighing(object, bytes) };
    /// ```
    ///
    /// # Safety
    ///
    /// As [`retire`](Domain::retire).
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub unsafe fn retire_weighing<T: Send + 'static>(&self, object: *mut T, bytes: usize) {
        // SAFETY: a box's, as the caller says.
        let free = |object| drop(unsafe { Box::from_raw(object) });
        // SAFETY: the contract of this function.
        self.put(unsafe { Item::weighing::<T, _>(object, bytes, free) }, bytes);
    }

    /// Retires `object`, a box's, and reclaims nothing: no destructor and no heavy fence in this call.
    ///
    /// For threads that must not be held up, and for those who hold a lock that a destructor may want. The object is
    /// freed by others who retire, by whoever [reclaims](Domain::reclaim), or by a later
    /// [`retire`](Domain::retire) of this thread: as long as nobody does any of it, garbage grows. The call is
    /// wait-free but for the allocator, which it asks for a kilobyte once in 64 calls.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object = Box::into_raw(Box::new(7));
    /// // SAFETY: from a box, and never linked.
    /// unsafe { Domain::global().retire_deferred(object) };
    /// Domain::global().reclaim().unwrap();
    /// ```
    ///
    /// # Safety
    ///
    /// As [`retire`](Domain::retire).
    pub unsafe fn retire_deferred<T: Send + 'static>(&self, object: *mut T) {
        // SAFETY: the contract of this function.
        self.put_by(unsafe { Item::of_box(object) }, size_of::<T>(), false);
    }

    #[inline]
    fn put(&self, item: Item, weight: usize) {
        self.put_by(item, weight, true);
    }

    #[inline]
    fn put_by(&self, item: Item, weight: usize, frees: bool) {
        let put = |local: &Local| {
            let ring = local.ring()?;
            // SAFETY: this thread's, and the object was unlinked.
            Some((ring, unsafe { ring.put(item, weight) }))
        };
        match F::with_local(put).flatten() {
            Some((_, false)) => {}
            Some((ring, true)) => {
                // SAFETY: this thread's.
                if !unsafe { self.step(ring, frees) } {
                    let _ = F::with_local(|local| local.leave_ring(self.rings()));
                }
            }
            None => self.put_slowly(item, weight, frees),
        }
    }

    /// By a thread that has no ring: it gets one, or borrows one for this object.
    #[cold]
    fn put_slowly(&self, item: Item, weight: usize, frees: bool) {
        /// Gives the ring back, also where a destructor panics.
        struct Borrowed<F: Family>(&'static Ring, core::marker::PhantomData<F>);
        impl<F: Family> Drop for Borrowed<F> {
            fn drop(&mut self) {
                F::domain().rings().release(self.0);
            }
        }
        let rings = F::domain().rings();
        let ring = rings.take(self.first());
        let keep = |local: &Local| local.set_ring(ring);
        let _borrowed = if !LOOM && F::begin() && F::with_local(keep).is_some() {
            None
        } else {
            Some(Borrowed::<F>(ring, core::marker::PhantomData))
        };
        // SAFETY: this thread's, and the object was unlinked.
        if unsafe { ring.put(item, weight) } {
            // If its lock is not to be had, nobody borrows it until it is.
            // SAFETY: this thread's.
            let _ = unsafe { self.step(ring, frees) };
        }
    }
}
