//! The fences as loom can check them, no stronger than the contract.
//!
//! A light fence of the thread `t` and a heavy fence of the thread `h` meet at the gate `[t][h]`: loom explores both
//! orders of the two, and passing the gate synchronises nothing. The *past* of a fence is what its thread knew when it
//! executed the fence. The fence that came first hands its past to the other:
//!
//! - the heavy fence came first: the light fence takes what stood before the heavy one;
//! - the light fence came first: the heavy fence takes what stood before the light one.
//!
//! So the thread `t` executes one full fence for each heavy fence, before or after its light fence, as the order at the
//! gate says.
//!
//! - Two light fences share no gate: light against light is unordered.
//! - A heavy fence meets light fences during its call. It takes their pasts later, at its closing fence.
//! - It hands over what it knew when it had executed its opening fence, and nothing that it has met since. Otherwise it
//!   would hand one thread's past on to the next that it visits, while the kernel's interrupts are concurrent, and
//!   would hide outcomes.
//! - Any one order of visiting the threads hides a few outcomes too; upward and downward together were
//!   found exact. So a model is run once in each order.
//! - loom does not see that two `fence(SeqCst)` conflict, and may skip an interleaving of them. All full fences pass
//!   one common gate, so loom explores their orders. This is a precaution: no program of loom-tests needs it.
//!
//! The objects here are created by whichever thread comes first. Creating them must not synchronise any threads.
//! Creating one of loom's atomics does. So a world that begins decided has none but those that `count_calls` creates,
//! in the first thread.

use core::{mem, ptr};
use std::any::{Any, TypeId};
use std::boxed::Box;
use std::cell::{Cell, OnceCell, RefCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location};
use std::rc::Rc;
use std::string::String;
use std::sync::{Mutex as StdMutex, Once};
use std::vec::Vec;

use loom::lazy_static::Lazy;
use loom::sync::atomic::AtomicBool;
use loom::sync::{Condvar, Mutex, MutexGuard};

use super::Mechanism;
use super::world::{Start, Visit};
use crate::refusal::{Call, Failure, Refusal};
use crate::sync::Ordering::{self, Relaxed};

pub(super) const RUNG: Mechanism =
    Mechanism { name: "modelled", admit: || Ok(()), probe, call, waiting: None, register: None };

/// loom's five threads, and one more number, which stands for every thread whose thread-locals were dropped: such a
/// thread no longer has a number of its own. Any two fences under this number count as fences of two different threads.
const THREADS: usize = 6;
const LOCALS_GONE: usize = THREADS - 1;
const OTHERS: usize = THREADS - 2;

/// What a thread knew at some moment. A thread that takes it knows it too.
#[derive(Clone)]
enum Past {
    /// A value of a `lazy_static`: released by the thread that made it, acquired by those that look. loom
    /// branches at neither, but it drops these values when the model's closure has ended.
    Lazy(&'static Lazy<()>),
    /// After that: mutexes, two for each thread that may take it, and each mutex is taken once. If two threads took the
    /// same mutex, each would also release what it knows itself, by its unlock, to those that take the mutex later.
    Copies(Rc<RefCell<Vec<Mutex<()>>>>),
}

impl Past {
    /// Two for each thread that may take it.
    const COPIES: usize = 2 * THREADS;

    #[track_caller]
    fn copies() -> Self {
        let copies: Vec<Mutex<()>> = (0..Self::COPIES).map(|_| Mutex::new(())).collect();
        copies.iter().for_each(|copy| drop(copy.lock()));
        Past::Copies(Rc::new(RefCell::new(copies)))
    }
}

/// A mutex that is locked as long as the model's closure runs. When the closure has ended, and loom drops `END`, the
/// first thread publishes what it knows by unlocking it. loom may switch threads when a mutex is locked, but not when
/// it is unlocked. So no other thread runs between the first and the last unlock in `World::end`.
struct Held {
    /// The guard of the mutex below.
    guard: Option<MutexGuard<'static, ()>>,
    mutex: Rc<Mutex<()>>,
}

impl Held {
    fn new() -> Self {
        let mutex = Rc::new(Mutex::new(()));
        let guard = mutex.lock().ok();
        // SAFETY: the mutex has an address of its own, and outlives the guard: `drop` sees to that.
        let guard = guard.map(|guard| unsafe {
            mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard)
        });
        Held { guard, mutex }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A guard that is still there belongs to an execution that failed: loom is gone, and the mutex cannot be
        // unlocked.
        mem::forget(self.guard.take());
    }
}

/// From now on this thread knows what the thread knew that made the value. False if loom has dropped the values,
/// because the model's closure has ended.
fn has_looked_at(past: &'static Lazy<()>) -> bool {
    let looked = quietly(|| {
        past.get();
    });
    match looked {
        Ok(()) => true,
        Err(message) => {
            assert!(message.contains("shutdown"), "{message}");
            false
        }
    }
}

/// The `n`th value of an execution. All executions share these values: a new one is made only if an execution needs
/// more than any before it.
fn lazy(n: usize) -> &'static Lazy<()> {
    static ALL: StdMutex<Vec<&'static Lazy<()>>> = StdMutex::new(Vec::new());
    let mut all = ALL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    while all.len() <= n {
        all.push(Box::leak(Box::new(Lazy { init: || (), _p: PhantomData })));
    }
    all[n]
}

/// Where two fences meet: a notification for which nobody waits. loom orders it against the others at the same
/// gate, and it synchronises nobody.
#[derive(Default)]
struct Gate(OnceCell<Condvar>);

impl Gate {
    #[track_caller]
    fn pass(&self) {
        self.0.get_or_init(Condvar::new).notify_one();
    }
}

/// One thread's light fences, and another's heavy ones.
#[derive(Default)]
struct Pair {
    gate: Gate,
    met: RefCell<Met>,
}

#[derive(Default)]
struct Met {
    /// The heavy fences that the next light fence takes.
    heavy: Vec<(Past, &'static Location<'static>)>,
    /// The thread's last light fence. Its past includes the pasts of the earlier ones. For `LOCALS_GONE`, which stands
    /// for several threads: every light fence.
    light: Vec<(Past, &'static Location<'static>)>,
}

/// Where a heavy fence stands in the program, and which part of it comes next: for the trace.
#[derive(Clone, Copy)]
struct Heavy {
    at: &'static Location<'static>,
    next: Next,
}

#[derive(Clone, Copy)]
enum Next {
    Opening,
    /// No call comes in a symmetric process, where the opening fence is all of it. Then this stays until the thread's
    /// next heavy fence.
    Call,
    Closing,
}

/// An execution.
struct World {
    start: Start,
    visit: Visit,
    /// `[light thread][heavy thread]`
    pairs: [[Pair; THREADS]; THREADS],
    /// For each thread the pasts that its heavy calls have met, until its next fence takes them.
    met: [RefCell<Vec<Past>>; THREADS],
    /// The gate that all full fences pass.
    full: Gate,
    /// In a process that decides: whether the rung was made ready. The flag is relaxed, although the kernel orders
    /// more, because the library must not rely on that.
    ready: Option<AtomicBool>,
    /// Whether heavy fences are counted, for tickets.
    counts: Cell<bool>,
    /// How many `Past::Lazy` there are.
    pasts: Cell<usize>,
    /// Whether the closure has ended.
    has_ended: Cell<bool>,
    /// What the first thread knew when the closure ended, in mutexes that it has unlocked. From then on they stand for
    /// every earlier past. Each of them is taken once: the thread that takes one must unlock it, and so releases what
    /// it knows itself too. Only the last one may be taken more often.
    closing: RefCell<Vec<Held>>,
    /// How many of them were taken.
    closings: Cell<usize>,
    /// The number of loom's newest object when the closure had ended. It tells this execution from a later one: loom
    /// numbers its objects anew in each execution, and does not number the executions.
    newest: Cell<usize>,
    /// The values of the process.
    globals: RefCell<Vec<(TypeId, Box<dyn Any>)>>,
    traces: bool,
    trace: RefCell<Vec<String>>,
    /// Each thread's heavy fence, for the trace.
    heavy: [Cell<Option<Heavy>>; THREADS],
}

impl World {
    fn new(start: Start, visit: Visit) -> Self {
        let ready = matches!(start, Start::Undecided { .. }).then(|| AtomicBool::new(false));
        World {
            start,
            visit,
            pairs: Default::default(),
            met: Default::default(),
            full: Gate::default(),
            ready,
            counts: Cell::new(false),
            pasts: Cell::new(0),
            has_ended: Cell::new(false),
            closing: RefCell::default(),
            closings: Cell::new(0),
            newest: Cell::new(0),
            globals: RefCell::default(),
            traces: std::env::var_os("ASYMFENCE_LOOM_TRACE").is_some(),
            trace: RefCell::default(),
            heavy: Default::default(),
        }
    }

    /// Every thread but `me`. Those that have no number meet each other too.
    fn others(&self, me: usize) -> impl Iterator<Item = usize> + use<> {
        let visit = self.visit;
        // guard survives: a model runs in both orders. Inverted, each stands for the other.
        let nth = move |n| if visit == Visit::Upward { n } else { THREADS - 1 - n };
        (0..THREADS).map(nth).filter(move |&thread| thread != me || me == LOCALS_GONE)
    }

    /// What the running thread knows now.
    #[track_caller]
    fn past(&self) -> Past {
        if self.has_ended.get() {
            return Past::copies();
        }
        let n = self.pasts.get();
        self.pasts.set(n + 1);
        let past = lazy(n);
        if has_looked_at(past) { Past::Lazy(past) } else { Past::copies() }
    }

    /// From now on the running thread knows what `past` says.
    #[track_caller]
    fn take(&self, past: &Past) {
        match past {
            Past::Lazy(past) if !self.has_ended.get() && has_looked_at(past) => {}
            Past::Lazy(_) => {
                let n = self.closings.get();
                self.closings.set(n + 1);
                // loom switches to other threads here, so nothing is borrowed. `try_lock`, since nobody may wait here:
                // while the first thread drops loom's statics and has not dropped `END` yet, the mutex is still locked,
                // and there is nothing to take. loom drops statics in no certain order, and replays an execution by the
                // number of its branches. So there must be one branch whether or not the mutex is locked, and
                // `try_lock` is one.
                let mutex = {
                    let closing = self.closing.borrow();
                    let held = closing.get(n).or(closing.last());
                    held.map(|held| Rc::clone(&held.mutex))
                };
                mutex.iter().for_each(|mutex| drop(mutex.try_lock()));
            }
            Past::Copies(copies) => {
                // A thread takes this past again at each of its heavy fences. So if no copy is left, either each thread
                // has taken it, or one thread has taken it more than twice. In the second case another thread may miss
                // it.
                let copy = copies.borrow_mut().pop();
                copy.iter().for_each(|copy| drop(copy.lock()));
            }
        }
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.traces {
            self.trace.borrow_mut().push(line());
        }
    }

    /// The closure has ended. Called by the first thread when loom drops `END`, or by the thread that makes the world,
    /// if it is made only after the closure. loom does not branch here.
    fn end(&self) {
        self.has_ended.set(true);
        self.closing.borrow_mut().iter_mut().for_each(|held| drop(held.guard.take()));
        self.newest.set(newest_object());
    }

    fn print(&self) {
        let order = word(self.visit);
        std::eprintln!("asymfence: the fences of this execution visited the threads {order}.");
        if !self.traces {
            return std::eprintln!("asymfence: ASYMFENCE_LOOM_TRACE=1 prints its fences.");
        }
        std::eprintln!("asymfence: its fences, in their order:");
        self.trace.borrow().iter().for_each(|line| std::eprintln!("  {line}"));
    }
}

fn word(visit: Visit) -> &'static str {
    match visit {
        Visit::Upward => "upward",
        Visit::Downward => "downward",
    }
}

fn name(thread: usize) -> String {
    match thread {
        LOCALS_GONE => "a thread whose locals are gone".into(),
        _ => std::format!("thread {thread}"),
    }
}

std::thread_local! {
    /// How the next execution begins, if its closure does not say. loom runs all threads of a model on one thread of
    /// the system, and one model at a time.
    static NEXT: Cell<Option<(Start, Visit)>> = const { Cell::new(None) };
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
    /// While `quietly` asks loom something: then a panic of this thread is loom's answer, and is not printed.
    static ASKS: Cell<bool> = const { Cell::new(false) };
}

/// Dropped when the model's closure has ended, while other threads may run on, or when the execution has failed. Made
/// by one thread, and looked at by no other: it synchronises nobody.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        let Some(world) = WORLD.with_borrow(Clone::clone) else { return };
        if has_failed() {
            world.print();
            WORLD.set(None);
        } else {
            world.end();
        }
    }
}

loom::lazy_static! {
    static ref END: End = End;
}

/// Explains a message of loom's that does not explain itself.
fn explain(panic: &dyn Any) {
    let text = panic.downcast_ref::<&str>().copied();
    if text.is_some_and(|text| text.ends_with("self.threads.len() < self.max()")) {
        std::eprintln!(
            "asymfence: loom runs at most five threads in an execution, the first one included."
        );
    }
}

/// Hides panics that are answers, and explains some others.
fn set_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !ASKS.get() {
                hook(panic);
                explain(panic.payload());
            }
        }));
    });
}

/// What `ask` answers, or the message with which it panics, which is printed nowhere.
fn quietly<T>(ask: impl FnOnce() -> T) -> Result<T, String> {
    set_hook();
    ASKS.set(true);
    let answer = std::panic::catch_unwind(AssertUnwindSafe(ask));
    ASKS.set(false);
    answer.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| String::from(*text));
        text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()
    })
}

enum Execution {
    None,
    Runs,
    /// The closure has ended, and thereby loom's `lazy_static`s. Other threads may run on, and destructors of
    /// thread-locals.
    Closes,
}

fn execution() -> Execution {
    match quietly(|| {
        let _: &End = &END;
    }) {
        Ok(()) => Execution::Runs,
        Err(message) if message.contains("shutdown") => Execution::Closes,
        Err(_) => Execution::None,
    }
}

/// loom numbers its objects, anew in each execution, and tells the numbers in the `Debug` form alone.
fn newest_object() -> usize {
    let object = std::format!("{:?}", Condvar::new());
    let number = object.rsplit('(').next().unwrap_or_default();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("loom 0.7 numbers its objects")
}

loom::thread_local! {
    static INDEX: usize = {
        // The `Debug` form, `ThreadId(3)`, is all that loom tells. It panics where the locals are gone and the
        // thread has not fenced before.
        quietly(|| std::format!("{:?}", loom::thread::current().id())).map_or(LOCALS_GONE, |id| {
            let digits = id.trim_matches(|letter: char| !letter.is_ascii_digit());
            digits.parse().expect("loom 0.7 numbers its threads")
        })
    };
}

fn me() -> usize {
    INDEX.try_with(|index| *index).unwrap_or(LOCALS_GONE)
}

/// Whether the execution has failed. While it unwinds, the fences in destructors do nothing.
fn has_failed() -> bool {
    std::thread::panicking()
}

/// Begins the next executions of this thread of the system as told, if they do not say themselves.
pub(crate) fn begin_next(start: Start, visit: Visit) {
    NEXT.set(Some((start, visit)));
}

/// Makes the world of this execution, before its first fence.
pub(crate) fn start(start: Start, visit: Visit) {
    let world = running();
    assert!(
        world.is_none(),
        "call `asymfence::model::init` before the first fence of the execution, and before `count_calls`"
    );
    assert!(matches!(execution(), Execution::Runs), "{NO_MODEL}");
    assert!(
        me() == 0,
        "call `asymfence::model::init` in the first thread, before it spawns others"
    );
    make(start, visit);
}

const NO_MODEL: &str = "a fence of asymfence was called outside of a loom model, in a build with the feature `loom`. Causes:
  - This is no test. Enable the feature only under a cfg or a feature of your own: if
    `cargo tree -e normal` lists loom, every build has it. In a package of edition 2018
    or older set `resolver = \"2\"`, because resolver 1 ignores the cfg.
  - An ordinary test, with no model around the fence: exclude it by `#[cfg(not(loom))]`.
  - A thread of `std` in a model: use `loom::thread`.
  - A destructor that runs after the execution.
  - Another version of loom than 0.7.";

/// The world of the execution that runs now, if it has one.
fn running() -> Option<Rc<World>> {
    let world = WORLD.with_borrow(Clone::clone)?;
    if !world.has_ended.get() {
        return Some(world);
    }
    match execution() {
        // A destructor or a thread that outlives the closure. It belongs to this world's execution, and not to a later
        // one that has had no fence yet: there loom's numbers have begun again.
        // guard survives: the bound by `>=` differs only in a later execution that has made exactly as many objects.
        Execution::Closes if newest_object() > world.newest.get() => Some(world),
        _ => None,
    }
}

fn make(start: Start, visit: Visit) -> Rc<World> {
    let world = Rc::new(World::new(start, visit));
    WORLD.set(Some(Rc::clone(&world)));
    for _ in 0..OTHERS {
        let held = Held::new();
        world.closing.borrow_mut().push(held);
    }
    world
}

#[track_caller]
fn world() -> Rc<World> {
    if let Some(world) = running() {
        return world;
    }
    let execution = execution();
    assert!(!matches!(execution, Execution::None), "{NO_MODEL}");
    let (start, visit) = NEXT.get().unwrap_or_else(|| {
        let world = from_environment();
        NEXT.set(Some(world));
        std::eprintln!(
            "asymfence: the heavy fences of this model visit the threads in one order, {}.\n  \
             `asymfence::model::model` runs both. Or run this test {} too.",
            word(world.1),
            match world.1 {
                Visit::Upward => "with ASYMFENCE_LOOM_VISIT=downward",
                Visit::Downward => "without ASYMFENCE_LOOM_VISIT",
            }
        );
        world
    });
    assert!(
        !matches!(start, Start::Undecided { .. }),
        "a model that begins undecided must call `asymfence::model::init_from` first in its closure"
    );
    let world = make(start, visit);
    if matches!(execution, Execution::Closes) {
        world.end();
    }
    world
}

/// How a model begins whose closure does not say: as the environment says.
fn from_environment() -> (Start, Visit) {
    let is = |name, value: &str| std::env::var_os(name).is_some_and(|set| set == *value);
    let start = if is("ASYMFENCE", "symmetric") { Start::Symmetric } else { Start::Asymmetric };
    let downward = is("ASYMFENCE_LOOM_VISIT", "downward");
    (start, if downward { Visit::Downward } else { Visit::Upward })
}

/// The mode that a process begins with.
pub(crate) fn begins_as(undecided: u8, symmetric: u8, first_rung: u8) -> u8 {
    match world().start {
        Start::Asymmetric => first_rung,
        Start::Symmetric => symmetric,
        Start::Undecided { .. } => undecided,
    }
}

/// The mode of a process. No atomic of loom's in a world that begins decided: there it never changes.
#[derive(Debug)]
pub(crate) enum Mode {
    Decided(u8),
    Undecided(loom::sync::atomic::AtomicU8),
}

impl Mode {
    pub(crate) fn new(mode: u8) -> Self {
        match world().start {
            Start::Undecided { .. } => Mode::Undecided(loom::sync::atomic::AtomicU8::new(mode)),
            _ => Mode::Decided(mode),
        }
    }

    #[track_caller]
    pub(crate) fn load(&self, ordering: Ordering) -> u8 {
        match self {
            Mode::Decided(mode) => *mode,
            Mode::Undecided(mode) => mode.load(ordering),
        }
    }

    #[track_caller]
    pub(crate) fn compare_exchange(
        &self,
        current: u8,
        new: u8,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u8, u8> {
        match self {
            Mode::Decided(mode) => Err(*mode),
            Mode::Undecided(mode) => mode.compare_exchange(current, new, success, failure),
        }
    }
}

/// A value of the modelled process, made by the first thread that looks at it.
#[track_caller]
pub(crate) fn global<T: 'static>(key: TypeId, make: impl FnOnce() -> T) -> &'static T {
    let world = world();
    let find = || {
        let globals = world.globals.borrow();
        // guard survives: a key stands for one type, so the value has it.
        let value = globals.iter().find(|(known, _)| *known == key)?.1.downcast_ref::<T>()?;
        // SAFETY: the box stays until the next execution begins or, if this one fails, until loom drops `END`, after
        // the stacks of the threads. No reference of this execution is used then.
        Some(unsafe { &*ptr::from_ref(value) })
    };
    find().unwrap_or_else(|| {
        let value = Box::new(make());
        world.globals.borrow_mut().push((key, value));
        find().expect("it was just made")
    })
}

/// From now on heavy fences are counted.
pub(crate) fn count_calls() {
    let world = world();
    assert!(
        me() == 0,
        "call `asymfence::model::count_calls` in the first thread, before it spawns others"
    );
    world.counts.set(true);
}

pub(crate) fn counts_calls() -> bool {
    !has_failed() && world().counts.get()
}

#[track_caller]
pub(super) fn assert_counts() {
    assert!(
        has_failed() || world().counts.get(),
        "a model with tickets must call `asymfence::model::count_calls()` first in its closure"
    );
}

/// A heavy fence begins, there where it is called: for the trace.
#[track_caller]
pub(super) fn heavy_fence_begins() {
    if has_failed() {
        return;
    }
    let (world, me, at) = (world(), me(), Location::caller());
    world.heavy[me].set(Some(Heavy { at, next: Next::Opening }));
    world.note(|| std::format!("{}: heavy fence at {at}", name(me)));
}

#[track_caller]
pub(super) fn light_fence() {
    if has_failed() {
        return;
    }
    let (world, me, at) = (world(), me(), Location::caller());
    let past = world.past();
    world.note(|| std::format!("{}: light fence at {at}", name(me)));
    for heavy in world.others(me) {
        let pair = &world.pairs[me][heavy];
        pair.gate.pass();
        // loom switches to no other thread between the gate and the end of this block.
        let came_first = {
            let met = &mut *pair.met.borrow_mut();
            let came_first = met.heavy.clone();
            if me != LOCALS_GONE {
                // This pair belongs to one thread. It takes these heavy fences now, and the past of this light fence
                // includes that of its last one.
                met.heavy.clear();
                met.light.clear();
            }
            met.light.push((past.clone(), at));
            came_first
        };
        for (past, at) in &came_first {
            world.note(|| {
                std::format!(
                    "{}: ... its light fence came after the heavy fence of {} at {at}",
                    name(me),
                    name(heavy)
                )
            });
            world.take(past);
        }
    }
}

fn call() -> Result<(), Failure> {
    // Relaxed: that it is true must follow from how the strategy was published.
    let is_ready = world().ready.as_ref().is_none_or(|ready| ready.load(Relaxed));
    assert!(is_ready, "a rung was used before it was ready");
    barrier_elsewhere();
    Ok(())
}

/// The call in the middle of a heavy fence.
#[track_caller]
pub(crate) fn barrier_elsewhere() {
    if has_failed() {
        return;
    }
    let (world, me) = (world(), me());
    let at = world.heavy[me].get().map_or(Location::caller(), |heavy| heavy.at);
    // What this thread knows when it has executed its opening fence, and nothing that it meets from now on.
    let past = world.past();
    let mut all_met = Vec::new();
    for light in world.others(me) {
        let pair = &world.pairs[light][me];
        pair.gate.pass();
        // loom switches to no other thread between the gate and the end of this block.
        let met = &mut *pair.met.borrow_mut();
        met.heavy.push((past.clone(), at));
        all_met.extend(met.light.iter().map(|(past, _)| past.clone()));
        for (_, at) in &met.light {
            world.note(|| {
                std::format!(
                    "{}: ... its heavy fence came after the light fence of {} at {at}",
                    name(me),
                    name(light)
                )
            });
        }
    }
    // The call orders nothing for its caller: the next fence of this thread does.
    world.met[me].borrow_mut().append(&mut all_met);
    world.heavy[me].set(Some(Heavy { at, next: Next::Closing }));
}

fn probe() -> Result<(), Refusal> {
    let world = world();
    if world.start == (Start::Undecided { rung_works: false }) {
        return Err(Failure::new(Call::Modelled, 38).into());
    }
    // No trial call: it would synchronise more than the contract promises.
    if let Some(ready) = &world.ready {
        ready.store(true, Relaxed);
    }
    Ok(())
}

/// loom's fence. A full one also passes a gate that all of them pass, so that loom's search sees that they conflict.
#[track_caller]
pub(crate) fn fence(ordering: Ordering) {
    if has_failed() {
        return;
    }
    let (world, me) = (world(), me());
    if ordering == Ordering::SeqCst {
        world.full.pass();
        match world.heavy[me].get() {
            Some(Heavy { at, next: Next::Opening }) => {
                world.heavy[me].set(Some(Heavy { at, next: Next::Call }));
            }
            Some(Heavy { at, next: Next::Closing }) => {
                world.heavy[me].set(None);
                world.note(|| std::format!("{}: end of the heavy fence at {at}", name(me)));
            }
            Some(Heavy { next: Next::Call, .. }) | None => {
                let at = Location::caller();
                world.note(|| std::format!("{}: full fence at {at}", name(me)));
            }
        }
    }
    // These orderings are only compared, to find out whether the fence acquires.
    if matches!(ordering, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst) {
        world.met[me].take().iter().for_each(|past| world.take(past));
    }
    loom::sync::atomic::fence(ordering);
}
