//! A child process that cannot outlive this one.
//!
//! Linux sends a child its parent-death signal when the *thread* that started it ends. So each
//! child has its own thread, which starts it and waits for its end.
//!
//! **Invariant.** When this process ends, for any reason, the kernel signals the child. No
//! signal is sent to a process id after it was released. Each child is in its own process
//! group: Ctrl-C reaches only this process, which then stops the children in its own order.
//! Deliberately absent: reading the child's output; redirect it to a file.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use libc::c_int;

/// The user id of `nobody`, for programs that refuse to run as root.
const NOBODY: u32 = 65_534;

pub(super) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes the command run as `nobody` if this process is root; returns the user id of `nobody`.
pub(super) fn not_as_root(command: &mut Command) -> Option<u32> {
    is_root().then(|| {
        command.uid(NOBODY).gid(NOBODY);
        NOBODY
    })
}

/// A running child process; dropping it stops it.
#[derive(Debug)]
pub struct Child {
    pid: c_int,
    stop_signal: c_int,
    state: Arc<ExitState>,
}

#[derive(Debug, Default)]
struct ExitState {
    exit: Mutex<Option<ExitStatus>>,
    ended: Condvar,
}

impl Child {
    /// Starts `command`. `stop_signal` is sent to it when the guard is dropped, and when this
    /// process ends.
    ///
    /// # Errors
    /// The program does not exist or may not be run.
    pub fn spawn(mut command: Command, stop_signal: c_int) -> io::Result<Self> {
        let state = Arc::new(ExitState::default());
        let (started, start) = mpsc::channel();
        let keeper = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("child-keeper".into());
        thread.spawn(move || {
            // SAFETY: getpid has no preconditions and cannot fail.
            let parent = unsafe { libc::getpid() };
            command.process_group(0);
            // SAFETY: between fork and exec the closure makes only async-signal-safe calls and
            // allocates nothing. std sets uid and gid before it runs, as it must be: a change
            // of user clears the parent-death signal.
            unsafe {
                command.pre_exec(move || {
                    if libc::prctl(libc::PR_SET_PDEATHSIG, stop_signal) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                    // The parent may have died before the call above.
                    if libc::getppid() != parent {
                        return Err(io::Error::from_raw_os_error(libc::ESRCH));
                    }
                    Ok(())
                });
            }
            match command.spawn() {
                Ok(child) => {
                    // Process ids are positive and fit: the kernel uses a c_int.
                    let _ = started.send(Ok(child.id() as c_int));
                    keep(child, &keeper);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let pid = start.recv().map_err(|_| io::Error::other("the keeper thread ended"))??;
        Ok(Self { pid, stop_signal, state })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Sends a signal; returns false if the process has already ended.
    pub fn signal(&self, signal: c_int) -> bool {
        let exit = self.lock();
        // SAFETY: the keeper releases the id only under this lock, and then sets `exit`.
        exit.is_none() && unsafe { libc::kill(self.pid, signal) } == 0
    }

    /// The exit status, if the process has ended.
    pub fn exit(&self) -> Option<ExitStatus> {
        *self.lock()
    }

    /// Waits for the end of the process, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let exit = self.lock();
        *self
            .state
            .ended
            .wait_timeout_while(exit, timeout, |exit| exit.is_none())
            .expect("no holder of this lock panics")
            .0
    }

    /// Sends `signal`, waits at most `timeout`, then kills the process. Returns true if it ended in
    /// time.
    pub fn stop(&self, signal: c_int, timeout: Duration) -> bool {
        self.signal(signal);
        // A paused process must run to handle the signal.
        self.signal(libc::SIGCONT);
        if self.wait(timeout).is_some() {
            return true;
        }
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10));
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ExitStatus>> {
        self.state.exit.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop(self.stop_signal, Duration::from_secs(5));
    }
}

/// Waits for the child's end; releases its id only under the lock.
fn keep(mut child: std::process::Child, state: &ExitState) {
    loop {
        // SAFETY: waitid writes only to `info`, which outlives the call. WNOWAIT leaves the
        // process to be reaped below.
        let result = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, child.id(), &mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    let mut exit = state.exit.lock().expect("no holder of this lock panics");
    *exit = child.wait().ok().or(Some(ExitStatus::default()));
    state.ended.notify_all();
}
