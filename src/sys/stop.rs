//! How a process stops when a heavy fence fails, on Linux: a message that waits for no reader, SIGABRT, and
//! exit_group(2).
//!
//! Nothing here allocates, takes a lock, or unwinds: a destructor might free what other threads still read.
//!
//! The message is a courtesy. It is one line, built in memory that is this thread's for ever, and written by a call that
//! does not wait for room, whether or not standard error is read. poll(2) before a plain write(2) would not do: another
//! process may fill the pipe between the two. The descriptor is not made non-blocking, since its other holders share that
//! flag. A regular file is the exception: every write to one may wait for the file system.
//!
//! Writing may raise SIGTTOU (which suspends the process), SIGPIPE or SIGXFSZ. And the handler of another signal may
//! jump away. So all signals are blocked, except SIGABRT (which is to come), SIGSYS (whose handler may answer system
//! calls for a sandbox), and those that glibc or musl keeps for itself.
//!
//! SIGABRT may not end the process. PID 1 of a PID namespace ignores a signal that is not handled (signal(7),
//! pid_namespaces(7)), also SIGKILL from inside. A filter may refuse tgkill(2). SIGABRT may be ignored, or its handler
//! may return. So exit_group(2) follows, with the status that a shell shows for SIGABRT, and a trap where a filter
//! refuses even that. What is left: a handler that never returns, a filter that kills the thread and not the process,
//! and a write that waits after all: for a file system, or for the lock of the pipe, file or socket, while another
//! process or thread is stuck in a call that holds it. RWF_NOWAIT and MSG_DONTWAIT do not cover these locks
//! (`pipe_write`, fs/pipe.c@v6.18; `tcp_sendmsg`, net/ipv4/tcp.c@v6.18). Then the heavy fence does not return. A child
//! that writes in place of this process would help, but a sandbox may refuse it, and a program may wait for it by
//! mistake.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::io::{self, Errno, write};
use rustix::net::{SendFlags, send};
use rustix::pipe::{IoSliceRaw, SpliceFlags, vmsplice};

use super::call::{
    GETPID, GETTID, RT_SIGACTION, RT_SIGPROCMASK, SIG_SETMASK, SIGABRT, SIGSYS, TGKILL, call,
};
use super::{
    LAST_SIGNAL_OF_THE_C_LIBRARY, LENGTH_OF_A_SIGNAL_SET, exit_group, write_without_waiting,
};

/// 128 + SIGABRT, as a shell shows it.
const STATUS: i32 = 134;

/// Writes the message if that can be done without waiting for a reader, and stops the process.
#[cold]
pub(super) fn stop(message: fmt::Arguments<'_>) -> ! {
    let _no_way_out = NoWayOut;
    let line = own_line();
    let comes_again = line.is_none();
    if let Some(line) = line {
        // A filter may refuse that: then a signal that the message raises might end or suspend the process.
        if block_signals() {
            let _ = line.write_fmt(message); // what does not fit is cut off
            let _ = write_at_once(line.text());
        }
    }
    raise_abort(!comes_again);
    exit_group(STATUS)
}

/// Stops the process if a panic would leave [`stop`]. rustix with debug assertions panics if a sandbox answers what no
/// kernel does, for example an impossible answer to fstat(2).
struct NoWayOut;

impl Drop for NoWayOut {
    fn drop(&mut self) {
        exit_group(STATUS)
    }
}

/// The TID of this thread. Negative if a sandbox refuses gettid(2).
fn this_thread() -> i32 {
    // SAFETY: the call has no argument, and only answers.
    unsafe { call(GETTID, [0; 4]) as i32 }
}

/// A thread that is in `stop`, and its line.
struct Place {
    /// Its TID; 0 if nobody has taken the place.
    who: AtomicI32,
    line: UnsafeCell<Line>,
}

// SAFETY: the line belongs to the thread that has taken the place, and no place is given back.
unsafe impl Sync for Place {}

/// The line of this thread, which is handed out once. `None` if this TID has a line already: the thread is in `stop`,
/// and its handler of SIGABRT has called a heavy fence, which failed too; or it left an earlier abort by siglongjmp(3);
/// or an earlier thread had this TID. Then the message has had its one try, and the handler is not called again. `None`
/// also if all lines are taken.
fn own_line() -> Option<&'static mut Line> {
    static STOPPING: [Place; 64] =
        [const { Place { who: AtomicI32::new(0), line: UnsafeCell::new(Line::NEW) } }; 64];
    // A sandbox may answer 0, which means a free place here.
    let me = match this_thread() {
        0 => -1,
        me => me,
    };
    // Relaxed: a place changes once, from 0 to a TID, so an exchange that fails finds that TID. And a line is used by
    // the thread that took the place, and by no other. (A forked child inherits the table. If its TID equals one that a
    // thread of the parent has written, it stops without a message.)
    STOPPING
        .iter()
        .find_map(|place| match place.who.compare_exchange(0, me, Relaxed, Relaxed) {
            // SAFETY: only one exchange finds 0, so this is the only reference that is ever made.
            Ok(_) => Some(Some(unsafe { &mut *place.line.get() })),
            Err(who) => (who == me).then_some(None),
        })
        .flatten()
}

/// A line of text. Not on the stack: a pipe may take the page itself (vmsplice), and a handler of SIGABRT may leave by
/// siglongjmp(3), after which the program uses the stack for something else, which a reader of the pipe would see.
struct Line {
    text: [u8; Line::SIZE],
    length: usize,
}

impl Line {
    /// At most PIPE_BUF (4096), so that a write to a pipe takes the line whole or not at all. (vmsplice(2) may take
    /// only the part before a page boundary, if the pipe has room for one page.)
    const SIZE: usize = 2048;

    const NEW: Line = Line { text: [0; Line::SIZE], length: 0 };

    fn text(&mut self) -> &[u8] {
        self.text[self.length] = b'\n';
        &self.text[..=self.length]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.text[self.length..Line::SIZE - 1]; // and one for the end of the line
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

/// Writes as much to descriptor 2 as can be written without waiting for a reader.
fn write_at_once(text: &'static [u8]) -> io::Result<usize> {
    // SAFETY: the number is used here and not kept. Like every program that reports an error, this one takes
    // whatever is open there for its standard error.
    let stderr = unsafe { BorrowedFd::borrow_raw(rustix::stdio::raw_stderr()) };
    let found = fstat(stderr)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => write(stderr, text), // has no reader to wait for
        FileType::Socket => send(stderr, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo => write_to_pipe(stderr, text),
        // A terminal, which Ctrl-S stops, or a similar device. It is opened again, because only a description of our
        // own may be made non-blocking. By /proc/thread-self, which has this thread's descriptors: descriptor 2 of the
        // first thread, in /proc/self, may be another file, or closed.
        FileType::CharacterDevice => {
            may_be_written(stderr)?;
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let again = open(c"/proc/thread-self/fd/2", flags, Mode::empty())?;
            // The master side of a terminal is opened as a new terminal, which nobody reads.
            // guard survives: what refuses this fstat(2) has refused the one above.
            if fstat(&again)?.st_rdev != found.st_rdev {
                return Err(Errno::NODEV);
            }
            write(again, text)
        }
        // A block device, for example: opened again, it would be overwritten from its first byte on.
        _ => Err(Errno::NODEV),
    }
}

/// By RWF_NOWAIT, which the pipes of pipe(2) know since Linux 6.4 (commit afed6271f5b0), and named pipes not even in 6.18
/// (seen there, EOPNOTSUPP). Or else, and on Android, by vmsplice(2), which filters allow less often.
fn write_to_pipe(pipe: impl AsFd, text: &'static [u8]) -> io::Result<usize> {
    match write_without_waiting(pipe.as_fd(), text) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::SPIPE) => {
            // On the read end of a pipe vmsplice(2) would overwrite the text with what it reads.
            may_be_written(pipe.as_fd())?;
            let slice = [IoSliceRaw::from_slice(text)];
            // SAFETY: nobody writes to the text any more, since it is borrowed for ever; the pipe keeps the page. If
            // another thread replaces descriptor 2 after the check, it is that thread which uses a descriptor that it
            // does not own.
            unsafe { vmsplice(pipe, &slice, SpliceFlags::NONBLOCK) }
        }
        outcome => outcome,
    }
}

fn may_be_written(file: BorrowedFd<'_>) -> io::Result<()> {
    if fcntl_getfl(file)? & OFlags::RWMODE == OFlags::RDONLY { Err(Errno::BADF) } else { Ok(()) }
}

/// The signals that are not blocked. glibc or musl uses the ones from 32 on.
const NOT_BLOCKED: [usize; 5] = [SIGABRT, SIGSYS, 32, 33, LAST_SIGNAL_OF_THE_C_LIBRARY];

/// Blocks all other signals in this thread. Nothing unblocks them, because the thread ends with the process. False if
/// the call failed.
fn block_signals() -> bool {
    /// As the kernel has it: signal `n` is bit `n - 1`. At least as long as any kernel's.
    static BLOCKED: [usize; 4] = {
        let (mut set, mut at) = ([!0; 4], 0);
        while at < NOT_BLOCKED.len() {
            let bit = NOT_BLOCKED[at] - 1;
            set[bit / usize::BITS as usize] &= !(1 << (bit % usize::BITS as usize));
            at += 1;
        }
        set
    };
    // Exposed: the kernel reads it by its number.
    let set = (&raw const BLOCKED).expose_provenance();
    let arguments = [SIG_SETMASK, set, 0, LENGTH_OF_A_SIGNAL_SET];
    // SAFETY: the kernel reads the set, and is asked for no old one.
    unsafe { call(RT_SIGPROCMASK, arguments) == 0 }
}

/// SIGABRT to this thread, so that debuggers, core dumps and, if it `may_be_handled`, the program's own handler see
/// it; then once more with the default action. It is what abort(3) does, except at the end: abort(3) traps, and a
/// handler of that trap may return.
///
/// By the system calls: there may be no C library. And raise(3) of musl signals the thread whose number it has stored,
/// which in a child of vfork(2) or of a bare clone(2) is the parent's; and musl, as glibc since 2.41, sets the action of
/// SIGABRT under a lock that fork(2) holds.
fn raise_abort(may_be_handled: bool) {
    if may_be_handled {
        signal_this_thread();
    }
    // At least as long as the kernel's `struct sigaction`, and all zeros: the default action, no flags, an empty mask,
    // in whatever order an architecture has them.
    let default = [0_usize; 16];
    let default = (&raw const default).expose_provenance();
    let arguments = [SIGABRT, default, 0, LENGTH_OF_A_SIGNAL_SET];
    // SAFETY: the kernel reads at most the words above, and is asked for no old action.
    let answer = unsafe { call(RT_SIGACTION, arguments) };
    // A filter may refuse it: then the program's handler would be called again.
    if answer == 0 {
        // SIGABRT is blocked if this thread is in a handler of it. This unblocks it.
        block_signals();
        signal_this_thread();
    }
}

/// If a sandbox refuses the numbers, they are negative, which is no thread.
fn signal_this_thread() {
    // SAFETY: the call has no argument, and only answers.
    let process = unsafe { call(GETPID, [0; 4]) };
    // SAFETY: a signal that the program handles, or that ends it.
    unsafe { call(TGKILL, [process as usize, this_thread() as usize, SIGABRT, 0]) };
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "std")]
    extern crate std;

    use super::*;

    #[cfg(feature = "std")]
    #[test]
    fn each_signal_is_blocked_but_those_that_are_listed() {
        let check = || {
            assert!(block_signals());
            let mut set = core::mem::MaybeUninit::<libc::sigset_t>::zeroed();
            // SAFETY: no new mask; there is room for the old one.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), set.as_mut_ptr()) };
            for signal in 1..=LAST_SIGNAL_OF_THE_C_LIBRARY as i32 + 1 {
                // SAFETY: the set was written.
                let is_blocked = unsafe { libc::sigismember(set.as_ptr(), signal) } == 1;
                let nobody_can = [libc::SIGKILL, libc::SIGSTOP].contains(&signal);
                let may = !nobody_can && !NOT_BLOCKED.contains(&(signal as usize));
                assert_eq!(is_blocked, may, "{signal}");
            }
        };
        std::thread::spawn(check).join().expect("no panic");
    }

    #[test]
    fn a_line_is_cut_off_and_ends() {
        let mut line = Line::NEW;
        assert_eq!(line.text(), b"\n");
        line.write_str("one").expect("room");
        assert_eq!(line.text(), b"one\n");
        for _ in 0..Line::SIZE {
            line.write_str("more").expect("cut off, which is no error");
        }
        assert_eq!(line.text().len(), Line::SIZE);
        assert!(line.text().starts_with(b"onemore") && line.text().ends_with(b"\n"));
    }
}
