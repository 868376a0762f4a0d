//! A zero-sized token of an asymmetric process.

use core::fmt;

use crate::strategy::{Strategy, Verdict, init, ladder};
use crate::sys;

/// Proof that this process is committed to an asymmetric strategy. Its `light_fence` skips the check and compiles to
/// no instruction.
///
/// For a data structure that decides once: take the token when the structure is built, and keep it in a field (it has
/// no size). Use [`light_fence`](crate::light_fence) if [`Asymmetric::new`] returned an error.
///
/// Only [`Asymmetric::new`] makes one:
///
/// ```
/// use asymfence::Asymmetric;
/// # if std::env::var_os("ASYMFENCE").is_none() && asymfence::Asymmetric::new().is_ok() {
/// let proof: Asymmetric = Asymmetric::new()?;
/// # }
/// # Ok::<(), asymfence::NotAsymmetric>(())
/// ```
///
/// ```compile_fail
/// use asymfence::Asymmetric;
/// let proof: Asymmetric = Asymmetric { committed: () };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asymmetric {
    /// Private, so that the proof cannot be made up.
    committed: (),
}

impl Asymmetric {
    /// Decides the strategy if the process has not decided yet ([`init`]), and returns the token if it is asymmetric.
    ///
    /// # Errors
    ///
    /// [`NotAsymmetric`] if the process is symmetric.
    ///
    /// Panics, signal safety, fork and exec as [`init`].
    pub fn new() -> Result<Self, NotAsymmetric> {
        match init() {
            Strategy::Asymmetric(_) => Ok(Asymmetric { committed: () }),
            Strategy::Symmetric => Err(NotAsymmetric { _private: () }),
        }
    }

    /// Orders as [`light_fence`](crate::light_fence), in zero instructions: no load, no branch. Contract and signal
    /// safety are the same.
    #[inline(always)]
    #[track_caller] // for models; other builds do not use it
    pub fn light_fence(self) {
        // COMMIT-ONCE: the process is asymmetric for ever. Pairs with: every heavy fence.
        sys::compiler_barrier();
    }
}

/// There is no [`Asymmetric`]: the process is symmetric, and its light fence is `fence(SeqCst)`. The `Display` form
/// says why each rung was refused.
///
/// ```
/// match asymfence::Asymmetric::new() {
///     Ok(proof) => proof.light_fence(),
///     Err(why) => println!("{why}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAsymmetric {
    _private: (),
}

impl fmt::Display for NotAsymmetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fences of this process are symmetric")?;
        for rung in ladder() {
            if let Verdict::Refused(refusal) = rung.verdict {
                write!(f, "; {} is refused: {refusal}", rung.strategy)?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for NotAsymmetric {}
