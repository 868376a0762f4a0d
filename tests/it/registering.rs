//! A registration in one thread, and fork(2) in another: FORKED-TOGETHER.
//!
//! At the start of a fork the kernel copies the registrations. It copies the memory later, when it has the lock of the
//! address space. In these tests a third thread holds that lock for a while, and the registration comes in between.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread;

use asymfence::membarrier::{
    Commands, GlobalExpedited, PrivateExpedited, PrivateExpeditedRseq, PrivateExpeditedSyncCore,
    Registrable, register, registrations,
};
use asymfence::{init, strategy, try_heavy_fence};
use nix::libc;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::child::{Child, DONE, ledger, needs_procfs};

/// Address space without memory. To map zeros there takes longer than a registration.
const LENGTH: usize = 2 << 30;

/// Linux 5.14.
const MADV_POPULATE_READ: i32 = 22;

/// The exit statuses of a process that forked and examined its child. This one: the fork did not wait for the lock.
const NO_OVERLAP: i32 = 10;
/// The child has nothing that the other thread wrote after it had registered.
const NOTHING: i32 = 11;
const TOGETHER: i32 = 12;
/// The child has what the other thread wrote, but not the registration.
const TORN: i32 = 13;
/// As `TORN`, and the documented remedy has helped.
const MENDED: i32 = 14;

#[derive(Clone, Copy)]
enum Fork {
    Libc,
    /// A bare clone(2), which takes no lock of the C library.
    Bare,
}

impl Fork {
    fn call(self) -> i32 {
        let answer = match self {
            // SAFETY: the child makes system calls and ends.
            Fork::Libc => i64::from(unsafe { libc::fork() }),
            #[allow(clippy::useless_conversion, reason = "a c_long has 32 bits on some targets")]
            Fork::Bare => {
                // SAFETY: the same.
                unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }.into()
            }
        };
        assert!(answer >= 0, "no fork");
        answer as i32
    }
}

/// Ends this process, without the test harness's destructors.
fn end(code: i32) -> ! {
    // SAFETY: no precondition.
    unsafe { libc::_exit(code) }
}

#[track_caller]
fn code_of(child: i32) -> i32 {
    match waitpid(Pid::from_raw(child), None).expect("a child") {
        WaitStatus::Exited(_, code) => code,
        status => panic!("{status:?}"),
    }
}

/// Of all threads.
fn page_faults() -> libc::c_long {
    getrusage(UsageWho::RUSAGE_SELF).expect("a measure").minor_page_faults()
}

/// Whether the thread waits for a lock in the kernel.
fn waits(stat: &File) -> bool {
    let mut text = [0; 64];
    let length = rustix::io::pread(stat.as_fd(), &mut text, 0).expect("procfs");
    String::from_utf8_lossy(&text[..length]).contains(") D")
}

/// A page fault of the thread that registers would wait for the same lock as the fork, and the thread would come
/// too late.
fn fault_everything_in() {
    // SAFETY: changes no content. Where the limit forbids it, there are fewer overlaps.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
    // SAFETY: as above.
    unsafe { libc::munlockall() };
}

/// The address of `LENGTH` unused bytes.
fn reserve() -> usize {
    // SAFETY: a fresh mapping, in no one's way.
    let space = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), LENGTH, access, flags, -1, 0)
    };
    assert_ne!(space, libc::MAP_FAILED);
    // SAFETY: the mapping above.
    unsafe { libc::madvise(space, LENGTH, libc::MADV_NOHUGEPAGE) };
    space.addr()
}

/// In a process that has registered for nothing: forks while another thread runs `registers` and stores its return
/// value. If the child's copy of the memory has that value, ends with what `child` answers in the child.
fn overlap<T: Send + Sync>(
    fork: Fork,
    registers: impl FnOnce() -> T + Send,
    child: impl FnOnce(&T) -> i32,
) -> ! {
    let (ready, let_go, over) =
        (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let overlaps = AtomicBool::new(false);
    let has: OnceLock<T> = OnceLock::new();
    let me = format!("/proc/self/task/{}/stat", rustix::thread::gettid().as_raw_nonzero());
    let me = File::open(me).expect("procfs");
    let code = thread::scope(|scope| {
        let registering = scope.spawn(|| {
            while !waits(&me) {
                ready.store(true, Release);
                if over.load(Acquire) {
                    return;
                }
            }
            overlaps.store(true, Release);
            assert!(has.set(registers()).is_ok());
        });
        while !ready.load(Acquire) {
            thread::yield_now();
        }
        fault_everything_in();
        let space = reserve();
        let before = page_faults();
        let let_go = &let_go;
        scope.spawn(move || {
            let space = std::ptr::without_provenance_mut(space);
            // SAFETY: the mapping of `reserve`, which nobody reads.
            let answer = unsafe { libc::madvise(space, LENGTH, MADV_POPULATE_READ) };
            // Before 5.14 nobody holds the lock for long, and there is no overlap.
            assert!(answer == 0 || nix::errno::Errno::last_raw() == libc::EINVAL);
            let_go.store(true, Release);
        });
        while page_faults() < before + 1_000 && !let_go.load(Acquire) {
            thread::yield_now(); // until the lock is held
        }
        let pid = fork.call();
        if pid == 0 {
            end(has.get().map_or(NOTHING, child));
        }
        over.store(true, Release);
        let code = code_of(pid);
        registering.join().expect("no panic");
        if overlaps.load(Acquire) { code } else { NO_OVERLAP }
    });
    end(code)
}

/// Runs `attempt`, which ends its process, in one process after another, until there was an overlap. If something is
/// `wanted`: until an overlap ended with that, or ten overlaps did not. Returns how the overlaps ended.
fn attempts(wanted: Option<i32>, attempt: fn() -> ()) -> Vec<i32> {
    needs_procfs();
    if let Err(failure) = registrations() {
        ledger::skipped("GET_REGISTRATIONS", failure);
        end(DONE);
    }
    let mut seen = Vec::new();
    for _ in 0..40 {
        // SAFETY: the test harness's other thread holds no lock that the worker needs; glibc's allocator
        // survives a fork.
        let worker = unsafe { libc::fork() };
        if worker == 0 {
            let _ = std::panic::catch_unwind(attempt);
            end(1);
        }
        match code_of(worker) {
            NO_OVERLAP => continue,
            code => seen.push(code),
        }
        if seen.last() == wanted.as_ref() || wanted.is_none() || seen.len() == 10 {
            break;
        }
    }
    println!("{seen:?}");
    seen
}

/// A forked child that has the value which the registering thread stored has the registration too.
#[track_caller]
fn never_torn(attempt: fn() -> ()) {
    let seen = attempts(None, attempt);
    assert!(seen.iter().all(|code| [NOTHING, TOGETHER].contains(code)), "{seen:?}");
    assert!(!seen.is_empty(), "no fork waited for the lock: the test has no teeth");
}

fn has_registered(what: Commands) -> bool {
    registrations().expect("Linux 6.3").contains(what)
}

fn torn_without(what: Commands) -> i32 {
    if has_registered(what) { TOGETHER } else { TORN }
}

fn decides(fork: Fork) -> ! {
    let decide = || {
        // The kernel reads /proc/thread-self/environ under the lock that the fork waits for, and the decision would
        // wait too. Without a descriptor the switch is looked up by the standard library.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, 0, most).expect("a limit can be lowered");
        init()
    };
    overlap(fork, decide, |_| {
        assert!(strategy().is_some());
        if membarrier(MembarrierCommand::PrivateExpedited).is_ok() {
            return TOGETHER;
        }
        // The documented remedy for a child that was created in another way.
        let mended =
            try_heavy_fence().is_ok() && membarrier(MembarrierCommand::PrivateExpedited).is_ok();
        if mended { MENDED } else { TORN }
    })
}

fn registers<C: Registrable + Sync + Send>(fork: Fork, what: Commands) -> ! {
    overlap(
        fork,
        || assert!(register::<C>().is_ok()),
        |()| {
            if has_registered(what) {
                return TOGETHER;
            }
            let mended = register::<C>().is_ok() && has_registered(what);
            if mended { MENDED } else { TORN }
        },
    )
}

#[test]
fn a_forked_child_has_the_decision_with_the_registration_or_not_at_all() {
    Child::default().run(|| never_torn(|| decides(Fork::Libc)));
}

#[test]
fn a_forked_child_has_the_proof_of_a_registration_with_it_or_not_at_all() {
    Child::default().run(|| {
        never_torn(|| {
            registers::<GlobalExpedited>(Fork::Libc, Commands::REGISTER_GLOBAL_EXPEDITED)
        });
        never_torn(|| {
            registers::<PrivateExpedited>(Fork::Libc, Commands::REGISTER_PRIVATE_EXPEDITED)
        });
        let offered = asymfence::membarrier::query().expect("a kernel with membarrier");
        if offered.contains(Commands::PRIVATE_EXPEDITED_SYNC_CORE) {
            never_torn(|| {
                registers::<PrivateExpeditedSyncCore>(
                    Fork::Libc,
                    Commands::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
                );
            });
        }
        if offered.contains(Commands::PRIVATE_EXPEDITED_RSEQ) {
            never_torn(|| {
                registers::<PrivateExpeditedRseq>(
                    Fork::Libc,
                    Commands::REGISTER_PRIVATE_EXPEDITED_RSEQ,
                );
            });
        }
    });
}

/// The twin of both: the bare system call, which does not wait for the fork.
#[test]
fn a_bare_registration_and_a_fork_are_torn_apart() {
    Child::default().run(|| {
        let seen = attempts(Some(TORN), || {
            overlap(
                Fork::Libc,
                || membarrier(MembarrierCommand::RegisterGlobalExpedited).expect("offered"),
                |()| torn_without(Commands::REGISTER_GLOBAL_EXPEDITED),
            )
        });
        assert!(seen.contains(&TORN), "the tests above have no teeth: {seen:?}");
    });
}

/// The twin with the library's registration: a bare clone(2) takes no lock. The documented remedy helps in such a child.
#[test]
fn a_child_of_a_bare_clone_is_mended_by_its_heavy_fence_and_by_registering_again() {
    Child::default().run(|| {
        let registers =
            || registers::<GlobalExpedited>(Fork::Bare, Commands::REGISTER_GLOBAL_EXPEDITED);
        for attempt in [(|| decides(Fork::Bare)) as fn(), registers] {
            let seen = attempts(Some(MENDED), attempt);
            assert!(seen.contains(&MENDED) && !seen.contains(&TORN), "{seen:?}");
        }
    });
}
