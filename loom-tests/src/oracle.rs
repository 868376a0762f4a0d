//! An independent judge: every outcome that the contract allows, by axioms and not by execution.
//!
//! It shares no code and no idea with the slots of the library's model. A heavy fence is written out
//! as the kernel performs it: a full fence `open`; in every other thread one full fence at some
//! point of its program; a full fence `close`; each of those points after `open` and before `close`.
//! A light fence is nothing. The outcomes are those of all choices of points, judged by RC11 (Lahav
//! et al., "Repairing Sequential Consistency in C/C++11", PLDI 2017) for relaxed accesses and
//! `SeqCst` fences:
//!
//! - `hb`: program order, the edges of heavy fences, and fence-to-fence synchronisation
//!   (a fence; program order; a write that a read reads from; program order; a fence);
//! - coherence: `hb` followed by nothing or by `eco` (reads-from, modification order, from-read, and
//!   their closure) never leads back to where it began;
//! - `psc`: no cycle among the fences of `hb` and of `hb; eco; hb`;
//! - in order: no cycle of program order, the edges of heavy fences, and reads-from.
//!
//! The last is RC11's, and loom's, which executes each thread in order. Processors do not: there a
//! relaxed load may still follow a later store. The contract is therefore judged without it, and
//! what loom can show with it.

use std::collections::BTreeSet;

use crate::litmus::{Fence, Outcome, Program, Step};

/// Whether the judge assumes that loads are not delayed past later stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loads {
    /// As RC11 and loom do.
    InOrder,
    /// As processors do.
    Delayed,
}

/// Every outcome that the contract allows.
pub fn outcomes(program: &Program, loads: Loads) -> BTreeSet<Outcome> {
    let heavies: Vec<usize> = (0..program.threads.len())
        .filter(|&thread| program.threads[thread].contains(&Step::Fence(Fence::Heavy)))
        .collect();
    // For each heavy fence and each other thread, the gap of that thread's program in which the
    // interrupt arrives; gaps inside of a heavy fence count too.
    let mut choices = Vec::new();
    for &heavy in &heavies {
        for (thread, steps) in program.threads.iter().enumerate() {
            if thread != heavy {
                let inside = usize::from(heavies.contains(&thread));
                choices.push((heavy, thread, steps.len() + 1 + inside));
            }
        }
    }
    let mut found = BTreeSet::new();
    let mut points = vec![0; choices.len()];
    loop {
        let interrupts: Vec<Interrupt> = choices
            .iter()
            .zip(&points)
            .map(|(&(heavy, thread, _), &gap)| Interrupt { heavy, thread, gap })
            .collect();
        Execution::written_out(program, &interrupts).judge(program, loads, &mut found);
        // The next choice, as an odometer counts.
        let Some(wheel) = (0..points.len()).find(|&wheel| points[wheel] + 1 < choices[wheel].2) else {
            return found;
        };
        points[..wheel].fill(0);
        points[wheel] += 1;
    }
}

/// Where the heavy fence of one thread makes another execute a full fence.
#[derive(Clone, Copy)]
struct Interrupt {
    heavy: usize,
    thread: usize,
    gap: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Event {
    Write { location: usize, value: usize },
    Read { register: usize, location: usize },
    Fence,
}

/// A binary relation on at most 32 events: a bit set of successors for each.
#[derive(Clone)]
struct Relation(Vec<u32>);

impl Relation {
    fn empty(events: usize) -> Self {
        assert!(events <= 32, "too many events for the judge");
        Relation(vec![0; events])
    }

    fn add(&mut self, from: usize, to: usize) {
        self.0[from] |= 1 << to;
    }

    fn contains(&self, from: usize, to: usize) -> bool {
        self.0[from] >> to & 1 == 1
    }

    fn union(mut self, other: &Relation) -> Relation {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
        self
    }

    fn then(&self, next: &Relation) -> Relation {
        let follow = |&set: &u32| {
            (0..next.0.len())
                .filter(|event| set >> event & 1 == 1)
                .fold(0, |reached, event| reached | next.0[event])
        };
        Relation(self.0.iter().map(follow).collect())
    }

    fn closure(mut self) -> Relation {
        for middle in 0..self.0.len() {
            for from in 0..self.0.len() {
                if self.contains(from, middle) {
                    self.0[from] |= self.0[middle];
                }
            }
        }
        self
    }

    fn is_irreflexive(&self) -> bool {
        (0..self.0.len()).all(|event| !self.contains(event, event))
    }

    fn only_among(mut self, events: u32) -> Relation {
        for (from, set) in self.0.iter_mut().enumerate() {
            *set = if events >> from & 1 == 1 { *set & events } else { 0 };
        }
        self
    }
}

/// A program with its heavy fences written out. The first events are the locations' first values.
struct Execution {
    events: Vec<Event>,
    program_order: Relation,
    heavy_edges: Relation,
}

impl Execution {
    fn written_out(program: &Program, interrupts: &[Interrupt]) -> Self {
        let mut events: Vec<Event> =
            (0..program.locations).map(|location| Event::Write { location, value: 0 }).collect();
        let mut threads = Vec::new();
        let mut opens = vec![None; program.threads.len()];
        let mut closes = opens.clone();
        let mut arrivals = Vec::new();
        for (thread, steps) in program.threads.iter().enumerate() {
            let begin = events.len();
            let mut gap = 0;
            let mut arrive = |events: &mut Vec<Event>, gap: usize| {
                for interrupt in interrupts {
                    if interrupt.thread == thread && interrupt.gap == gap {
                        arrivals.push((interrupt.heavy, events.len()));
                        events.push(Event::Fence);
                    }
                }
            };
            for step in steps {
                arrive(&mut events, gap);
                match *step {
                    Step::Write(location, value) => events.push(Event::Write { location, value }),
                    Step::Read(register, location) => events.push(Event::Read { register, location }),
                    Step::Fence(Fence::Light) => {}
                    Step::Fence(Fence::Full) => events.push(Event::Fence),
                    Step::Fence(Fence::Heavy) => {
                        opens[thread] = Some(events.len());
                        events.push(Event::Fence);
                        gap += 1;
                        arrive(&mut events, gap);
                        closes[thread] = Some(events.len());
                        events.push(Event::Fence);
                    }
                }
                gap += 1;
            }
            arrive(&mut events, gap);
            threads.push(begin..events.len());
        }
        let mut program_order = Relation::empty(events.len());
        for thread in threads {
            for from in thread.clone() {
                (0..program.locations).for_each(|first| program_order.add(first, from));
                (from + 1..thread.end).for_each(|to| program_order.add(from, to));
            }
        }
        let mut heavy_edges = Relation::empty(events.len());
        for (heavy, arrival) in arrivals {
            heavy_edges.add(opens[heavy].expect("a heavy fence opens"), arrival);
            heavy_edges.add(arrival, closes[heavy].expect("a heavy fence closes"));
        }
        Execution { events, program_order, heavy_edges }
    }

    /// Adds the outcomes of all consistent choices of what reads read and of the order of writes.
    fn judge(&self, program: &Program, loads: Loads, found: &mut BTreeSet<Outcome>) {
        let writes_to = |wanted: usize| -> Vec<usize> {
            let is_it = |&event: &usize| matches!(self.events[event], Event::Write { location, .. } if location == wanted);
            (0..self.events.len()).filter(is_it).collect()
        };
        let writes: Vec<Vec<usize>> = (0..program.locations).map(writes_to).collect();
        let reads: Vec<(usize, usize, usize)> = (0..self.events.len())
            .filter_map(|event| match self.events[event] {
                Event::Read { register, location } => Some((event, register, location)),
                _ => None,
            })
            .collect();

        // Each location's first value comes first; the others in every order.
        let orders: Vec<Vec<Vec<usize>>> = writes
            .iter()
            .map(|writes| {
                let mut orders = permutations(&writes[1..]);
                orders.iter_mut().for_each(|order| order.insert(0, writes[0]));
                orders
            })
            .collect();
        for order in choices(&orders.iter().map(Vec::len).collect::<Vec<_>>()) {
            let order: Vec<&Vec<usize>> =
                order.iter().zip(&orders).map(|(&index, orders)| &orders[index]).collect();
            let sources: Vec<usize> = reads.iter().map(|read| writes[read.2].len()).collect();
            for source in choices(&sources) {
                let sources: Vec<usize> =
                    source.iter().zip(&reads).map(|(&index, read)| writes[read.2][index]).collect();
                if !self.is_consistent(&order, &reads, &sources, loads) {
                    continue;
                }
                let value = |write: usize| match self.events[write] {
                    Event::Write { value, .. } => value,
                    _ => unreachable!("a read reads from a write"),
                };
                let mut outcome = vec![0; program.registers];
                for (read, &write) in reads.iter().zip(&sources) {
                    outcome[read.1] = value(write);
                }
                outcome.extend(order.iter().map(|order| value(order[order.len() - 1])));
                found.insert(outcome);
            }
        }
    }

    fn is_consistent(
        &self,
        order: &[&Vec<usize>],
        reads: &[(usize, usize, usize)],
        sources: &[usize],
        loads: Loads,
    ) -> bool {
        let count = self.events.len();
        let (mut reads_from, mut modified, mut from_read) =
            (Relation::empty(count), Relation::empty(count), Relation::empty(count));
        for order in order {
            for (index, &earlier) in order.iter().enumerate() {
                order[index + 1..].iter().for_each(|&later| modified.add(earlier, later));
            }
        }
        for (&(read, ..), &write) in reads.iter().zip(sources) {
            reads_from.add(write, read);
            (0..count)
                .filter(|&later| modified.contains(write, later))
                .for_each(|later| from_read.add(read, later));
        }

        let fences = (0..count)
            .filter(|&event| self.events[event] == Event::Fence)
            .fold(0, |set, event| set | 1 << event);
        let synchronises = self
            .program_order
            .then(&reads_from)
            .then(&self.program_order)
            .only_among(fences);
        let happens_before =
            self.program_order.clone().union(&self.heavy_edges).union(&synchronises).closure();
        let eco = reads_from.clone().union(&modified).union(&from_read).closure();
        let happens_then_eco = happens_before.then(&eco);
        if !happens_before.is_irreflexive() || !happens_then_eco.is_irreflexive() {
            return false;
        }
        let psc = happens_before
            .clone()
            .union(&happens_then_eco.then(&happens_before))
            .only_among(fences)
            .closure();
        if !psc.is_irreflexive() {
            return false;
        }
        let in_order = self.program_order.clone().union(&self.heavy_edges).union(&reads_from);
        loads == Loads::Delayed || in_order.closure().is_irreflexive()
    }
}

/// Every way to choose one of so many for each.
fn choices(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![Vec::new()], |prefixes, &size| {
        let extend = |prefix: &Vec<usize>| {
            let prefix = prefix.clone();
            (0..size).map(move |choice| [prefix.as_slice(), &[choice]].concat())
        };
        prefixes.iter().flat_map(extend).collect()
    })
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, &first) in items.iter().enumerate() {
        let rest = [&items[..index], &items[index + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [&[first], rest.as_slice()].concat()));
    }
    all
}
