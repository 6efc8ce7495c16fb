//! The named situations of the whole stack.

mod bulk;
mod meeting;
mod moving;
mod strangers;

use futures::future::LocalBoxFuture;

use self::bulk::Bound;
use super::{internet::Line, stage::Stage};
use crate::network::Weather;

/// A story, told on a stage.
pub type Play = for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, ()>;

/// A named situation.
pub struct Scenario {
    /// Its name on the command line, beginning with `stack-`.
    pub name: &'static str,
    /// What happens, in one line.
    pub about: &'static str,
    /// The story.
    pub play: Play,
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "stack-lossy-line",
        about: "whole stack: two nodes meet over a line that loses, doubles and swaps, and say a lot",
        play: |stage| Box::pin(meeting::lossy_line(stage)),
    },
    Scenario {
        name: "stack-split-and-heal",
        about: "whole stack: two to four nodes on a LAN fall apart until they notice, and meet again",
        play: |stage| Box::pin(meeting::split_and_heal(stage)),
    },
    Scenario {
        name: "stack-bulk-fibre",
        about: "whole stack: a large project beside music, 20 Mbit/s with a queue of 100 ms",
        play: |stage| {
            let bound = Bound { p99_ms: 16.0, max_ms: 60.0, lost: 0.0, rate_mbit: 12.0 };
            Box::pin(bulk::beside_one(stage, Line::mbit(20.0, 100), Weather::calm(15.0), bound))
        },
    },
    Scenario {
        name: "stack-bulk-dsl",
        about: "whole stack: a large project beside music, 5 Mbit/s with a queue of 300 ms",
        play: |stage| {
            let bound = Bound { p99_ms: 16.0, max_ms: 60.0, lost: 0.0, rate_mbit: 2.0 };
            Box::pin(bulk::beside_one(stage, Line::mbit(5.0, 300), Weather::calm(15.0), bound))
        },
    },
    Scenario {
        name: "stack-bulk-loss",
        about: "whole stack: a large project beside music, 20 Mbit/s, 100 ms there and back, 3 % lost",
        play: |stage| {
            let weather = Weather { loss: 0.03, ..Weather::calm(50.0) };
            // What is too much shows only after a tenth of a second.
            let bound = Bound { p99_ms: 25.0, max_ms: 60.0, lost: 0.01, rate_mbit: 4.0 };
            Box::pin(bulk::beside_one(stage, Line::mbit(20.0, 100), weather, bound))
        },
    },
    Scenario {
        name: "stack-bulk-busy-path",
        about: "whole stack: a large project beside music, 20 Mbit/s, jitter of 5 ms and loss in bursts",
        play: |stage| {
            // How the bursts fall differs: of 20 seeds the transfer got 1.1 to 7.7 Mbit/s, and the share lost rose by 0.014
            // at most.
            let bound = Bound { p99_ms: 16.0, max_ms: 60.0, lost: 0.02, rate_mbit: 1.0 };
            Box::pin(bulk::beside_one(stage, Line::mbit(20.0, 100), Weather::internet_bad(), bound))
        },
    },
    Scenario {
        name: "stack-bulk-wifi",
        about: "whole stack: a large project beside music, on Wi-Fi of 50 Mbit/s",
        play: |stage| {
            let bound = Bound { p99_ms: 16.0, max_ms: 60.0, lost: 0.0, rate_mbit: 10.0 };
            Box::pin(bulk::beside_one(stage, Line::mbit(50.0, 100), Weather::wifi(), bound))
        },
    },
    Scenario {
        name: "stack-bulk-band",
        about: "whole stack: eight play to one another, one sends everybody a large project, 20 Mbit/s each",
        play: |stage| {
            let bound = Bound { p99_ms: 16.0, max_ms: 60.0, lost: 0.0, rate_mbit: 6.0 };
            Box::pin(bulk::beside_a_band(stage, Line::mbit(20.0, 100), Weather::calm(10.0), bound))
        },
    },
    Scenario {
        name: "stack-other-network",
        about: "whole stack: two play, and each in turn changes networks; music goes on",
        play: |stage| Box::pin(moving::other_network(stage)),
    },
    Scenario {
        name: "stack-router-restarts",
        about: "whole stack: a node behind a NAT that forgets its mappings three times",
        play: |stage| Box::pin(moving::router_restarts(stage)),
    },
    Scenario {
        name: "stack-strangers",
        about: "whole stack: two play and a third joins while strangers flood one of them with handshakes",
        play: |stage| Box::pin(strangers::flood(stage)),
    },
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
