//! The named situations of the whole stack.

mod meeting;

use futures::future::LocalBoxFuture;

use super::stage::Stage;

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
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
