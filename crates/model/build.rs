//! Sets the path of libtorch for run time. The link metadata of torch-sys reaches only its direct
//! dependents.

pub fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    match std::env::var("LIBTORCH") {
        Ok(path) => println!("cargo:rustc-link-arg=-Wl,-rpath,{path}/lib"),
        Err(_) => println!(
            "cargo:warning=LIBTORCH is not set: run scripts/setup, then `eval \"$(scripts/setup --env)\"` in this shell"
        ),
    }
}
