//! The environment variable ASYMFENCE, looked up without an allocation if the system allows that. So an allocator may
//! execute fences: its first fence does not call the allocator again.
//!
//! The standard library copies a variable that is set into an allocation, under a lock. The C library's getenv(3) does
//! not, but races with a setenv(3) in another thread, which safe code may call (`std::env::set_var` before the edition
//! of 2024). Reading /proc/thread-self/environ neither allocates nor races: the kernel copies what the process was
//! started with (proc(5)), from memory of the process that some programs overwrite (setproctitle(3)). What the program
//! has set since is found by the standard library, which allocates only then.
//!
//! It is looked up once. A forked child may have inherited the standard library's lock from a thread that it does not
//! have, and would wait for it for ever. But it has also inherited what its parent found.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What ASYMFENCE says. Unset or empty it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    Symmetric,
    /// A word that is not known.
    NotUnderstood,
}

const NAME: &str = "ASYMFENCE";

pub(crate) fn switch() -> Option<Switch> {
    const NOT_LOOKED_UP: u8 = 0;
    const NONE: u8 = 1;
    const SYMMETRIC: u8 = 2;
    const NOT_UNDERSTOOD: u8 = 3;
    static FOUND: AtomicU8 = AtomicU8::new(NOT_LOOKED_UP);

    // Relaxed: one byte. Of several threads that look it up the last is remembered.
    match FOUND.load(Relaxed) {
        NOT_LOOKED_UP => {
            let found = look_up();
            let remembered = match found {
                None => NONE,
                Some(Switch::Symmetric) => SYMMETRIC,
                Some(Switch::NotUnderstood) => NOT_UNDERSTOOD,
            };
            FOUND.store(remembered, Relaxed); // as above
            found
        }
        NONE => None,
        SYMMETRIC => Some(Switch::Symmetric),
        _ => Some(Switch::NotUnderstood),
    }
}

fn look_up() -> Option<Switch> {
    match super::switch_at_start() {
        Some(switch) => switch,
        None => understand(std::env::var_os(NAME)?.as_encoded_bytes()),
    }
}

fn understand(word: &[u8]) -> Option<Switch> {
    match word {
        b"" => None,
        b"symmetric" => Some(Switch::Symmetric),
        _ => Some(Switch::NotUnderstood),
    }
}

/// Looks for the variable in `NAME=value` blocks that end with a zero, as they come in pieces of any length.
#[cfg_attr(not(test), allow(dead_code, reason = "for the systems that have the file"))]
#[derive(Default)]
pub(super) struct Search {
    /// The block's first bytes, as far as they are wanted.
    block: [u8; Search::ENOUGH],
    /// The length of the whole block, which may be more than `ENOUGH`.
    length: usize,
    /// What the first block with our name says.
    found: Option<Option<Switch>>,
}

#[cfg_attr(not(test), allow(dead_code, reason = "for the systems that have the file"))]
impl Search {
    /// The longest block that is understood, and one byte more.
    const ENOUGH: usize = "ASYMFENCE=symmetric".len() + 1;

    pub(super) fn read(&mut self, piece: &[u8]) {
        for &byte in piece {
            if byte == 0 {
                self.end_block();
            } else {
                if let Some(place) = self.block.get_mut(self.length) {
                    *place = byte;
                }
                self.length += 1;
            }
        }
    }

    /// The first one counts, as for getenv(3), also if it is empty.
    fn end_block(&mut self) {
        let block = &self.block[..self.length.min(Self::ENOUGH)];
        let value = block.strip_prefix(NAME.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        self.found = self.found.or(value.map(understand));
        self.length = 0;
    }

    /// What the variable says, or `None` if it is not there.
    pub(super) fn found(mut self) -> Option<Option<Switch>> {
        self.end_block();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_found_however_the_pieces_are_cut() {
        let rows: &[(&[u8], Option<Option<Switch>>)] = &[
            (b"", None),
            (b"HOME=/\0", None),
            (b"ASYMFENCE=symmetric\0", Some(Some(Switch::Symmetric))),
            (b"ASYMFENCE=symmetric", Some(Some(Switch::Symmetric))),
            (b"A=1\0ASYMFENCE=symmetric\0B=2\0", Some(Some(Switch::Symmetric))),
            (b"ASYMFENCE=\0", Some(None)),
            (b"ASYMFENCE=\0B=2\0", Some(None)),
            (b"ASYMFENCE=symmetrical\0", Some(Some(Switch::NotUnderstood))),
            (
                b"ASYMFENCE=symmetric and more and more and more\0",
                Some(Some(Switch::NotUnderstood)),
            ),
            (b"ASYMFENCE=asymmetric\0", Some(Some(Switch::NotUnderstood))),
            (b"ASYMFENCES=symmetric\0", None),
            (b"MY_ASYMFENCE=symmetric\0", None),
            (b"X=ASYMFENCE=symmetric\0", None),
            (b"ASYMFENCE\0", None),
            (b"ASYMFENCE=symmetric\0ASYMFENCE=no\0", Some(Some(Switch::Symmetric))),
            (b"ASYMFENCE=\0ASYMFENCE=symmetric\0", Some(None)),
        ];
        for &(environment, expected) in rows {
            for size in 1..=environment.len().max(1) {
                let mut search = Search::default();
                environment.chunks(size).for_each(|piece| search.read(piece));
                let words = std::string::String::from_utf8_lossy(environment);
                assert_eq!(search.found(), expected, "{words:?} in pieces of {size}");
            }
        }
    }
}
