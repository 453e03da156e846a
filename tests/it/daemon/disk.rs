//! A disk of Postgres that is full, and has room again.

use std::io::Write as _;

use super::*;

/// A file system of its own in memory, with little room; unmounted when dropped.
struct Small(TempDir);

const SMALL: &str = "size=640m,mode=755";

impl Small {
    fn mount() -> Self {
        let folder = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SMALL, "monitor-test"]).arg(folder.path());
        assert!(mount.status().unwrap().success(), "{mount:?}");
        Self(folder)
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Writes until there is no room.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC), "{full}");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a process of Postgres that is about to end may still use it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tmpfs"]
async fn waits_while_the_disk_of_postgres_is_full() {
    let disk = Small::mount();
    let broker = tokio::task::spawn_blocking(|| Broker::start(Storage::Disk)).await.unwrap();
    let dir = Some(disk.0.path().to_owned());
    let mut rig = Rig::start_in(dir, broker, Setup::new(Storage::Disk)).await;
    rig.run();
    let ready = async |rig: &Rig| rig.ready().await.is_some_and(|(ready, _)| ready);
    rig.until("it is ready", SOON, async || ready(&rig).await).await;
    let replay = rig.replay(10_000.0);
    for round in 1..=2 {
        let before = rig.read().await.max(0);
        rig.until("it reads", SOON, async || rig.read().await > before + 500).await;
        disk.fill();
        rig.until("it says that nothing can be stored", 2 * SOON, async || {
            rig.ready().await.is_some_and(|(ready, text)| {
                !ready && text.contains("\"store\"") && text.contains("Postgres is not available")
            })
        })
        .await;
        let log = std::fs::read_to_string(rig.log()).unwrap();
        println!("round {round}: {:?}", rig.ready().await);
        assert!(log.contains("No space left on device"), "round {round}: {}", log_end(&rig.log()));
        assert!(rig.memory_mb() > 0, "it runs");
        disk.make_room();
        // Without room for its log, Postgres itself ends; somebody starts it again.
        let answers = || rig.ready();
        let again = within(Duration::from_secs(10), async || {
            answers().await.is_some_and(|(ready, _)| ready)
        });
        if !again.await {
            println!("round {round}: Postgres has ended");
            rig.postgres.kill_server();
            tokio::task::block_in_place(|| rig.postgres.start_server().unwrap());
        }
        rig.until("it is ready again", 2 * SOON, async || ready(&rig).await).await;
    }
    let sent = replay.await.unwrap();
    assert_eq!((sent.sent, sent.failed), (WEEK_ROWS, 0));
    rig.until("all tweets are stored", 3 * SOON, async || {
        rig.count("SELECT count(*) FROM scores").await == WEEK_TWEETS
    })
    .await;
    rig.assert_week_is_complete().await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}
