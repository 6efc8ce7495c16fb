//! Lets `bandmesh-sim-stack` answer for the system; see `src/bin/bandmesh-sim-stack/system.rs`.

use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|it| it == value);
    if !(is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu")) {
        return;
    }
    // Rust's library and others look `getrandom` up at run time, which finds it in a program only if it is exported.
    // aws-lc's function is found by us in the same way.
    for symbol in
        ["getrandom", "clock_gettime", "syscall", "aws_lc_*_override_entropy_source_method_FOR_TESTING"]
    {
        println!("cargo:rustc-link-arg-bin=bandmesh-sim-stack=-Wl,--export-dynamic-symbol={symbol}");
    }
    // aws-lc puts its version into the name of every symbol.
    let version = fs::read_to_string("../Cargo.lock").ok().and_then(|lock| aws_lc_version(&lock));
    let prefix = version.map_or_else(String::new, |version| format!("aws_lc_{}_", version.replace('.', "_")));
    println!("cargo:rustc-env=AWS_LC_PREFIX={prefix}");
}

fn aws_lc_version(lock: &str) -> Option<String> {
    let (_, after) = lock.split_once("name = \"aws-lc-sys\"\nversion = \"")?;
    Some(after.split_once('"')?.0.to_owned())
}
