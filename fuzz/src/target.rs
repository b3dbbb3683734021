//! A target under libFuzzer: which one is told by the environment, so that one program serves all.
#![no_main]
#![allow(
    unsafe_code,
    reason = "libFuzzer's entry has a name without a hash; the library writes it"
)]

use std::sync::OnceLock;

/// Names the target; see the runner.
const TARGET: &str = "FUZZ_TARGET";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static RUN: OnceLock<fn(&[u8])> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var(TARGET).expect("the runner names a target");
        let target = fuzz::TARGETS.iter().find(|target| target.name == name);
        target.expect("the runner names a target that there is").run
    });
    run(bytes);
});
