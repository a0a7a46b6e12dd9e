//! Threads of the node cannot outlive the library, and `code:purge/1` would unload it: so it stays mapped for good.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // On macOS a library with thread-local variables is not unloaded anyway.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "macos" && os != "windows") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    }
}
