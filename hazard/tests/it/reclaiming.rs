//! A domain by itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::thread;

use nix::libc;
use seccompiler::SeccompAction::KillProcess;
use seccompiler::apply_filter;

use asymfence_hazard::{AtomicBox, Family, HazardPointer, Reclaimed, domain};

use crate::chained::{self, Chain, on_a_small_stack};
use crate::child::{Child, end as end_child, ledger};
use crate::filter::on_call;
use crate::{
    BY_NUMBERS, Canary, bound, bound_while_all_retire, end, joined, reclaim, replace, retire,
    stats, waiting,
};

/// A domain of the test's own, which goes by numbers alone.
macro_rules! own {
    () => {
        domain! { enum Tests {} = BY_NUMBERS; }
        #[allow(dead_code, reason = "some tests have no source")]
        type Source = AtomicBox<Canary, Tests>;
    };
}

#[test]
fn what_is_protected_is_kept_until_it_is_not() {
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    replace(&source, &deaths);
    let mut hazard = HazardPointer::<Tests>::new();
    let object = hazard.protect(&source).expect("not null");
    end(&source);
    let kept = Tests::domain().reclaim_all().expect("a heavy fence");
    assert_eq!((kept.freed, kept.kept), (0, 1));
    object.assert_alive();

    hazard.reset_protection();
    let freed = Tests::domain().reclaim_all().expect("a heavy fence");
    assert_eq!((freed.freed, freed.kept), (1, 0));
    assert_eq!(deaths.load(Relaxed), 1);
}

#[test]
fn a_dropped_hazard_pointer_protects_nothing() {
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    replace(&source, &deaths);
    let mut hazard = HazardPointer::<Tests>::new();
    hazard.protect(&source).expect("not null");
    drop(hazard);
    end(&source);
    assert_eq!(Tests::domain().reclaim().expect("a heavy fence").freed, 1);
}

#[test]
fn several_hazard_pointers_protect_an_object_each() {
    own!();
    // More than are freed at a time.
    const COUNT: usize = 100;
    let deaths = Arc::default();
    let sources: [Source; COUNT] = std::array::from_fn(|_| Source::null());
    sources.iter().for_each(|source| replace(source, &deaths));
    let mut hazards: [HazardPointer<Tests>; COUNT] = HazardPointer::array();
    let objects: Vec<_> = hazards
        .iter_mut()
        .zip(&sources)
        .map(|(hazard, source)| hazard.protect(source).expect("not null"))
        .collect();
    sources.iter().for_each(end);
    assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").kept, COUNT);
    objects.iter().for_each(|object| object.assert_alive());
    drop(hazards);
    assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").freed, COUNT);
}

#[test]
fn a_source_that_has_changed_is_not_protected() {
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    let mut hazard = HazardPointer::<Tests>::new();
    assert!(hazard.protect(&source).is_none());
    replace(&source, &deaths);
    let first = source.as_ptr();
    replace(&source, &deaths);
    assert_eq!(hazard.try_protect(first, &source).err(), Some(source.as_ptr()));
    assert_eq!(
        Tests::domain().reclaim().expect("a heavy fence").freed,
        1,
        "nothing protects the first"
    );
    let second = source.as_ptr();
    hazard.try_protect(second, &source).expect("unchanged").expect("not null").assert_alive();
    end(&source);
}

#[test]
fn what_is_protected_again_is_what_the_source_holds_now() {
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    let mut hazard = HazardPointer::<Tests>::new();
    assert!(hazard.protect_again(&source).is_none());
    for _ in 0..2 {
        replace(&source, &deaths);
        for _ in 0..2 {
            let object = hazard.protect_again(&source).expect("not null");
            assert!(std::ptr::eq(object, source.as_ptr()));
        }
    }
    end(&source);
    assert_eq!(reclaim::<Tests>(), (1, 1), "the second is protected");
    assert!(hazard.protect_again(&source).is_none());
    assert_eq!(reclaim::<Tests>(), (1, 0));
}

#[test]
fn a_deleter_of_ones_own_is_called_once() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    own!();
    let object = Arc::into_raw(Arc::new(7)).cast_mut();
    let deleter = |object: *mut u32| {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: an Arc's, and ours.
        drop(unsafe { Arc::from_raw(object) });
    };
    // SAFETY: never linked.
    unsafe { Tests::domain().retire_with(object, deleter) };
    assert_eq!(reclaim::<Tests>(), (1, 0));
    assert_eq!(CALLS.load(Relaxed), 1);
}

#[test]
fn a_box_of_a_type_without_a_known_size_is_freed() {
    own!();
    let deaths = Arc::default();
    let canary: Box<dyn std::any::Any + Send> = Canary::boxed(&deaths);
    Tests::domain().retire_box(canary);
    Tests::domain().retire_box::<[Canary]>(Box::new([Canary::new(&deaths), Canary::new(&deaths)]));
    assert_eq!(reclaim::<Tests>(), (2, 0));
    assert_eq!(deaths.load(Relaxed), 3);
}

#[test]
fn a_reader_that_stops_holds_back_only_what_it_protects() {
    const COUNT: usize = if cfg!(miri) { 100 } else { 50_000 };
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    let mut stopped: [HazardPointer<Tests>; 20] = HazardPointer::array();
    let mut protected = Vec::new();
    for hazard in &mut stopped {
        replace(&source, &deaths);
        protected.push(hazard.protect(&source).expect("not null"));
    }
    for _ in 0..COUNT {
        replace(&source, &deaths);
        assert!(stats::<Tests>().waiting() <= bound::<Tests>(), "{:?}", stats::<Tests>());
    }
    assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").kept, 20);
    protected.iter().for_each(|object| object.assert_alive());
    assert_eq!(deaths.load(Relaxed), COUNT - 1);
    end(&source);
}

/// The twin: without a reclaim nothing bounds how many objects wait, so the bound in the test above is the domain's
/// doing.
#[test]
fn fewer_objects_than_make_a_reclaim_worth_it_wait() {
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    (0..1_000).for_each(|_| replace(&source, &deaths));
    assert_eq!(stats::<Tests>().waiting(), 999);
    end(&source);
}

#[test]
fn garbage_is_bounded_while_many_threads_retire() {
    const THREADS: usize = 4;
    const EACH: usize = if cfg!(miri) { 20 } else { 20_000 };
    own!();
    let deaths = Arc::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let source = Source::null();
                for _ in 0..EACH {
                    replace(&source, &deaths);
                    let waiting = waiting::<Tests>();
                    let most = bound_while_all_retire(THREADS);
                    assert!(waiting <= most, "{waiting} of {:?}", stats::<Tests>());
                }
                end(&source);
            });
        }
    });
    assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").kept, 0);
    assert_eq!(deaths.load(Relaxed), THREADS * EACH);
}

domain! { enum Chained {} = BY_NUMBERS; }

/// An object whose destructor retires the next of its kind.
struct Link {
    next: Option<Box<Link>>,
    deaths: Arc<AtomicUsize>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.deaths.fetch_add(1, Relaxed);
        self.next.take().into_iter().for_each(|next| Chained::domain().retire_box(next));
    }
}

#[test]
fn destructors_that_retire_do_not_nest_without_a_bound() {
    // As many as would overflow a stack if each reclaim ran within another one.
    const CHAINS: usize = 2_000;
    const LENGTH: usize = 100;
    // In a process of its own: without `std` so many concurrent reclaims would delay those of other tests.
    Child::default().run(|| {
        let deaths = Arc::default();
        let work = || {
            for _ in 0..CHAINS {
                let mut next = None;
                for _ in 0..LENGTH {
                    next = Some(Box::new(Link { next, deaths: Arc::clone(&deaths) }));
                }
                next.into_iter().for_each(|next| Chained::domain().retire_box(next));
            }
            assert_eq!(reclaim::<Chained>().1, 0);
        };
        on_a_small_stack(work);
        assert_eq!(deaths.load(Relaxed), CHAINS * LENGTH);
    });
}

#[test]
fn a_destructor_may_protect() {
    own!();
    static SOURCE: Source = Source::null();
    struct Curious;
    impl Drop for Curious {
        fn drop(&mut self) {
            let mut hazard = HazardPointer::new();
            hazard.protect(&SOURCE).expect("not null").assert_alive();
        }
    }
    replace(&SOURCE, &Arc::default());
    Tests::domain().retire_box(Box::new(Curious));
    assert_eq!(reclaim::<Tests>(), (1, 0));
}

#[test]
fn a_destructor_may_retire_to_another_domain() {
    own!();
    Child::default().run(|| {
        let deaths: Arc<AtomicUsize> = Arc::default();
        let last = Box::new(Link { next: None, deaths: deaths.clone() });
        let first = Box::new(Link { next: Some(last), deaths: deaths.clone() });
        Tests::domain().retire_box(first);
        assert_eq!(reclaim::<Tests>(), (1, 0));
        assert_eq!(deaths.load(Relaxed), 1);
        assert_eq!(reclaim::<Chained>(), (1, 0));
        assert_eq!(deaths.load(Relaxed), 2);
    });
}

struct Panics(Arc<AtomicUsize>);

impl Drop for Panics {
    fn drop(&mut self) {
        if self.0.fetch_add(1, Relaxed) % 200 == 4 {
            panic!("on purpose");
        }
    }
}

#[test]
fn a_destructor_that_panics_keeps_no_other_from_running() {
    own!();
    let deaths = Arc::<AtomicUsize>::default();
    (0..10).for_each(|_| Tests::domain().retire_box(Box::new(Panics(Arc::clone(&deaths)))));
    let panic = catch_unwind(AssertUnwindSafe(|| Tests::domain().reclaim())).expect_err("a panic");
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    // Without `std` the panic goes on at once, and the others stay retired.
    let left = if cfg!(feature = "std") { 0 } else { 5 };
    assert_eq!((deaths.load(Relaxed), stats::<Tests>().waiting()), (10 - left, left));
    assert_eq!(reclaim::<Tests>(), (left, 0));
    assert_eq!(deaths.load(Relaxed), 10);
}

#[cfg(feature = "std")]
#[test]
fn garbage_is_bounded_while_destructors_panic() {
    if ledger::is_too_long() {
        return;
    }
    own!();
    let deaths = Arc::<AtomicUsize>::default();
    let mut panics = 0;
    std::panic::set_hook(Box::new(|_| ()));
    for _ in 0..50_000 {
        let panicking = Box::new(Panics(Arc::clone(&deaths)));
        let retire = AssertUnwindSafe(|| Tests::domain().retire_box(panicking));
        panics += usize::from(catch_unwind(retire).is_err());
        assert!(stats::<Tests>().waiting() <= bound::<Tests>(), "{:?}", stats::<Tests>());
    }
    let _ = std::panic::take_hook();
    assert_ne!(panics, 0);
}

#[test]
fn a_place_that_is_dropped_retires_what_it_holds() {
    own!();
    let deaths = Arc::default();
    let source = Source::from(Canary::boxed(&deaths));
    let guard = source.load().expect("not null");
    drop(source);
    assert_eq!(reclaim::<Tests>(), (0, 1));
    guard.assert_alive();
    drop(guard);
    assert_eq!(reclaim::<Tests>(), (1, 0));
}

#[test]
fn a_hazard_pointer_protects_in_whatever_thread_it_is() {
    own!();
    let (source, deaths) = (Source::null(), Arc::default());
    replace(&source, &deaths);
    let mut hazard = HazardPointer::<Tests>::new();
    let object = hazard.protect(&source).expect("not null");
    thread::scope(|scope| {
        scope.spawn(|| {
            end(&source);
            assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").kept, 1);
            object.assert_alive();
        });
    });
    thread::scope(|scope| drop(scope.spawn(move || drop(hazard))));
    assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").freed, 1);
}

#[test]
fn what_a_thread_retired_before_it_ended_is_freed_by_another() {
    own!();
    let deaths = Arc::default();
    thread::scope(|scope| {
        scope.spawn(|| Tests::domain().retire_box(Canary::boxed(&deaths)));
    });
    assert_eq!(Tests::domain().reclaim_all().expect("a heavy fence").freed, 1);
}

#[test]
fn reclaim_all_waits_for_what_another_thread_has_in_hand() {
    struct Slow(Arc<Barrier>, Arc<AtomicUsize>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.wait(); // in hand
            self.0.wait(); // the other has looked
            self.1.fetch_add(1, Relaxed);
        }
    }
    own!();
    let deaths = Arc::<AtomicUsize>::default();
    let barrier = Arc::new(Barrier::new(2));
    let slow = Box::new(Slow(Arc::clone(&barrier), Arc::clone(&deaths)));
    Tests::domain().retire_box(slow);
    thread::scope(|scope| {
        scope.spawn(|| Tests::domain().reclaim().expect("a heavy fence"));
        barrier.wait();
        let stuck = Tests::domain().reclaim_all().expect("a heavy fence");
        assert_eq!((stuck.freed, stuck.kept), (0, 1), "it is not freed, and that is said");
        barrier.wait();
        while Tests::domain().reclaim_all().expect("a heavy fence").kept != 0 {}
        assert_eq!(deaths.load(Relaxed), 1);
    });
}

/// Its own thread has the object in hand, so to wait for it would be to wait for ever.
#[test]
fn reclaim_all_in_a_destructor_waits_for_nobody() {
    struct Reclaims;
    impl Drop for Reclaims {
        fn drop(&mut self) {
            apply_filter(&on_call(libc::SYS_sched_yield, &[], KillProcess)).expect("seccomp");
            let done = Tests::domain().reclaim_all().expect("a heavy fence");
            assert_eq!((done.freed, done.kept), (0, 1), "it is not freed, and that is said");
        }
    }
    own!();
    Child::default().run(|| {
        Tests::domain().retire_box(Box::new(Reclaims));
        assert_eq!(reclaim::<Tests>(), (1, 0));
        end_child(); // the leak sanitizer yields when a process ends
    });
}

#[test]
fn reclaim_all_stops_where_only_protected_objects_are_left() {
    own!();
    // In a process of its own: the calls are counted.
    Child::default().run(|| {
        let calls_each = usize::from(asymfence::init() != asymfence::Strategy::Symmetric);
        let (source, deaths) = (Source::from(Canary::boxed(&Arc::default())), Arc::default());
        let guard = source.load().expect("not null");
        replace(&source, &deaths);
        let before = asymfence::stats().heavy.calls;
        assert_eq!(reclaim::<Tests>(), (0, 1));
        assert_eq!(asymfence::stats().heavy.calls - before, calls_each);
        guard.assert_alive();
    });
}

/// Each has up to 64 objects in hand, and holds back no others.
#[test]
fn threads_that_stop_in_the_middle_of_a_reclaim_hold_back_what_they_have_in_hand() {
    if ledger::is_too_long() {
        return;
    }
    const THREADS: usize = 50;
    const IN_HAND: usize = 64;
    static STOPPED: [Barrier; 2] = [Barrier::new(2), Barrier::new(THREADS + 1)];
    struct Stops;
    impl Drop for Stops {
        fn drop(&mut self) {
            STOPPED.iter().for_each(|barrier| _ = barrier.wait());
        }
    }
    own!();
    let deaths = Arc::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                Tests::domain().retire_box(Box::new(Stops));
                retire::<Tests>(IN_HAND - 1, &deaths);
                Tests::domain().reclaim().expect("a heavy fence");
            });
            STOPPED[0].wait(); // it is in its destructor
        }
        assert_eq!(stats::<Tests>().waiting(), THREADS * IN_HAND);
        let done = Tests::domain().reclaim().expect("a heavy fence");
        assert_eq!((done.freed, deaths.load(Relaxed)), (0, 0), "the twin: nobody else frees these");
        for _ in 0..50_000 {
            retire::<Tests>(1, &deaths);
            let most = bound::<Tests>() + THREADS * IN_HAND;
            assert!(stats::<Tests>().waiting() <= most, "{:?}", stats::<Tests>());
        }
        STOPPED[1].wait();
    });
    assert_eq!(reclaim::<Tests>().1, 0);
    assert_eq!(deaths.load(Relaxed), THREADS * (IN_HAND - 1) + 50_000);
}

#[test]
fn what_destructors_retire_is_freed_by_later_retires() {
    if ledger::is_too_long() {
        return;
    }
    own!();
    /// An object whose destructor retires four others.
    struct Litter(Arc<AtomicUsize>);
    impl Drop for Litter {
        fn drop(&mut self) {
            retire::<Tests>(4, &self.0);
        }
    }
    let deaths = Arc::default();
    (0..1_536).for_each(|_| Tests::domain().retire_box(Box::new(Litter(Arc::clone(&deaths)))));
    let most = bound::<Tests>();
    assert!(stats::<Tests>().waiting() <= 4 * 1_024 + most, "{:?}", stats::<Tests>());
    (0..8_000).for_each(|_| Tests::domain().retire_box(Box::new(1_u8)));
    assert!(stats::<Tests>().waiting() <= most, "{:?}", stats::<Tests>());
    assert_ne!(deaths.load(Relaxed), 0);
}

/// Does `work` beside a thread that has retired 777 objects and stands still, and requires that they are freed then.
fn frees_what_an_idle_thread_has_retired<F: Family>(work: impl FnOnce()) {
    let (deaths, barrier) = (Arc::default(), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            retire::<F>(777, &deaths);
            barrier.wait(); // retired
            barrier.wait(); // freed
        });
        barrier.wait();
        work();
        assert_eq!(deaths.load(Relaxed), 777);
        barrier.wait();
    });
}

#[test]
fn a_reclaim_frees_what_an_idle_thread_has_retired() {
    own!();
    frees_what_an_idle_thread_has_retired::<Tests>(|| {
        let done = Tests::domain().reclaim().expect("a heavy fence");
        assert_eq!((done.freed, done.kept), (777, 0));
    });
}

#[test]
fn those_who_go_on_retiring_free_what_an_idle_thread_has_retired() {
    if ledger::is_too_long() {
        return;
    }
    own!();
    frees_what_an_idle_thread_has_retired::<Tests>(|| {
        (0..10_000).for_each(|_| Tests::domain().retire_box(Box::new(1_u64)));
    });
}

#[test]
fn threads_that_come_and_go_leave_no_more_than_the_bound() {
    if ledger::is_too_long() {
        return;
    }
    own!();
    for _ in 0..200 {
        let retire = || (0..100).for_each(|_| Tests::domain().retire_box(Box::new(1_u64)));
        thread::spawn(retire).join().expect("no panic");
    }
    assert!(stats::<Tests>().waiting() <= bound::<Tests>(), "{:?}", stats::<Tests>());
}

#[test]
fn what_many_threads_leave_when_they_end_is_freed_by_those_who_go_on() {
    if ledger::is_too_long() {
        return;
    }
    const THREADS: usize = 200;
    own!();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        let retires = || {
            // Fewer than 64, so no thread counts its own. In all fewer than the bound with so many threads, and more
            // than the bound after they have ended.
            (0..60).for_each(|_| Tests::domain().retire_box(Box::new(1_u64)));
            barrier.wait();
        };
        joined((0..THREADS).map(|_| scope.spawn(retires)).collect());
    });
    // The twin: without another retire it waits.
    if cfg!(feature = "std") {
        assert_eq!(stats::<Tests>().waiting(), 60 * THREADS);
    }
    // Fewer than make a heavy fence due by themselves, so what was left has to be counted. Each retire then frees up to
    // 16 of it, on average.
    (0..900).for_each(|_| Tests::domain().retire_box(Box::new(1_u64)));
    assert!(stats::<Tests>().waiting() <= bound::<Tests>(), "{:?}", stats::<Tests>());
}

/// A list whose destructor reclaims, as well as retires.
#[test]
fn a_destructor_that_reclaims_does_not_nest() {
    own!();
    fn retire(chain: Box<Chain>) {
        Tests::domain().retire_box(chain);
    }
    fn reclaim_some() -> Reclaimed {
        Tests::domain().reclaim().expect("a heavy fence")
    }
    // In a process of its own: without `std` calls of other tests could delay these.
    Child::default().run(|| {
        on_a_small_stack(|| {
            chained::retire_and_reclaim((retire, reclaim_some));
            assert_eq!(reclaim::<Tests>().1, 0);
        });
        let stats = stats::<Tests>();
        assert_eq!((stats.retired, stats.waiting()), (chained::LENGTH, 0));
    });
}

#[test]
fn a_reclaim_is_put_off_until_there_are_as_many_objects_as_hazard_pointers() {
    if ledger::is_too_long() {
        return;
    }
    own!();
    let deaths = Arc::default();
    let hazards: [HazardPointer<Tests>; 3_000] = HazardPointer::array();
    assert!(stats::<Tests>().hazard_pointers >= 3_000);
    retire::<Tests>(2_900, &deaths);
    assert_eq!(stats::<Tests>().freed, 0);
    retire::<Tests>(1_200, &deaths);
    assert_ne!(stats::<Tests>().freed, 0);
    drop(hazards);
}
