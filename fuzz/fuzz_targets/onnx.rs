#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ndconv_fuzz::read("x.onnx", bytes));
