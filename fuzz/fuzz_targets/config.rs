//! Any text is a model's configuration, or a fault with its place.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = sardonyx_server::config::from_pbtxt(text);
    let _ = sardonyx_server::config::from_toml(text);
    let _ = sardonyx_server::config::from_json(text);
});
