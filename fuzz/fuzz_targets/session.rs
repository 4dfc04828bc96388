#![no_main]

// Handlers that panic are part of a schedule, and libFuzzer's own hook would end the process.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| fuzz_targets::session::run(bytes)
);
