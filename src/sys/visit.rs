//! A child process that runs once on every processor.
//!
//! The kernel keeps a copy of the registration for GLOBAL_EXPEDITED in each processor's run queue. A heavy fence reads
//! that copy alone. The kernel renews the copy only when the processor changes from one address space to another
//! (`membarrier_switch_mm` in kernel/sched/sched.h@v6.18). The idle task and kernel threads borrow the address space of
//! the process that ran before them. So a processor that runs this process, idles, and runs this process again does not
//! change. And a registration renews the copies of those processors alone that run the process at that moment
//! (`sync_runqueues_membarrier_state` in kernel/sched/membarrier.c@v6.18).
//!
//! So if this process ran on a processor, and that processor idles when the process registers, the copy there says "not
//! registered" until another process runs there, and heavy fences pass over this process.
//!
//! VISITED: after the registration a child of this process runs on each processor. The child has an address space of its
//! own. So each processor changes to that one, and changes back when it next runs this process, and then renews its
//! copy. From then on each copy that is made for this process says "registered".

use core::{mem, ptr};

use super::sleep;
use crate::refusal::{Call, Failure};

/// Processors that the kernel may number: the largest NR_CPUS of any architecture.
const MOST: usize = 8192;
const BITS: usize = usize::BITS as usize;

/// A set of processors, as the kernel takes it.
type Set = [usize; MOST / BITS];

/// Lets a child run on every processor that this process may use, and waits for its end. A processor that real-time
/// threads do not leave is waited for, for a second.
pub(super) fn every_processor() -> Result<(), Failure> {
    let blocked = Signals::block();
    // SAFETY: without flags it is fork(2), except that no handler of pthread_atfork(3) runs, and no signal tells of the
    // child's end. All arguments are 0, so their order, which differs between architectures, does not matter.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child == 0 {
        run_on_each();
    }
    drop(blocked);
    match libc::pid_t::try_from(child) {
        Ok(child) if child > 0 => end_of(child),
        _ => Err(Failure::new(Call::Clone, errno())),
    }
}

/// All signals, blocked in this thread: in the child none of the program's handlers may run.
struct Signals(libc::sigset_t);

impl Signals {
    fn block() -> Self {
        // SAFETY: both are integers, or arrays of these.
        let [mut all, mut before]: [libc::sigset_t; 2] = unsafe { mem::zeroed() };
        // SAFETY: there is room for a set.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: two sets.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Signals(before)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// The child: makes system calls alone, because other threads of the parent may have held any lock. Its exit status is
/// 0, or the errno of the call that failed.
fn run_on_each() -> ! {
    let mut set: Set = [0; MOST / BITS];
    // SAFETY: there is room for as many bytes as are told.
    let bytes = unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of::<Set>(), set.as_mut_ptr())
    };
    // It answers how many bytes its own sets have.
    let all = usize::try_from(bytes).map_or(MOST, |bytes| MOST.min(8 * bytes));
    let mut status = libc::EINVAL;
    for processor in 0..all {
        match run_on(0, |set| set[processor / BITS] = 1 << (processor % BITS)) {
            Ok(()) => status = 0,
            // It is not there, or not for this process.
            Err(libc::EINVAL) => {}
            Err(errno) => {
                status = errno;
                break;
            }
        }
    }
    // SAFETY: nothing is to be done at the end of this process.
    unsafe { libc::_exit(status) }
}

/// Moves a thread (0: the calling one) to the processors of a set. When it returns the calling thread runs on one.
fn run_on(thread: libc::pid_t, fill: impl Fn(&mut Set)) -> Result<(), i32> {
    let mut set: Set = [0; MOST / BITS];
    fill(&mut set);
    // SAFETY: a set of as many bytes as are told.
    let answer = unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, thread, size_of::<Set>(), set.as_ptr())
    };
    if answer == 0 { Ok(()) } else { Err(errno()) }
}

/// How long a sleep is at first and at most, in nanoseconds; and how long all sleeps together are at most.
const SLEEPS: [u32; 2] = [20_000, 1_000_000];
const PATIENCE: u32 = 1_000_000_000;

/// Waits for the end of the child.
fn end_of(child: libc::pid_t) -> Result<(), Failure> {
    let wait = |flags| {
        let mut status = 0;
        // __WALL: also for a child whose end no signal tells.
        // SAFETY: there is room for a status.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::__WALL | flags) };
        let errno = if ended == -1 { errno() } else { 0 };
        (ended, errno, status)
    };
    let (mut slept, mut next) = (0, SLEEPS[0]);
    let (ended, errno, status) = loop {
        let answer = wait(libc::WNOHANG);
        if answer.0 != 0 && answer.1 != libc::EINTR {
            break answer;
        }
        if slept >= PATIENCE {
            // SAFETY: a child that has not been waited for keeps its number.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // It can end only where it gets a processor.
            let _ = run_on(child, |set| set.fill(usize::MAX));
            let _ = wait(0);
            return Err(Failure::new(Call::SchedSetaffinity, libc::ETIMEDOUT));
        }
        sleep(next);
        slept += next;
        next = SLEEPS[1].min(2 * next);
    };
    if ended != child {
        return Err(Failure::new(Call::Wait4, errno));
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, errno) => Err(Failure::new(Call::SchedSetaffinity, errno)),
        // A signal ended it: a sandbox, or the kernel for want of memory.
        (false, _) => Err(Failure::new(Call::SchedSetaffinity, 0)),
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_visits_the_processors_and_ends() {
        assert_eq!(every_processor(), Ok(()));
        // SAFETY: no child is left to wait for.
        let left = unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WCLONE | libc::WNOHANG) };
        assert!(left <= 0, "{left}");
    }
}
