//! What can be wrong with a segment or with who comes to it, in words.

use core::fmt;

use super::header::{PARTICIPANTS, VERSION, WORDS};
use crate::refusal::Refusal;

/// Why a segment was not made, or a process not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The memory has this many words.
    TooShort(usize),
    /// The memory of the header is not all zero, so perhaps it is in use.
    NotEmpty,
    /// Nobody has made the segment yet, or somebody is just doing so.
    NotCreated,
    /// The memory begins with this word, which is not a segment's.
    Foreign(u32),
    /// The segment is of this version.
    Version(u32),
    /// The segment says this of its mode.
    Mode(u32),
    /// The segment was made under another kernel.
    OtherKernel,
    /// The kernel's boot id cannot be read.
    NoBootId,
    /// This process cannot be asymmetric.
    Refused(Refusal),
    /// Every place is taken.
    Full,
    /// This process is not in the PID namespace in which the segment was made.
    OtherPidNamespace,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Refused(refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooShort(words) => {
                write!(f, "the memory has {words} words of 4 bytes, and the header takes {WORDS}")
            }
            Error::NotEmpty => f.write_str(
                "the memory of the header is not all zero: somebody has made a segment here, or its maker died in \
                 the middle; attach to it, or take fresh memory",
            ),
            Error::NotCreated => f.write_str(
                "nobody has made a segment in this memory yet; create it before others are told of \
                 it, or try again later",
            ),
            Error::Foreign(word) => {
                write!(f, "the memory begins with {word:#010x} and holds no segment of asymfence")
            }
            Error::Version(version) => write!(
                f,
                "the segment is of version {version}, this program of version {VERSION}; build all \
                 its programs with the same asymfence"
            ),
            Error::Mode(mode) => {
                write!(f, "the segment's mode is {mode}, which is none; somebody wrote over it")
            }
            Error::OtherKernel => f.write_str(
                "the segment was made under another kernel (another machine, another virtual \
                 machine, or before a reboot), which no interrupt of this one reaches; create it \
                 anew, or symmetric",
            ),
            Error::NoBootId => f.write_str(
                "/proc/sys/kernel/random/boot_id cannot be read, so other kernels cannot be told from \
                 this one; mount /proc, or create the segment symmetric",
            ),
            Error::Refused(refusal) => write!(
                f,
                "this process cannot take part in asymmetric fences: {refusal}. Or create the \
                 segment symmetric"
            ),
            Error::Full => write!(
                f,
                "all {PARTICIPANTS} places are taken; let a participant reap those of processes \
                 that ended"
            ),
            Error::OtherPidNamespace => f.write_str(
                "from this PID namespace it cannot be told which participants have ended; let one in \
                 the namespace of the segment's maker do it",
            ),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}
