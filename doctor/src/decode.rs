//! The names of the numbers that membarrier(2) takes and returns, as a tracer shows them. From
//! include/uapi/linux/membarrier.h@v7.2; a test holds them against the library's.

use crate::text::wrap;

/// The name of a command's bit, since which Linux, and what it does.
const COMMANDS: [(&str, &str, &str); 10] = [
    (
        "GLOBAL",
        "4.3",
        "a full barrier in every thread of every process; takes milliseconds (once called SHARED)",
    ),
    (
        "GLOBAL_EXPEDITED",
        "4.16",
        "a full barrier in every running thread of the processes registered for it; since Linux 5.4 \
         it misses some",
    ),
    (
        "REGISTER_GLOBAL_EXPEDITED",
        "4.16",
        "registers this process, to be reached by GLOBAL_EXPEDITED",
    ),
    (
        "PRIVATE_EXPEDITED",
        "4.14",
        "a full barrier in every running thread of this process: a heavy fence",
    ),
    (
        "REGISTER_PRIVATE_EXPEDITED",
        "4.14",
        "registers this process for PRIVATE_EXPEDITED: once, at the decision",
    ),
    (
        "PRIVATE_EXPEDITED_SYNC_CORE",
        "4.16",
        "as PRIVATE_EXPEDITED, and a core-serializing instruction in each thread, for a JIT",
    ),
    (
        "REGISTER_PRIVATE_EXPEDITED_SYNC_CORE",
        "4.16",
        "registers this process for PRIVATE_EXPEDITED_SYNC_CORE",
    ),
    (
        "PRIVATE_EXPEDITED_RSEQ",
        "5.10",
        "as PRIVATE_EXPEDITED, and restarts the restartable sequences of running threads",
    ),
    (
        "REGISTER_PRIVATE_EXPEDITED_RSEQ",
        "5.10",
        "registers this process for PRIVATE_EXPEDITED_RSEQ",
    ),
    ("GET_REGISTRATIONS", "6.3", "what this process is registered for"),
];

/// `MEMBARRIER_CMD_FLAG_CPU`, which only PRIVATE_EXPEDITED_RSEQ takes.
const FLAG_CPU: u32 = 1 << 0;
const PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 7;

/// What the call `membarrier(command, flags)` is; several bits are an answer of QUERY or GET_REGISTRATIONS.
pub(crate) fn words(command: u32, flags: u32) -> String {
    let mut text = match command.count_ones() {
        0 => "0: MEMBARRIER_CMD_QUERY (Linux 4.3): which commands the kernel offers\n".to_owned(),
        1 => wrap(&format!("{command}: {}", bit(command.trailing_zeros())), "  "),
        _ => {
            let mut text = format!("{command:#x} is no command, but a set of them:\n");
            for i in (0..u32::BITS).filter(|i| command >> i & 1 != 0) {
                text += &wrap(&format!("{}: {}", 1u32 << i, bit(i)), "  ");
            }
            text
        }
    };
    if flags != 0 {
        let words = match (flags, command) {
            (FLAG_CPU, PRIVATE_EXPEDITED_RSEQ) => {
                "MEMBARRIER_CMD_FLAG_CPU (Linux 5.10): on the processor of the third argument alone"
            }
            (FLAG_CPU, _) => {
                "MEMBARRIER_CMD_FLAG_CPU (Linux 5.10), which PRIVATE_EXPEDITED_RSEQ alone takes: EINVAL"
            }
            _ => "no flag of Linux 7.2: EINVAL",
        };
        text += &wrap(&format!("flags {flags}: {words}"), "  ");
    }
    text
}

fn bit(index: u32) -> String {
    match COMMANDS.get(index as usize) {
        Some((name, since, does)) => format!("MEMBARRIER_CMD_{name} (Linux {since}): {does}"),
        None => "no command of Linux 7.2: the kernel answers EINVAL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_names_are_the_librarys() {
        use asymfence::membarrier::Commands;

        let known: Vec<_> = Commands::all().iter_names().collect();
        assert_eq!(known.len(), COMMANDS.len());
        for (name, command) in known {
            assert_eq!(COMMANDS[command.bits().trailing_zeros() as usize].0, name);
        }
    }

    #[test]
    fn numbers_are_named() {
        assert!(words(0, 0).contains("MEMBARRIER_CMD_QUERY"));
        assert!(words(8, 0).starts_with("8: MEMBARRIER_CMD_PRIVATE_EXPEDITED (Linux 4.14)"));
        assert!(words(128, 1).contains("\nflags 1: MEMBARRIER_CMD_FLAG_CPU"));
        assert!(words(8, 1).contains("EINVAL"));
        assert!(words(128, 2).contains("flags 2: no flag"));
        assert!(words(1 << 20, 0).contains("no command of Linux 7.2"));
        let set = words(0x18, 0);
        assert!(set.contains("\n8: MEMBARRIER_CMD_PRIVATE_EXPEDITED "), "{set}");
        assert!(set.contains("\n16: MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED "), "{set}");
    }

    #[test]
    fn every_line_fits() {
        let all = words(u32::MAX, 1);
        assert!(all.lines().all(|line| line.len() <= crate::text::WIDTH), "{all}");
    }
}
