//! A retired object, and how it is freed: two words, and no allocation unless the object has a weight of its own, or a
//! deleter with a size.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::sync::witness;

/// How objects of a kind are freed, and how many bytes one holds.
struct How {
    free: unsafe fn(*mut (), *const How),
    weight: usize,
}

/// One retired object. If this is dropped, the object leaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    object: *mut (),
    /// A constant of the program, or the first field of a [`With`] of this item's own.
    how: *const How,
}

/// For an object with a deleter of its own, or with a weight.
#[repr(C)]
struct With<D> {
    /// The first field, so that it has the address of the whole.
    how: How,
    deleter: D,
}

/// The constants of a type.
struct Of<T, D = ()>(PhantomData<(T, D)>);

impl<T> Of<T> {
    const BOX: How = How { free: free_box::<T>, weight: size_of::<T>() };
}

impl<T, D: FnOnce(*mut T)> Of<T, D> {
    const BY_DELETER: How = How { free: free_by::<T, D>, weight: size_of::<T>() };
}

/// # Safety
///
/// `object` came from a box of this type, and no thread uses it.
unsafe fn free_box<T>(object: *mut (), _: *const How) {
    witness::freed(object);
    // SAFETY: the contract of this function.
    drop(unsafe { Box::from_raw(object.cast::<T>()) });
}

/// # Safety
///
/// `D` is zero-sized, and a value of it was forgotten for this call.
unsafe fn free_by<T, D: FnOnce(*mut T)>(object: *mut (), _: *const How) {
    witness::freed(object);
    // SAFETY: a zero-sized value has no bytes. This is the value that was forgotten.
    let deleter = unsafe { NonNull::<D>::dangling().read() };
    deleter(object.cast());
}

/// # Safety
///
/// `how` is the address of a box of `With<D>`, which is handed over.
unsafe fn free_with<T, D: FnOnce(*mut T)>(object: *mut (), how: *const How) {
    witness::freed(object);
    // SAFETY: the contract of this function.
    let with = *unsafe { Box::from_raw(how.cast_mut().cast::<With<D>>()) };
    (with.deleter)(object.cast());
}

impl Item {
    /// # Safety
    ///
    /// `object` came from a box, and may be dropped when the item is freed, in any thread.
    #[inline]
    pub(crate) unsafe fn of_box<T>(object: *mut T) -> Self {
        Item { object: object.cast(), how: &Of::<T>::BOX }
    }

    /// Allocates, unless the deleter is zero-sized.
    ///
    /// # Safety
    ///
    /// `deleter` may be called with `object` when the item is freed, in any thread.
    #[inline]
    pub(crate) unsafe fn with<T, D: FnOnce(*mut T)>(object: *mut T, deleter: D) -> Self {
        if const { size_of::<D>() == 0 } {
            core::mem::forget(deleter);
            Item { object: object.cast(), how: &Of::<T, D>::BY_DELETER }
        } else {
            // SAFETY: the contract of this function.
            unsafe { Item::weighing(object, size_of::<T>(), deleter) }
        }
    }

    /// Allocates.
    ///
    /// # Safety
    ///
    /// As [`with`](Item::with).
    pub(crate) unsafe fn weighing<T, D>(object: *mut T, weight: usize, deleter: D) -> Self
    where
        D: FnOnce(*mut T),
    {
        let how = How { free: free_with::<T, D>, weight };
        let with: *const With<D> = Box::into_raw(Box::new(With { how, deleter }));
        Item { object: object.cast(), how: with.cast() }
    }

    /// The address that a hazard pointer protects.
    #[inline]
    pub(crate) fn object(self) -> *mut () {
        self.object
    }

    /// How many bytes the object holds.
    #[inline]
    pub(crate) fn weight(self) -> usize {
        // SAFETY: valid until the item is freed.
        unsafe { (*self.how).weight }
    }

    /// # Safety
    ///
    /// No thread uses the object, and no copy of this item is freed or read after this.
    #[inline]
    pub(crate) unsafe fn free(self) {
        // SAFETY: valid until the item is freed, here.
        let free = unsafe { (*self.how).free };
        // SAFETY: made for this item, and no thread uses the object.
        unsafe { free(self.object, self.how) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_two_words_and_knows_its_weight() {
        assert_eq!(size_of::<Item>(), 2 * size_of::<usize>());
        // SAFETY: a box's.
        let item = unsafe { Item::of_box(Box::into_raw(Box::new([0_u32; 5]))) };
        assert_eq!(item.weight(), 20);
        // SAFETY: nobody else has it.
        unsafe { item.free() };
        let object = Box::into_raw(Box::new(7_u8));
        // SAFETY: a box's.
        let free = |object| drop(unsafe { Box::from_raw(object) });
        // SAFETY: as above.
        let item = unsafe { Item::weighing(object, 1 << 20, free) };
        assert_eq!((item.weight(), item.object()), (1 << 20, object.cast()));
        // SAFETY: nobody else has it.
        unsafe { item.free() };
    }

    #[test]
    fn a_deleter_is_allocated_if_it_has_a_size() {
        let freed = core::cell::Cell::new(0);
        let with_a_size = |object: *mut u8| {
            // SAFETY: a box's.
            freed.set(freed.get() + *unsafe { Box::from_raw(object) });
        };
        // SAFETY: a box's.
        let without = |object: *mut u8| drop(unsafe { Box::from_raw(object) });
        let object = || Box::into_raw(Box::new(7_u8));
        // SAFETY: a box's.
        let items = [(); 2].map(|()| unsafe { Item::with(object(), without) });
        assert_eq!(items[0].how, items[1].how, "a constant");
        // SAFETY: nobody else has them.
        items.into_iter().for_each(|item| unsafe { item.free() });
        // SAFETY: a box's.
        let items = [(); 2].map(|()| unsafe { Item::with(object(), with_a_size) });
        assert_ne!(items[0].how, items[1].how);
        // SAFETY: nobody else has them.
        items.into_iter().for_each(|item| unsafe { item.free() });
        assert_eq!(freed.get(), 14);
    }
}
