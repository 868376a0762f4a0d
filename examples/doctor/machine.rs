//! What this machine says of itself.

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// What membarrier(2) QUERY offers, by name.
    pub(crate) commands: Vec<String>,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Machine { kernel: kernel(), cpu: cpu(), cores, commands: commands() }
    }
}

#[cfg(target_os = "linux")]
fn kernel() -> String {
    let uname = rustix::system::uname();
    [uname.sysname(), uname.release(), uname.machine()].map(|part| part.to_string_lossy()).join(" ")
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}

#[cfg(target_os = "linux")]
fn commands() -> Vec<String> {
    use rustix::thread::{MembarrierQuery, membarrier_query};

    // rustix 1.1 has no name for the newest.
    const GET_REGISTRATIONS: MembarrierQuery = MembarrierQuery::from_bits_retain(1 << 9);

    let offered = membarrier_query();
    let mut names: Vec<String> = offered
        .iter_names()
        .filter(|(name, _)| *name != "_")
        .map(|(name, _)| name.to_owned())
        .collect();
    if offered.contains(GET_REGISTRATIONS) {
        names.push("GET_REGISTRATIONS".to_owned());
    }
    names
}

#[cfg(not(target_os = "linux"))]
fn commands() -> Vec<String> {
    Vec::new()
}
