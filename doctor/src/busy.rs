//! How much of the processors' time went elsewhere while the doctor measured. Linux only.

/// The ticks of all processors since the machine started, and of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clock {
    total: u64,
    /// The ticks that were not idle. Those that the host of a virtual machine stole count too.
    busy: u64,
    mine: u64,
}

/// The share above which the costs are doubtful.
pub(crate) const DOUBTFUL: f64 = 0.1;

impl Clock {
    /// `None` where there is no /proc.
    pub(crate) fn now() -> Option<Self> {
        let [all, mine] = ["/proc/stat", "/proc/self/stat"].map(std::fs::read_to_string);
        Self::parse(&all.ok()?, &mine.ok()?)
    }

    /// Of proc(5)'s files: the first line of `stat`, and fields 14 and 15 of the process's own.
    fn parse(all: &str, mine: &str) -> Option<Self> {
        let ticks = all.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        // user nice system idle iowait irq softirq steal. The two that follow, of guests, are counted in user and nice.
        let ticks: Vec<u64> = ticks.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let total = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4)?;
        // The name of the program may have spaces and parentheses.
        let fields: Vec<&str> = mine.rsplit_once(')')?.1.split_whitespace().collect();
        let mine = fields.get(11..13)?.iter().map(|ticks| ticks.parse::<u64>());
        let mine = mine.sum::<Result<_, _>>().ok()?;
        Some(Clock { total, busy: total - idle, mine })
    }

    /// The share of all processors' time that others took since.
    pub(crate) fn others_since(self) -> Option<f64> {
        Self::now().and_then(|now| self.others_until(now))
    }

    fn others_until(self, now: Clock) -> Option<f64> {
        let total = now.total.checked_sub(self.total).filter(|&total| total > 0)?;
        let busy = now.busy.saturating_sub(self.busy);
        let mine = now.mine.saturating_sub(self.mine);
        Some(busy.saturating_sub(mine) as f64 / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELF: &str = "77 (a) (name) R 1 77 77 0 -1 4194560 90 0 0 0 300 50 0 0 20 0 3 0 88";

    fn clock(all: &str, mine: &str) -> Clock {
        Clock::parse(all, mine).unwrap()
    }

    #[test]
    fn ticks_are_read() {
        let read = clock("cpu  100 10 40 800 20 5 5 20 0 0\ncpu0 1 2 3\n", SELF);
        assert_eq!(read, Clock { total: 1_000, busy: 180, mine: 350 });
    }

    #[test]
    fn what_is_no_proc_is_no_clock() {
        assert_eq!(Clock::parse("", SELF), None);
        assert_eq!(Clock::parse("cpu 1 2 x 4 5", SELF), None);
        assert_eq!(Clock::parse("cpu 1 2 3 4 5 6 7 8", "77 (name) R"), None);
    }

    #[test]
    fn others_are_what_is_busy_and_not_ours() {
        let before = Clock { total: 1_000, busy: 180, mine: 350 };
        let alone = Clock { total: 2_000, busy: 980, mine: 1_150 };
        assert_eq!(before.others_until(alone), Some(0.0));
        let beside = Clock { mine: 650, ..alone };
        assert_eq!(before.others_until(beside), Some(0.5));
        assert_eq!(before.others_until(before), None);
    }
}
