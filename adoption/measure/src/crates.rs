//! The two sides of each crate. A macro each, since the types of the variants differ.

use std::cell::RefCell;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;

use futures_lite::future::{block_on, yield_now};

use crate::in_turn::{Sides, Structure, With};

/// The name in the table; before and after.
pub(crate) const ALL: [(&str, Sides, Sides); 14] = [
    ("haphazard", hazards, hazards_after),
    ("haphazard-inline", hazards, hazards_inline),
    ("left-right", left, left_after),
    ("left-right-stores", left, left_stores),
    ("swmr-cell", swmr, swmr_after),
    ("swmr-cell-default", swmr_default, swmr_after),
    ("evmap", maps, maps_after),
    ("arc-swap", arcs, arcs_after),
    ("hazarc", hazarcs, hazarcs_after),
    ("event-listener", events, events_after),
    ("crossbeam-epoch", epochs, epochs_after),
    ("crossbeam-epoch-paced", epochs, epochs_paced),
    ("async-executor", tasks, tasks_after),
    ("rayon-core", pools, pools_after),
];

/// The rare side of those whose hot side alone is of interest.
const NOTHING: fn(u32) = |_| ();

macro_rules! haphazard {
    ($sides:ident, $theirs:ident) => {
        /// To protect, pointer at hand; to replace and retire: one in a thousand reclaims.
        fn $sides(with: With<'_>) {
            use $theirs::{AtomicPtr, HazardPointer};
            let shared = AtomicPtr::from(Box::new(0_u64));
            with(&Structure {
                hot: &|times| {
                    let mut pointer = HazardPointer::new();
                    for _ in 0..times {
                        black_box(shared.safe_load(&mut pointer));
                    }
                },
                rare: &|times| {
                    for _ in 0..times {
                        let old = shared.swap(Box::new(1)).expect("never null");
                        // SAFETY: unlinked just now, and retired once.
                        unsafe { old.retire() };
                    }
                },
                rare_times: 5_000,
            });
        }
    };
}
haphazard!(hazards, haphazard);
haphazard!(hazards_after, haphazard_after);
haphazard!(hazards_inline, haphazard_inline);

macro_rules! left_right {
    ($sides:ident, $theirs:ident) => {
        /// To enter and leave; to publish.
        fn $sides(with: With<'_>) {
            use $theirs::Absorb;
            #[derive(Default)]
            struct Count(u64);
            impl Absorb<u64> for Count {
                fn absorb_first(&mut self, more: &mut u64, _: &Self) {
                    self.0 += *more;
                }
                fn sync_with(&mut self, first: &Self) {
                    self.0 = first.0;
                }
            }
            let (writer, reader) = $theirs::new::<Count, u64>();
            let (writer, readers) = (RefCell::new(writer), reader.factory());
            with(&Structure {
                hot: &|times| {
                    let reader = readers.handle();
                    for _ in 0..times {
                        black_box(reader.enter().map(|count| count.0));
                    }
                },
                rare: &|times| {
                    let mut writer = writer.borrow_mut();
                    for _ in 0..times {
                        writer.append(1);
                        writer.publish();
                    }
                },
                rare_times: 300,
            });
        }
    };
}
left_right!(left, left_right);
left_right!(left_after, left_right_after);
left_right!(left_stores, left_right_stores);

macro_rules! swmr_cell {
    ($sides:ident, $theirs:ident, $($read_preferred:ident)?) => {
        /// To pin, read and leave; to store: one in 17 reclaims.
        fn $sides(with: With<'_>) {
            let cell = $theirs::SwmrCell::builder()$(.$read_preferred())?.build(0_u64);
            let readers = cell.reader_factory();
            let cell = RefCell::new(cell);
            with(&Structure {
                hot: &|times| {
                    let reader = readers.local_reader();
                    for _ in 0..times {
                        black_box(*reader.pin());
                    }
                },
                rare: &|times| {
                    let mut cell = cell.borrow_mut();
                    (0..times).for_each(|_| cell.store(1));
                },
                rare_times: 3_000,
            });
        }
    };
}
swmr_cell!(swmr_default, swmr_cell,);
swmr_cell!(swmr, swmr_cell, read_preferred);
swmr_cell!(swmr_after, swmr_cell_after, read_preferred);

macro_rules! evmap {
    ($sides:ident, $theirs:ident) => {
        /// To look up one of a thousand; to update one, and publish.
        fn $sides(with: With<'_>) {
            const KEYS: u64 = 1_000;
            let (mut writer, reader) = $theirs::new::<u64, u64>();
            for key in 0..KEYS {
                writer.insert(key, key);
            }
            writer.publish();
            let (writer, readers) = (RefCell::new(writer), Mutex::new(reader));
            with(&Structure {
                hot: &|times| {
                    let reader = readers.lock().expect("no panic").clone();
                    for turn in 0..times {
                        black_box(reader.get_one(&(u64::from(turn) % KEYS)).map(|value| *value));
                    }
                },
                rare: &|times| {
                    let mut writer = writer.borrow_mut();
                    for turn in 0..times {
                        writer.update(u64::from(turn) % KEYS, 1).publish();
                    }
                },
                rare_times: 300,
            });
        }
    };
}
evmap!(maps, evmap);
evmap!(maps_after, evmap_after);

macro_rules! arc_swap {
    ($sides:ident, $theirs:ident) => {
        /// To load and drop; to store.
        fn $sides(with: With<'_>) {
            let shared = $theirs::ArcSwap::from_pointee(0_u64);
            with(&Structure {
                hot: &|times| (0..times).for_each(|_| _ = black_box(**shared.load())),
                rare: &|times| (0..times).for_each(|_| shared.store(Arc::new(1))),
                rare_times: 300,
            });
        }
    };
}
arc_swap!(arcs, arc_swap);
arc_swap!(arcs_after, arc_swap_after);

macro_rules! hazarc {
    ($sides:ident, $theirs:ident) => {
        /// To load and drop; to store.
        fn $sides(with: With<'_>) {
            let shared = $theirs::AtomicArc::<u64>::from(0);
            with(&Structure {
                hot: &|times| (0..times).for_each(|_| _ = black_box(**shared.load())),
                rare: &|times| (0..times).for_each(|_| shared.store(Arc::new(1))),
                rare_times: 300,
            });
        }
    };
}
hazarc!(hazarcs, hazarc);
hazarc!(hazarcs_after, hazarc_after);

macro_rules! event_listener {
    ($sides:ident, $theirs:ident) => {
        /// To notify where nobody listens; to listen, and stop.
        fn $sides(with: With<'_>) {
            let event = $theirs::Event::new();
            with(&Structure {
                hot: &|times| (0..times).for_each(|_| _ = black_box(event.notify(1))),
                rare: &|times| (0..times).for_each(|_| drop(event.listen())),
                rare_times: 300,
            });
        }
    };
}
event_listener!(events, event_listener);
event_listener!(events_after, event_listener_after);

macro_rules! crossbeam_epoch {
    ($sides:ident, $theirs:ident) => {
        /// To pin, and leave, beside a thread that runs. Every 128th pin collects, which may execute a heavy fence that
        /// interrupts that thread; the time of a pin includes its share of that.
        fn $sides(with: With<'_>) {
            let (collector, stop) = ($theirs::Collector::new(), AtomicBool::new(false));
            thread::scope(|scope| {
                // Relaxed, both: nothing else is handed over.
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        spin_loop();
                    }
                });
                with(&Structure {
                    hot: &|times| {
                        let handle = collector.register();
                        (0..times).for_each(|_| drop(black_box(handle.pin())));
                    },
                    rare: &NOTHING,
                    rare_times: 1_000,
                });
                stop.store(true, Relaxed);
            });
        }
    };
}
crossbeam_epoch!(epochs, crossbeam_epoch);
crossbeam_epoch!(epochs_after, crossbeam_epoch_after);
crossbeam_epoch!(epochs_paced, crossbeam_epoch_paced);

macro_rules! async_executor {
    ($sides:ident, $theirs:ident) => {
        /// To poll a task that yields.
        fn $sides(with: With<'_>) {
            let executor = $theirs::Executor::new();
            with(&Structure {
                hot: &|times| {
                    block_on(executor.run(executor.spawn(async move {
                        for _ in 0..times {
                            yield_now().await;
                        }
                    })));
                },
                rare: &NOTHING,
                rare_times: 1_000,
            });
        }
    };
}
async_executor!(tasks, async_executor);
async_executor!(tasks_after, async_executor_after);

macro_rules! rayon_core {
    ($sides:ident, $theirs:ident) => {
        /// To inject a job where nobody sleeps, and to run it.
        fn $sides(with: With<'_>) {
            let pool = $theirs::ThreadPoolBuilder::new().num_threads(1).build();
            let pool = pool.expect("a thread");
            with(&Structure {
                hot: &|times| {
                    let (runs, stop) =
                        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
                    let (is_running, is_over) = (Arc::clone(&runs), Arc::clone(&stop));
                    // Keeps the worker awake. Relaxed, all: nothing else is handed over.
                    pool.spawn(move || {
                        is_running.store(true, Relaxed);
                        while !is_over.load(Relaxed) {
                            spin_loop();
                        }
                    });
                    while !runs.load(Relaxed) {
                        spin_loop();
                    }
                    (0..times).for_each(|_| pool.spawn(|| ()));
                    stop.store(true, Relaxed);
                    // In the order of the queue: behind all of them.
                    pool.install(|| ());
                },
                rare: &NOTHING,
                rare_times: 1_000,
            });
        }
    };
}
rayon_core!(pools, rayon_core);
rayon_core!(pools_after, rayon_core_after);
