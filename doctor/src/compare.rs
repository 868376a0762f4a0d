//! This run beside an earlier one.

use std::path::Path;

use jzon::JsonValue;

use crate::VERSION;
use crate::report::Report;
use crate::text::{Column, table, wrap};

/// What `--json` wrote, as far as it is compared.
pub(crate) struct Earlier {
    name: String,
    /// What is equal if the numbers may be compared: a name, and the value.
    facts: [(&'static str, String); 4],
    costs_ns: JsonValue,
    break_even: Option<f64>,
}

const FACTS: [&str; 4] = ["version", "kernel", "processor", "strategy"];

impl Earlier {
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let name = file.display().to_string();
        let cannot = |error: std::io::Error| format!("{name} cannot be read: {error}");
        // A FIFO may have no writer, and a device no end.
        if !std::fs::metadata(file).map_err(cannot)?.is_file() {
            return Err(format!("{name} is not a regular file: write what --json prints into one"));
        }
        let text = std::fs::read_to_string(file).map_err(cannot)?;
        let json = jzon::parse(&text)
            .map_err(|error| format!("{name} is not what --json writes: {error}"))?;
        let lacks = |field: &str| format!("{name} is not what --json writes: it has no `{field}`");
        let mut facts = FACTS.map(|fact| (fact, String::new()));
        for (fact, value) in &mut facts {
            *value = json[*fact].as_str().ok_or_else(|| lacks(fact))?.to_owned();
        }
        let costs_ns = json["costs_ns"].clone();
        if !costs_ns.is_object() {
            return Err(lacks("costs_ns"));
        }
        Ok(Earlier { facts, costs_ns, break_even: json["break_even"].as_f64(), name })
    }

    /// The costs then and now, after a line for each thing that is no longer the same.
    pub(crate) fn against(&self, now: &Report) -> String {
        let mut text = format!("\nBeside {}:\n", self.name);
        let facts = [VERSION, &now.machine.kernel, &now.machine.processor, now.strategy.name()];
        for ((fact, then), now) in self.facts.iter().zip(facts) {
            if then != now {
                text += &wrap(&format!("another {fact}: {then} then, {now} now"), "  ");
            }
        }
        let number = |number: Option<f64>| match number {
            Some(number) => format!("{number:.2}"),
            None => "-".to_owned(),
        };
        let row = |what: &str, then: Option<f64>, now: Option<f64>| {
            let ratio = then.zip(now).filter(|(then, _)| *then > 0.0).map(|(then, now)| now / then);
            [what.to_owned(), number(then), number(now), number(ratio)]
        };
        let costs = now.costs.list();
        let mut rows: Vec<_> = costs
            .iter()
            .map(|cost| row(cost.words, self.costs_ns[cost.key].as_f64(), cost.ns))
            .collect();
        let break_even = now.costs.break_even().rounds();
        rows.push(row("break-even, light fences", self.break_even, break_even));
        let columns = [
            Column("cost, ns", false),
            Column("then", true),
            Column("now", true),
            Column("now / then", true),
        ];
        text + &table(columns, rows)
    }
}
