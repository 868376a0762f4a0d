//! Counts the ways to put queens on a board so that none attacks another, by a pool of threads. Each thread works on the
//! tasks of its own deque, and steals if its deque is empty.
//!
//! Here a thread without work yields. In a pool that has idle times it would sleep on an event count.
//!
//! `cargo run --release -p asymfence-cookbook --example deque`

use std::iter;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

use asymfence_cookbook::deque::{Owner, Steal, Stealer, deque};

const SIZE: u32 = 12;
const SOLUTIONS: u64 = 14_200;
/// A board with fewer rows is a task that creates other tasks. With this many rows, one task searches the rest.
const TASK_ROWS: u32 = 6;

/// The next row, and the columns and diagonals of it that are attacked.
struct Board {
    row: u32,
    columns: u32,
    left: u32,
    right: u32,
}

impl Board {
    /// The board with one more queen.
    fn next(&self) -> impl Iterator<Item = Board> + use<> {
        let &Board { row, columns, left, right } = self;
        let free = !(columns | left | right) & ((1 << SIZE) - 1);
        let queens = (0..SIZE).map(|column| 1 << column).filter(move |queen| free & queen != 0);
        queens.map(move |queen| Board {
            row: row + 1,
            columns: columns | queen,
            left: (left | queen) << 1,
            right: (right | queen) >> 1,
        })
    }

    fn solutions(&self) -> u64 {
        if self.row == SIZE { 1 } else { self.next().map(|board| board.solutions()).sum() }
    }
}

#[derive(Default)]
struct Done {
    solutions: u64,
    tasks: u64,
    stolen: u64,
    lost: u64,
}

fn work(mine: &Owner<Board>, others: &[&Stealer<Board>], open: &AtomicUsize) -> Done {
    let mut done = Done::default();
    // Acquire: all that was pushed is done. Pairs with: the Release below.
    while open.load(Acquire) > 0 {
        let stolen = || others.iter().map(|other| other.steal());
        let board = mine.pop().or_else(|| {
            stolen().find_map(|attempt| match attempt {
                Steal::Taken(board) => {
                    done.stolen += 1;
                    Some(board)
                }
                Steal::Retry => {
                    done.lost += 1;
                    None
                }
                Steal::Empty => None,
            })
        });
        let Some(board) = board else {
            thread::yield_now();
            continue;
        };
        if board.row < TASK_ROWS {
            for next in board.next() {
                // Relaxed: the task that makes this one is still open.
                open.fetch_add(1, Relaxed);
                mine.push(Box::new(next));
            }
        } else {
            done.solutions += board.solutions();
        }
        done.tasks += 1;
        // Release: see above.
        open.fetch_sub(1, Release);
    }
    done
}

fn main() {
    println!("fences: {}", asymfence::init());
    let workers = thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let (owners, thieves): (Vec<_>, Vec<_>) = iter::repeat_with(deque).take(workers).unzip();
    owners[0].push(Box::new(Board { row: 0, columns: 0, left: 0, right: 0 }));
    let open = AtomicUsize::new(1);
    let done: Vec<Done> = thread::scope(|scope| {
        let (thieves, open) = (&thieves, &open);
        let spawn = |(me, mine): (usize, Owner<Board>)| {
            scope.spawn(move || {
                let others: Vec<_> = (1..workers).map(|i| &thieves[(me + i) % workers]).collect();
                work(&mine, &others, open)
            })
        };
        let threads: Vec<_> = owners.into_iter().enumerate().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for (me, Done { solutions, tasks, stolen, lost }) in done.iter().enumerate() {
        println!(
            "worker {me}: {tasks} tasks, {stolen} of them stolen, {lost} steals that another thread won; {solutions} solutions"
        );
    }
    let solutions: u64 = done.iter().map(|done| done.solutions).sum();
    println!("{SIZE} queens: {solutions} ways, {} heavy fences", asymfence::stats().heavy.asked);
    assert_eq!(solutions, SOLUTIONS);
}
