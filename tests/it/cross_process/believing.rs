//! The questions to the kernel about a place: by which descriptors, and which answers are believed.

use std::fs;
use std::mem::forget;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use asymfence::cross_process::{Attached, Mode, PARTICIPANTS, SegmentError, SegmentStep, WORDS};
use nix::libc;
use rustix::fs::{MemfdFlags, memfd_create};
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter;

use super::holding::{CHANGE, is_locked, lock, opened_anew};
use super::{
    FCNTL, FSTATFS, Fresh, Header, at_each_call, attach, attach_asymmetric, attach_symmetric,
    create, fresh, reap,
};
use crate::child::{Child, ledger, needs_procfs};
use crate::filter::on_fcntl;
use crate::fork::in_fork;

#[track_caller]
fn attaches(header: Header<'_>) {
    let me = attach_symmetric(header);
    assert_eq!((me.index(), me.renew()), (0, Ok(())));
    assert_eq!(reap(header, |_| panic!("it lives")), Ok(0));
    assert_eq!(me.reap(|_| panic!("it lives")), Ok(0));
}

/// /proc/self is the first thread of the process, which may have ended.
#[test]
fn a_process_whose_first_thread_has_ended_attaches() {
    Child::default().run(|| {
        let segment = fresh();
        create(segment.header(), Mode::Symmetric).expect("a memfd can be locked");
        in_fork(|| {
            let first = rustix::thread::gettid().as_raw_nonzero();
            thread::scope(|scope| {
                scope.spawn(|| {
                    // The twin: what /proc/self/fd is then.
                    while fs::read_dir("/proc/self/fd").is_ok_and(|files| files.count() != 0) {
                        thread::yield_now();
                    }
                    assert_ne!(first, rustix::thread::gettid().as_raw_nonzero());
                    attaches(segment.header());
                    let asymmetric = fresh();
                    create(asymmetric.header(), Mode::Asymmetric).expect("membarrier is offered");
                    attach_asymmetric(asymmetric.header()).heavy_fence();
                    // SAFETY: ends the process, as `in_fork` waits for.
                    unsafe { libc::_exit(42) }
                });
                // SAFETY: ends this thread, whose stack stays; the other ends the process.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
        });
    });
}

#[test]
fn a_thread_with_descriptors_of_its_own_attaches() {
    Child::default().run(|| {
        needs_procfs();
        let others = fs::read_dir("/proc/self/fd").expect("procfs").count();
        thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: takes no memory; the descriptors are copied.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
                let segment = fresh();
                create(segment.header(), Mode::Symmetric).expect("a memfd can be locked");
                attaches(segment.header());
                // The twin: the first thread has no such descriptor. (This cannot be seen where /proc/self/fd is
                // empty.)
                let number = segment.file.as_raw_fd();
                let theirs = fs::read_link(format!("/proc/self/fd/{number}"));
                assert!(theirs.is_err() || others == 0, "{theirs:?}");
            });
        });
    });
}

/// Runs `asks` in a thread for which a sandbox answers 0 to the `commands` of fcntl(2).
fn where_success_is_invented(commands: &[i32], asks: impl FnOnce() + Send) {
    let filter = on_fcntl(commands, Errno(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            apply_filter(&filter).expect("the filter is accepted");
            asks();
        });
    });
}

#[test]
fn a_sandbox_that_answers_0_to_locks_is_not_believed() {
    Child::default().run(|| {
        const NO_KERNELS: SegmentError = SegmentError::Failed(SegmentStep::Lock, 0);
        let answered: [&[i32]; 3] =
            [&[libc::F_OFD_GETLK], &[libc::F_OFD_SETLK], &[libc::F_OFD_GETLK, libc::F_OFD_SETLK]];
        for commands in answered {
            let segment = fresh();
            let header = segment.header();
            create(header, Mode::Symmetric).expect("a memfd can be locked");
            let mine = attach_symmetric(header);
            where_success_is_invented(commands, || {
                let error = attach(header).expect_err("a place by somebody's word");
                assert_eq!(error, NO_KERNELS);
                assert!(error.to_string().contains("no kernel"), "{error}");
                // One that lives is not taken for dead, and who was refused has left nothing.
                let asks = commands.contains(&libc::F_OFD_GETLK);
                let reaped = reap(header, |place| assert_ne!(place, mine.index(), "it lives"));
                assert_eq!(reaped, Err(NO_KERNELS));
                assert_eq!(mine.renew(), if asks { Err(NO_KERNELS) } else { Ok(()) });
                let other = fresh();
                let made = create(other.header(), Mode::Symmetric);
                assert_eq!(made, if asks { Err(NO_KERNELS) } else { Ok(()) });
            });
            // The twin: outside of the sandbox.
            assert_eq!(mine.renew(), Ok(()));
            drop(mine);
            attaches(header);
        }
    });
}

/// Of the calls on the locks one is answered 0 in the kernel's place, whichever it is.
#[test]
fn one_invented_answer_frees_no_place_of_the_living() {
    let inject = |nth| format!("retval=0:when={nth}");
    let said = at_each_call(FCNTL, inject, ("refused", 20), |child| {
        child.outcome(|| {
            let segment = fresh();
            let header = segment.header();
            if create(header, Mode::Symmetric).is_err() {
                return println!("refused");
            }
            let Ok(Attached::Symmetric(mine)) = attach(header) else { return println!("refused") };
            let reaped = reap(header, |place| assert_ne!(place, mine.index(), "it lives"));
            // The second participant may believe in a lock that it does not have. Even then it does not get the first
            // one's place.
            match (reaped, attach(header)) {
                (Ok(freed), Ok(other)) => {
                    assert_eq!(freed, 0);
                    let Attached::Symmetric(other) = other else { panic!("symmetric") };
                    assert_ne!(other.index(), mine.index());
                }
                (reaped, attached) => {
                    println!("refused {reaped:?} {:?}", attached.map(|_| ()));
                }
            }
        })
    });
    assert!(said.is_none_or(|said| said >= 8), "{said:?}");
}

/// The same while another process takes the place. It has locked the byte that `reap` locks too, so a `reap` that
/// believes the invented answer could mistake that lock for its own.
#[test]
fn one_invented_answer_frees_no_place_that_is_being_taken() {
    let inject = |nth| format!("retval=0:when={nth}");
    let said = at_each_call(FCNTL, inject, ("refused", 12), |child| {
        child.outcome(|| {
            let segment = fresh();
            let header = segment.header();
            if create(header, Mode::Symmetric).is_err() {
                return println!("refused");
            }
            let other = opened_anew(header, true);
            lock(&other, libc::F_WRLCK, CHANGE, 1);
            if !is_locked(header.file, CHANGE) {
                return println!("refused"); // it was this lock
            }
            segment.words[WORDS - PARTICIPANTS].store(1, SeqCst);
            match reap(header, |place| panic!("{place} is being taken")) {
                Ok(freed) => assert_eq!(freed, 0),
                Err(error) => println!("refused {error:?}"),
            }
        })
    });
    assert!(said.is_none_or(|said| said >= 3), "{said:?}");
}

/// A file system whose number says that it is FUSE.
#[test]
fn fuse_is_refused() {
    // The second argument of fstatfs64 is the length of the structure, and the third is the structure.
    let place = if cfg!(target_pointer_width = "32") { "@arg3" } else { "@arg2" };
    let inject = format!("poke_exit={place}=46557365");
    let Some(child) = Child::injected_into(FSTATFS, &inject) else { return };
    child.run(|| {
        let segment = fresh();
        create(segment.header(), Mode::Symmetric).expect("a memfd can be locked");
        let error = attach(segment.header()).expect_err("two paths may be two files");
        assert_eq!(error, SegmentError::LockNotKept);
        assert_eq!(reap(segment.header(), |place| panic!("{place} was left")), Ok(0));
    });
}

/// Otherwise one process that tries again and again would fill the table.
#[test]
fn an_attach_that_may_not_ask_about_locks_leaves_no_place_taken() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        create(header, Mode::Symmetric).expect("a memfd can be locked");
        let refused = on_fcntl(&[libc::F_OFD_GETLK], Errno(libc::EPERM as u32));
        thread::scope(|scope| {
            scope.spawn(|| {
                apply_filter(&refused).expect("the filter is accepted");
                for _ in 0..2 * PARTICIPANTS {
                    let error = attach(header).expect_err("a lock that cannot be asked about");
                    assert_eq!(error, SegmentError::Failed(SegmentStep::Lock, libc::EPERM));
                }
            });
        });
        assert_eq!(reap(header, |place| panic!("{place} was left taken")), Ok(0));
        attaches(header); // the twin
    });
}

/// Locks of two descriptions of one file exclude each other. So two segments that lock one file would take places from
/// each other.
#[test]
fn a_file_whose_places_somebody_has_is_not_made_another_segment() {
    Child::default().run(|| {
        let (first, second) = (fresh(), fresh());
        create(first.header(), Mode::Symmetric).expect("a memfd can be locked");
        let other = Header { file: first.file.as_fd(), ..second.header() };
        let mine = attach(first.header()).expect("let in");
        assert_eq!(create(other, Mode::Symmetric), Err(SegmentError::FileInUse));
        assert!(second.words.iter().all(|word| word.load(SeqCst) == 0), "nothing was written");
        assert_eq!(
            create(first.header(), Mode::Symmetric),
            Err(SegmentError::NotEmpty),
            "it is the same"
        );
        drop(mine);
        assert_eq!(create(other, Mode::Symmetric), Ok(()), "the twin");
    });
}

/// munmap(2) takes whole huge pages here. The machine may have none that is free: the mapping reserves none, so the
/// test runs there too.
#[test]
fn a_file_of_huge_pages_gives_each_place_back() {
    Child::default().run(|| {
        let file = match memfd_create("locks", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB) {
            Ok(file) => file.into(),
            Err(error) => return ledger::skipped("hugetlbfs", error),
        };
        ledger::ran("hugetlbfs");
        let segment = Fresh { file, ..fresh() };
        create(segment.header(), Mode::Symmetric).expect("it can be locked");
        (0..3).for_each(|_| attaches(segment.header()));
        let huge = rustix::fs::fstat(&segment.file).expect("open").st_blksize;
        assert!(huge > 4096, "the twin: {huge} is no huge page");
    });
}

#[test]
fn what_is_no_file_to_lock_and_map_is_named() {
    Child::default().run(|| {
        let (reader, _writer) = nix::unistd::pipe().expect("a pipe");
        let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let folder = fs::File::open("/").expect("the root");
        for file in [reader.as_fd(), socket.as_fd(), folder.as_fd()] {
            let segment = fresh();
            let header = Header { file, ..segment.header() };
            create(header, Mode::Symmetric).expect("it is known again");
            let error = attach(header).expect_err("nothing to hold a lock by").to_string();
            assert!(error.contains("take a memfd"), "{error}");
        }
    });
}

/// `renew` checks for the participant's own lock, not for that of a process that reaps.
#[test]
fn who_has_lost_a_place_is_told_while_another_cleans_it() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        create(header, Mode::Symmetric).expect("a memfd can be locked");
        let mine = attach_symmetric(header);
        super::lose_the_lock_of("/memfd:locks");
        let mut cleaned = 0;
        let reaped = reap(header, |_| {
            cleaned += 1;
            assert_eq!(mine.renew(), Err(SegmentError::PlaceLost));
        });
        assert_eq!((reaped, cleaned), (Ok(1), 1));
        assert_eq!(mine.renew(), Err(SegmentError::PlaceLost));
        let next = attach_symmetric(header);
        assert_eq!((mine.index(), next.index()), (0, 0));
        assert_eq!(mine.renew(), Err(SegmentError::PlaceLost), "the next one's");
        drop(mine);
        assert_eq!(next.renew(), Ok(()), "it was not freed");
        forget(next);
    });
}
