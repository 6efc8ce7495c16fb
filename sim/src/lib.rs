//! A whole band in a box: the product's own cores in a virtual world, replayed from a seed.
//!
//! Networked music cannot be debugged by ear. A glitch needs a bad link, a drifting clock, a power cut in the
//! middle of a write and somebody who changes the tempo just then; and then it has to happen again. So here
//! every such situation is a [`plan::Plan`] drawn from a seed: a [`world::World`] owns true time, all
//! randomness, the paths, the clocks and the disks, and drives the same values that a real node runs: the
//! session, the project, the clock, the packetiser, the audio engine. [`checker`] judges the run by what only the world knows.
//!
//! Reading order: [`plan`] (what a run is), [`scenario`] (the named ones), [`world`] (how it is run),
//! [`node`] (how the cores are joined), [`network`] and [`disk`] (what they run on), [`checker`].
//!
//! [`emulator`] puts the same paths between real processes.
//!
//! What such a run cannot show: libp2p, quinn and the operating system are not in it, only the decisions above
//! them. [`stack`] runs the product's whole network driver, libp2p and quinn included, in virtual time.

pub mod checker;
pub mod clock;
pub mod disk;
pub mod emulator;
mod host;
pub mod hostile;
pub mod link;
pub mod log;
pub mod network;
pub mod node;
pub mod path;
pub mod plan;
pub mod random;
pub mod replay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod sound_card;
pub mod stack;
pub mod swarm;
pub mod world;
