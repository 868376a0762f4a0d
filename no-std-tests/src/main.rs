//! The fences in a program without std, without an allocator and without a C library: it prints the
//! strategy that it took. `cargo xtask platforms no-std` builds it and runs it.
#![no_std]
#![no_main]

use core::fmt::Write;

use asymfence::{heavy_fence, init, ladder, light_fence};

// The kernel enters with the stack aligned and no return address; a function expects one.
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "call {main}", "ud2", main = sym main);

extern "C" fn main() -> ! {
    let strategy = init();
    light_fence();
    heavy_fence();
    let written =
        ladder().try_for_each(|rung| writeln!(Stdout, "{}: {}", rung.strategy, rung.verdict));
    let written = written.and_then(|()| writeln!(Stdout, "strategy: {strategy}"));
    exit_group(if written.is_ok() { 0 } else { 1 })
}

fn exit_group(code: i32) -> ! {
    // SAFETY: exit_group(2) of x86_64 ends the process and touches no memory.
    unsafe { core::arch::asm!("syscall", in("eax") 231, in("edi") code, options(noreturn)) }
}

struct Stdout;

impl Write for Stdout {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // SAFETY: nothing here closes the standard output.
        let stdout = unsafe { rustix::stdio::stdout() };
        rustix::io::write(stdout, text.as_bytes()).map(drop).map_err(|_| core::fmt::Error)
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit_group(101)
}
