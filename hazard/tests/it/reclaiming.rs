//! A domain by itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::thread;

use asymfence_hazard::{Domain, Family, HazardPointer};

use crate::child::Child;
use crate::{Canary, Source, Tests, bound, end, replace};

#[test]
fn what_is_protected_is_kept_until_it_is_not() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    replace(&domain, &source, &deaths);
    let mut hazard = domain.hazard_pointer();
    let object = hazard.protect(&source).expect("not null");
    end(&domain, &source);
    let kept = domain.reclaim_all().expect("a heavy fence");
    assert_eq!((kept.freed, kept.kept), (0, 1));
    object.assert_alive();

    hazard.reset_protection();
    let freed = domain.reclaim_all().expect("a heavy fence");
    assert_eq!((freed.freed, freed.kept), (1, 0));
    assert_eq!(deaths.load(Relaxed), 1);
}

#[test]
fn a_dropped_hazard_pointer_protects_nothing() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    replace(&domain, &source, &deaths);
    let mut hazard = domain.hazard_pointer();
    hazard.protect(&source).expect("not null");
    drop(hazard);
    end(&domain, &source);
    assert_eq!(domain.reclaim().expect("a heavy fence").freed, 1);
}

#[test]
fn several_hazard_pointers_protect_an_object_each() {
    let (domain, deaths) = (Domain::new(), Arc::default());
    let sources: [Source; 9] = std::array::from_fn(|_| Source::null());
    sources.iter().for_each(|source| replace(&domain, source, &deaths));
    let mut hazards: [HazardPointer<'_, Tests>; 9] = domain.hazard_pointers();
    let objects: Vec<_> = hazards
        .iter_mut()
        .zip(&sources)
        .map(|(hazard, source)| hazard.protect(source).expect("not null"))
        .collect();
    sources.iter().for_each(|source| end(&domain, source));
    assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 9);
    objects.iter().for_each(|object| object.assert_alive());
    drop(hazards);
    assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, 9);
}

#[test]
fn a_source_that_has_changed_is_not_protected() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    let mut hazard = domain.hazard_pointer();
    assert!(hazard.protect(&source).is_none());
    replace(&domain, &source, &deaths);
    let first = source.load();
    replace(&domain, &source, &deaths);
    assert_eq!(hazard.try_protect(first, &source).err(), Some(source.load()));
    assert_eq!(domain.reclaim().expect("a heavy fence").freed, 1, "nothing protects the first");
    let second = source.load();
    hazard.try_protect(second, &source).expect("unchanged").expect("not null").assert_alive();
    end(&domain, &source);
}

#[test]
fn a_domain_that_is_dropped_frees_what_is_left() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    (0..10).for_each(|_| replace(&domain, &source, &deaths));
    end(&domain, &source);
    drop(domain);
    assert_eq!(deaths.load(Relaxed), 10);
}

#[test]
fn a_deleter_of_ones_own_is_called_once() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    unsafe fn count(_: *mut u32) {
        CALLS.fetch_add(1, Relaxed);
    }
    let (domain, mut object) = (Domain::<Tests>::new(), 7);
    // SAFETY: never linked; `count` does not touch it.
    unsafe { domain.retire_with(&raw mut object, count) };
    assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, 1);
    drop(domain);
    assert_eq!(CALLS.load(Relaxed), 1);
}

#[test]
fn a_reader_that_stops_holds_back_only_what_it_protects() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    let mut stopped: [HazardPointer<'_, Tests>; 20] = domain.hazard_pointers();
    let mut protected = Vec::new();
    for hazard in &mut stopped {
        replace(&domain, &source, &deaths);
        protected.push(hazard.protect(&source).expect("not null"));
    }
    for _ in 0..50_000 {
        replace(&domain, &source, &deaths);
        assert!(domain.stats().waiting() <= bound(&domain), "{domain:?}");
    }
    assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 20);
    protected.iter().for_each(|object| object.assert_alive());
    assert_eq!(deaths.load(Relaxed), 50_000 - 1);
    end(&domain, &source);
}

/// The twin: without a reclaim nothing bounds it, so the bound above is the domain's doing.
#[test]
fn fewer_objects_than_make_a_reclaim_worth_it_wait() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    (0..1_000).for_each(|_| replace(&domain, &source, &deaths));
    assert_eq!(domain.stats().waiting(), 999);
    end(&domain, &source);
}

#[test]
fn garbage_is_bounded_while_many_threads_retire() {
    const THREADS: usize = 4;
    let (domain, deaths) = (Domain::new(), Arc::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let source = Source::null();
                for _ in 0..20_000 {
                    replace(&domain, &source, &deaths);
                    // The two are not of one moment. In this order it is never more than there was.
                    let retired = domain.stats().retired;
                    let waiting = retired.saturating_sub(domain.stats().freed);
                    assert!(waiting <= (1 + THREADS) * bound(&domain), "{waiting} of {domain:?}");
                }
                end(&domain, &source);
            });
        }
    });
    assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 0);
    assert_eq!(deaths.load(Relaxed), THREADS * 20_000);
}

/// An object whose destructor retires the next of its kind.
struct Link {
    next: *mut Link,
    domain: &'static Domain<Tests>,
    deaths: Arc<AtomicUsize>,
}
// SAFETY: the next one is named by nobody else.
unsafe impl Send for Link {}

impl Drop for Link {
    fn drop(&mut self) {
        self.deaths.fetch_add(1, Relaxed);
        if !self.next.is_null() {
            // SAFETY: a box's that is linked by us alone.
            unsafe { self.domain.retire(self.next) };
        }
    }
}

#[test]
fn destructors_that_retire_do_not_nest_without_a_bound() {
    // As many as would overflow a stack if each reclaim ran within another one.
    const CHAINS: usize = 2_000;
    const LENGTH: usize = 100;
    // By itself: without `std` this many reclaims under way would put off those of other tests.
    Child::default().run(|| {
        static DOMAIN: Domain<Tests> = Domain::new();
        let domain = &DOMAIN;
        let deaths = Arc::default();
        let work = || {
            for _ in 0..CHAINS {
                let mut next = std::ptr::null_mut();
                for _ in 0..LENGTH {
                    next =
                        Box::into_raw(Box::new(Link { next, domain, deaths: Arc::clone(&deaths) }));
                }
                // SAFETY: a box's, that nobody links.
                unsafe { domain.retire(next) };
            }
            assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 0);
        };
        thread::scope(|scope| {
            let small = thread::Builder::new().stack_size(64 * 1024);
            small.spawn_scoped(scope, work).expect("a thread").join().expect("no panic");
        });
        assert_eq!(deaths.load(Relaxed), CHAINS * LENGTH);
    });
}

/// An object whose destructor takes a hazard pointer and uses another object.
struct Curious {
    domain: &'static Domain<Tests>,
    source: &'static Source,
}

impl Drop for Curious {
    fn drop(&mut self) {
        let mut hazard = self.domain.hazard_pointer();
        hazard.protect(self.source).expect("not null").assert_alive();
    }
}

#[test]
fn a_destructor_may_protect() {
    static DOMAIN: Domain<Tests> = Domain::new();
    static SOURCE: Source = Source::null();
    let (domain, source) = (&DOMAIN, &SOURCE);
    replace(domain, source, &Arc::default());
    // SAFETY: a box's, that nobody links.
    unsafe { domain.retire(Box::into_raw(Box::new(Curious { domain, source }))) };
    assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, 1);
}

#[test]
fn a_destructor_may_retire_to_another_domain() {
    struct Outer;
    impl Family for Outer {}
    static INNER: Domain<Tests> = Domain::new();
    let inner = &INNER;
    let (outer, deaths): (Domain<Outer>, Arc<AtomicUsize>) = (Domain::new(), Arc::default());
    let last = Box::new(Link { next: std::ptr::null_mut(), domain: inner, deaths: deaths.clone() });
    let first = Link { next: Box::into_raw(last), domain: inner, deaths: deaths.clone() };
    // SAFETY: a box's, that nobody links.
    unsafe { outer.retire(Box::into_raw(Box::new(first))) };
    drop(outer);
    assert_eq!(deaths.load(Relaxed), 1);
    assert_eq!(inner.reclaim_all().expect("a heavy fence").freed, 1);
    assert_eq!(deaths.load(Relaxed), 2);
}

struct Panics(Arc<AtomicUsize>);

impl Drop for Panics {
    fn drop(&mut self) {
        if self.0.fetch_add(1, Relaxed) == 4 {
            panic!("the fifth destructor");
        }
    }
}

fn with_one_that_panics() -> (Domain<Tests>, Arc<AtomicUsize>) {
    let (domain, deaths) = (Domain::new(), Arc::<AtomicUsize>::default());
    for _ in 0..10 {
        // SAFETY: a box's, that nobody links.
        unsafe { domain.retire(Box::into_raw(Box::new(Panics(Arc::clone(&deaths))))) };
    }
    (domain, deaths)
}

#[test]
fn a_destructor_that_panics_loses_no_other_object() {
    let (domain, deaths) = with_one_that_panics();
    let panic = catch_unwind(AssertUnwindSafe(|| domain.reclaim())).expect_err("a panic");
    assert_eq!(panic.downcast_ref(), Some(&"the fifth destructor"));
    assert_eq!((deaths.load(Relaxed), domain.stats().waiting()), (5, 5));
    assert_eq!(domain.reclaim().expect("a heavy fence").freed, 5);
    assert_eq!(deaths.load(Relaxed), 10);
}

#[test]
fn a_destructor_that_panics_while_the_domain_is_dropped_loses_no_other_object() {
    let (domain, deaths) = with_one_that_panics();
    catch_unwind(AssertUnwindSafe(|| drop(domain))).expect_err("a panic");
    assert_eq!(deaths.load(Relaxed), 10);
}

#[test]
fn a_hazard_pointer_protects_in_whatever_thread_it_is() {
    let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
    replace(&domain, &source, &deaths);
    let mut hazard = domain.hazard_pointer();
    let object = hazard.protect(&source).expect("not null");
    thread::scope(|scope| {
        scope.spawn(|| {
            end(&domain, &source);
            assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 1);
            object.assert_alive();
        });
    });
    thread::scope(|scope| drop(scope.spawn(move || drop(hazard))));
    assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, 1);
}

#[test]
fn what_a_thread_retired_before_it_ended_is_freed_by_another() {
    let (domain, deaths) = (Domain::<Tests>::new(), Arc::default());
    thread::scope(|scope| {
        // SAFETY: a box's, that nobody links.
        scope.spawn(|| unsafe { domain.retire(Canary::new(&deaths)) });
    });
    assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, 1);
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
    let (domain, deaths) = (Domain::<Tests>::new(), Arc::<AtomicUsize>::default());
    let barrier = Arc::new(Barrier::new(2));
    let slow = Box::new(Slow(Arc::clone(&barrier), Arc::clone(&deaths)));
    // SAFETY: a box's, that nobody links.
    unsafe { domain.retire(Box::into_raw(slow)) };
    thread::scope(|scope| {
        scope.spawn(|| domain.reclaim().expect("a heavy fence"));
        barrier.wait();
        let stuck = domain.reclaim_all().expect("a heavy fence");
        assert_eq!((stuck.freed, stuck.kept), (0, 1), "it is not freed, and that is said");
        barrier.wait();
        while domain.reclaim_all().expect("a heavy fence").kept != 0 {}
        assert_eq!(deaths.load(Relaxed), 1);
    });
}

/// Objects whose destructors retire one each.
/// An object whose destructor retires four others.
struct Litter(&'static Domain<Tests>, Arc<AtomicUsize>);

impl Drop for Litter {
    fn drop(&mut self) {
        for _ in 0..4 {
            // SAFETY: a box's, that nobody links.
            unsafe { self.0.retire(Canary::new(&self.1)) };
        }
    }
}

#[test]
fn what_destructors_retire_is_reclaimed_by_the_same_reclaim() {
    static DOMAIN: Domain<Tests> = Domain::new();
    let deaths = Arc::default();
    for _ in 0..1_536 {
        let litter = Box::new(Litter(&DOMAIN, Arc::clone(&deaths)));
        // SAFETY: a box's, that nobody links.
        unsafe { DOMAIN.retire(Box::into_raw(litter)) };
    }
    // The first reclaim leaves some 4,000.
    assert!(DOMAIN.stats().waiting() <= bound(&DOMAIN), "{DOMAIN:?}");
    assert_ne!(deaths.load(Relaxed), 0);
}

#[test]
fn a_reclaim_is_put_off_until_there_are_as_many_objects_as_hazard_pointers() {
    let (domain, deaths) = (Domain::<Tests>::new(), Arc::default());
    let hazards: [HazardPointer<'_, Tests>; 3_000] = domain.hazard_pointers();
    assert!(domain.stats().hazard_pointers >= 3_000);
    // SAFETY: a box's, that nobody links.
    (0..2_900).for_each(|_| unsafe { domain.retire(Canary::new(&deaths)) });
    assert_eq!(domain.stats().freed, 0);
    // SAFETY: as above.
    (0..1_200).for_each(|_| unsafe { domain.retire(Canary::new(&deaths)) });
    assert_ne!(domain.stats().freed, 0);
    drop(hazards);
}
