use ed25519_dalek::SigningKey;
use serde_json::json;

use super::*;

fn begin(path: &Path, start: u8, events: impl FnMut(Event) + Send + 'static) -> Running {
    let config =
        Config { signing_key: SigningKey::from_bytes(&[1; 32]), session: "jam".into(), seed: [start; 32] };
    let (running, notes) = super::start(path, config, Recorder::default(), events).unwrap();
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
    let running = begin(&folder.path().join("project.redb"), 1, |_| {});
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

#[tokio::test]
async fn a_drag_ends_where_it_was_let_go_though_another_ones_track_was_deleted_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (sent, sends) = std::sync::mpsc::channel();
    let events = move |event| match event {
        Event::Send { bytes, .. } => drop(sent.send(bytes)),
        Event::Quarantined { reason, .. } => panic!("{reason}"),
        _ => {}
    };
    let running = begin(&folder.path().join("project.redb"), 1, events);
    let project = &running.handle;
    let add = Command::Add { address: "/tracks".into(), value: Value::Null };
    let track = project.edit(vec![add], true).await.unwrap().results.remove(0).address;
    let own = PeerKey(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes());

    let config =
        Config { signing_key: SigningKey::from_bytes(&[2; 32]), session: "jam".into(), seed: [2; 32] };
    let mut other = Project::new(config, crdt::storage::Loaded::default());
    let deadline = Instant::now() + Duration::from_secs(10);
    project.connected(other.me());
    other.handle_peer_connected(unix_ms(), own);
    let talk = |other: &mut Project, done: &dyn Fn(&Project) -> bool| {
        while !done(other) {
            assert!(Instant::now() < deadline, "the two did not meet");
            other.handle_deadline(unix_ms());
            while let Some(output) = other.poll() {
                match output {
                    Output::Send { bytes, .. } => project.message(other.me(), bytes),
                    Output::Store(batch) => other.handle_stored(unix_ms(), batch.id(), Ok(())),
                    _ => {}
                }
            }
            if let Ok(bytes) = sends.recv_timeout(Duration::from_millis(10)) {
                other.handle_message(unix_ms(), own, &bytes);
            }
        }
    };
    talk(&mut other, &|other| other.node_json(&track).is_some());

    // Both are in hand when the other member deletes one's track.
    let drags = [format!("/mixer/strip{}/gain_db", track.trim_start_matches("/tracks")), TEMPO.to_owned()];
    for value in [60, 61] {
        for drag in &drags {
            let value = if drag == TEMPO { f64::from(value) } else { -f64::from(value) };
            project.edit(set(drag, value), false).await.unwrap();
        }
    }
    other.command(unix_ms(), &[Command::Delete { address: track.clone() }]).unwrap();
    talk(&mut other, &|other| other.number(TEMPO) == Some(61.0));
    assert_eq!(project.read(Some(track)).await.unwrap(), None);
    running.stop();
}
