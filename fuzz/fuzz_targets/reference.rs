//! A model that was decoded runs on the reference for small inputs, or an error says why not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = sardonyx_testing::hostile::run_on(&sardonyx::Device::reference(), bytes);
});
