//! What was found, for a person or for a program.

use asymfence::{FenceStats, Reason, RungReport, Strategy, Verdict};
use jzon::{JsonValue, object};

use crate::VERSION;
use crate::busy::DOUBTFUL;
use crate::costs::{BreakEven, Costs};
use crate::machine::Machine;
use crate::pairing::Cell;
use crate::text::{Column, rounded, table, wrap};

/// The JSON Schema of `to_json`.
pub(crate) const SCHEMA: &str = include_str!("../schema.json");

pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The share of the processors' time that others took.
    pub(crate) busy: Option<f64>,
    pub(crate) strategy: Strategy,
    /// Whether the system refused to keep a thread on one processor.
    pub(crate) have_strayed: bool,
    /// By --strategy.
    pub(crate) asked_for: bool,
    pub(crate) rungs: Vec<RungReport>,
    pub(crate) costs: Costs,
    pub(crate) stats: FenceStats,
    /// Empty on one processor, or where no time was given.
    pub(crate) cells: Vec<Cell>,
}

impl Report {
    pub(crate) fn is_violated(&self) -> bool {
        self.cells.iter().any(Cell::is_violated)
    }

    /// The verdict in a word, and why.
    fn words(&self, rung: &RungReport) -> (&'static str, String) {
        let reason = match rung.verdict {
            Verdict::Taken if self.asked_for => "asked for by --strategy".to_owned(),
            Verdict::Taken if rung.strategy != Strategy::Symmetric => {
                "the best that works here".to_owned()
            }
            Verdict::Taken if self.is_switched_off() => "the asymmetry is switched off".to_owned(),
            Verdict::Taken => "no mechanism works here".to_owned(),
            Verdict::NotTried if self.asked_for => {
                format!("--strategy asked for {}", self.strategy)
            }
            Verdict::NotTried => format!("{} comes first, and works", self.strategy),
            Verdict::Refused(refusal) => refusal.to_string(),
        };
        let word = match rung.verdict {
            Verdict::Taken => "taken",
            Verdict::NotTried => "not tried",
            Verdict::Refused(_) => "refused",
        };
        (word, reason)
    }

    fn is_switched_off(&self) -> bool {
        let is_switch = |reason| {
            use Reason::{SwitchNotUnderstood, SwitchedOffByCfg, SwitchedOffByEnvironment};
            matches!(reason, SwitchNotUnderstood | SwitchedOffByCfg | SwitchedOffByEnvironment)
        };
        let mut verdicts = self.rungs.iter().map(|rung| rung.verdict);
        verdicts.any(
            |verdict| matches!(verdict, Verdict::Refused(refusal) if is_switch(refusal.reason())),
        )
    }

    pub(crate) fn to_json(&self) -> JsonValue {
        let rungs: Vec<JsonValue> = self
            .rungs
            .iter()
            .map(|rung| {
                let (verdict, reason) = self.words(rung);
                object! { name: rung.strategy.name(), verdict: verdict, reason: reason }
            })
            .collect();
        let cells: Vec<JsonValue> = self
            .cells
            .iter()
            .map(|cell| {
                object! {
                    left: cell.left.name(),
                    right: cell.right.name(),
                    expected: cell.expected(),
                    rounds: cell.observed.rounds,
                    weak: cell.observed.weak,
                }
            })
            .collect();
        let mut costs = object! {};
        for cost in self.costs.list() {
            costs[cost.key] = cost.ns.into();
        }
        object! {
            version: VERSION,
            kernel: self.machine.kernel.as_str(),
            processor: self.machine.processor.as_str(),
            processors: self.machine.processors,
            busy: self.busy,
            strategy: self.strategy.name(),
            rungs: rungs,
            membarrier: {
                commands: self.machine.commands.clone().ok(),
                registered_for: self.machine.registrations.clone().ok(),
            },
            costs_ns: costs,
            break_even: self.costs.break_even().rounds(),
            heavy: {
                asked: self.stats.heavy.asked,
                calls: self.stats.heavy.calls,
                shared: self.stats.heavy.shared,
                retries: self.stats.retries,
            },
            pairing: cells,
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let machine = &self.machine;
        let processors = match machine.processors {
            1 => "1 processor".to_owned(),
            more => format!("{more} processors"),
        };
        let line = |words: String| wrap(&words, "  ");
        [
            wrap(&self.summary(), ""),
            line(format!(
                "asymfence {VERSION}, {processors}, {}, {}",
                machine.processor, machine.kernel
            )),
            self.warnings(),
            line(format!("membarrier offers: {}", list(&machine.commands))),
            self.needed_to_text(),
            line(format!("this process is registered for: {}", list(&machine.registrations))),
            "\n".to_owned(),
            self.rungs_to_text(),
            "\n".to_owned(),
            self.costs_to_text(),
            "\n".to_owned(),
            self.pairing_to_text(),
            "\n".to_owned(),
            self.stats_to_text(),
        ]
        .concat()
    }

    /// Which of the commands the crate uses.
    fn needed_to_text(&self) -> String {
        match self.machine.commands {
            Ok(_) => wrap(
                "the mechanism private-expedited is membarrier(2) with PRIVATE_EXPEDITED and \
                 REGISTER_PRIVATE_EXPEDITED; fences between processes call GLOBAL, and need a kernel \
                 that has PRIVATE_EXPEDITED too",
                "  ",
            ),
            Err(_) => String::new(),
        }
    }

    fn summary(&self) -> String {
        let how = match self.strategy {
            Strategy::Asymmetric(rung) => format!("asymmetric by {rung}"),
            Strategy::Symmetric if self.is_switched_off() => "symmetric, switched off".to_owned(),
            Strategy::Symmetric => "symmetric".to_owned(),
        };
        let break_even = match self.costs.break_even() {
            BreakEven::At(rounds) => format!(
                "each light fence saves {:.1} ns against fence(SeqCst); break-even at {} light for one heavy",
                self.costs.saved(),
                rounded(rounds)
            ),
            symmetric @ BreakEven::Symmetric => symmetric.to_string(),
            other => format!("break-even: {other}"),
        };
        let unseen =
            self.cells.iter().filter(|cell| !cell.ordered && cell.observed.weak == 0).count();
        let table = if self.cells.is_empty() {
            "table not observed".to_owned()
        } else if self.is_violated() {
            "TABLE VIOLATED".to_owned()
        } else if unseen > 0 {
            format!("table as expected ({unseen} allowed reorderings were not seen)")
        } else {
            "table as expected".to_owned()
        };
        format!("{how}; {break_even}; {table}")
    }

    fn warnings(&self) -> String {
        let mut warnings = String::new();
        if self.machine.processors == 1 {
            warnings += &wrap(
                "warning: one processor. No sibling runs beside a heavy fence, so neither its cost to \
                 other threads nor the pairing table can be seen here.",
                "  ",
            );
        }
        if let Some(quota) = self.machine.quota {
            let warning = format!(
                "warning: a quota allows this process the time of {quota} of its {} processors: it is \
                 stopped now and then, and the costs are not reliable.",
                self.machine.processors
            );
            warnings += &wrap(&warning, "  ");
        }
        if let Some(busy) = self.busy.filter(|&busy| busy > DOUBTFUL) {
            let warning = format!(
                "warning: busy. Others took {:.0} % of the processors' time: the costs are not reliable. \
                 Run it again on an idle machine.",
                100.0 * busy
            );
            warnings += &wrap(&warning, "  ");
        }
        if self.have_strayed && self.machine.processors != 1 {
            warnings += &wrap(
                "warning: the system refused to keep the threads on one processor each (sched_setaffinity(2), \
                 on Linux). If two threads shared one, the report shows too few weak outcomes, and too little of \
                 what others lose.",
                "  ",
            );
        }
        warnings
    }

    fn rungs_to_text(&self) -> String {
        let line = |rung: &RungReport| {
            let (verdict, reason) = self.words(rung);
            wrap(&format!("{}: {verdict}: {reason}", rung.strategy), "  ")
        };
        let title = "Mechanisms, best first. The first one that works is taken for the process:\n";
        self.rungs.iter().map(line).fold(title.to_owned(), |text, line| text + &line)
    }

    fn costs_to_text(&self) -> String {
        let row = |cost: crate::costs::Cost| {
            let ns = cost.ns.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.2}"));
            [cost.words.to_owned(), ns]
        };
        let rows = self.costs.list().map(row).into();
        table([Column("cost", false), Column("ns", true)], rows)
            + &wrap(
                "The first four: one round of the light side (load, store, fence, load again), the minimum of many \
                 samples. A token (Asymmetric) proves the decision, so its fence needs no check. The others measure a \
                 heavy fence without store and load: the median of many samples. A sibling is another thread of \
                 the process.",
                "",
            )
            + &match self.costs.break_even() {
                BreakEven::At(rounds) => wrap(
                    &format!(
                        "Break-even: {} light fences for each heavy fence beside a sibling. With more, \
                         the asymmetric pair costs less than fence(SeqCst) on both sides.",
                        rounded(rounds)
                    ),
                    "",
                ),
                other => wrap(&format!("Break-even: {other}."), ""),
            }
    }

    fn pairing_to_text(&self) -> String {
        if self.cells.is_empty() {
            let why = match self.machine.processors {
                1 => "one processor shows no reordering",
                _ => "it was left out, or there are no two processors to stay on",
            };
            return wrap(&format!("Pairing table: not observed; {why}."), "");
        }
        let columns = [
            Column("left", false),
            Column("right", false),
            Column("expected", false),
            Column("rounds", true),
            Column("weak", true),
            Column("verdict", false),
        ];
        let row = |cell: &Cell| {
            [
                cell.left.name().to_owned(),
                cell.right.name().to_owned(),
                cell.expected().to_owned(),
                cell.observed.rounds.to_string(),
                cell.observed.weak.to_string(),
                cell.verdict().to_owned(),
            ]
        };
        wrap(
            "Each row is a store-buffering test: both threads store, execute their fence, and load what the other \
             stored. full: fence(SeqCst). weak: how often both missed the other's store.",
            "",
        ) + &table(columns, self.cells.iter().map(row).collect())
    }

    fn stats_to_text(&self) -> String {
        let FenceStats { heavy, retries, .. } = self.stats;
        wrap(
            &format!(
                "Heavy fences of this run: {} asked for, {} calls made, {} shared the call of another thread, \
                 {retries} calls made again after an error",
                heavy.asked, heavy.calls, heavy.shared
            ),
            "  ",
        )
    }
}

fn list(names: &Result<Vec<String>, String>) -> String {
    match names {
        Ok(names) if names.is_empty() => "nothing".to_owned(),
        Ok(names) => names.join(", "),
        Err(reason) => format!("unknown ({reason})"),
    }
}
