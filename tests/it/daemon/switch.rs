//! Two daemons, of which one never looks for switches, are switched to another model and back
//! while tweets flow.

use monitor_core::domain::Label;
use monitor_model::Model;

use super::*;
use crate::support::models_in;

/// Rows of `lstm@1` between the fences, of `lstm@2` behind the second one, and so on: tweets that
/// were scored by a model whose time was over.
const STALE: &str = "SELECT count(*) FROM scores AS s WHERE model IS NOT NULL AND NOT EXISTS (
        SELECT FROM model_switches AS m
        WHERE m.model = s.model
          AND m.minute >= (SELECT max(minute) FROM model_switches WHERE minute <= s.created_at))";

/// Minutes of one model that the other one has not scored again completely, before the first
/// switch and between the two.
const NOT_AGAIN: &str = "WITH fence AS (
        SELECT (SELECT min(minute) FROM model_switches WHERE model = 'lstm@2') AS there,
               (SELECT max(minute) FROM model_switches WHERE model = 'lstm@1') AS back)
    SELECT count(*) FROM fence, minute_counts AS m
    LEFT JOIN rescored_counts AS r ON r.brand = m.brand AND r.minute = m.minute
        AND r.instead_of = m.model AND r.model <> m.model
    WHERE (m.model = 'lstm@1' AND m.minute < fence.there
           OR m.model = 'lstm@2' AND fence.back > fence.there
              AND m.minute >= fence.there AND m.minute < fence.back)
      AND r.total IS DISTINCT FROM m.total";

const RESCORED: &str = "SELECT coalesce(sum(total), 0)::bigint FROM rescored_counts";
const SWITCHES: &str = "SELECT count(*) FROM model_switches";

impl Rig {
    /// Two versions of "lstm": the second one calls many more tweets negative.
    fn use_models_that_differ(&self) -> PathBuf {
        let models = self.use_own_models();
        std::fs::remove_dir_all(&models).unwrap();
        let few = [("cancelled", 9.0), ("hold", 9.0), ("hours", 9.0), ("worst", 9.0)];
        let more = [("flight", 9.0), ("not", 9.0), ("no", 9.0)];
        let figures = [("test rows", 100, 0.9)];
        tiny_model(&models, "lstm", &few, -2.0, &figures);
        tiny_model(&models, "lstm", &[&few[..], &more[..]].concat(), -2.0, &figures);
        self.models(&["promote", "lstm@1"]);
        models
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
        command.arg("--config").arg(self.folder.path().join("monitor.toml")).args(arguments);
        command
    }

    async fn switch_of(&self, model: &str) -> DateTime<Utc> {
        sqlx::query_scalar("SELECT max(minute) FROM model_switches WHERE model = $1")
            .bind(model)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Asserts that what `model` has scored again is what it says of the texts.
    async fn assert_scored_again_as_by(&self, model: &mut Model) {
        let name = model.id.to_string();
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT text, cardinality(brands)::bigint FROM scores AS s
             WHERE model <> $1 AND EXISTS (
                 SELECT FROM rescored_counts AS r
                 WHERE r.model = $1 AND r.instead_of = s.model
                   AND r.minute = date_trunc('minute', s.created_at, 'UTC'))",
        )
        .bind(&name)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let texts: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
        let scores = model.score(&texts).unwrap();
        let negative: i64 = rows
            .iter()
            .zip(scores)
            .filter(|(_, score)| model.thresholds.label(*score) == Label::Negative)
            .map(|((_, brands), _)| brands)
            .sum();
        let stored: i64 = sqlx::query_scalar(
            "SELECT sum(negative)::bigint FROM rescored_counts WHERE model = $1",
        )
        .bind(&name)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert!(stored > 0 && stored == negative, "{name}: {stored} stored, {negative} computed");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn all_daemons_switch_at_one_minute_and_back() {
    let mut rig = Rig::start(Setup { static_member: false, ..Setup::new(Storage::Memory) }).await;
    let models = rig.use_models_that_differ();
    rig.run();
    // This one learns of a switch only because its batch is refused.
    rig.run_with(&["--set", "model.reload_s=0"]);
    let replay = rig.replay(6_000.0);
    rig.until("they read", 2 * SOON, async || rig.read().await > 3000).await;

    // With the topic of another stream, nothing would be scored again, and the share would jump.
    let other = ["--set", "kafka.topic=other", "models", "promote", "lstm@1", "--force"];
    let other = rig.command(&other).output().unwrap();
    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(said.contains("no daemon has read the topic other"), "{said}");
    assert_eq!(rig.count(SWITCHES).await, 1);

    // A kill in the middle leaves a part, and no switch.
    let slow = ["--set", "promotion.rows_per_s_max=500", "models", "promote", "lstm@2", "--force"];
    let mut promotion = rig.command(&slow).stderr(Stdio::null()).spawn().unwrap();
    rig.until("a part is scored again", SOON, async || rig.count(RESCORED).await > 0).await;
    promotion.kill().unwrap();
    promotion.wait().unwrap();
    assert_eq!(rig.count(SWITCHES).await, 1);
    let part = rig.count(RESCORED).await;
    assert!(part < 2500, "the kill came in the middle: {part}");

    // Too large a jump: nothing changes, but what was scored stays.
    let refused = rig.command(&["models", "promote", "lstm@2"]).output().unwrap();
    assert!(!refused.status.success());
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(problem.contains("promotion.jump_max") && problem.contains("United"), "{problem}");
    let table = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(table.contains("95 % interval") && table.contains("Southwest"), "{table}");
    assert_eq!(rig.count(SWITCHES).await, 1);
    let promoted = std::fs::read_to_string(models.join("promoted.json")).unwrap();
    assert!(!promoted.contains("\"version\": 2"), "{promoted}");
    assert!(rig.count(RESCORED).await > part, "it went on where the killed one stopped");

    let forced = rig.command(&["models", "promote", "lstm@2", "--force"]).output().unwrap();
    let said = String::from_utf8_lossy(&forced.stdout).into_owned();
    assert!(said.contains("lstm@2 scores the stream from"), "{said}");
    let of_second = "SELECT count(*) FROM scores WHERE model = 'lstm@2'";
    rig.until("the second model scores", SOON, async || rig.count(of_second).await > 500).await;
    let log = std::fs::read_to_string(rig.log()).unwrap();
    assert!(log.contains("reading these tweets again"), "the daemon that was late was refused");

    // A daemon that starts again obeys the database, whatever the folder says.
    let file = models.join("promoted.json");
    let promoted = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, r#"{"lstm": "lstm@1"}"#).unwrap();
    rig.kill();
    rig.run();
    rig.until("the new daemon reads", 3 * SOON, async || rig.newest_reads().await).await;
    let before = rig.count(of_second).await;
    rig.until("and scores with the second model", SOON, async || {
        rig.count(of_second).await > before + 300
    })
    .await;
    std::fs::write(&file, promoted).unwrap();

    let asked = SystemClock::new();
    rig.models(&["rollback", "lstm"]);
    let there = rig.switch_of("lstm@2").await;
    let back = rig.switch_of("lstm@1").await;
    assert!(back > there, "{back} {there}");
    println!("the rollback took {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(20), "within seconds");
    assert_eq!(replay.await.unwrap().sent, WEEK_ROWS);
    rig.until("all records are read", 6 * SOON, async || rig.read().await == WEEK_ROWS as i64)
        .await;

    rig.assert_week_is_complete().await;
    assert_eq!(rig.count(STALE).await, 0, "no minute has tweets of a model whose time was over");
    let after = "SELECT count(*) FROM scores WHERE model = 'lstm@1' AND created_at >=
                 (SELECT max(minute) FROM model_switches)";
    assert!(rig.count(after).await > 300, "the first model scores again");
    rig.until("the gaps before both switches are closed", 3 * SOON, async || {
        rig.count(NOT_AGAIN).await == 0
    })
    .await;
    for name in ["lstm@1", "lstm@2"] {
        let mut model = monitor_model::open(&models_in(&models), name).unwrap();
        rig.assert_scored_again_as_by(&mut model).await;
    }
    while !rig.daemons.is_empty() {
        assert!(rig.terminate(), "exits with success on SIGTERM");
    }
}
