//! What was found, for a person or for a program.

use asymfence::{RungReport, Stats, Strategy, Verdict};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Color, ContentArrangement, Table};
use serde_json::{Value, json};

use crate::costs::Costs;
use crate::litmus::{Fence, Observed};
use crate::machine::Machine;

pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) strategy: Strategy,
    pub(crate) rungs: Vec<RungReport>,
    pub(crate) costs: Costs,
    pub(crate) stats: Stats,
    pub(crate) pairing: Vec<Cell>,
}

/// One pair of fences, as expected and as observed.
pub(crate) struct Cell {
    pub(crate) left: Fence,
    pub(crate) right: Fence,
    pub(crate) ordered: bool,
    pub(crate) observed: Observed,
}

impl Cell {
    fn expected(&self) -> &'static str {
        if self.ordered { "ordered" } else { "unordered" }
    }

    fn is_violated(&self) -> bool {
        self.ordered && self.observed.weak > 0
    }

    fn verdict(&self) -> (&'static str, Color) {
        match (self.ordered, self.observed.weak) {
            (true, 0) => ("never seen, as it must be", Color::Green),
            (true, _) => ("VIOLATED", Color::Red),
            (false, 0) => ("allowed, but not seen in this time", Color::Yellow),
            (false, _) => ("allowed, and seen", Color::Green),
        }
    }
}

fn words(rung: &RungReport) -> (&'static str, String) {
    match rung.verdict {
        Verdict::Taken => ("taken", "the best that works here, or the one asked for".to_owned()),
        Verdict::NotReached => ("not reached", "another was taken before".to_owned()),
        Verdict::Refused(refusal) => ("refused", refusal.to_string()),
    }
}

impl Report {
    pub(crate) fn is_violated(&self) -> bool {
        self.pairing.iter().any(Cell::is_violated)
    }

    pub(crate) fn to_json(&self) -> Value {
        let rung = |rung: &RungReport| {
            let (verdict, reason) = words(rung);
            json!({ "name": rung.strategy.name(), "verdict": verdict, "reason": reason })
        };
        let cell = |cell: &Cell| {
            json!({
                "left": cell.left.name(),
                "right": cell.right.name(),
                "expected": cell.expected(),
                "rounds": cell.observed.rounds,
                "weak": cell.observed.weak,
            })
        };
        let costs = &self.costs;
        json!({
            "kernel": self.machine.kernel,
            "cpu": self.machine.cpu,
            "cores": self.machine.cores,
            "strategy": self.strategy.name(),
            "rungs": self.rungs.iter().map(rung).collect::<Vec<_>>(),
            "membarrier": {
                "commands": self.machine.commands.as_deref().unwrap_or_default(),
                "registered_for": self.machine.registrations.as_ref().ok(),
            },
            "costs_ns": {
                "none": costs.none,
                "light": costs.light,
                "asymmetric_light": costs.asymmetric_light,
                "seqcst": costs.seqcst,
                "heavy_idle": costs.heavy_idle,
                "heavy_running": costs.heavy_running.map(|heavy| heavy.caller),
                "heavy_running_sibling": costs.heavy_running.map(|heavy| heavy.sibling),
            },
            "break_even": costs.break_even(),
            "heavy": {
                "asked": self.stats.heavy.asked,
                "calls": self.stats.heavy.calls,
                "shared": self.stats.heavy.shared,
                "retries": self.stats.retries,
            },
            "pairing": self.pairing.iter().map(cell).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn print(&self) {
        let machine = &self.machine;
        println!("{}, {}, {} cores", machine.kernel, machine.cpu, machine.cores);
        println!("membarrier offers: {}", list(&machine.commands));
        println!("this process is registered for: {}", list(&machine.registrations));
        println!("strategy: {}\n", self.strategy);

        let mut rungs = table(["rung", "verdict", "reason"]);
        for rung in &self.rungs {
            let (verdict, reason) = words(rung);
            let color = match rung.verdict {
                Verdict::Taken => Color::Green,
                Verdict::NotReached => Color::Grey,
                Verdict::Refused(_) => Color::Yellow,
            };
            let verdict = comfy_table::Cell::new(verdict).fg(color);
            rungs.add_row([rung.strategy.name().into(), verdict, reason.into()]);
        }
        println!("{rungs}\n");

        self.print_costs();
        self.print_pairing();
        let Stats { heavy, retries, .. } = self.stats;
        println!(
            "\nheavy fences of this run: {} asked for, {} calls made, {} shared, {retries} retries",
            heavy.asked, heavy.calls, heavy.shared
        );
    }

    fn print_costs(&self) {
        let costs = &self.costs;
        let mut table = table(["cost", "ns"]);
        let mut row = |what: &str, cost: Option<f64>| {
            let cost = cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}"));
            table.add_row([what, &cost]);
        };
        row("no fence", Some(costs.none));
        row("light_fence", Some(costs.light));
        row("Asymmetric::light_fence", costs.asymmetric_light);
        row("fence(SeqCst)", Some(costs.seqcst));
        row("heavy_fence, alone", Some(costs.heavy_idle));
        let running = costs.heavy_running;
        row("heavy_fence, one running sibling", running.map(|heavy| heavy.caller));
        row("what that sibling loses by it", running.map(|heavy| heavy.sibling));
        table.column_mut(1).expect("two columns").set_cell_alignment(CellAlignment::Right);
        println!("{table}");
        println!("the first four: one round of publish, fence, look again; least of many samples");
        println!("heavy_fence: median of many samples");
        match costs.break_even() {
            Some(count) => {
                println!("one heavy fence beside a sibling is paid for by {count:.0} light ones\n")
            }
            None => println!("no break-even: the light fence is no cheaper than a full one here\n"),
        }
    }

    fn print_pairing(&self) {
        if self.pairing.is_empty() {
            println!("pairing: not observed, since a single core shows no reordering");
            return;
        }
        let mut table = table(["left", "right", "expected", "rounds", "weak", "verdict"]);
        for cell in &self.pairing {
            let (verdict, color) = cell.verdict();
            table.add_row([
                cell.left.name().into(),
                cell.right.name().into(),
                cell.expected().into(),
                cell.observed.rounds.into(),
                cell.observed.weak.into(),
                comfy_table::Cell::new(verdict).fg(color),
            ]);
        }
        for numbers in [3, 4] {
            table
                .column_mut(numbers)
                .expect("six columns")
                .set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        println!("weak: both sides of a store-buffering test missed the other's store");
    }
}

fn list(names: &Result<Vec<String>, String>) -> String {
    match names {
        Ok(names) if names.is_empty() => "nothing".to_owned(),
        Ok(names) => names.join(", "),
        Err(reason) => format!("cannot be told: {reason}"),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(100);
    }
    table
}
