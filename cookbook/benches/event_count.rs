//! The event count against its symmetric twin and other ways to sleep. The notifier is measured behind each push to a ring
//! while nobody sleeps. The sleeper executes the heavy fence, so its costs are measured too: to go to sleep, to wait with a
//! time limit, and to be woken, alone or as one of many.
//!
//! `cargo bench -p cookbook-benches --bench event_count`, or with the beginning of a title: `-- "7 "`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

mod in_turn;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/event_count/ring.rs"]
mod ring;
#[path = "../../doctor/src/sibling.rs"]
mod sibling;
#[allow(dead_code, unreachable_pub, reason = "a library's")]
#[path = "../src/event_count.rs"]
mod symmetric;
#[path = "symmetric/sync.rs"]
mod sync;

use std::future::Future;
use std::hint::{black_box, spin_loop};
use std::pin::pin;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use event_listener::{Event, Listener};
use in_turn::{is_quick, is_wanted};
use ring::Ring;
use sibling::{beside, cores};

/// A way to sleep until a condition holds. Every `wait_until` but that of `Nothing` sleeps as soon as it can.
trait Sleep: Default + Send + Sync + 'static {
    fn notify(&self);
    fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T;
    /// Announces the caller as a sleeper, and returns without sleeping because the condition holds.
    fn almost_sleep(&self);
}

/// A way to sleep that can also wake several threads at once, and wait with a time limit.
trait Several: Sleep {
    fn notify_several(&self, most: usize);
    /// Waits that long for a condition that never holds.
    fn wait_in_vain(&self, timeout: Duration);
}

macro_rules! event_count {
    ($name:ident, $event_count:ty) => {
        struct $name($event_count);

        impl Default for $name {
            fn default() -> Self {
                $name(<$event_count>::with_looks(1))
            }
        }

        impl Sleep for $name {
            #[inline]
            fn notify(&self) {
                self.0.notify_one();
            }
            fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
                self.0.wait_until(condition)
            }
            fn almost_sleep(&self) {
                drop(self.0.listen());
            }
        }

        impl Several for $name {
            #[inline]
            fn notify_several(&self, most: usize) {
                self.0.notify(most);
            }
            fn wait_in_vain(&self, timeout: Duration) {
                assert_eq!(self.0.wait_until_timeout(timeout, || None::<()>), None);
            }
        }
    };
}

event_count!(Asymmetric, asymfence_cookbook::event_count::EventCount);
event_count!(Symmetric, symmetric::EventCount);

/// The same as a task, on a thread that runs nothing else.
#[derive(Default)]
struct Task(Asymmetric);

impl Sleep for Task {
    #[inline]
    fn notify(&self) {
        self.0.notify();
    }
    fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let mut waiting = pin!(self.0.0.wait_until_async(condition));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match waiting.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(found) => return found,
                Poll::Pending => thread::park(),
            }
        }
    }
    fn almost_sleep(&self) {
        self.0.almost_sleep();
    }
}

impl Sleep for Event {
    #[inline]
    fn notify(&self) {
        Event::notify(self, 1);
    }
    fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = condition() {
                return found;
            }
            let listener = self.listen();
            if let Some(found) = condition() {
                return found;
            }
            listener.wait();
        }
    }
    fn almost_sleep(&self) {
        drop(self.listen());
    }
}

impl Several for Event {
    #[inline]
    fn notify_several(&self, most: usize) {
        Event::notify(self, most);
    }
    fn wait_in_vain(&self, timeout: Duration) {
        assert!(self.listen().wait_timeout(timeout).is_none());
    }
}

/// A condition that the lock does not protect. The notifier must take the lock nevertheless: otherwise the
/// sleeper might miss it between its look and its sleep.
#[derive(Default)]
struct ParkingLot(parking_lot::Mutex<()>, parking_lot::Condvar);

impl Sleep for ParkingLot {
    #[inline]
    fn notify(&self) {
        drop(self.0.lock());
        self.1.notify_one();
    }
    fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        let mut lock = self.0.lock();
        loop {
            if let Some(found) = condition() {
                return found;
            }
            self.1.wait(&mut lock);
        }
    }
    fn almost_sleep(&self) {
        drop(self.0.lock());
    }
}

impl Several for ParkingLot {
    #[inline]
    fn notify_several(&self, _most: usize) {
        drop(self.0.lock());
        self.1.notify_all();
    }
    fn wait_in_vain(&self, timeout: Duration) {
        assert!(self.1.wait_for(&mut self.0.lock(), timeout).timed_out());
    }
}

/// One sleeper, whose handle every notifier has.
#[derive(Default)]
struct Unpark(OnceLock<Thread>);

impl Sleep for Unpark {
    #[inline]
    fn notify(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
    fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        self.0.get_or_init(thread::current);
        loop {
            if let Some(found) = condition() {
                return found;
            }
            thread::park();
        }
    }
    fn almost_sleep(&self) {
        self.0.get_or_init(thread::current);
    }
}

/// Never sleeps and never wakes: the base of the comparison.
#[derive(Default)]
struct Nothing;

impl Sleep for Nothing {
    fn notify(&self) {}
    fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = condition() {
                return found;
            }
            spin_loop();
        }
    }
    fn almost_sleep(&self) {}
}

/// A ring, and the primitive on which its consumer sleeps.
struct Channel<S> {
    ring: Ring<1024>,
    sleep: S,
}

impl<S: Sleep> Channel<S> {
    fn new() -> Self {
        Channel { ring: Ring::new(), sleep: S::default() }
    }

    #[inline]
    fn push(&self, item: u64) {
        while self.ring.try_push(item).is_none() {
            spin_loop();
        }
        self.sleep.notify();
    }
}

/// Pushes, notifies and pops, all in one thread: nothing but the instructions.
fn alone<S: Sleep>(times: u64) -> Duration {
    let channel = Channel::<S>::new();
    // Some primitives must know their sleeper. This call introduces it.
    channel.sleep.almost_sleep();
    let channel = black_box(&channel);
    let start = Instant::now();
    for item in 0..times {
        channel.push(item);
        black_box(channel.ring.try_pop());
    }
    start.elapsed()
}

/// Pushes and notifies, while a consumer on another core pops everything and never sleeps.
fn beside_a_consumer<S: Sleep>(times: u64) -> Duration {
    let channel = Channel::<S>::new();
    let consumer = || _ = black_box(channel.ring.try_pop());
    let produce = || {
        channel.sleep.almost_sleep();
        let start = Instant::now();
        (0..times).for_each(|item| channel.push(item));
        start.elapsed()
    };
    beside(1, 0, consumer, produce).expect("a second core")
}

/// Announces itself and stays awake, while another thread runs on another core.
fn almost_sleep<S: Sleep>(times: u64) -> Duration {
    let sleep = S::default();
    let announce = || {
        let start = Instant::now();
        (0..times).for_each(|_| black_box(&sleep).almost_sleep());
        start.elapsed()
    };
    beside(1, 0, spin_loop, announce).expect("a second core")
}

/// The time that a running thread loses by each announcement on another core: its work takes longer.
fn what_others_lose<S: Sleep>(times: u64) -> Duration {
    let (sleep, announced) = (S::default(), AtomicU64::new(0));
    let announce = || {
        sleep.almost_sleep();
        // Relaxed: a number.
        announced.fetch_add(1, Relaxed);
    };
    let work = || {
        let (before, start) = (announced.load(Relaxed), Instant::now());
        (0..times * 10_000).for_each(|step| _ = black_box(step));
        (start.elapsed(), announced.load(Relaxed) - before)
    };
    let (quiet, _) = beside(1, 0, spin_loop, work).expect("a second core");
    let (disturbed, announcements) = beside(1, 0, announce, work).expect("a second core");
    let lost = disturbed.saturating_sub(quiet).as_secs_f64() / announcements.max(1) as f64;
    Duration::from_secs_f64(lost * times as f64)
}

/// Sends one item to another thread and gets one back. Both threads sleep before each item.
fn ping_pong<S: Sleep>(times: u64) -> Duration {
    let (there, back) = (Channel::<S>::new(), Channel::<S>::new());
    let pop = |channel: &Channel<S>| channel.sleep.wait_until(|| channel.ring.try_pop());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let cores = cores();
        scope.spawn(|| {
            cores.get(1).map(|&core| core_affinity::set_for_current(core));
            loop {
                let item = pop(&there);
                if stop.load(Acquire) {
                    break;
                }
                back.push(item);
            }
        });
        let timed = scope.spawn(|| {
            cores.first().map(|&core| core_affinity::set_for_current(core));
            let start = Instant::now();
            for item in 0..times {
                there.push(item);
                assert_eq!(pop(&back), item);
            }
            let time = start.elapsed();
            stop.store(true, Release);
            there.push(0);
            time
        });
        timed.join().expect("no panic")
    })
}

/// Notifies several sleepers, of which there are none.
fn notify_several<S: Several>(times: u64) -> Duration {
    let sleep = S::default();
    sleep.almost_sleep();
    let start = Instant::now();
    (0..times).for_each(|_| black_box(&sleep).notify_several(4));
    start.elapsed()
}

/// Waits for a condition that never holds, with a time limit that is over at once, while another thread runs.
fn wait_in_vain<S: Several>(times: u64) -> Duration {
    let sleep = S::default();
    let wait = || {
        let start = Instant::now();
        (0..times).for_each(|_| black_box(&sleep).wait_in_vain(Duration::from_nanos(1)));
        start.elapsed()
    };
    beside(1, 0, spin_loop, wait).expect("a second core")
}

/// Four threads sleep, and one notification wakes all. The next round starts when all have reported that they woke.
fn wake_four<S: Several>(times: u64) -> Duration {
    let (turn, woken) = (AtomicU64::new(0), AtomicU64::new(0));
    let (sleep, last) = (S::default(), S::default());
    let sleeper = || {
        for next in 1..=times {
            sleep.wait_until(|| (turn.load(Acquire) >= next).then_some(()));
            // Release: pairs with the Acquire below.
            if woken.fetch_add(1, Release) + 1 == 4 * next {
                last.notify();
            }
        }
    };
    thread::scope(|scope| {
        (0..4).for_each(|_| _ = scope.spawn(sleeper));
        let start = Instant::now();
        for next in 1..=times {
            turn.store(next, Release);
            sleep.notify_several(4);
            last.wait_until(|| (woken.load(Acquire) == 4 * next).then_some(()));
        }
        start.elapsed()
    })
}

/// The time of that many operations.
type Body = fn(u64) -> Duration;

/// What a table is about, how often it is done in a sample, and the contenders. The first one is the
/// measure of all.
struct Table {
    title: &'static str,
    times: u64,
    contenders: Vec<(&'static str, Body)>,
}

macro_rules! table {
    ($title:literal, $times:literal, $body:ident: $($name:literal $sleep:ty),* $(,)?) => {
        Table { title: $title, times: $times, contenders: vec![$(($name, $body::<$sleep>)),*] }
    };
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    vec![
        table!("1 push, notify, pop, in one thread", 1_000_000, alone:
            "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event,
            "parking_lot, lock and condvar" ParkingLot, "unpark" Unpark, "no notification" Nothing),
        table!("2 push and notify, beside a consumer that never sleeps", 1_000_000, beside_a_consumer:
            "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event,
            "parking_lot, lock and condvar" ParkingLot, "unpark" Unpark, "no notification" Nothing),
        table!("3 announce oneself and stay awake, beside a thread that runs", 500, almost_sleep:
            "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event),
        table!("4 there and back, both sleep for each", 500, ping_pong:
            "EventCount" Asymmetric, "EventCount, tasks" Task, "its symmetric twin" Symmetric, "event-listener" Event,
            "parking_lot, lock and condvar" ParkingLot, "unpark" Unpark),
        table!("6 notify four, nobody sleeps", 1_000_000, notify_several:
            "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event,
            "parking_lot, lock and condvar" ParkingLot),
        table!("7 wait with a deadline that has passed, beside a thread that runs", 500, wait_in_vain:
            "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event,
            "parking_lot, lock and condvar" ParkingLot),
        table!("8 notify four, which all sleep", 200, wake_four:
            "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event,
            "parking_lot, lock and condvar" ParkingLot),
    ]
});

/// A difference of two times. It may be zero, which criterion does not accept.
static LOSS: LazyLock<Table> = LazyLock::new(|| {
    table!("5 what a thread that runs loses when another announces itself", 500, what_others_lose:
        "EventCount" Asymmetric, "its symmetric twin" Symmetric, "event-listener" Event)
});

fn contenders(criterion: &mut Criterion) {
    println!("fences: {}", asymfence::init());
    if cores().len() < 2 {
        return println!("one core: nothing to measure");
    }
    for table in &*TABLES {
        let mut group = criterion.benchmark_group(table.title);
        for (name, body) in &table.contenders {
            group.bench_function(*name, |bencher| bencher.iter_custom(body));
        }
        group.finish();
    }
}

fn all_in_turn(_: &mut Criterion) {
    if cores().len() < 2 {
        return;
    }
    let samples = if is_quick() { 5 } else { 15 };
    let tables = TABLES.iter().chain([&*LOSS]).filter(|table| is_wanted(table.title));
    for Table { title, times, contenders } in tables {
        println!("\n{title}");
        let costs = in_turn::samples(contenders.len(), samples, |i| {
            contenders[i].1(*times).as_nanos() as f64 / *times as f64
        });
        in_turn::print(contenders.iter().map(|contender| contender.0), costs);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        // Its plots panic if the samples of a row do not vary.
        .without_plots()
        .sample_size(10)
        .measurement_time(Duration::from_millis(400))
        .warm_up_time(Duration::from_millis(100));
    targets = all_in_turn, contenders
}
criterion_main!(benches);
