//! Which Android may be asked for membarrier(2). Below API level 29 the sandbox of applications ends a process that
//! makes the call, even the one that only asks for the commands (dotnet/runtime#92196; ART has the same gate,
//! `libartbase/base/membarrier.cc`). So the level is read first, and below 29 the call is not made.

use crate::refusal::{Reason, Refusal};

/// Android 10.
const MEMBARRIER_ALLOWED_SINCE: u32 = 29;

/// Judges the value of the property `ro.build.version.sdk`.
pub(super) fn admit(sdk: &[u8]) -> Result<(), Refusal> {
    let level = core::str::from_utf8(sdk).ok().and_then(|level| level.parse::<u32>().ok());
    if level >= Some(MEMBARRIER_ALLOWED_SINCE) {
        Ok(())
    } else {
        Err(Refusal::new(Reason::SystemTooOld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membarrier_is_asked_for_from_level_29_only() {
        let allowed = |sdk: &str| admit(sdk.as_bytes()).map_err(Refusal::reason);
        for sdk in ["29", "30", "36"] {
            assert_eq!(allowed(sdk), Ok(()), "{sdk}");
        }
        for sdk in ["28", "21", "0", "", "REL", "-1", "29 ", "99999999999"] {
            assert_eq!(allowed(sdk), Err(Reason::SystemTooOld), "{sdk}");
        }
    }
}
