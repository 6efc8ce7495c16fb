use ed25519_dalek::SigningKey;
use serde_json::json;

use super::*;

fn begin(path: &Path, start: u8) -> Running {
    let config =
        Config { signing_key: SigningKey::from_bytes(&[1; 32]), session: "jam".into(), seed: [start; 32] };
    let (running, notes) = super::start(path, config, Recorder::default(), |_| {}).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    running
}

fn set(address: &str, value: impl Into<Value>) -> Vec<Command> {
    vec![Command::Set { address: address.into(), value: value.into() }]
}

const TEMPO: &str = "/transport/tempo_bpm";
const NAME: &str = "/session/name";

#[tokio::test]
async fn an_edit_that_changes_nothing_is_durable_only_with_what_made_it_so() {
    let folder = tempfile::tempdir().unwrap();
    let running = begin(&folder.path().join("project.redb"), 1);
    let project = &running.handle;
    for round in 0..5 {
        for (address, value) in [(TEMPO, json!(100 + round)), (NAME, json!(format!("Take {round}")))] {
            // Right after a commit the next one waits.
            assert!(project.edit(set(NAME, format!("Before {round}")), true).await.unwrap().durable);
            for _ in 0..2 {
                let answer = project.edit(set(address, value.clone()), false).await.unwrap();
                assert!(!answer.durable, "{address}: nobody waited for the disk");
            }
            assert!(project.edit(set(address, value), true).await.unwrap().durable);
            assert!(project.summary().saved, "{address}: answered before it was on disk");
        }
    }
    running.stop();
}
