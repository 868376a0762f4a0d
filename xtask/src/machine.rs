//! The machine that something was measured on.

use xshell::{Shell, cmd};

use crate::Result;

/// Processor, system, compiler, day.
pub(crate) fn describe(sh: &Shell) -> Result<String> {
    let processor = sh.read_file("/proc/cpuinfo")?;
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let cores = std::thread::available_parallelism()?;
    let system = cmd!(sh, "uname -sr").quiet().read()?;
    let rust = cmd!(sh, "rustc --version").quiet().read()?;
    let day = cmd!(sh, "date +%F").quiet().read()?;
    let processor = processor.unwrap_or("an unknown processor");
    Ok(format!("{cores} cores of {processor}, {system}, {rust}, {day}"))
}
