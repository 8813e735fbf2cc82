//! tests
mod device_parity;
