//! How an object is retired: into the ring of the thread, or into a ring that the thread borrows for a moment.

use alloc::boxed::Box;

use crate::domain::Domain;
use crate::family::Family;
use crate::item::Item;
use crate::ring::Ring;
use crate::sync::LOOM;
use crate::thread::Local;

/// The maximum number of bytes that `retire_weighing` lets an object count with: so few that one wrong number does not
/// make the sums wrap.
// guard survives: a greater number is low enough too for the few objects that tests retire.
const HEAVIEST: usize = 1 << if usize::BITS > 48 { 48 } else { usize::BITS - 3 };

impl<F: Family> Domain<F> {
    /// Retires `object`, which came from a box. This or a later call of `retire` or [`reclaim`](Domain::reclaim), by
    /// any thread, frees it when no hazard pointer protects it any more.
    ///
    /// Once in a while `retire` executes a heavy fence. More often, at about every fourth call, it frees a few objects
    /// that any thread has retired: it runs their destructors. So the caller must not hold a lock that one of these
    /// destructors may take. `retire` may be called in a destructor.
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
    /// - `object` came from [`Box::into_raw`], and is retired once. Pass the pointer that a `swap` or a
    ///   `compare_exchange` returned, not a pointer made from a `&T`: writing or freeing the object through such a
    ///   pointer is undefined behaviour.
    /// - The object was unlinked *before* this call: other threads can no longer reach it through any shared pointer,
    ///   now or later. The unlinking happens before this call.
    /// - Every thread that still uses the object protects it with a hazard pointer of this family that holds exactly
    ///   the address `object`, not the address of a field.
    /// - `self` is the domain of that family.
    ///
    /// # Panics
    ///
    /// If the destructor of an object that is freed here panics. The panic is resumed when all other objects have been
    /// freed. (Without `std` it is not caught, and the other objects stay retired. If another thread keeps the
    /// ring locked meanwhile, up to 64 of them are leaked.)
    #[inline]
    pub unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
        // SAFETY: the contract of this function.
        self.put(unsafe { Item::of_box(object) }, size_of::<T>());
    }

    /// As [`retire`](Domain::retire), but frees `object` by calling `deleter`.
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
    /// As [`retire`](Domain::retire), except that `object` is one that `deleter` can free. `deleter` may be called with
    /// it in any thread, and the object stays valid until then. `deleter` may also never be called.
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub unsafe fn retire_with<T, D>(&self, object: *mut T, deleter: D)
    where
        T: 'static,
        D: FnOnce(*mut T) + Send + 'static,
    {
        // SAFETY: the contract of this function.
        self.put(unsafe { Item::with(object, deleter) }, size_of::<T>());
    }

    /// Retires a box: this or a later call frees it, together with others. For an object that no reader can have found,
    /// if its destructor is to run later.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object: Box<dyn std::any::Any + Send> = Box::new(7);
    /// Domain::global().retire_box(object);
    /// ```
    ///
    /// Allocates a few words. (A retired object takes two words, its address and how it is freed. The second half of
    /// the pointer to an unsized object needs a third word.) [`retire`](Domain::retire) allocates nothing for the
    /// object, and takes sized objects alone.
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

    /// As [`retire`](Domain::retire), with the size of `object`: `bytes` is what it holds, including its own size.
    ///
    /// The size of a type does not include memory that the object owns elsewhere. The bytes count towards
    /// [`Thresholds::bytes`](crate::Thresholds), so that less garbage waits. One object counts with at most 256 TiB (2^48
    /// bytes; with 512 MiB where addresses have 32 bits), also in [`DomainStats::waiting_bytes`](crate::DomainStats). So
    /// one wrong number does not make the sums wrap. Allocates a few words.
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
        let bytes = bytes.min(HEAVIEST);
        // SAFETY: a box's, as the caller says.
        let free = |object| drop(unsafe { Box::from_raw(object) });
        // SAFETY: the contract of this function.
        self.put(unsafe { Item::weighing::<T, _>(object, bytes, free) }, bytes);
    }

    /// Retires `object`, which came from a box, and reclaims nothing: this call runs no destructor and executes no
    /// heavy fence.
    ///
    /// For threads that must not wait, and for threads that hold a lock that a destructor may take. The object is freed
    /// by other threads that retire, by a thread that [reclaims](Domain::reclaim), or by a later
    /// [`retire`](Domain::retire) of this thread. If no thread does any of these, garbage grows.
    ///
    /// The call is wait-free except for the allocator, from which it takes a kilobyte once in 64 calls. The first call
    /// of a thread takes a ring, which is lock-free (with `std`, except for the C library: see the
    /// [crate](crate#limits)); without the feature `std` each call does. If the domain reclaims in a thread of its own,
    /// the call may wake that thread, by a system call.
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
                if unsafe { ring.is_full() } {
                    self.make_room(ring);
                }
                // SAFETY: this thread's, and there is room.
                if !unsafe { self.untyped().step(ring, frees) } {
                    let _ = F::with_local(|local| local.leave_ring(self.untyped().rings()));
                }
            }
            None => self.put_slowly(item, weight, frees),
        }
    }

    /// Makes room in the ring of this thread. The thread has no ring meanwhile: if the allocator runs code that retires,
    /// that takes another ring. (If the allocator panics, the ring is not used again. Other threads free what is in it.)
    #[cold]
    fn make_room(&self, ring: &'static Ring) {
        let _ = F::with_local(Local::hide_ring);
        // SAFETY: this thread's, and nobody else finds it there.
        unsafe { ring.make_room() };
        let _ = F::with_local(|local| local.change_ring(ring, self.untyped().rings()));
    }

    /// Retires in a thread that has no ring: the thread gets a ring, or borrows one for this object.
    #[cold]
    fn put_slowly(&self, item: Item, weight: usize, frees: bool) {
        /// Gives the ring back, even if a destructor panics.
        struct Borrowed<F: Family>(&'static Ring, core::marker::PhantomData<F>);
        impl<F: Family> Drop for Borrowed<F> {
            fn drop(&mut self) {
                F::domain().untyped().rings().release(self.0);
            }
        }
        let rings = F::domain().untyped().rings();
        let ring = rings.take(self.untyped().stride());
        let stays = !LOOM && F::begin();
        if stays {
            // SAFETY: this thread's.
            unsafe { ring.begin_anew() };
        }
        // Put in before the ring becomes this thread's or is given back, so that nobody else puts into it: the
        // allocator may run code that retires.
        // SAFETY: this thread's, and the object was unlinked.
        let is_time = unsafe { ring.put(item, weight) };
        // SAFETY: this thread's.
        if is_time && unsafe { ring.is_full() } {
            // SAFETY: as above, and no other call puts into it.
            unsafe { ring.make_room() };
        }
        let keep = |local: &Local| local.change_ring(ring, rings);
        let is_kept = stays && F::with_local(keep).is_some();
        let _borrowed = (!is_kept).then(|| Borrowed::<F>(ring, core::marker::PhantomData));
        if is_time {
            // The result is ignored. If it is false, the ring's lock cannot be had. Then `Rings::take` passes over a
            // borrowed ring until the lock is free. A ring that this thread keeps is left when a later `step`, in
            // `put_by`, returns false too.
            // SAFETY: this thread's, and there is room.
            let _ = unsafe { self.untyped().step(ring, frees) };
        }
    }
}
