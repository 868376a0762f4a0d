//! Epochs. loom's cells fail a model in which an object is dropped while a thread reads it, or is read after it
//! was dropped. Its memory stays until all threads are done.

use std::sync::Arc;

use asymfence::Pacer;
use asymfence::model::Start;
use asymfence_cookbook::epoch::{Collector, Handle};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread::{self, JoinHandle};

use loom_tests::check::{STARTS, check_within, is_ever, is_ever_within};

/// A link to object 0 or 1. loom checks the uses and the end of the objects.
struct World {
    collector: Collector,
    link: AtomicUsize,
    alive: [UnsafeCell<bool>; 2],
}

// SAFETY: loom sees to it.
unsafe impl Sync for World {}

/// What is retired for object 0.
struct End(Arc<World>);

// SAFETY: loom sees to it.
unsafe impl Send for End {}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: loom fails the model if another thread may still use it.
        self.0.alive[0].with_mut(|alive| unsafe { *alive = false });
    }
}

impl World {
    fn new() -> Arc<Self> {
        Self::of(Collector::new())
    }

    fn of(collector: Collector) -> Arc<Self> {
        let alive = [true; 2].map(UnsafeCell::new);
        Arc::new(World { collector, link: AtomicUsize::new(0), alive })
    }

    fn spawn<R: 'static>(self: &Arc<Self>, body: fn(&Arc<Self>) -> R) -> JoinHandle<R> {
        let world = Arc::clone(self);
        thread::spawn(move || body(&world))
    }

    /// The number of the object that it read.
    fn read(&self, handle: &Handle<'_>) -> usize {
        let _guard = handle.pin();
        self.read_pinned()
    }

    fn read_pinned(&self) -> usize {
        let object = self.link.load(Acquire);
        self.assert_alive(object);
        object
    }

    fn assert_alive(&self, object: usize) {
        // SAFETY: loom fails the model if another thread writes at the same time.
        assert!(self.alive[object].with(|alive| unsafe { *alive }), "used after it was freed");
    }

    fn unlink(self: &Arc<Self>, handle: &Handle<'_>) {
        self.link.store(1, Release);
        // SAFETY: it was unlinked just now. The memory outlives the model's threads.
        unsafe { handle.retire(Box::into_raw(Box::new(End(Arc::clone(self))))) };
    }
}

/// One thread reads, while another unlinks and flushes that many times. Returns what the reader found.
fn reads_against_flushes(flushes: usize) -> usize {
    let world = World::new();
    let reader = world.spawn(|world| {
        let handle = world.collector.handle();
        world.read(&handle)
    });
    let handle = world.collector.handle();
    world.unlink(&handle);
    (0..flushes).for_each(|_| handle.flush());
    reader.join().expect("no panic")
}

#[test]
fn what_is_read_is_not_freed() {
    for start in STARTS {
        check_within(Some(2), start, || _ = reads_against_flushes(3));
    }
    for object in 0..2 {
        assert!(is_ever(Start::Asymmetric, move || reads_against_flushes(1) == object));
    }
}

/// The tag may be old: another advances meanwhile.
#[test]
fn an_old_tag_frees_nothing_too_early() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let reader = world.spawn(|world| {
            let handle = world.collector.handle();
            world.read(&handle);
        });
        let advances = world.spawn(|world| world.collector.handle().flush());
        let handle = world.collector.handle();
        world.unlink(&handle);
        (0..2).for_each(|_| handle.flush());
        reader.join().expect("no panic");
        advances.join().expect("no panic");
    });
}

/// A reader pins twice. The scan may miss that its slot was free in between.
#[test]
fn what_was_read_before_the_last_pin_is_not_freed_before_its_uses() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let reader = world.spawn(|world| {
            let handle = world.collector.handle();
            world.read(&handle);
            world.read(&handle);
        });
        let handle = world.collector.handle();
        world.unlink(&handle);
        (0..3).for_each(|_| handle.flush());
        reader.join().expect("no panic");
    });
}

/// The tag of what is unlinked is old, and the reader has pinned a newer epoch. (Threads that yield give way without a
/// preemption.)
#[test]
fn who_pins_again_has_done_with_what_it_read() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let advances = world.spawn(|world| world.collector.handle().flush());
        let unlinks = world.spawn(|world| {
            let handle = world.collector.handle();
            world.unlink(&handle);
            handle.flush();
            thread::yield_now();
            handle.flush();
        });
        let handle = world.collector.handle();
        advances.join().expect("no panic");
        let guard = handle.pin();
        world.read_pinned();
        thread::yield_now();
        drop(guard);
        world.read(&handle);
        unlinks.join().expect("no panic");
    });
}

/// The reader pins after two advances, and still finds the object: so both advances came before the unlinking.
#[test]
fn a_tag_is_no_older_than_one_advance() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let advances = world.spawn(|world| {
            let handle = world.collector.handle();
            (0..2).for_each(|_| handle.flush());
        });
        let unlinks = world.spawn(|world| {
            let handle = world.collector.handle();
            world.unlink(&handle);
            handle.flush();
        });
        let handle = world.collector.handle();
        advances.join().expect("no panic");
        let guard = handle.pin();
        let object = world.read_pinned();
        thread::yield_now();
        world.assert_alive(object);
        drop(guard);
        unlinks.join().expect("no panic");
    });
}

/// When a thread scans for the third advance, the heavy fence of the second has been executed, even if another thread
/// made the second advance.
#[test]
fn who_advances_sees_who_pinned_before_the_last_heavy_fence() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::of(Collector::with_pacer(Pacer::new(usize::MAX)));
        let handle = world.collector.handle();
        // SAFETY: nobody can find these. With the 8th that is retired they are sealed, without a heavy fence.
        (0..7).for_each(|_| unsafe { handle.retire(Box::into_raw(Box::new(()))) });
        let reads = world.spawn(|world| {
            let handle = world.collector.handle();
            let guard = handle.pin();
            let object = world.read_pinned();
            thread::yield_now();
            world.assert_alive(object);
            drop(guard);
        });
        let advances = world.spawn(|world| {
            let handle = world.collector.handle();
            (0..2).for_each(|_| handle.flush());
        });
        thread::yield_now();
        world.unlink(&handle);
        thread::yield_now();
        handle.flush();
        advances.join().expect("no panic");
        reads.join().expect("no panic");
    });
}

/// A handle whose next pin frees. No heavy fence is due at a pin.
fn about_to_free(world: &World) -> Handle<'_> {
    let handle = world.collector.handle();
    // The 8th frees.
    (0..7).for_each(|_| drop(handle.pin()));
    handle
}

/// Reads while pinned, and then advances the epoch twice.
fn read_and_advance(handle: &Handle<'_>, world: &World) {
    let guard = handle.pin();
    let object = world.link.load(Acquire);
    thread::yield_now();
    world.assert_alive(object);
    drop(guard);
    (0..2).for_each(|_| handle.flush());
}

/// The thread frees at a pin, and executes no fence before it frees.
#[test]
fn who_frees_has_seen_the_readers_leave() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::of(Collector::with_pacer(Pacer::new(usize::MAX)));
        let handle = about_to_free(&world);
        let reads = world.spawn(|world| read_and_advance(&world.collector.handle(), world));
        world.unlink(&handle);
        handle.flush();
        thread::yield_now();
        drop(handle.pin());
        reads.join().expect("no panic");
    });
}

/// Reads, and then advances the epoch twice, when it is dropped. In a destructor that the collector runs, `flush` does
/// not lock `Collector::left`.
struct ReadsInADrop<'h>(&'h Handle<'h>, &'h World, &'h std::sync::atomic::AtomicBool);

// SAFETY: the thread that has the handle drops it.
unsafe impl Send for ReadsInADrop<'_> {}

impl Drop for ReadsInADrop<'_> {
    fn drop(&mut self) {
        read_and_advance(self.0, self.1);
        self.2.store(true, Relaxed);
    }
}

/// Who frees has only the epoch in common with the reader: no lock, and no fence that comes late enough.
#[test]
fn who_frees_by_the_epoch_alone_has_seen_the_reader_leave() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::of(Collector::with_pacer(Pacer::new(usize::MAX)));
        let handle = about_to_free(&world);
        let reads = world.spawn(|world| {
            let handle = world.collector.handle();
            let is_dropped = std::sync::atomic::AtomicBool::new(false);
            let object = Box::new(ReadsInADrop(&handle, world, &is_dropped));
            // SAFETY: nobody has found it, and a flush drops it.
            unsafe { handle.retire(Box::into_raw(object)) };
            (0..3).for_each(|_| handle.flush());
            // The pin of the other thread may have kept an advance back.
            while !is_dropped.load(Relaxed) {
                thread::yield_now();
                handle.flush();
            }
        });
        thread::yield_now();
        world.unlink(&handle);
        handle.flush();
        thread::yield_now();
        drop(handle.pin());
        reads.join().expect("no panic");
    });
}

/// The thread that frees has made at most one of the advances itself.
#[test]
fn one_may_free_by_the_advances_of_another() {
    let frees = || {
        let world = World::new();
        let advances = world.spawn(|world| {
            let handle = world.collector.handle();
            world.read(&handle);
            (0..3).for_each(|_| handle.flush());
        });
        let handle = world.collector.handle();
        world.unlink(&handle);
        handle.flush();
        advances.join().expect("no panic");
        // SAFETY: the other thread has ended.
        !world.alive[0].with(|alive| unsafe { *alive })
    };
    assert!(is_ever_within(Some(2), Start::Asymmetric, frees));
}
