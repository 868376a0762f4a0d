//! What this machine says of itself.

use std::env;

use crate::sibling::cores;

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    /// On how many processors this process may run.
    pub(crate) processors: usize,
    /// How many processors' time a quota allows this process, if that is fewer than `processors`.
    pub(crate) quota: Option<usize>,
    /// What membarrier(2) QUERY offers, by name; or why that cannot be told.
    pub(crate) commands: Result<Vec<String>, String>,
    /// What this process is registered for, by GET_REGISTRATIONS; or why that cannot be told.
    pub(crate) registrations: Result<Vec<String>, String>,
}

impl Machine {
    /// Makes no call of membarrier(2) unless it `asks`.
    pub(crate) fn this(asks: bool) -> Self {
        let processors = cores().len().max(1);
        let available = std::thread::available_parallelism().ok().map(usize::from);
        let quota = available.filter(|&available| available < processors);
        let unasked = || [(); 2].map(|()| Err("switched off, so not asked".to_owned()));
        let [commands, registrations] = if asks { membarrier() } else { unasked() };
        Machine {
            kernel: kernel(),
            processor: processor(),
            processors,
            quota,
            commands,
            registrations,
        }
    }
}

/// Whether this process may call membarrier(2). False if the build, the environment, or the `strategy` that was asked
/// for switches the asymmetry off.
pub(crate) fn calls_membarrier(strategy: Option<&str>) -> bool {
    // As the library reads it: any word that is not empty switches the asymmetry off, since one that is not known is
    // taken for `symmetric`. If the environment has the variable twice, the first one counts.
    let is_switched_off = cfg!(any(asymfence_symmetric, asymfence_tsan))
        || env::var_os("ASYMFENCE").is_some_and(|word| !word.is_empty());
    !is_switched_off && strategy != Some("symmetric")
}

#[cfg(target_os = "linux")]
fn kernel() -> String {
    // Not uname(2): a sandbox may refuse it, and rustix takes it for infallible.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let release =
        release.map_or_else(|_| "of an unknown release".to_owned(), |text| text.trim().to_owned());
    format!("Linux {release} {}", env::consts::ARCH)
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> String {
    format!("{} {}", env::consts::OS, env::consts::ARCH)
}

fn processor() -> String {
    name_of_processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
        .unwrap_or_else(|| format!("{}, unknown", env::consts::ARCH))
}

/// Of proc(5)'s cpuinfo. A hypervisor may hide the name of the model; the numbers tell the microarchitecture (x86).
fn name_of_processor(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    let name = value("model name")?;
    Some(match (value("cpu family"), value("model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name.to_owned(),
    })
}

#[cfg(target_os = "linux")]
fn membarrier() -> [Result<Vec<String>, String>; 2] {
    use asymfence::membarrier::{Commands, query, registrations};

    let names =
        |commands: Commands| commands.iter_names().map(|(name, _)| name.to_owned()).collect();
    let without_register =
        |names: Vec<String>| names.iter().map(|name| name.replace("REGISTER_", "")).collect();
    [
        query().map(names).map_err(|failure| failure.to_string()),
        registrations().map(names).map(without_register).map_err(|failure| failure.to_string()),
    ]
}

#[cfg(not(target_os = "linux"))]
fn membarrier() -> [Result<Vec<String>, String>; 2] {
    [(); 2].map(|()| Err("not Linux".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_with_what_cpuinfo_has_of_it() {
        let x86 = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\nmodel\t: 2\n";
        assert_eq!(name_of_processor(x86).as_deref(), Some("AMD EPYC (family 25, model 1)"));
        let arm = "processor\t: 0\nmodel name\t: ARMv7 Processor rev 5 (v7l)\n";
        assert_eq!(name_of_processor(arm).as_deref(), Some("ARMv7 Processor rev 5 (v7l)"));
        assert_eq!(name_of_processor("processor\t: 0\n"), None);
    }
}
