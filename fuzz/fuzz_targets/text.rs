//! Any text is a graph, which can be printed, or a fault.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = sardonyx::internals::text::reprinted(text);
});
