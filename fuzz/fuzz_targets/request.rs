//! Any body is a request with binary tensors, which take no more than a few times its bytes, or a fault. The first two bytes say how much
//! of it is JSON; all of it, if they say more.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(([low, high], body)) = input.split_first_chunk::<2>().map(|(length, body)| (*length, body))
    else {
        return;
    };
    let length = usize::from(u16::from_le_bytes([low, high]));
    let length = Some(length).filter(|length| *length <= body.len());
    if let Ok(bytes) = sardonyx_server::internals::read_request(body, length) {
        assert!(bytes <= 32 * body.len());
    }
});
