//! A segment of one process, which Miri runs too.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence::cross_process::{
    Attached, Fences, Mode, Participant, SegmentError, WORDS, attach, create, reap,
};
use asymfence::membarrier::global;

use crate::child::Child;

/// A file for the locks. Miri knows no memfd, but the files of the system.
fn file(name: &str) -> File {
    if !cfg!(miri) {
        return File::from(
            rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd"),
        );
    }
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    // Miri runs several seeds at once, each in a process with the same number. So the name does not use that number.
    let (path, file) = (0..1_000)
        .find_map(|number| {
            let path = std::env::temp_dir().join(format!("asymfence-{name}-{number}"));
            options.open(&path).ok().map(|file| (path, file))
        })
        .expect("a file of its own");
    std::fs::remove_file(path).expect("its own file");
    file
}

fn words() -> Vec<AtomicU32> {
    (0..WORDS + 2).map(|_| AtomicU32::new(0)).collect()
}

fn store_buffering<F: Fences + Sync>(me: &Participant<'_, F>, [x, y]: [&AtomicU32; 2]) {
    let seen = thread::scope(|scope| {
        let light = scope.spawn(|| {
            x.store(1, Relaxed);
            me.light_fence();
            y.load(Relaxed)
        });
        let heavy = scope.spawn(|| {
            y.store(1, Relaxed);
            me.heavy_fence();
            x.load(Relaxed)
        });
        [light, heavy].map(|side| side.join().expect("no panic"))
    });
    assert_ne!(seen, [0, 0]);
}

/// The recipe of the documentation. Where there is no membarrier, as in Miri, `create` refuses, and the segment becomes
/// symmetric.
#[test]
fn the_recipe_falls_back_where_there_is_no_membarrier() {
    let (memory, lock_file) = (words(), file("recipe"));
    let (header, data) = memory.split_at(WORDS);
    let as_it_is = create(header, lock_file.as_fd(), Mode::Asymmetric);
    let falls_back = matches!(as_it_is, Err(SegmentError::Refused(_)));
    assert!(falls_back || global().is_ok());
    assert!(falls_back || !cfg!(miri), "{as_it_is:?}");
    if falls_back {
        create(header, lock_file.as_fd(), Mode::Symmetric).expect("needs no membarrier");
    }
    let attached = attach(header, lock_file.as_fd()).expect("by the same process");
    assert_eq!(matches!(attached, Attached::Symmetric(_)), falls_back);
    match &attached {
        Attached::Asymmetric(me) => store_buffering(me, [&data[0], &data[1]]),
        Attached::Symmetric(me) => store_buffering(me, [&data[0], &data[1]]),
    }
}

#[test]
fn participants_of_one_process_have_places_of_their_own() {
    if cfg!(miri) {
        return take_places();
    }
    // In a process of its own: what another test spawns keeps a dropped place taken until it calls exec.
    Child::default().run(|| {
        take_places(); // the name of the closure is the test's
    });
}

fn take_places() {
    let (memory, lock_file) = (words(), file("places"));
    let attach = || match attach(&memory, lock_file.as_fd()) {
        Ok(Attached::Symmetric(me)) => Ok(me),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    create(&memory, lock_file.as_fd(), Mode::Symmetric).expect("needs no membarrier");
    let (one, two) = (attach().expect("a place"), attach().expect("another place"));
    assert_eq!([one.index(), two.index()], [0, 1]);
    // Nobody has ended.
    assert_eq!(reap(&memory, lock_file.as_fd(), |index| panic!("{index}")), Ok(0));
    assert!(one.renew().is_ok());
    // The file is known by what it is, and not by its descriptor.
    let same = lock_file.try_clone().expect("a descriptor");
    drop(asymfence::cross_process::attach(&memory, same.as_fd()).expect("the same file"));
    let other = asymfence::cross_process::attach(&memory, file("other").as_fd()).map(drop);
    assert_eq!(other, Err(SegmentError::OtherFile));
    assert_eq!(create(&words(), lock_file.as_fd(), Mode::Symmetric), Err(SegmentError::FileInUse));
    drop(one);
    assert_eq!(attach().expect("the place that was left").index(), 0);
    // What is forgotten holds its place, since the process lives.
    std::mem::forget(two);
    assert_eq!(reap(&memory, lock_file.as_fd(), |index| panic!("{index}")), Ok(0));
}
