//! FlushProcessWriteBuffers: Windows interrupts each processor that runs a thread of this process, and
//! waits. Since Windows Vista, on every processor that Windows runs on.
//!
//! What is promised (learn.microsoft.com, `processthreadsapi.h`): "generates an interprocessor interrupt (IPI) to all
//! processors that are part of the current process affinity. It guarantees the visibility of write operations performed
//! on one processor to the other processors". Of loads it says nothing. On Arm, where loads are reordered too, .NET
//! relies on it as a full barrier. Its developers say that the call makes every processor "flush pending writes (and
//! invalidate speculative reads)" (dotnet/coreclr#198), and on Arm the garbage collector calls it so that no load of
//! another thread is executed too early (dotnet/runtime#42243, #42721).
//!
//! In Wine and Proton the function does nothing, or does its work, depending on their version and on the host's kernel.
//! It returns nothing that would tell. So they are refused.

use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
use windows_sys::Win32::System::Threading::FlushProcessWriteBuffers;

use super::Mechanism;
use crate::refusal::{Failure, Reason, Refusal};

/// Its calls are not shared: nobody has measured whether that pays.
pub(super) const RUNG: Mechanism = Mechanism {
    name: "flush-process-write-buffers",
    admit: || Ok(()),
    probe,
    call,
    waiting: None,
    register: None,
};

fn probe() -> Result<(), Refusal> {
    if is_wine() {
        return Err(Refusal::new(Reason::Wine));
    }
    call()?;
    Ok(())
}

/// Cannot fail.
fn call() -> Result<(), Failure> {
    // SAFETY: no precondition.
    unsafe { FlushProcessWriteBuffers() };
    Ok(())
}

/// Whether ntdll is Wine's, or cannot be asked.
fn is_wine() -> bool {
    // SAFETY: the name is terminated. ntdll stays loaded for as long as the process lives.
    let ntdll = unsafe { GetModuleHandleA(c"ntdll.dll".as_ptr().cast()) };
    if ntdll.is_null() {
        return true;
    }
    // SAFETY: a module's handle, and a terminated name. The function is not called.
    unsafe { GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()) }.is_some()
}
