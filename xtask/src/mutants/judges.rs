//! For each area of the code, the models and tests that judge its mutants. `court.rs` decides in which order they run.

/// A build of test binaries: its name, and how cargo is called.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) name: &'static str,
    /// The arguments of `cargo test`.
    pub(super) arguments: &'static [&'static str],
    /// The flags of the compiler.
    pub(super) flags: &'static str,
    /// The target folder.
    pub(super) target: &'static str,
}

pub(super) const BUILDS: [Build; 6] = [
    Build {
        name: "models",
        arguments: &["--release", "--package", "loom-tests"],
        flags: "--cfg loom --cap-lints=allow",
        target: "target/mutants/models",
    },
    Build {
        name: "library",
        arguments: &["--lib", "--test", "it", "--test", "forks"],
        flags: "--cap-lints=allow",
        target: "target/mutants/tests",
    },
    Build {
        name: "library without std",
        arguments: &["--no-default-features", "--lib", "--test", "it"],
        flags: "--cap-lints=allow",
        target: "target/mutants/tests",
    },
    Build {
        name: "hazard",
        arguments: &["--package", "asymfence-hazard", "--lib", "--test", "it"],
        flags: "--cap-lints=allow",
        target: "target/mutants/tests",
    },
    Build {
        name: "hazard without std",
        arguments: &["--package", "asymfence-hazard", "--no-default-features", "--lib"],
        flags: "--cap-lints=allow",
        target: "target/mutants/tests",
    },
    Build {
        name: "cookbook",
        arguments: &["--package", "asymfence-cookbook", "--test", "it", "--test", "allocator"],
        flags: "--cap-lints=allow",
        target: "target/mutants/tests",
    },
];

/// The name of the build, and the source of the binary.
pub(super) type Binary = (&'static str, &'static str);

/// Tests of one binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judge {
    pub(super) binary: Binary,
    /// The arguments of the test harness.
    pub(super) filter: &'static [&'static str],
}

/// Whether the tests are models under loom. Otherwise they have real threads.
pub(super) fn is_model((build, _): Binary) -> bool {
    build == "models"
}

/// A judge of models, for mutants with a name.
pub(super) const fn models(source: &'static str, filter: &'static [&'static str]) -> Judge {
    judge("models", source, filter)
}

const fn judge(
    build: &'static str,
    source: &'static str,
    filter: &'static [&'static str],
) -> Judge {
    Judge { binary: (build, source), filter }
}

/// The judges of a structure of the cookbook: its models and its tests, whose names begin with the same word.
macro_rules! cookbook {
    ($word:literal) => {
        &[judge("models", "tests/cookbook/main.rs", &[$word]), judge("cookbook", IT, &[$word])]
    };
}

pub(super) const IT: &str = "tests/it/main.rs";
const LIB: &str = "src/lib.rs";
const FORKS: &str = "tests/forks.rs";
const ALLOCATOR: &str = "tests/allocator.rs";

/// The judges of each area. An area is the beginning of a file's path; the first one that fits counts.
pub(super) const AREAS: &[(&str, &[Judge])] = &[
    (
        "src/coalesce.rs",
        &[
            judge(
                "models",
                IT,
                &["coalesce", "hand_on", "pairing", "isa2", "store_buffers", "ticket"],
            ),
            judge("library", LIB, &["coalesce"]),
            judge("library", IT, &["coalescing", "tickets", "calls", "forking", "signals"]),
        ],
    ),
    (
        "src/sys/modelled.rs",
        &[
            judge("models", IT, &["--skip", "exact"]),
            judge("models", IT, &["exact", "--skip", "iriw", "--skip", "z6"]),
        ],
    ),
    (
        "src/cross_process/",
        &[
            judge("models", "tests/segments.rs", &[]),
            judge("models", IT, &["between_processes"]),
            judge("library", LIB, &[]),
            judge("library", IT, &["cross_process", "registering", "switches"]),
            judge("library", FORKS, &[]),
        ],
    ),
    (
        "src/sys/mod.rs",
        &[
            judge("models", IT, &["pairing", "coalesce", "hand_on"]),
            judge("library", LIB, &[]),
            judge("library", IT, &[]),
            judge("library", FORKS, &[]),
        ],
    ),
    // Some of it is built only without `std`. So the tests of that build judge too.
    (
        "src/sys/",
        &[
            judge("library", LIB, &[]),
            judge("library", IT, &[]),
            judge("library", FORKS, &[]),
            judge("library without std", LIB, &[]),
            judge("library without std", IT, &[]),
        ],
    ),
    (
        "hazard/src/",
        &[
            judge("models", "tests/hazard.rs", &[]),
            judge("hazard", LIB, &[]),
            judge("hazard", IT, &[]),
            judge("hazard without std", LIB, &[]),
        ],
    ),
    ("cookbook/src/rcu.rs", cookbook!("rcu::")),
    (
        "cookbook/src/deque.rs",
        &[
            judge("models", "tests/cookbook/main.rs", &["deque::"]),
            judge("cookbook", IT, &["deque::"]),
            judge("cookbook", ALLOCATOR, &[]),
        ],
    ),
    ("cookbook/src/event_count.rs", cookbook!("event_count::")),
    ("cookbook/src/biased_lock.rs", cookbook!("biased_lock::")),
    ("cookbook/src/epoch.rs", cookbook!("epoch::")),
    ("examples/first/", &[judge("models", "tests/first.rs", &[])]),
    // Real threads, clocks and panics, which no model has.
    ("cookbook/src/sync/", &[judge("cookbook", IT, &[])]),
    // Among them fence.rs, strategy.rs, asymmetric.rs, membarrier.rs, bias.rs, ticket.rs, pacer.rs.
    (
        "src/",
        &[
            judge(
                "models",
                IT,
                &["pairing", "deciding", "lazily", "misuse", "ticket", "pacer", "bias"],
            ),
            judge("library", LIB, &[]),
            judge("library", IT, &[]),
            judge("library", FORKS, &[]),
        ],
    ),
];

/// Files without mutants, and why.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    (
        "src/sys/witness.rs",
        "only makes models fail; its own tests give it the faults that it must find",
    ),
    ("src/model.rs", "how a model begins"),
    ("src/sync.rs", "declarations"),
    ("examples/first/main.rs", "only includes progress.rs"),
    ("src/sys/sanitized.rs", "ThreadSanitizer's own job judges it"),
    ("src/sys/one_process.rs", "built for Miri alone, whose own job judges it"),
    ("src/sys/android.rs", "another system"),
    ("src/sys/flush_process_write_buffers.rs", "another system"),
    ("src/sys/private_expedited_freebsd.rs", "another system"),
    ("cookbook/src/sync.rs", "declarations"),
    ("hazard/src/sync.rs", "declarations"),
];
