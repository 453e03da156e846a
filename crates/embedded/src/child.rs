//! A child process that cannot outlive this one.
//!
//! Linux sends a child its parent-death signal when the *thread* that made it ends, so
//! each child is made by a thread of its own, which stays until the child has ended.
//!
//! **Invariant.** When this process ends, by whatever cause, the kernel signals the child;
//! no signal is sent to a process id that was given back. Children are in process groups
//! of their own: Ctrl-C reaches this process only, which then stops them in its order.
//! Deliberately absent: reading the child's output; give it a file.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use libc::c_int;

/// The user that runs what refuses to run as root.
const NOBODY: u32 = 65_534;

pub(super) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Has the command run as nobody where this process is root; tells that user's id.
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
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    exit: Mutex<Option<ExitStatus>>,
    ended: Condvar,
}

impl Child {
    /// Starts `command`. `stop_signal` asks it to end: when the guard is dropped, and when
    /// this process dies.
    ///
    /// # Errors
    /// The program is not there or may not be run.
    pub fn spawn(mut command: Command, stop_signal: c_int) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let (started, start) = mpsc::channel();
        let keeper = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("child-keeper".into());
        thread.spawn(move || {
            // SAFETY: getpid has no preconditions and cannot fail.
            let parent = unsafe { libc::getpid() };
            command.process_group(0);
            // SAFETY: between fork and exec only async-signal-safe calls are made, and
            // nothing is allocated. std sets uid and gid before, which is the right order:
            // a change of user clears the parent-death signal.
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
                    // Process ids are positive and fit: the kernel's own type is c_int.
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

    /// Sends a signal; false where the process has ended already.
    pub fn signal(&self, signal: c_int) -> bool {
        let exit = self.lock();
        // SAFETY: the keeper gives the id back only under this lock, and notes that it did.
        exit.is_none() && unsafe { libc::kill(self.pid, signal) } == 0
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<ExitStatus> {
        *self.lock()
    }

    /// Waits for its end, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let exit = self.lock();
        *self
            .state
            .ended
            .wait_timeout_while(exit, timeout, |exit| exit.is_none())
            .expect("no holder of this lock panics")
            .0
    }

    /// Asks it to end by `signal`, waits at most `timeout`, then kills it. True where it
    /// ended in time.
    pub fn stop(&self, signal: c_int, timeout: Duration) -> bool {
        self.signal(signal);
        // One that was paused must run to hear of it.
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

/// Waits for the child's end; gives its id back only under the lock.
fn keep(mut child: std::process::Child, state: &State) {
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
