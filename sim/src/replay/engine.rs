//! The engines: callbacks with exactly the commands and blocks that each of them took.
//!
//! A callback may stand in the file before a command or packet that it took, since the callback's queue and the others are
//! written by turns. It waits here until what it took is there.

use std::collections::{BTreeMap, VecDeque};

use bandmesh::trace::record::{Callback, EngineCommand, Source};
use engine::{
    Command, Config, Engine, Handle, HostTime, Monitor, SourceConfig, SourceId, SourceWriter, Strip, StripId,
    TraceReader, engine,
};

use super::{Halt, Mismatch, equal};

/// Engines of one trace: a device that changes this often plays nothing.
const MAX_ENGINES: usize = 1_000;
/// Callbacks that may wait: minutes.
const MAX_WAITING: usize = 100_000;
/// Blocks of one source that may wait: what its queue in the node holds, and what the trace's queue may hold before the
/// callbacks that took them are written.
const MAX_BLOCKS: usize = 32_768;
/// Samples that may wait in all of them: 256 MB.
const MAX_SAMPLES: usize = 64 << 20;
/// Commands that a callback takes at most.
const MAX_TAKEN: u32 = 64;
/// Commands that may wait, likewise.
const MAX_COMMANDS: usize = 32_768;

/// All engines of a trace; the latest runs.
#[derive(Default)]
pub struct Engines {
    number: u32,
    built: usize,
    bench: Option<Bench>,
    /// By tag, what came for each source and was not taken yet.
    blocks: BTreeMap<u64, VecDeque<Block>>,
    waiting_samples: usize,
    callbacks: u64,
    source_callbacks: u64,
    concealed_frames: u64,
}

struct Block {
    timestamp_frames: i64,
    arrival: HostTime,
    samples: Vec<f32>,
}

/// One engine and what it is fed from.
struct Bench {
    engine: Engine,
    handle: Handle,
    trace: TraceReader,
    max_period_frames: usize,
    commands: VecDeque<EngineCommand>,
    waiting: VecDeque<(Callback, Vec<Source>)>,
    /// Whether the first of the waiting has been given its commands.
    commanded: bool,
    /// The writer of each source, with its tag.
    writers: BTreeMap<u32, (u64, SourceWriter)>,
    output: Vec<f32>,
}

impl Engines {
    /// Compared so far, by kind.
    pub fn compared(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("callbacks", self.callbacks),
            ("source_callbacks", self.source_callbacks),
            ("concealed_frames", self.concealed_frames),
        ])
    }

    /// Callbacks that wait for what they took.
    pub fn waiting(&self) -> u64 {
        self.bench.as_ref().map_or(0, |bench| bench.waiting.len() as u64)
    }

    /// The trace is whole: no callback may have taken what is not in it.
    pub fn finish(&self) -> Result<(), Mismatch> {
        let Some((callback, sources)) = self.bench.as_ref().and_then(|bench| bench.waiting.front()) else {
            return Ok(());
        };
        Err(Mismatch {
            what: format!("what callback at frame {} took", callback.position_frames),
            recorded: format!("{} commands; {sources:?}", callback.commands),
            replayed: "there was less to be taken".into(),
        })
    }

    /// The device has another engine.
    pub fn build(&mut self, number: u32, config: Config) -> Result<(), Halt> {
        self.built += 1;
        if self.built > MAX_ENGINES {
            return Err(Halt::Senseless("more engines than any device needs".into()));
        }
        let max_period_frames = config.max_period_frames;
        let (engine, mut handle) = engine(config).map_err(|error| Halt::Senseless(error.to_string()))?;
        let trace = handle.take_trace().ok_or_else(|| Halt::Senseless("an engine without a trace".into()))?;
        self.number = number;
        self.bench = Some(Bench {
            engine,
            handle,
            trace,
            max_period_frames,
            commands: VecDeque::new(),
            waiting: VecDeque::new(),
            commanded: false,
            writers: BTreeMap::new(),
            output: vec![0.0; 2 * max_period_frames],
        });
        Ok(())
    }

    /// A command is in an engine's queue.
    pub fn command(&mut self, number: u32, command: EngineCommand) -> Result<(), Halt> {
        let Some(bench) = self.bench_of(number)? else { return Ok(()) };
        if bench.commands.len() >= MAX_COMMANDS {
            return Err(Halt::Senseless("more commands than an engine's queue holds".into()));
        }
        bench.commands.push_back(command);
        self.run()
    }

    /// An engine ran a period.
    pub fn callback(&mut self, number: u32, callback: Callback, sources: Vec<Source>) -> Result<(), Halt> {
        let Some(bench) = self.bench_of(number)? else { return Ok(()) };
        if bench.waiting.len() >= MAX_WAITING {
            return Err(Halt::Senseless("its callbacks took what never came".into()));
        }
        bench.waiting.push_back((callback, sources));
        self.run()
    }

    /// A block is in the queue of the source with this tag.
    pub fn deliver(
        &mut self,
        tag: u64,
        timestamp_frames: i64,
        arrival: HostTime,
        samples: &[f32],
    ) -> Result<(), Halt> {
        self.waiting_samples += samples.len();
        if self.waiting_samples > MAX_SAMPLES {
            return Err(Halt::Senseless("more sound than any queue holds waits for its callback".into()));
        }
        let queue = self.blocks.entry(tag).or_default();
        if queue.len() >= MAX_BLOCKS {
            let awaited = self.bench.as_ref().map(Bench::awaited).unwrap_or_default();
            return Err(Halt::Senseless(format!("more blocks than a source's queue holds; {awaited}")));
        }
        queue.push_back(Block { timestamp_frames, arrival, samples: samples.to_vec() });
        Ok(())
    }

    /// Runs the callbacks that have what they took.
    pub fn run(&mut self) -> Result<(), Halt> {
        let Some(bench) = self.bench.as_mut() else { return Ok(()) };
        while let Some((callback, recorded)) = bench.next(&mut self.blocks, &mut self.waiting_samples)? {
            let frames = callback.frames as usize;
            let Some(output) = bench.output.get_mut(..2 * frames).filter(|_| frames > 0) else {
                return Err(Halt::Senseless(format!(
                    "a period of {frames} frames, and {} at most",
                    bench.max_period_frames
                )));
            };
            bench.engine.process(&[], output, HostTime(callback.at_ns));
            while bench.handle.poll_report().is_some() {}
            let mut replayed = Vec::new();
            let again = bench.trace.next_callback(&mut replayed).map(Callback::from);
            self.callbacks += 1;
            // The input is not in the trace, only what it hashes to; no source depends on it.
            let again = again.map(|again| Callback { input_hash: callback.input_hash, ..again });
            equal("a callback", &format!("{:?}", Some(callback)), &format!("{again:?}"))?;
            let replayed: Vec<Source> = replayed.into_iter().map(Source::from).collect();
            self.source_callbacks += recorded.len() as u64;
            self.concealed_frames += recorded.iter().map(|source| u64::from(source.concealed)).sum::<u64>();
            if recorded != replayed {
                return Err(differs(&callback, &recorded, &replayed));
            }
        }
        Ok(())
    }

    /// The engine of that number; `None` for one that has been replaced, whose last callbacks nobody hears.
    fn bench_of(&mut self, number: u32) -> Result<Option<&mut Bench>, Halt> {
        if number > self.number {
            return Err(Halt::Senseless(format!("engine {number} has not been built")));
        }
        Ok(self.bench.as_mut().filter(|_| number == self.number))
    }
}

/// Names the first source that differs.
fn differs(callback: &Callback, recorded: &[Source], replayed: &[Source]) -> Halt {
    let longest = recorded.len().max(replayed.len());
    let pair = (0..longest)
        .map(|index| (recorded.get(index), replayed.get(index)))
        .find(|(recorded, replayed)| recorded != replayed);
    let (recorded, replayed) = pair.unwrap_or_default();
    Halt::Differs(Mismatch {
        what: format!(
            "playout at frame {} of the engine, source {}",
            callback.position_frames,
            recorded.or(replayed).map_or(0, |source| source.source)
        ),
        recorded: format!("{recorded:?}"),
        replayed: format!("{replayed:?}"),
    })
}

impl Bench {
    /// What is missing, for people.
    fn awaited(&self) -> String {
        let tags: Vec<_> = self.writers.iter().map(|(source, (tag, _))| (source, tag)).collect();
        format!(
            "{} callbacks wait, {} commands, sources with their tags {tags:?}; the first: {:?}",
            self.waiting.len(),
            self.commands.len(),
            self.waiting.front()
        )
    }

    /// The next callback that can be run, with its queues filled; `None` while something is missing.
    fn next(
        &mut self,
        blocks: &mut BTreeMap<u64, VecDeque<Block>>,
        waiting_samples: &mut usize,
    ) -> Result<Option<(Callback, Vec<Source>)>, Halt> {
        let Some((callback, _)) = self.waiting.front() else { return Ok(None) };
        if !self.commanded {
            if callback.commands > MAX_TAKEN {
                return Err(Halt::Senseless(format!("a callback that took {} commands", callback.commands)));
            }
            let count = callback.commands as usize;
            if self.commands.len() < count {
                return Ok(None);
            }
            for command in self.commands.drain(..count).collect::<Vec<_>>() {
                self.send(command)?;
            }
            self.commanded = true;
        }
        let Some((callback, sources)) = self.waiting.front() else { return Ok(None) };
        let callback = *callback;
        let waiting = |tag: &u64| blocks.get(tag).map_or(0, VecDeque::len);
        for source in sources.iter().filter(|source| source.blocks > 0) {
            let Some((tag, _)) = self.writers.get(&source.source) else {
                return equal("the sources of a callback", &format!("{source:?}"), "none of that name")
                    .map(|()| None);
            };
            if waiting(tag) < source.blocks as usize {
                return Ok(None);
            }
        }
        for source in sources {
            let Some((tag, writer)) = self.writers.get_mut(&source.source) else { continue };
            let Some(queue) = blocks.get_mut(tag) else { continue };
            for block in queue.drain(..(source.blocks as usize).min(queue.len())) {
                // A block that does not fit is missed by the source, and found by the comparison.
                *waiting_samples = waiting_samples.saturating_sub(block.samples.len());
                let _ = writer.push(block.timestamp_frames, block.arrival, &block.samples);
            }
            if queue.is_empty() {
                blocks.remove(tag);
            }
        }
        // The others have left the engine, or it had no room for them.
        if self.writers.len() > sources.len() {
            self.writers.retain(|id, _| sources.iter().any(|source| source.source == *id));
        }
        self.commanded = false;
        Ok(self.waiting.pop_front().map(|(_, sources)| (callback, sources)))
    }

    fn send(&mut self, command: EngineCommand) -> Result<(), Halt> {
        let senseless = |error: String| Halt::Senseless(error);
        let command = match command {
            EngineCommand::AddSource { source, rate_hz, channels, tag } => {
                let config = SourceConfig::new(rate_hz, channels as usize);
                let (writer, stream) =
                    self.handle.source(config).map_err(|error| senseless(error.to_string()))?;
                self.writers.insert(source, (tag, writer));
                Command::AddSource(SourceId(source), stream)
            }
            EngineCommand::RemoveSource(source) => Command::RemoveSource(SourceId(source)),
            EngineCommand::AddInstrument(source) => {
                let (_, instrument) =
                    self.handle.instrument().map_err(|error| senseless(error.to_string()))?;
                Command::AddInstrument(SourceId(source), instrument)
            }
            EngineCommand::RemoveInstrument(source) => Command::RemoveInstrument(SourceId(source)),
            EngineCommand::SetSourceRate(source, rate_hz) => {
                Command::SetSourceRate(SourceId(source), rate_hz)
            }
            // What a strip is set to changes nothing in the source behind it; that it was named takes its slot.
            EngineCommand::Mix(Some(source), _) => {
                Command::SetStrip(StripId::Source(SourceId(source)), Strip::default())
            }
            EngineCommand::Mix(None, _) => Command::SetMonitor(StripId::Own, Monitor::default()),
        };
        self.handle.send(command).map_err(|error| senseless(error.to_string()))
    }
}
