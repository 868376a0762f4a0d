//! Dropping write permission from a page that was just written. x86 Linux must then make sure that
//! no processor keeps the permission in its TLB: it interrupts each processor that runs the process
//! and waits for all of them, which under TSO orders both ways. `gate` says where that holds.
//!
//! The page must be present, and its page table entry writable, at the moment of the mprotect(2) that takes the
//! permission away. Otherwise some kernels send no flush (`pte_flags_need_flush` in
//! arch/x86/include/asm/tlbflush.h@v6.18). So it is written before each call, after another mprotect(2) has given the
//! permission. Whatever takes the page away between the write and the mprotect(2) that takes the permission (reclaim,
//! migration, KSM, a fork in another thread) does so after the fence began, and flushes, or leaves a flush that our
//! mprotect(2) finishes before it returns: `flush_tlb_batched_pending` in mm/mprotect.c@v6.1. The first of the pages
//! that this module keeps (`STANDING`) is locked into memory as well, so that reclaim does not take it. (This argument
//! does not need the lock. The other pages have none before mlockall(2), nor has a copy in a forked child, nor any page
//! after munlockall(2).)

mod gate;

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use crossbeam_utils::CachePadded;
use once_cell::race::OnceRef;
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mlock, mmap_anonymous, mprotect, munlock,
    munmap,
};
use rustix::thread::futex;

use super::kernel::Kernel;
use super::patience::despite;
use super::{Mechanism, Waiting};
use crate::refusal::{Call, Failure, Refusal};

/// Callers share its calls, as they share those of membarrier. A call takes longer.
pub(super) const RUNG: Mechanism = Mechanism {
    name: "mprotect",
    admit,
    probe,
    call,
    waiting: Some(Waiting::Asleep),
    register: None,
};

/// A page that is kept for ever, and whether a thread works on it. Between the write and the loss of the permission
/// no other thread may take the permission away.
struct Standing {
    page: OnceRef<'static, Page>,
    busy: AtomicBool,
}

/// A caller that finds one page in use takes the next, and does not wait. If the caller is a signal handler, the page
/// may be held by the code that it interrupted. In a forked child it may be held for ever, by a thread that the child
/// does not have. All pages are mapped before the rung is taken, since the process may reach RLIMIT_AS later, and the
/// first is locked into memory.
static STANDING: [CachePadded<Standing>; 4] =
    [const { CachePadded::new(Standing { page: OnceRef::new(), busy: AtomicBool::new(false) }) };
        4];

/// The gate.
fn admit() -> Result<(), Refusal> {
    let kernel = Kernel::running();
    gate::admit_kernel(&kernel)?;
    gate::admit_cpuid(super::cpuid_mode(), kernel.version)?;
    gate::admit_processor(&gate::Cpu::of_this_machine())
}

fn probe() -> Result<(), Refusal> {
    // If mlock(2) fails (RLIMIT_MEMLOCK of an unprivileged user may leave no room for one page), the rung is refused. After
    // a signal, or a lack of memory for mprotect(2), the page is made again: both may pass.
    let may_pass = |failure: &Failure| {
        failure.errno() == i32::from(Failure::EINTR)
            || failure.call() == Call::Mprotect && failure.is_transient()
    };
    let locked = |page: &Page| page.lock().and_then(|()| page.is_obeyed());
    despite(may_pass, || STANDING[0].page(locked))?;
    for standing in &STANDING[1..] {
        despite(may_pass, || standing.page(Page::is_obeyed))?;
    }
    Ok(())
}

/// If every standing page is in use, it maps a page for this call alone, which needs neither `busy` nor mlock(2).
fn call() -> Result<(), Failure> {
    for standing in &STANDING {
        // Acquire: the last holder's mprotect comes before ours. Pairs with the Release below. Relaxed: in use.
        // survives: what it orders is system calls, which no model runs.
        if standing.busy.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
            let page = standing.page(|_| Ok(()));
            let outcome = page.and_then(Page::drop_write_permission);
            // Release: our mprotect comes before the next holder's. Pairs with the Acquire above.
            // survives: like the Acquire above.
            standing.busy.store(false, Release);
            return outcome;
        }
    }
    // guard survives: no test takes the address space away where all standing pages are in use.
    let page = Page::map()?;
    let outcome = page.drop_write_permission();
    page.unmap();
    outcome
}

impl Standing {
    /// The page, made and prepared if it is not there yet.
    fn page(
        &self,
        prepare: impl FnOnce(&Page) -> Result<(), Failure>,
    ) -> Result<&'static Page, Failure> {
        if let Some(page) = self.page.get() {
            return Ok(page);
        }
        let page = Page::map()?;
        if let Err(failure) = prepare(page) {
            page.unmap();
            return Err(failure);
        }
        if self.page.set(page).is_err() {
            page.unmap(); // another thread's came first
        }
        Ok(self.page.get().expect("a standing page, once there, stays"))
    }
}

/// The first word of a page that this module alone maps, writes and protects.
#[repr(transparent)]
struct Page(AtomicU32);

/// The kernel rounds a length up to whole pages.
const LENGTH: usize = 1;

impl Page {
    /// A page that may be read.
    fn map() -> Result<&'static Page, Failure> {
        // SAFETY: a null address lets the kernel choose the place: no mapping is replaced.
        let page =
            unsafe { mmap_anonymous(ptr::null_mut(), LENGTH, ProtFlags::READ, MapFlags::PRIVATE) };
        let page = page.map_err(|errno| Failure::new(Call::Mmap, errno.raw_os_error()))?;
        // What a sandbox may answer, and no kernel does (for an address that it chooses itself).
        if page.is_null() {
            return Err(Failure::new(Call::Mmap, 0));
        }
        // Not merged with a neighbour that others map, so that its protection changes without a split of the
        // mapping, which may fail (`max_map_count`). Pages of this module that come to lie side by side may be merged.
        // SAFETY: the content stays. If the advice is refused, the only consequence is that a later mprotect(2) may
        // have to split a mapping.
        let _ = unsafe { madvise(page, LENGTH, Advice::LinuxDontDump) };
        // SAFETY: the page was mapped just now, with zeros, which are a valid `AtomicU32`; every
        // access to it is atomic, and after `unmap` nobody holds it.
        Ok(unsafe { &*page.cast::<Page>() })
    }

    fn lock(&self) -> Result<(), Failure> {
        // Asked before and after, since a sandbox may give either answer in the kernel's place.
        if self.is_locked()? {
            // After mlockall(MCL_FUTURE) a new page is locked already. The next question says whether it is unlocked
            // now.
            // SAFETY: unlocking changes no content.
            let _ = unsafe { munlock(self.address(), LENGTH) };
            // guard survives: the same error as above; no test's sandbox gives it to a later question alone.
            if self.is_locked()? {
                return Err(Failure::new(Call::Madvise, Errno::INVAL.raw_os_error()));
            }
        }
        // Twice: a signal handler may fork after the first mlock(2), and a forked child has no locks.
        for _ in 0..2 {
            // SAFETY: locking changes no content.
            unsafe { mlock(self.address(), LENGTH) }
                .map_err(|errno| Failure::new(Call::Mlock, errno.raw_os_error()))?;
            // guard survives: as above.
            if self.is_locked()? {
                return Ok(());
            }
        }
        Err(Failure::new(Call::Mlock, 0))
    }

    /// The kernel does not give a locked page away: `madvise_dontneed_free`, mm/madvise.c@v6.18.
    fn is_locked(&self) -> Result<bool, Failure> {
        // SAFETY: the content is zeros, before and after.
        match unsafe { madvise(self.address(), LENGTH, Advice::LinuxDontNeed) } {
            Ok(()) => Ok(false),
            Err(Errno::INVAL) => Ok(true),
            Err(errno) => Err(Failure::new(Call::Madvise, errno.raw_os_error())),
        }
    }

    fn address(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    /// The barrier. The page is writable, written, and then not writable any more.
    fn drop_write_permission(&self) -> Result<(), Failure> {
        self.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
        // Relaxed: nobody reads the value. What counts is that the page becomes present and dirty. The compiler cannot
        // see through the system call that follows, so it leaves this store before that call.
        self.0.store(1, Relaxed);
        self.protect(MprotectFlags::READ)
    }

    /// Fails if mprotect(2) answers success and does nothing, as a sandbox may in the kernel's place: then a heavy fence
    /// would be no barrier, or would write to the page without permission, which is SIGSEGV. For a page that nobody else
    /// knows yet: each page that is kept is asked about, since the answer may depend on the address.
    fn is_obeyed(&self) -> Result<(), Failure> {
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        for (protection, can_write) in [(writable, true), (MprotectFlags::READ, false)] {
            self.protect(protection)?;
            if self.kernel_can_write()? != can_write {
                return Err(Failure::new(Call::Mprotect, 0));
            }
        }
        Ok(())
    }

    /// Lets the kernel write 1 to the page, which is EFAULT where the process may not (`futex_wake_op`,
    /// kernel/futex/waitwake.c@v6.18). It wakes nobody.
    fn kernel_can_write(&self) -> Result<bool, Failure> {
        let Page(word) = self;
        let (set, compare) = (futex::WakeOp::Set, futex::WakeOpCmp::Eq);
        match futex::wake_op(word, futex::Flags::PRIVATE, 0, 0, word, set, compare, 1, 0) {
            // Relaxed: no other thread knows the page.
            Ok(_) if word.load(Relaxed) != 1 => Err(Failure::new(Call::Futex, 0)),
            Ok(_) => Ok(true),
            Err(Errno::FAULT) => Ok(false),
            Err(errno) => Err(Failure::new(Call::Futex, errno.raw_os_error())),
        }
    }

    fn protect(&self, protection: MprotectFlags) -> Result<(), Failure> {
        // SAFETY: the page stays readable; only `drop_write_permission` writes to it, when it may, and the kernel for
        // `is_obeyed`; and no two threads do so at once (`busy`, or a page that nobody else knows).
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
    use std::sync::Mutex;

    use super::*;

    /// The pages are the process's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// The pages as they are for a child that was forked while its parent was in a call, or for a signal handler that
    /// interrupted a call.
    fn while_busy(standing: &[CachePadded<Standing>], body: impl FnOnce()) {
        // Relaxed, both: the tests of these pages run one at a time, each in one thread.
        let set = |busy| standing.iter().for_each(|standing| standing.busy.store(busy, Relaxed));
        set(true);
        body();
        // Relaxed: as above.
        let is_busy = |standing: &CachePadded<Standing>| standing.busy.load(Relaxed);
        assert!(standing.iter().all(is_busy), "taken from its holder");
        set(false);
    }

    fn pages() -> usize {
        STANDING.iter().filter(|standing| standing.page.get().is_some()).count()
    }

    #[test]
    fn whoever_has_probed_has_every_page() {
        let _guard = ONE_AT_A_TIME.lock();
        match admit().and_then(|()| probe()) {
            Ok(()) => assert_eq!(pages(), STANDING.len()),
            #[cfg(feature = "std")]
            Err(refusal) => crate::ledger::skipped("mprotect rung", refusal),
            #[cfg(not(feature = "std"))]
            Err(refusal) => std::println!("no such rung here: {refusal}"),
        }
    }

    #[test]
    fn a_holder_that_never_lets_go_costs_one_page_and_no_wait() {
        let _guard = ONE_AT_A_TIME.lock();
        while_busy(&STANDING[..1], || {
            assert_eq!(call(), Ok(()));
            let before = pages();
            let second = STANDING[1].page.get().map(Page::address);
            assert!(second.is_some(), "the next page is kept, and not mapped for each call");
            (0..100).for_each(|_| assert_eq!(call(), Ok(())));
            assert_eq!((pages(), STANDING[1].page.get().map(Page::address)), (before, second));
        });
        assert_eq!(call(), Ok(()));
    }

    #[test]
    fn where_every_page_is_held_one_of_its_own_does() {
        let _guard = ONE_AT_A_TIME.lock();
        while_busy(&STANDING, || {
            let before = pages();
            assert_eq!(call(), Ok(()));
            assert_eq!(pages(), before);
        });
        assert_eq!(call(), Ok(()));
    }
}
