//! What this machine says of itself.

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// What membarrier(2) QUERY offers, by name; or why it does not.
    pub(crate) commands: Result<Vec<String>, String>,
    /// What this process is registered for, by GET_REGISTRATIONS; or why that cannot be told.
    pub(crate) registrations: Result<Vec<String>, String>,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let [commands, registrations] = membarrier();
        Machine { kernel: kernel(), cpu: cpu(), cores, commands, registrations }
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
    [(); 2].map(|()| Err("this is not Linux".to_owned()))
}
