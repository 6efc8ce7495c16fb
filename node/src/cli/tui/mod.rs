//! `bandmesh tui`: the running node in a terminal, over ssh too.
//!
//! Three parts: [`model`] is a value that takes what the node says and what is typed, and gives back requests; [`view`] draws
//! it; [`link`] is the thread that speaks with the node, over the same interface as the page.

mod link;
mod model;
mod view;

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::RunningNode;
use crate::cli::{Exit, Output, Task};

use model::{Model, Said};

/// Time between two pictures: smooth enough for a meter, little enough for a slow line.
const FRAME: Duration = Duration::from_millis(50);
/// Time to put the terminal back and end, once told to.
const GRACE: Duration = Duration::from_secs(2);
/// What the node said that may wait to be shown; more is dropped, meters first of all.
const QUEUE: usize = 256;

pub(crate) fn run(task: &Task) -> Result<Output, Exit> {
    if task.json {
        return Err(Exit::usage(
            "tui draws a screen; for JSON use `bandmesh status --json` or `bandmesh peers --json`",
        ));
    }
    // A clear word while there still is a plain terminal to say it on.
    RunningNode::find(&task.data_dir)?.get("/status")?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Exit::failure(
            "tui needs a terminal to draw on and keys to read; run it in one (over ssh with `ssh -t`), or use `bandmesh status`",
        ));
    }
    let (said, hears) = mpsc::sync_channel(QUEUE);
    let (ask, asked) = mpsc::sync_channel(QUEUE);
    let data_dir = task.data_dir.clone();
    let failed =
        |error: io::Error| Exit::failure(&format!("the terminal cannot be used: {error}; try another TERM"));
    let told = told_to_end().map_err(failed)?;
    let speaking = std::thread::Builder::new()
        .name("tui-link".into())
        .spawn(move || link::run(&data_dir, &said, &asked))
        .map_err(failed)?;
    let drawn = ratatui::try_init().and_then(|terminal| draw(terminal, &hears, &ask, &told));
    // Also after an error half-way: the shell must find its terminal as it was.
    ratatui::restore();
    drop((ask, hears));
    // Ends within one read, since its channels are closed.
    let _ = speaking.join();
    drawn.map_err(failed)?;
    Ok(Output::text(String::new()))
}

fn draw(
    mut terminal: DefaultTerminal,
    hears: &mpsc::Receiver<Said>,
    ask: &mpsc::SyncSender<model::Request>,
    told_to_end: &AtomicBool,
) -> io::Result<()> {
    let mut model = Model::default();
    let mut next = Instant::now();
    while !model.ended() && !told_to_end.load(Ordering::Relaxed) {
        for said in hears.try_iter().take(QUEUE) {
            model.hear(said);
        }
        if Instant::now() >= next {
            terminal.draw(|frame| view::draw(&model, frame))?;
            next = Instant::now() + FRAME;
        }
        let wait = next.saturating_duration_since(Instant::now());
        if event::poll(wait)?
            && let Input::Key(key) = event::read()?
        {
            for request in model.press(key) {
                if ask.try_send(request).is_err() {
                    model.hear(Said::Refused("the node does not keep up; try again".into()));
                }
            }
        }
    }
    Ok(())
}

/// Set once the process is to end: a terminal left in raw mode would be of no use to the shell.
fn told_to_end() -> io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _context = runtime.enter();
        [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal)
    };
    let [terminate, hangup, interrupt] = signals;
    let (mut terminate, mut hangup, mut interrupt) = (terminate?, hangup?, interrupt?);
    let tell = told.clone();
    // It waits for as long as the process runs, and nobody waits for it.
    std::thread::Builder::new().name("tui-signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        tell.store(true, Ordering::Relaxed);
        std::thread::sleep(GRACE);
        // Still here: the terminal itself is gone, as with an ssh that broke. Crossterm takes its errors for an empty
        // line and asks again without a pause, so the loop that draws never looks up, and a core would be busy for good.
        let _ = ratatui::try_restore();
        std::process::exit(1);
    })?;
    Ok(told)
}

#[cfg(test)]
mod tests;
