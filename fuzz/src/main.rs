//! libFuzzer around one property. Knows the variable that names it; knows no property.
//!
//! libFuzzer is linked as an ordinary library, and our own crates alone are compiled with coverage counters (see
//! `instrument.sh`): this works on stable Rust, needs no second build of what we depend on, and no tool but a C++ compiler.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls the target by its C name, which its macro exports")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var(nave_fuzz::VARIABLE).unwrap_or_default();
    if let Some(target) = nave_fuzz::TARGETS.iter().find(|target| target.name == name) {
        return target.run;
    }
    eprintln!("{} names no target: {name:?}", nave_fuzz::VARIABLE);
    std::process::exit(2)
}

fuzz_target!(|input: &[u8]| {
    TARGET.get_or_init(chosen)(input);
});
