//! An independent oracle: computes from axioms every outcome that the contract allows, without executing anything. It
//! takes a program in which every thread has a fence between its accesses. For other programs it is too strict. A heavy
//! fence makes each other thread execute a full fence, and the compiler may move accesses of that thread across this
//! fence (docs/specification.md). The oracle does not know that.
//!
//! It shares no code with the library's model (src/sys/modelled.rs). A heavy fence is written out as the kernel
//! performs it: a full fence `open`; in every other thread one full fence at some point of its program, after `open`
//! and before `close`; a full fence `close`. A light fence adds nothing. The oracle tries each choice of these points,
//! and judges the outcomes by RC11 (Lahav et al., "Repairing Sequential Consistency in C/C++11", PLDI 2017) for relaxed
//! accesses and `SeqCst` fences:
//!
//! - `hb`: program order, the edges of heavy fences, and fence-to-fence synchronisation
//!   (a fence; program order; a write that a read reads from; program order; a fence);
//! - atomicity: a read-modify-write reads from the write just before it in modification order; a fence
//!   synchronises through a chain of them;
//! - coherence: `hb` followed by nothing or by `eco` (reads-from, modification order, from-read, and
//!   their closure) never leads back to where it began;
//! - `psc`, the edges of `hb` and of `hb; eco; hb` that lead from a fence to a fence, has no cycle;
//! - in order: no cycle of program order, the edges of heavy fences, reads-from and `psc`.
//!
//! The last condition holds in loom, which executes each thread in order and each full fence at one moment of
//! the execution. (RC11 itself requires a part of it: no cycle of program order and reads-from.) It does not
//! hold on processors, which may execute a relaxed load after a later store. So the verdict of the contract is
//! computed without this condition, and the verdict of what loom can show with it.

use std::collections::BTreeSet;

use crate::litmus::{Fence, Outcome, Program, Step};

/// How the threads are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// As loom does.
    InOrder,
    /// As processors do, and as the contract allows.
    OutOfOrder,
}

/// Every outcome that the contract allows, if threads are executed in this way.
pub fn outcomes(program: &Program, executed: Threads) -> BTreeSet<Outcome> {
    let heavies: Vec<usize> = (0..program.threads.len())
        .filter(|&thread| program.threads[thread].contains(&Step::Fence(Fence::Heavy)))
        .collect();
    // For each thread: the gap of its program in which each heavy fence of another interrupts it
    // (gaps inside of a heavy fence count too), and their order if several share a gap.
    let threads = program.threads.iter().enumerate().map(|(thread, steps)| {
        let others: Vec<usize> = heavies.iter().copied().filter(|&heavy| heavy != thread).collect();
        let gaps = steps.len() + 1 + usize::from(others.len() < heavies.len());
        let gaps = choices(&vec![gaps; others.len()]);
        let orders = permutations(&(0..others.len()).collect::<Vec<_>>());
        let interrupts = |order: &Vec<usize>, gaps: &Vec<usize>| -> Vec<Interrupt> {
            let interrupt = |&nth: &usize| Interrupt { heavy: others[nth], thread, gap: gaps[nth] };
            order.iter().map(interrupt).collect()
        };
        let arrivals =
            orders.iter().flat_map(|order| gaps.iter().map(|gaps| interrupts(order, gaps)));
        arrivals.collect::<Vec<_>>()
    });
    let threads: Vec<Vec<Vec<Interrupt>>> = threads.collect();
    let mut found = BTreeSet::new();
    for choice in choices(&threads.iter().map(Vec::len).collect::<Vec<_>>()) {
        let interrupts: Vec<Interrupt> =
            choice.iter().zip(&threads).flat_map(|(&nth, thread)| thread[nth].clone()).collect();
        Execution::written_out(program, &interrupts).judge(program, executed, &mut found);
    }
    found
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
    Add { register: usize, location: usize, value: usize },
    Fence,
}

impl Event {
    /// The location that it writes.
    fn writes(self) -> Option<usize> {
        match self {
            Event::Write { location, .. } | Event::Add { location, .. } => Some(location),
            _ => None,
        }
    }

    /// The register and the location that it reads.
    fn reads(self) -> Option<(usize, usize)> {
        match self {
            Event::Read { register, location } | Event::Add { register, location, .. } => {
                Some((register, location))
            }
            _ => None,
        }
    }
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
                    Step::Read(register, location) => {
                        events.push(Event::Read { register, location })
                    }
                    Step::Add(register, location, value) => {
                        events.push(Event::Add { register, location, value });
                    }
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
    fn judge(&self, program: &Program, executed: Threads, found: &mut BTreeSet<Outcome>) {
        let writes_to = |wanted: usize| -> Vec<usize> {
            let is_it = |&event: &usize| self.events[event].writes() == Some(wanted);
            (0..self.events.len()).filter(is_it).collect()
        };
        let writes: Vec<Vec<usize>> = (0..program.locations).map(writes_to).collect();
        let reads: Vec<(usize, usize, usize)> = (0..self.events.len())
            .filter_map(|event| {
                self.events[event].reads().map(|(register, location)| (event, register, location))
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
                if !self.is_consistent(&order, &reads, &sources, executed) {
                    continue;
                }
                // A sum is computed along the chain of updates, back to a write. Atomicity excludes cycles.
                let value = |mut write: usize| {
                    let mut sum = 0;
                    loop {
                        match self.events[write] {
                            Event::Write { value, .. } => return sum + value,
                            Event::Add { value, .. } => {
                                sum += value;
                                let read = reads.iter().position(|read| read.0 == write);
                                write = sources[read.expect("an update reads")];
                            }
                            _ => unreachable!("a read reads from a write"),
                        }
                    }
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
        executed: Threads,
    ) -> bool {
        let count = self.events.len();
        let (mut reads_from, mut modified, mut from_read) =
            (Relation::empty(count), Relation::empty(count), Relation::empty(count));
        for order in order {
            for (index, &earlier) in order.iter().enumerate() {
                order[index + 1..].iter().for_each(|&later| modified.add(earlier, later));
            }
        }
        for (&(read, _, location), &write) in reads.iter().zip(sources) {
            reads_from.add(write, read);
            if self.events[read].writes().is_some() {
                let place = |event| order[location].iter().position(|&write| write == event);
                if place(read) != place(write).map(|place| place + 1) {
                    return false; // not atomic
                }
            }
            (0..count)
                .filter(|&later| later != read && modified.contains(write, later))
                .for_each(|later| from_read.add(read, later));
        }

        let fences = (0..count)
            .filter(|&event| self.events[event] == Event::Fence)
            .fold(0, |set, event| set | 1 << event);
        // A chain of several reads-from edges needs a read-modify-write in the middle.
        let has_updates = reads.iter().any(|read| self.events[read.0].writes().is_some());
        let chains = if has_updates { reads_from.clone().closure() } else { reads_from.clone() };
        let synchronises =
            self.program_order.then(&chains).then(&self.program_order).only_among(fences);
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
        let execution = psc.union(&self.program_order).union(&self.heavy_edges).union(&reads_from);
        executed == Threads::OutOfOrder || execution.closure().is_irreflexive()
    }
}

/// Every way to choose, for each entry, one of that many.
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
        all.extend(
            permutations(&rest).into_iter().map(|rest| [&[first], rest.as_slice()].concat()),
        );
    }
    all
}
