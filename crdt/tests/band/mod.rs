//! The words the tests of this package are written in: nodes with disks, and wires between them that can be cut,
//! all in virtual time.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of these words")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use crdt::storage::{Loaded, Store};
use crdt::{Command, Config, Output, PeerKey, Project};
use ed25519_dalek::SigningKey;
use redb::StorageBackend;
use serde_json::{Value, json};

/// What a disk holds: the bytes that survive a power cut, and writes that have not been synced.
#[derive(Debug, Default)]
pub struct DiskState {
    durable: Vec<u8>,
    /// What the running program sees.
    visible: Vec<u8>,
    /// Writes since the last sync, in order: `None` is a change of length.
    unsynced: Vec<(u64, Option<Vec<u8>>)>,
    /// After this many more writes or syncs everything fails, as when the power goes.
    pub dies_after: Option<usize>,
}

/// A disk that loses or tears what was not synced.
#[derive(Clone, Debug, Default)]
pub struct Disk(pub Arc<Mutex<DiskState>>);

impl Disk {
    /// Cuts the power: of the unsynced writes those stay for which `keep` gives how many of their bytes.
    pub fn cut_power(&self, mut keep: impl FnMut(usize) -> usize) {
        let mut state = self.0.lock().unwrap();
        let mut bytes = std::mem::take(&mut state.durable);
        for (at, write) in std::mem::take(&mut state.unsynced) {
            match write {
                None => {
                    if keep(1) > 0 {
                        bytes.resize(at as usize, 0);
                    }
                }
                Some(data) => {
                    let kept = keep(data.len()).min(data.len());
                    let end = at as usize + kept;
                    if bytes.len() < end {
                        bytes.resize(end, 0);
                    }
                    bytes[at as usize..end].copy_from_slice(&data[..kept]);
                }
            }
        }
        *state = DiskState { durable: bytes.clone(), visible: bytes, ..DiskState::default() };
    }

    fn step(state: &mut DiskState) -> Result<(), std::io::Error> {
        match &mut state.dies_after {
            Some(0) => Err(std::io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.lock().unwrap().visible.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let state = self.0.lock().unwrap();
        let from = offset as usize;
        let bytes = state.visible.get(from..from + out.len());
        let bytes = bytes.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut state = self.0.lock().unwrap();
        Disk::step(&mut state)?;
        state.visible.resize(len as usize, 0);
        state.unsynced.push((len, None));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut state = self.0.lock().unwrap();
        Disk::step(&mut state)?;
        state.durable = state.visible.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let mut state = self.0.lock().unwrap();
        Disk::step(&mut state)?;
        let end = offset as usize + data.len();
        if state.visible.len() < end {
            state.visible.resize(end, 0);
        }
        state.visible[offset as usize..end].copy_from_slice(data);
        state.unsynced.push((offset, Some(data.to_vec())));
        Ok(())
    }
}

/// A node: its project, its disk, and what it said.
pub struct Node {
    pub project: Project,
    pub disk: Disk,
    store: Option<Store>,
    pub said: Vec<Output>,
}

impl Node {
    /// A node around a project, with an empty disk.
    pub fn over(project: Project) -> Node {
        let disk = Disk::default();
        let (store, _) = Store::open_backend(disk.clone()).expect("an empty disk");
        Node { project, disk, store: Some(store), said: Vec::new() }
    }
}

/// Several nodes and the wires between them.
pub struct Band {
    pub nodes: Vec<Node>,
    pub now_ms: u64,
    pub wires: BTreeMap<(usize, usize), VecDeque<Vec<u8>>>,
    connected: BTreeSet<(usize, usize)>,
    starts: u8,
    session: String,
}

impl Band {
    /// So many nodes, none connected.
    pub fn new(nodes: usize) -> Band {
        let mut band = Band {
            nodes: Vec::new(),
            now_ms: 1_700_000_000_000,
            wires: BTreeMap::new(),
            connected: BTreeSet::new(),
            starts: 0,
            session: "jam".into(),
        };
        for who in 0..nodes {
            let node = band.start(who, Disk::default());
            band.nodes.push(node);
        }
        band
    }

    fn start(&mut self, who: usize, disk: Disk) -> Node {
        self.starts += 1;
        let (store, stored) = Store::open_backend(disk.clone()).expect("the disk can be read");
        assert_eq!(stored.notes, Vec::<String>::new());
        let project = self.project(who, stored);
        Node { project, disk, store: Some(store), said: Vec::new() }
    }

    pub fn project(&self, who: usize, stored: Loaded) -> Project {
        let signing_key = key(who);
        Project::new(Config { signing_key, session: self.session.clone(), seed: [self.starts; 32] }, stored)
    }

    /// Stops a node as SIGKILL does, cuts its power, and starts it again.
    pub fn restart(&mut self, who: usize, keep: impl FnMut(usize) -> usize) {
        for other in 0..self.nodes.len() {
            self.disconnect(who, other);
        }
        let node = &mut self.nodes[who];
        node.disk.0.lock().unwrap().dies_after = Some(0);
        node.store = None;
        node.disk.cut_power(keep);
        let disk = node.disk.clone();
        self.nodes[who] = self.start(who, disk);
    }

    pub fn connect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            if from != to && self.connected.insert((from, to)) {
                self.wires.insert((from, to), VecDeque::new());
                self.nodes[from].project.handle_peer_connected(self.now_ms, peer(to));
            }
        }
        self.work();
    }

    pub fn disconnect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            if self.connected.remove(&(from, to)) {
                self.wires.remove(&(from, to));
                self.nodes[from].project.handle_peer_disconnected(self.now_ms, peer(to));
            }
        }
    }

    pub fn connect_all(&mut self) {
        for one in 0..self.nodes.len() {
            for other in one + 1..self.nodes.len() {
                self.connect(one, other);
            }
        }
    }

    /// Lets one node edit; the edit is on its disk afterwards.
    pub fn edit(&mut self, who: usize, commands: Value) -> Vec<String> {
        let commands: Vec<Command> = serde_json::from_value(commands).unwrap();
        let receipt = self.nodes[who].project.command(self.now_ms, &commands).unwrap();
        self.work();
        receipt.results.into_iter().map(|outcome| outcome.address).collect()
    }

    pub fn set(&mut self, who: usize, address: &str, value: impl Into<Value>) {
        self.edit(who, json!([{"op": "set", "address": address, "value": value.into()}]));
    }

    pub fn read(&self, who: usize, address: &str) -> Value {
        self.nodes[who].project.node_json(address).unwrap_or(Value::Null)
    }

    /// Lets every node do what it has to do now; nothing travels.
    pub fn work(&mut self) {
        for who in 0..self.nodes.len() {
            self.work_of(who);
        }
    }

    pub fn work_of(&mut self, who: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[who];
        while let Some(output) = node.project.poll() {
            match output {
                Output::Store(batch) => {
                    let id = batch.id();
                    let store = node.store.as_mut().expect("the node is running");
                    let result = store.commit(&[batch]).map_err(|error| error.to_string());
                    node.project.handle_stored(now_ms, id, result);
                }
                Output::Send { peer: to, bytes } => {
                    let to = (0..16).find(|who| peer(*who) == to).expect("a known peer");
                    if let Some(wire) = self.wires.get_mut(&(who, to)) {
                        wire.push_back(bytes);
                    }
                }
                other => node.said.push(other),
            }
        }
    }

    /// Delivers everything in order until nothing travels.
    pub fn deliver(&mut self) {
        for _ in 0..100_000 {
            let next = self.wires.iter_mut().find_map(|(way, wire)| Some((*way, wire.pop_front()?)));
            let Some(((from, to), bytes)) = next else { return };
            self.nodes[to].project.handle_message(self.now_ms, peer(from), &bytes);
            self.work_of(to);
        }
        panic!("the nodes never stop talking");
    }

    /// Lets virtual time pass, delivering everything.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        self.deliver();
        loop {
            let deadlines = self.nodes.iter().filter_map(|node| node.project.poll_deadline());
            let Some(next) = deadlines.min().filter(|next| *next <= end) else { break };
            self.now_ms = self.now_ms.max(next);
            for node in &mut self.nodes {
                if node.project.poll_deadline().is_some_and(|deadline| deadline <= self.now_ms) {
                    node.project.handle_deadline(self.now_ms);
                }
            }
            self.work();
            self.deliver();
        }
        self.now_ms = end;
    }

    pub fn assert_equal(&self) {
        let first = &self.nodes[0].project;
        for node in &self.nodes[1..] {
            assert_eq!(node.project.heads_hash(), first.heads_hash());
            assert_eq!(node.project.to_json(), first.to_json());
        }
    }

    /// What a node said that a person should hear.
    pub fn complaints(&self) -> Vec<&Output> {
        let all = self.nodes.iter().flat_map(|node| &node.said);
        all.filter(|output| matches!(output, Output::Warning(_) | Output::Quarantined { .. })).collect()
    }
}

pub fn key(who: usize) -> SigningKey {
    SigningKey::from_bytes(&[who as u8 + 1; 32])
}

pub fn peer(who: usize) -> PeerKey {
    PeerKey(key(who).verifying_key().to_bytes())
}
