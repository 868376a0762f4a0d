//! What was found, for a person or for a program.

use std::mem::discriminant;

use asymfence::{FenceStats, Reason, RungReport, Strategy, Verdict};
use jzon::{JsonValue, object};

use crate::VERSION;
use crate::busy::DOUBTFUL;
use crate::costs::{BreakEven, Cost, Costs};
use crate::machine::Machine;
use crate::pairing::Cell;
use crate::text::{Column, rounded, table, thousands, wrap};

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
    /// Measured twice, before the pairing table and after it: the second time is what is reported.
    pub(crate) costs: Costs,
    pub(crate) costs_before: Costs,
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
            quota: self.machine.quota,
            busy: self.busy,
            may_have_shared: self.may_have_shared(),
            strategy: self.strategy.name(),
            rungs: rungs,
            membarrier: {
                commands: self.machine.commands.clone().ok(),
                registered_for: self.machine.registrations.clone().ok(),
            },
            costs_ns: costs,
            break_even: self.costs.break_even().rounds(),
            break_even_before: self.costs_before.break_even().rounds(),
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
            line(format!("membarrier(2) offers: {}", list(&machine.commands))),
            line(format!("this process is registered for: {}", list(&machine.registrations))),
            "\n".to_owned(),
            self.rungs_to_text(),
            "\n".to_owned(),
            self.costs_to_text(),
            "\n".to_owned(),
            self.pairing_to_text(),
            self.stats_to_text(),
        ]
        .concat()
    }

    fn summary(&self) -> String {
        let how = match self.strategy {
            Strategy::Asymmetric(rung) => format!("asymmetric by {rung}"),
            Strategy::Symmetric if self.is_switched_off() => "symmetric, switched off".to_owned(),
            Strategy::Symmetric => "symmetric".to_owned(),
        };
        let break_even = self.costs.break_even();
        let mark = self.mark();
        let break_even = match break_even {
            BreakEven::At(rounds) => format!(
                "each light fence saves {:.1} ns against fence(SeqCst); cheaper with more than {} light fences for \
                 each heavy one",
                self.costs.saved(),
                rounded(rounds),
            ),
            symmetric @ BreakEven::Symmetric => symmetric.to_string(),
            other => format!("break-even: {other}"),
        };
        let unseen =
            self.cells.iter().filter(|cell| !cell.ordered && cell.observed.weak == 0).count();
        let table = if self.cells.is_empty() {
            "pairing table not observed".to_owned()
        } else if self.is_violated() {
            "PAIRING TABLE VIOLATED".to_owned()
        } else if unseen > 0 {
            format!("pairing table as promised ({unseen} allowed reorderings were not seen)")
        } else {
            "pairing table as promised".to_owned()
        };
        format!("{how}; {break_even}{mark}; {table}")
    }

    /// Stands behind a break-even that is doubtful.
    fn mark(&self) -> &'static str {
        let is_measured = matches!(self.costs.break_even(), BreakEven::At(_) | BreakEven::Never);
        let are_costs_doubtful = self.machine.quota.is_some()
            || self.busy().is_some()
            || self.has_changed()
            || self.may_have_shared();
        if is_measured && are_costs_doubtful { " (not reliable: see the warning)" } else { "" }
    }

    /// The share of others, if it is so great that the costs are not reliable.
    fn busy(&self) -> Option<f64> {
        self.busy.filter(|&busy| busy > DOUBTFUL)
    }

    /// Whether the break-even after the pairing table is so unlike the one before that neither is reliable.
    fn has_changed(&self) -> bool {
        match (self.costs_before.break_even(), self.costs.break_even()) {
            (BreakEven::At(before), BreakEven::At(now)) => {
                before.max(now) > UNSTEADY * before.min(now)
            }
            (before, now) => discriminant(&before) != discriminant(&now),
        }
    }

    /// Whether two threads may have shared a processor.
    fn may_have_shared(&self) -> bool {
        self.have_strayed && self.machine.processors != 1
    }

    fn warnings(&self) -> String {
        let mut warnings = String::new();
        if self.machine.processors == 1 {
            warnings += &wrap(
                "warning: one processor. No other thread runs beside a heavy fence, so neither its cost to \
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
        if let Some(busy) = self.busy() {
            let but = if self.cells.is_empty() { "" } else { " (the pairing table is)" };
            let warning = format!(
                "warning: the machine is busy. {:.0} % of the processors' time went elsewhere (to other processes, or to \
                 other guests of the host): the costs are not reliable{but}. Run it again on an idle machine.",
                100.0 * busy
            );
            warnings += &wrap(&warning, "  ");
        }
        if self.has_changed() {
            let warning = format!(
                "warning: the costs have changed while the doctor ran. Break-even at first: {}; later: {}. Run it \
                 again.",
                self.costs_before.break_even(),
                self.costs.break_even()
            );
            warnings += &wrap(&warning, "  ");
        }
        if self.may_have_shared() {
            warnings += &wrap(
                "warning: the system refused to keep the threads on one processor each (sched_setaffinity(2), \
                 on Linux). If two threads shared one, the report shows too few trials in which both missed, and too \
                 little of what other threads lose.",
                "  ",
            );
        }
        warnings
    }

    fn rungs_to_text(&self) -> String {
        let line = |rung: &RungReport| {
            let (verdict, reason) = self.words(rung);
            let words = match rung.verdict {
                Verdict::Refused(_) => format!("{}: {verdict}: {reason}", rung.strategy),
                Verdict::Taken | Verdict::NotTried => {
                    format!("{}: {verdict} ({reason})", rung.strategy)
                }
            };
            wrap(&words, "  ")
        };
        let title = "Mechanisms, best first. The process takes the first one that works:\n";
        self.rungs.iter().map(line).fold(title.to_owned(), |text, line| text + &line)
    }

    fn costs_to_text(&self) -> String {
        let costs = self.costs.list();
        let (rounds, heavy) = costs.split_at(Costs::OF_A_ROUND);
        let mark = self.mark();
        let cells = |costs: &[Cost], digits: fn(f64) -> String| {
            let ns = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), digits);
            costs.iter().map(|cost| [cost.words.to_owned(), ns(cost.ns)]).collect()
        };
        [
            table(
                [Column("a round of the frequent side: load, store, fence, load", false), Column("ns", true)],
                cells(rounds, |ns| format!("{ns:.2}")),
            ),
            "\n".to_owned(),
            table(
                [Column("a heavy fence, without store and load", false), Column("ns", true)],
                cells(heavy, thousands),
            ),
            "\n".to_owned(),
            match self.costs.break_even() {
                BreakEven::At(rounds) => wrap(
                    &format!(
                        "Break-even: {} light fences for each heavy fence, beside one other thread that runs{mark}. \
                         With more, the asymmetric pair costs less than fence(SeqCst) on both sides.",
                        rounded(rounds)
                    ),
                    "",
                ),
                other => wrap(&format!("Break-even: {other}{mark}."), ""),
            },
        ]
        .concat()
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
            Column("one side", false),
            Column("other side", false),
            Column("expected", false),
            Column("trials", true),
            Column("both missed", true),
            Column("verdict", false),
        ];
        let row = |cell: &Cell| {
            [
                cell.left.words().to_owned(),
                cell.right.words().to_owned(),
                cell.expected().to_owned(),
                thousands(cell.observed.rounds as f64),
                thousands(cell.observed.weak as f64),
                cell.verdict().to_owned(),
            ]
        };
        wrap(
            "Pairing table. In each trial two threads on two processors store, execute the fence of their side, and \
             load what the other one stored. Where the two fences are ordered, the loads never both miss the other's \
             store. Where they are unordered, both may.",
            "",
        ) + &table(columns, self.cells.iter().map(row).collect())
    }

    /// Nothing in a symmetric process, which makes no call.
    fn stats_to_text(&self) -> String {
        if self.strategy == Strategy::Symmetric {
            return String::new();
        }
        let FenceStats { heavy, retries, .. } = self.stats;
        let [asked, calls, shared, retries] = [heavy.asked, heavy.calls, heavy.shared, retries]
            .map(|number| thousands(number as f64));
        let shared = match heavy.shared {
            0 => String::new(),
            _ => format!(" ({shared} fences needed none, since another thread's served them.)"),
        };
        let words = format!(
            "Heavy fences that the doctor executed: {asked}. Calls of the mechanism: {calls}.{shared} Calls made again \
             after an error: {retries}."
        );
        format!("\n{}", wrap(&words, ""))
    }
}

/// The costs have changed if one break-even is more than so many times the other.
const UNSTEADY: f64 = 1.5;

fn list(names: &Result<Vec<String>, String>) -> String {
    match names {
        Ok(names) if names.is_empty() => "nothing".to_owned(),
        Ok(names) => names.join(", "),
        Err(reason) => format!("unknown ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heavy::Heavy;

    fn costs(heavy: f64) -> Costs {
        Costs {
            none: 0.5,
            light: 1.0,
            asymmetric_light: Some(0.5),
            seqcst: 2.0,
            heavy_idle: 500.0,
            heavy_running: Some(Heavy { caller: heavy, sibling: 1.5 }),
        }
    }

    /// Of a quiet machine, where a heavy fence took so long before the pairing table and after it.
    fn report(before: f64, after: f64) -> Report {
        let unknown = || Err("unknown".to_owned());
        Report {
            machine: Machine {
                kernel: "Linux".to_owned(),
                processor: "a processor".to_owned(),
                processors: 2,
                quota: None,
                commands: unknown(),
                registrations: unknown(),
            },
            busy: Some(0.0),
            strategy: asymfence::ladder().next().expect("a rung").strategy,
            have_strayed: false,
            asked_for: false,
            rungs: Vec::new(),
            costs: costs(after),
            costs_before: costs(before),
            stats: asymfence::stats(),
            cells: Vec::new(),
        }
    }

    #[track_caller]
    fn is_doubtful(report: &Report, warning: &str) {
        for words in [report.summary(), report.costs_to_text()] {
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("(not reliable: see the warning)"), "{words}");
        }
        let warnings = report.warnings().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(warnings.contains(warning), "{warnings}");
    }

    #[test]
    fn steady_costs_of_a_quiet_machine_are_not_doubted() {
        let report = report(14_000.0, 10_000.0);
        assert!(report.summary().contains("cheaper with more than 10,000 light fences"));
        assert!(!report.summary().contains("not reliable"));
        assert_eq!(report.warnings(), "");
    }

    #[test]
    fn costs_that_change_are_doubted() {
        is_doubtful(&report(16_000.0, 10_000.0), "at first: 16,000 light fences");
        is_doubtful(&report(10_000.0, 16_000.0), "later: 16,000 light fences");
        let saves_nothing = Costs { seqcst: 0.9, ..costs(10_000.0) };
        let report = Report { costs: saves_nothing, ..report(10_000.0, 10_000.0) };
        is_doubtful(&report, "later: never: a light fence saves nothing here");
    }

    #[test]
    fn costs_of_a_machine_that_others_use_are_doubted() {
        is_doubtful(
            &Report { busy: Some(0.2), ..report(10_000.0, 10_000.0) },
            "20 % of the processors' time",
        );
        let mut limited = report(10_000.0, 10_000.0);
        limited.machine.quota = Some(1);
        is_doubtful(&limited, "the time of 1 of its 2 processors");
    }
}
