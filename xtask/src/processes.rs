//! Test binaries: which ones cargo has built, and which tests they have. And workers, one for each processor, for those
//! that run each test in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::Result;

/// What cargo says that it has built: the source of each binary, and its path. Cargo prints
/// `  Executable tests/it/main.rs (PATH)`, and `unittests src/lib.rs` for a library.
pub(crate) fn binaries(words: &str) -> impl Iterator<Item = (String, PathBuf)> {
    words.lines().filter_map(|line| {
        let (source, path) = line.trim().strip_prefix("Executable ")?.split_once(" (")?;
        Some((
            source.trim_start_matches("unittests ").to_owned(),
            path.trim_end_matches(')').into(),
        ))
    })
}

/// The tests of a binary that pass `filter`, by the harness's own list.
pub(crate) fn names(binary: &Path, folder: &Path, filter: &[&str]) -> Result<Vec<String>> {
    let list = Command::new(binary).arg("--list").args(filter).current_dir(folder).output()?;
    let list = String::from_utf8(list.stdout)?;
    Ok(list.lines().filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect())
}

/// Does the work once for each processor, at the same time. Each is told its number.
pub(crate) fn workers(work: impl Fn(usize) -> Result + Sync) -> Result {
    let count = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let work = &work;
        let start = |worker| scope.spawn(move || work(worker).map_err(|error| error.to_string()));
        let workers: Vec<_> = (0..count).map(start).collect();
        for worker in workers {
            worker.join().expect("no worker panics")?;
        }
        Ok(())
    })
}
