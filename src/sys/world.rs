//! How a model begins, and in which order its heavy fences visit the threads.

/// How a model's process begins.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::model::{Start, model_from};
///
/// // Users get this where no mechanism works, as on macOS.
/// model_from(Start::Symmetric, || assert!(asymfence::Asymmetric::new().is_err()));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Committed to an asymmetric strategy, as after [`init`](crate::init) on most machines.
    Asymmetric,
    /// Committed to the symmetric one: both fences are full. Users get this where no mechanism works: on macOS, or in a
    /// sandbox that forbids every mechanism. (Models of other crates often use full fences on both sides in place of
    /// asymmetric fences, too. That hides outcomes.)
    Symmetric,
    /// Not committed yet: the first heavy fence decides.
    Undecided {
        /// Whether it will find a rung that works, or become symmetric.
        rung_works: bool,
    },
}

/// The order in which fences visit the threads of the model. Neither is more real; a model that is
/// to find everything runs once with each.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::model::{Start, Visit, init_from};
///
/// for visit in [Visit::Upward, Visit::Downward] {
///     loom::model(move || init_from(Start::Asymmetric, visit));
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The first thread first.
    Upward,
    /// The last thread first.
    Downward,
}
