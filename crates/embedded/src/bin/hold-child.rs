//! Starts a child, writes its process id to the file named, and waits to be killed. A test kills
//! it to see that the child ends too.

use std::process::Command;
use std::time::Duration;

use monitor_embedded::Child;

fn main() -> std::io::Result<()> {
    let file = std::env::args_os().nth(1).expect("the file for the process id");
    let mut command = Command::new("sleep");
    command.arg("1000");
    let child = Child::spawn(command, libc::SIGTERM)?;
    std::fs::write(file, child.id().to_string())?;
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}
