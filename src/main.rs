//! Wiring: the binary. Everything is in the library.

use std::process::ExitCode;

/// Measured against glibc's allocator: less CPU per request and less memory kept per idle connection.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    strata::cli::main()
}
