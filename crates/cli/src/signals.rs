//! Ctrl-C: work on a device ends at the next place where it can, and files that are not complete are removed.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use sardonyx::Interrupt;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit code after Ctrl-C: what a shell reports of a program that SIGINT ends.
pub(super) const INTERRUPTED: u8 = 130;

/// The flag that Ctrl-C raises, once a command has asked for it. Before that, and where it is pressed again, Ctrl-C ends the program
/// at once.
pub(super) fn interrupt() -> &'static Interrupt {
    static INTERRUPT: LazyLock<Interrupt> = LazyLock::new(|| {
        let raised = Arc::new(AtomicBool::new(false));
        // The handlers run in this order, so the first finds what an earlier signal raised. Where the system refuses a handler,
        // Ctrl-C does what it did before.
        let _ = flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), raised.clone())
            .and_then(|_| flag::register(SIGINT, raised.clone()));
        raised.into()
    });
    &INTERRUPT
}
