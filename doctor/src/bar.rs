//! A bar that grows while the doctor measures.

use std::cell::Cell;
use std::fmt::Write;
use std::io::{IsTerminal, stderr};

use crate::{text, warn};

/// On the standard error, where that is a terminal.
pub(crate) struct Bar {
    steps: u64,
    done: Cell<u64>,
    is_shown: bool,
}

impl Bar {
    pub(crate) fn new(steps: u64) -> Self {
        Bar { steps, done: Cell::new(0), is_shown: stderr().is_terminal() }
    }

    /// One step more, of this work.
    pub(crate) fn advance(&self, work: &str) {
        self.done.set(self.done.get() + 1);
        if self.is_shown {
            warn(&format!("\r{}", self.line(work)));
        }
    }

    pub(crate) fn clear(&self) {
        if self.is_shown {
            warn(&format!("\r{:1$}\r", "", text::WIDTH - 1));
        }
    }

    /// A column less than the terminal has: its cursor stays in the line.
    fn line(&self, work: &str) -> String {
        const WIDTH: usize = 50;
        let done = self.done.get().min(self.steps);
        let filled = WIDTH * done as usize / self.steps as usize;
        let mut line = format!("{work:20.20} [");
        line.extend((0..WIDTH).map(|i| if i < filled { '#' } else { ' ' }));
        write!(line, "] {:3} %", 100 * done / self.steps).expect("a string takes it");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_grows_from_empty_to_full_and_stays_in_its_line() {
        let bar = Bar { steps: 4, done: Cell::new(0), is_shown: false };
        let mut before = 0;
        for step in 1..=4 {
            bar.advance("light against light, which is a long name");
            let line = bar.line("light against light, which is a long name");
            let filled = line.matches('#').count();
            assert!(filled > before && line.len() < text::WIDTH, "step {step}: {line}");
            before = filled;
        }
        assert!(bar.line("").ends_with("#] 100 %"));
    }
}
