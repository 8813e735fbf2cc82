#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = ndconv_fuzz::read("x.npy", bytes);
});
