//! Each test that decides the strategy runs in a process of its own, because neither a decision nor a seccomp filter can
//! be undone.

use std::any::type_name;
use std::fmt;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, exit};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;
use seccompiler::{BpfProgram, TargetArch, apply_filter};

#[path = "ledger.rs"]
pub(crate) mod ledger;

const MARK: &str = "ASYMFENCE_TEST_CHILD";

/// An emulator and its arguments, separated by spaces. It starts binaries like this one, which the kernel cannot start.
const RUNNER: &str = "ASYMFENCE_TEST_RUNNER";

pub(crate) fn is_emulated() -> bool {
    std::env::var_os(RUNNER).is_some_and(|runner| !runner.is_empty())
}

/// Why there are no seccomp filters, where there are none.
pub(crate) fn no_filters() -> Option<&'static str> {
    if is_emulated() {
        return Some("the emulator has no filters");
    }
    let known = TargetArch::try_from(std::env::consts::ARCH).is_ok();
    (!known).then_some("seccompiler knows no filter of this processor")
}

/// A command that starts this binary again.
pub(crate) fn this_binary() -> Command {
    // Without procfs, by the name with which it was started.
    let this =
        std::env::current_exe().or_else(|_| std::env::args_os().next().map(Into::into).ok_or(()));
    let this = this.expect("the test's binary");
    let runner = std::env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(emulator) = words.next() else { return Command::new(this) };
    let mut command = Command::new(emulator);
    command.args(words).arg(this);
    command
}

/// The exit status of a child whose body returned. Not 0, which is the status of a test harness that finds no test of
/// the given name.
pub(crate) const DONE: i32 = 42;

/// The exit status of a child that cannot run here. Its test passes, whatever end it expects, and is in the ledger.
const CANNOT_RUN: i32 = 43;

/// Relaxed: one thread runs when it is written.
static HAD_PROCFS: AtomicBool = AtomicBool::new(false);

fn has_procfs() -> bool {
    std::path::Path::new("/proc/self/stat").exists()
}

/// Whether the body of this child began with procfs.
pub(crate) fn had_procfs() -> bool {
    HAD_PROCFS.load(Relaxed)
}

/// Ends the child here, and says so in the ledger, if its body began without procfs.
pub(crate) fn needs_procfs() {
    if !had_procfs() {
        cannot_run_in_a_child("procfs", "there is none at /proc");
    }
}

/// As `cannot_run`, if this is a child.
pub(crate) fn cannot_run_in_a_child(what: &str, why: impl fmt::Display) {
    if std::env::var_os(MARK).is_some() {
        cannot_run(what, why);
    }
}

/// Ends the child here, and records in the ledger that its test needs `what`, which is missing.
pub(crate) fn cannot_run(what: &str, why: impl fmt::Display) -> ! {
    ledger::skipped(what, why);
    exit(CANNOT_RUN)
}

/// Ends the child by one system call. The standard library may make other calls at the end of a test, which the test's
/// filter does not allow.
pub(crate) fn end() -> ! {
    // SAFETY: nothing is to be done at the end of this process.
    unsafe { nix::libc::_exit(DONE) }
}

/// Settings of the process in which a test's body runs.
#[derive(Default)]
pub(crate) struct Child {
    filter: Option<BpfProgram>,
    /// Its body installs one.
    filters: bool,
    variable: Option<(&'static str, &'static str)>,
    inject: Option<(&'static str, String)>,
    path: Option<&'static str>,
    log: Option<PathBuf>,
}

/// The file that strace writes about a child.
pub(crate) struct Log(PathBuf);

impl Log {
    /// The child's calls of membarrier(2), one line each. Removes the file.
    pub(crate) fn read(self) -> String {
        let text = std::fs::read_to_string(&self.0).expect("strace has written it");
        let _ = std::fs::remove_file(self.0);
        text
    }
}

/// How the child ended, and what it printed. `{:?}` shows the latter as it was printed, not as one escaped line.
pub(crate) struct Outcome {
    code: Option<i32>,
    signal: Option<i32>,
    output: String,
}

impl Child {
    /// Installs the filter before the process begins.
    pub(crate) fn under(filter: BpfProgram) -> Self {
        Child { filter: Some(filter), ..Child::default() }
    }

    /// Its body installs a filter, so it does not begin where there are none.
    pub(crate) fn filtering(self) -> Self {
        Child { filters: true, ..self }
    }

    /// Sets an environment variable.
    pub(crate) fn with(name: &'static str, value: &'static str) -> Self {
        Child { variable: Some((name, value)), ..Child::default() }
    }

    /// Lets strace answer its membarrier calls as `inject` says, in the syntax of strace(1). `None`, and a line in the
    /// ledger, where tracing is not allowed.
    pub(crate) fn injected(inject: &str) -> Option<Self> {
        Child::injected_into("membarrier", inject)
    }

    /// The same for another system call.
    pub(crate) fn injected_into(call: &'static str, inject: &str) -> Option<Self> {
        let child = Child { inject: Some((call, inject.to_owned())), ..Child::default() };
        if std::env::var_os(MARK).is_some() {
            return Some(child); // it is traced, and may not trace
        }
        let may_trace = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
        if !may_trace.is_ok_and(|output| output.status.success()) {
            ledger::skipped("strace", "none that may trace");
            return None;
        }
        ledger::ran("strace");
        Some(child)
    }

    /// Lets strace answer only those calls that name this file.
    pub(crate) fn on_path(self, path: &'static str) -> Self {
        Child { path: Some(path), ..self }
    }

    /// Sets an environment variable too.
    pub(crate) fn and_with(self, name: &'static str, value: &'static str) -> Self {
        Child { variable: Some((name, value)), ..self }
    }

    /// Lets strace record its membarrier calls. `None` as above.
    pub(crate) fn traced() -> Option<(Self, Log)> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: a number for a name.
        let next = NEXT.fetch_add(1, Relaxed);
        let name = format!("asymfence-strace-{}-{next}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let child = Child::injected("")?;
        Some((Child { inject: None, log: Some(file.clone()), ..child }, Log(file)))
    }

    /// Lets strace answer some of them too, as `injected`.
    pub(crate) fn injected_too(self, inject: &str) -> Self {
        Child { inject: Some(("membarrier", inject.to_owned())), ..self }
    }

    /// Runs `body`, which must be a closure in the test itself, in the child. Does not assert how the child ends.
    pub(crate) fn outcome<F: FnOnce()>(self, body: F) -> Outcome {
        // The closure's type is named after the test: `it::module::test::{{closure}}`.
        let test = type_name::<F>().trim_end_matches("::{{closure}}");
        let test = test.split_once("::").expect("a path below the crate").1;
        let mut body = Some(body);
        self.outcome_of(test, &mut || body.take().expect("called once")())
    }

    /// The same of the test with this name. Not generic: it is compiled once, not once in each test.
    fn outcome_of(self, test: &str, body: &mut dyn FnMut()) -> Outcome {
        if cfg!(miri) {
            ledger::skipped("a process of its own", "Miri starts none");
            return Outcome { code: Some(CANNOT_RUN), signal: None, output: String::new() };
        }
        if let Some(why) = no_filters().filter(|_| self.filters) {
            ledger::skipped("seccomp", why);
            return Outcome { code: Some(CANNOT_RUN), signal: None, output: String::new() };
        }
        if std::env::var(MARK).as_deref() == Ok(test) {
            HAD_PROCFS.store(has_procfs(), Relaxed);
            body();
            exit(DONE);
        }

        // One at a time: a litmus test wants both cores for itself.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let mut command = this_binary();
        if self.inject.is_some() || self.log.is_some() {
            let mut strace = Command::new("strace");
            let (call, inject) = self.inject.unwrap_or(("membarrier", String::new()));
            strace.args(["-f", "-qq", "-e", &format!("trace={call}"), "-o"]);
            strace.arg(self.log.unwrap_or("/dev/null".into()));
            if !inject.is_empty() {
                strace.args(["-e", &format!("inject={call}:{inject}")]);
            }
            self.path.map(|path| strace.args(["-P", path]));
            strace.arg(command.get_program()).args(command.get_args());
            command = strace;
        }
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        command.env(MARK, test).env_remove("ASYMFENCE");
        command.envs(self.variable);
        // Empty where there are no filters.
        let filter = self.filter.filter(|filter| !filter.is_empty());
        let under_filter = filter.is_some();
        if let Some(filter) = filter {
            // SAFETY: between fork and exec the closure makes system calls only; the filter was
            // compiled before.
            unsafe {
                command.pre_exec(move || apply_filter(&filter).map_err(std::io::Error::other))
            };
        }
        let output = command.output().expect("the child runs");
        if under_filter {
            ledger::ran("seccomp");
        }
        let outcome = Outcome {
            code: output.status.code(),
            signal: output.status.signal(),
            output: [output.stdout, output.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat(),
        };
        // The child has entered its skipped tests in the ledger itself. Here their lines are only shown.
        let skipped = outcome.output.lines().filter(|line| line.starts_with(ledger::SKIPPED));
        skipped.for_each(|line| {
            let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
        });
        outcome
    }

    /// Runs `body` in the child; it must come to its end.
    #[track_caller]
    pub(crate) fn run<F: FnOnce()>(self, body: F) {
        let outcome = self.outcome(body);
        assert!(outcome.succeeded(), "{outcome:?}");
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "the child ended with status {code}")?,
            (None, Some(signal)) => write!(f, "signal {signal} ended the child")?,
            (None, None) => write!(f, "the child did not end")?,
        }
        write!(f, ", and printed:\n{}", self.output)
    }
}

impl Outcome {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(DONE) || self.cannot_run()
    }

    pub(crate) fn cannot_run(&self) -> bool {
        self.code == Some(CANNOT_RUN)
    }

    /// What it has printed.
    #[cfg(all(feature = "std", not(asymfence_symmetric)))]
    pub(crate) fn output(&self) -> &str {
        &self.output
    }

    /// It ended with this status.
    #[track_caller]
    pub(crate) fn ended_with(&self, code: i32) {
        assert!(self.cannot_run() || self.code == Some(code), "{self:?}");
    }

    /// How often it said `words`.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.output.matches(words).count()
    }

    /// The signal that ended it.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.signal
    }

    /// ThreadSanitizer found a race, and ended the process in its way.
    #[cfg(asymfence_tsan)]
    #[track_caller]
    pub(crate) fn was_reported(&self) {
        assert_eq!(self.code, Some(66), "{self:?}");
        assert!(self.output.contains("ThreadSanitizer: data race"), "{}", self.output);
    }

    /// This signal has ended it.
    #[track_caller]
    pub(crate) fn was_ended_by(&self, signal: Signal) {
        assert!(self.cannot_run() || self.signal == Some(signal as i32), "{self:?}");
    }

    /// The process aborted itself, with a message that has each of `words`.
    #[track_caller]
    pub(crate) fn aborted_saying(&self, words: &[&str]) {
        if self.cannot_run() {
            return;
        }
        self.was_ended_by(Signal::SIGABRT);
        for word in words {
            assert!(self.output.contains(word), "no {word} in: {}", self.output);
        }
    }
}
