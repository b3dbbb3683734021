//! How zone-init is linked.

/// Its instructions are alone in the place of a large page: see `sys::text`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=zone-init=-Wl,-z,max-page-size=0x200000");
}
