//! Dropping write permission from a page that was just written. x86 Linux must then make sure that
//! no processor keeps the permission in its TLB: it interrupts each that runs the process and waits
//! for all of them, which under TSO orders both ways. `gate` says where that holds.
//!
//! The page must be present and dirty at the moment of the mprotect(2) that takes the permission away,
//! or no flush is sent at all. So it is written before each call, after another mprotect(2) has given
//! the permission. Whatever takes the page away between the two (reclaim, migration, KSM, a fork in
//! another thread) does so after the fence began, and flushes, or leaves a flush that our mprotect(2)
//! finishes before it returns: `flush_tlb_batched_pending` in mm/mprotect.c@v6.1. The standing page is
//! locked into memory as well, so that it does not come to that.

mod gate;

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicU8, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use crossbeam_utils::{Backoff, CachePadded};
use once_cell::race::OnceRef;
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mlock, mmap_anonymous, mprotect, munmap,
};

use super::{Mechanism, yield_now};
use crate::refusal::{Call, Failure, Refusal};

/// Its calls are shared as those of membarrier are: they take longer, and only one at a time can be made.
pub(super) const RUNG: Mechanism =
    Mechanism { name: "mprotect", probe, call, patience: Some(256), register: || Ok(()) };

/// The page of the process, kept for ever: a heavy fence must not depend on being given another.
static STANDING: OnceRef<'static, Page> = OnceRef::new();

/// Whether somebody works on the standing page. Between the write and the loss of the permission
/// nobody else may take it away.
static BUSY: CachePadded<AtomicBool> = CachePadded::new(AtomicBool::new(false));

/// How often a caller lets others run before it takes a page of its own.
const PATIENCE: u32 = 64;

fn probe() -> Result<(), Refusal> {
    gate::admit(&gate::Facts::of_this_machine(), lock_standing_page)?;
    // A sandbox that answers 0 to everything takes this for a success too; the kernel does not.
    let page = STANDING.get().expect("a standing page, once there, stays");
    let misaligned = page.address().wrapping_byte_add(1);
    // SAFETY: the kernel refuses the address and changes nothing.
    match unsafe { mprotect(misaligned, LENGTH, MprotectFlags::READ) } {
        Err(Errno::INVAL) => {}
        _ => return Err(Failure::new(Call::Mprotect, 0).into()),
    }
    call()?;
    Ok(())
}

fn lock_standing_page() -> Result<(), Failure> {
    if STANDING.get().is_none() {
        let page = Page::map()?;
        if let Err(failure) = page.lock() {
            page.unmap();
            return Err(failure);
        }
        if STANDING.set(page).is_err() {
            page.unmap(); // another thread's came first
        }
    }
    Ok(())
}

/// Waiting for the standing page is bounded: its holder may be a thread that a fork left behind, or
/// the code that this signal handler interrupted. A page of one's own, which needs no lock, always
/// does.
fn call() -> Result<(), Failure> {
    if let Some(page) = STANDING.get() {
        let backoff = Backoff::new();
        for _ in 0..PATIENCE {
            // Acquire: the last holder's mprotect stands before ours. Pairs with the Release below.
            if BUSY.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
                let outcome = page.drop_write_permission();
                // Release: our mprotect stands before the next holder's. Pairs with the Acquire
                // above.
                BUSY.store(false, Release);
                return outcome;
            }
            if backoff.is_completed() { yield_now() } else { backoff.snooze() }
        }
    }
    let page = Page::map()?;
    let outcome = page.drop_write_permission();
    page.unmap();
    outcome
}

/// The first byte of a page that this module alone maps, writes and protects.
#[repr(transparent)]
struct Page(AtomicU8);

/// The kernel rounds a length up to whole pages.
const LENGTH: usize = 1;

impl Page {
    /// A page that may be read.
    fn map() -> Result<&'static Page, Failure> {
        // SAFETY: a null address lets the kernel choose the place: no mapping is replaced.
        let page =
            unsafe { mmap_anonymous(ptr::null_mut(), LENGTH, ProtFlags::READ, MapFlags::PRIVATE) };
        let page = page.map_err(|errno| Failure::new(Call::Mmap, errno.raw_os_error()))?;
        // Alone in its mapping, so that its protection changes without a split, which may fail.
        // SAFETY: the content stays. Where the advice is refused, the mapping may only be split.
        let _ = unsafe { madvise(page, LENGTH, Advice::LinuxDontDump) };
        // SAFETY: the page was mapped just now, with zeros, which are a valid `AtomicU8`; every
        // access to it is atomic, and after `unmap` nobody holds it.
        Ok(unsafe { &*page.cast::<Page>() })
    }

    fn lock(&self) -> Result<(), Failure> {
        // SAFETY: locking changes no content.
        unsafe { mlock(self.address(), LENGTH) }
            .map_err(|errno| Failure::new(Call::Mlock, errno.raw_os_error()))
    }

    fn address(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    /// The barrier. The page is writable, written, and then not writable any more.
    fn drop_write_permission(&self) -> Result<(), Failure> {
        self.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
        // Relaxed: nobody reads the value. What counts is that the page becomes present and dirty,
        // and the system call below, which the compiler cannot see through, keeps the store above.
        self.0.store(1, Relaxed);
        self.protect(MprotectFlags::READ)
    }

    fn protect(&self, protection: MprotectFlags) -> Result<(), Failure> {
        // SAFETY: the page stays readable; only `drop_write_permission` writes to it, when it may,
        // and no two threads do so at once (BUSY, or a page that nobody else knows).
        unsafe { mprotect(self.address(), LENGTH, protection) }
            .map_err(|errno| Failure::new(Call::Mprotect, errno.raw_os_error()))
    }

    /// For a page that was never shared.
    fn unmap(&'static self) {
        // SAFETY: the page came from `map`, is shared with nobody and not used after this. An error
        // would mean that it is not mapped; nothing is left to do then.
        let _ = unsafe { munmap(self.address(), LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> &'static Page {
        STANDING.get_or_init(|| Page::map().expect("a page can be mapped"))
    }

    #[test]
    fn a_holder_that_never_lets_go_hangs_nobody() {
        standing();
        // As a forked child finds it whose parent was in the middle of a call in another thread.
        BUSY.store(true, Relaxed);
        let outcome = call();
        assert!(BUSY.load(Relaxed), "the standing page was taken from its holder");
        BUSY.store(false, Relaxed);
        assert_eq!(outcome, Ok(()));
        assert_eq!(call(), Ok(()));
    }
}
