//! One process publishes snapshots, and another reads them without a fence instruction. Prints what that saves against
//! `fence(SeqCst)`. Linux only.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("fences between processes are there on Linux alone");
}

#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "tests/it alone uses what is for readers that die")]
mod snapshots;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match measured::main() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("snapshots: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
mod measured {
    use std::error::Error;
    use std::process::Command;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use std::time::Instant;

    use asymfence::cross_process::{Attached, Fences, Mode, Participant, attach, create};
    use core_affinity::CoreId;
    use rustix::process::{Signal, set_parent_process_death_signal};

    use crate::memory::{Atomics, Memory};
    use crate::snapshots::{Snapshots, Writer};

    type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

    const RUNS: u64 = 31;
    const READS: u64 = 5_000_000;
    const MODES: [Mode; 2] = [Mode::Asymmetric, Mode::Symmetric];

    /// The memory that the two processes share, behind the header.
    #[repr(C)]
    struct Track {
        snapshots: Snapshots,
        /// The number of the run that the reader is to do, and of the last run that it has done.
        run: AtomicU64,
        done: AtomicU64,
        nanoseconds: AtomicU64,
    }

    // SAFETY: atomic integers, in arrays and with padding between.
    unsafe impl Atomics for Track {}

    /// The writer; or, with the paths of the memories as arguments, the reader.
    pub(crate) fn main() -> Result {
        let paths: Vec<String> = std::env::args().skip(1).collect();
        match paths.as_slice() {
            [] => write(),
            [asymmetric, symmetric] => read([asymmetric, symmetric]),
            _ => Err("the example takes no arguments".into()),
        }
    }

    /// Two cores, one for each process. `None` if there is only one.
    fn pin(me: usize) -> Option<CoreId> {
        let cores = core_affinity::get_core_ids()?;
        cores.get(1)?;
        core_affinity::set_for_current(cores[me]);
        Some(cores[me])
    }

    fn write() -> Result {
        if pin(0).is_none() {
            println!("one core: the two processes take turns, and the times say little");
        }
        let memories = [Memory::new::<Track>()?, Memory::new::<Track>()?];
        for (memory, mode) in memories.iter().zip(MODES) {
            create(&memory.layout::<Track>().header, memory.file(), mode)?;
        }
        let mut reader = Command::new(std::env::current_exe()?)
            .args(memories.each_ref().map(Memory::path))
            .spawn()?;

        let [fast, slow] = memories.each_ref().map(Memory::layout::<Track>);
        let [fast_file, slow_file] = memories.each_ref().map(Memory::file);
        let attached = (attach(&fast.header, fast_file)?, attach(&slow.header, slow_file)?);
        let (fast_me, slow_me) = match attached {
            (Attached::Asymmetric(fast), Attached::Symmetric(slow)) => (fast, slow),
            other => return Err(format!("not what was created: {other:?}").into()),
        };
        let mut fast_writer = Writer::new(&fast_me, &fast.data.snapshots);
        let mut slow_writer = Writer::new(&slow_me, &slow.data.snapshots);
        let mut samples = [Vec::new(), Vec::new()];
        for run in 1..=RUNS {
            samples[0].push(write_while_read(&mut fast_writer, &fast.data, run, &mut reader)?);
            samples[1].push(write_while_read(&mut slow_writer, &slow.data, run, &mut reader)?);
        }
        reader.wait()?;

        let [fast, slow] = samples.map(median);
        println!("{RUNS} runs of {READS} reads each, in turn; medians");
        println!("no fence instruction: {fast:.2} ns a read");
        println!("fence(SeqCst):        {slow:.2} ns a read, {:.2} times as long", slow / fast);
        println!(
            "{} and {} snapshots published, with {} and {} heavy fences; no read was torn",
            fast_writer.published(),
            slow_writer.published(),
            fast_writer.heavy_fences(),
            slow_writer.heavy_fences(),
        );
        Ok(())
    }

    /// Publishes until the reader has done its run; answers the nanoseconds of a read.
    fn write_while_read<F: Fences>(
        writer: &mut Writer<'_, F>,
        track: &Track,
        run: u64,
        reader: &mut std::process::Child,
    ) -> Result<f64> {
        // Release, Acquire here and in `read_run`: the reader's time stands before its "done".
        track.run.store(run, Release);
        while track.done.load(Acquire) != run {
            writer.publish();
            for _ in 0..100 {
                std::hint::spin_loop();
            }
            if let Some(status) = reader.try_wait()?.filter(|status| !status.success()) {
                return Err(format!("the reader has ended: {status}").into());
            }
        }
        Ok(track.nanoseconds.load(Relaxed) as f64 / READS as f64)
    }

    fn read(paths: [&String; 2]) -> Result {
        // If the writer dies, the reader ends too.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        pin(1);
        let memories = [Memory::open(paths[0])?, Memory::open(paths[1])?];
        let [fast, slow] = memories.each_ref().map(Memory::layout::<Track>);
        let [fast_file, slow_file] = memories.each_ref().map(Memory::file);
        let attached = (attach(&fast.header, fast_file)?, attach(&slow.header, slow_file)?);
        let (Attached::Asymmetric(fast_me), Attached::Symmetric(slow_me)) = attached else {
            return Err("not the memories of a writer".into());
        };
        for run in 1..=RUNS {
            read_run(&fast_me, &fast.data, run);
            read_run(&slow_me, &slow.data, run);
        }
        Ok(())
    }

    fn read_run<F: Fences>(me: &Participant<'_, F>, track: &Track, run: u64) {
        while track.run.load(Acquire) != run {
            std::thread::yield_now();
        }
        let mut newest = 0;
        let start = Instant::now();
        for _ in 0..READS {
            let number = track.snapshots.read(me, |snapshot| snapshot.check());
            let number = number.expect("a torn snapshot: the fences do not hold");
            assert!(number >= newest, "{newest} was read before {number}");
            newest = number;
        }
        track.nanoseconds.store(start.elapsed().as_nanos() as u64, Relaxed);
        track.done.store(run, Release);
    }

    fn median(mut samples: Vec<f64>) -> f64 {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    }
}
