//! Touches, undo, notifications and the graph, from outside.

use super::*;

impl People for Pretended {
    fn graph(&self) -> Graph {
        let node = |peer_id: &str, me| GraphNode { peer_id: peer_id.into(), name: EVIL_NAME.into(), me };
        let edge = GraphEdge {
            from: "12D3KooWLee".into(),
            to: "12D3KooWMe".into(),
            path: Some(Path::Lan),
            rtt_ms: Some(0.4),
            one_way_ms: Some(5.9),
            audio_arrives: Some(true),
        };
        Graph { nodes: vec![node("12D3KooWMe", true), node("12D3KooWLee", false)], edges: vec![edge] }
    }

    fn touches(&self, source: u32) -> Vec<Touch> {
        let held = self.held.lock().unwrap();
        let others = held.iter().filter(|((other, _), _)| *other != source);
        others
            .map(|((source, address), value)| Touch {
                peer_id: "12D3KooWMe".into(),
                name: EVIL_NAME.into(),
                source: source.to_string(),
                address: address.clone(),
                value: value.clone(),
            })
            .collect()
    }

    fn touch(&self, source: u32, address: &str, value: Option<Value>) -> Result<(), BackendError> {
        if address == "/nowhere" {
            return Err(BackendError::Invalid("/nowhere cannot be touched; touch a parameter".into()));
        }
        self.held.lock().unwrap().insert((source, address.to_owned()), value);
        let _ = self.notices.send(Notice::Touches);
        Ok(())
    }

    fn touch_end(&self, source: u32, address: &str) {
        self.held.lock().unwrap().remove(&(source, address.to_owned()));
        let _ = self.notices.send(Notice::Touches);
    }

    fn forget_source(&self, source: u32) {
        self.held.lock().unwrap().retain(|(other, _), _| *other != source);
        let _ = self.notices.send(Notice::Touches);
    }

    fn notifications(&self, after: u64) -> Vec<Notification> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|notification| notification.id > after).cloned().collect()
    }

    fn undo(&self, redo: bool) -> BoxFuture<'_, Result<UndoResult, BackendError>> {
        async move {
            if redo {
                let text = "there is no undone edit to make again; edit something first".to_owned();
                return Err(BackendError::Conflict("nothing_to_redo", text));
            }
            Ok(UndoResult {
                label: "Tempo".into(),
                address: "/transport/tempo_bpm".into(),
                kept: vec![],
                can_undo: false,
                can_redo: true,
                undo_label: None,
                redo_label: Some("Tempo".into()),
            })
        }
        .boxed()
    }
}

impl Pretended {
    fn tell(&self, text: &str) {
        let mut told = self.told.lock().unwrap();
        let id = told.len() as u64 + 1;
        told.push(Notification {
            id,
            kind: NotificationKind::PeerJoined,
            severity: Severity::Good,
            text: text.into(),
            peer_id: None,
            at_ms: 1,
        });
        drop(told);
        let _ = self.notices.send(Notice::Notification);
    }
}

#[tokio::test]
async fn a_touch_reaches_the_other_pages_and_never_its_own() {
    let world = world().await;
    let (mut one, mut two) = (world.open_socket().await, world.open_socket().await);
    for socket in [&mut one, &mut two] {
        say(socket, json!({"type": "subscribe", "topics": ["presence"]})).await;
        assert_eq!(next_of(socket, "presence").await["data"], json!([]));
    }
    say(&mut one, json!({"type": "touch", "address": "/mixer/strip/x/gain_db", "value": -6})).await;
    let seen = next_of(&mut two, "presence").await;
    assert_eq!(seen["data"][0]["value"], -6);
    assert_eq!(next_of(&mut one, "presence").await["data"], json!([]));
    say(&mut one, json!({"type": "touch", "address": "/nowhere"})).await;
    assert_eq!(next_of(&mut one, "error").await["problem"]["code"], "invalid");
    // A page that is closed lets go.
    one.close(None).await.unwrap();
    assert_eq!(next_of(&mut two, "presence").await["data"], json!([]));
}

#[tokio::test]
async fn a_page_that_touches_without_end_is_heard_so_often_and_no_more() {
    let world = world().await;
    let mut socket = world.open_socket().await;
    let most = limits::MAX_TOUCHES_PER_SECOND;
    let began = Instant::now();
    for n in 0..20 * most {
        say(&mut socket, json!({"type": "touch", "address": format!("/mixer/strip/{n}/pan"), "value": 0}))
            .await;
    }
    say(&mut socket, json!({"type": "undo", "id": 1})).await;
    assert_eq!(next_of(&mut socket, "undone").await["id"], 1);
    let seconds = began.elapsed().as_secs() as u32 + 1;
    let held = world.node.held.lock().unwrap().len() as u32;
    assert!(held >= most && held <= (seconds + 1) * most && held < 20 * most, "{held} in {seconds} s");
}

#[tokio::test]
async fn undo_is_answered_on_both_ways_and_refused_with_a_reason() {
    let world = world().await;
    let answer = world.send("POST /api/v1/undo", "").await;
    assert_eq!((answer.status, answer.json()["label"].clone()), (200, json!("Tempo")));
    let answer = world.send("POST /api/v1/redo", "").await;
    assert_eq!((answer.status, answer.problem()), (409, "nothing_to_redo".into()));
    let mut socket = world.open_socket().await;
    say(&mut socket, json!({"type": "undo", "id": "a"})).await;
    assert_eq!(next_of(&mut socket, "undone").await["data"]["address"], "/transport/tempo_bpm");
    say(&mut socket, json!({"type": "redo", "id": "b"})).await;
    let error = next_of(&mut socket, "error").await;
    assert_eq!((error["id"].clone(), error["problem"]["status"].clone()), (json!("b"), json!(409)));
}

#[tokio::test]
async fn notifications_come_once_and_those_kept_at_subscription() {
    let world = world().await;
    world.node.tell("Lee joined");
    let mut socket = world.open_socket().await;
    say(&mut socket, json!({"type": "subscribe", "topics": ["notifications"]})).await;
    assert_eq!(next_of(&mut socket, "notification").await["data"]["text"], "Lee joined");
    world.node.tell("Kim joined");
    assert_eq!(next_of(&mut socket, "notification").await["data"]["text"], "Kim joined");
    // Whoever was too slow for the notices still gets each once.
    for n in 0..40 {
        world.node.tell(&format!("{n}"));
    }
    for n in 0..40 {
        assert_eq!(next_of(&mut socket, "notification").await["data"]["text"], format!("{n}"));
    }
    let all = world.get("/api/v1/notifications").await.json();
    assert_eq!(all.as_array().unwrap().len(), 42);
}

#[tokio::test]
async fn the_graph_is_the_same_on_both_ways() {
    let world = world().await;
    let graph = world.get("/api/v1/graph").await.json();
    assert_eq!(graph["edges"][0]["path"], "lan");
    let mut socket = world.open_socket().await;
    say(&mut socket, json!({"type": "subscribe", "topics": ["graph"]})).await;
    assert_eq!(next_of(&mut socket, "graph").await["data"], graph);
}
