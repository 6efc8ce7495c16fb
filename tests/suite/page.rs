//! The page in a browser, against real nodes. The stories are told in `tests/page/scenarios`; here they are played, each
//! on a host without any other network, so a page that asked anybody but its node would fail.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::{Lan, bandmesh, seconds};

/// A scenario takes 10 to 60 s, the one of axe longer; a slow machine gets the rest.
const LIMIT: Duration = seconds(420);

/// Plays `tests/page/scenarios/NAME.mjs`; what it needs and does not find is a failure, not a reason to leave it out.
#[track_caller]
fn play(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    assert!(node.is_ok_and(|status| status.success()), "Node.js is missing; ./dev setup test installs it");
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    assert!(Path::new(&chromium).exists(), "{chromium} is missing; ./dev setup test installs it");
    let modules = root.join("node/web/node_modules/playwright-core");
    assert!(
        modules.exists(),
        "{} is missing; run `npm ci` in node/web, as ./dev test does",
        modules.display()
    );

    // A browser and three nodes fill a small machine; beside other tests each would wait for the others.
    let lan = Lan::alone(1);
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let output = || log.as_file().try_clone().expect("the log");
    let began = Instant::now();
    let mut child = lan
        .host(0)
        .command("node")
        .arg(root.join("tests/page/run.mjs"))
        .arg(name)
        .env("BANDMESH_BIN", bandmesh())
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn()
        .expect("run node");
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for node") {
            break Some(status);
        }
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let told = std::fs::read_to_string(log.path()).unwrap_or_default();
    eprintln!("{told}");
    match status {
        None => panic!("{name} was not over after {LIMIT:?}"),
        Some(status) => assert!(status.success(), "{name} failed, see above and target/page-screenshots"),
    }
}

#[test]
fn first_run_asks_name_colour_instrument_and_device() {
    play("first_run");
}

#[test]
fn two_people_move_one_fader_and_mute_and_solo() {
    play("desk");
}

#[test]
fn device_rate_and_period_change_while_playing() {
    play("device");
}

#[test]
fn a_bandmate_dies_and_comes_back_and_so_does_the_node_itself() {
    play("away");
}

#[test]
fn chat_and_tracks_from_two_browsers_with_undo() {
    play("talk");
}

#[test]
fn every_action_by_keyboard_alone() {
    play("keyboard");
}

#[test]
fn a_hurried_hand_is_not_crossed_by_older_words_of_the_node() {
    play("hurried");
}

#[test]
fn no_serious_finding_of_axe_at_three_widths_dark_and_light() {
    play("access");
}

#[test]
fn health_says_what_is_wrong_with_figures_behind_it() {
    play("health");
}

#[test]
fn hostile_names_and_messages_stay_text() {
    play("hostile_names");
}

#[test]
fn wrong_missing_and_replayed_keys_open_nothing() {
    play("hostile_keys");
}

#[test]
fn pages_from_elsewhere_and_rebound_names_are_refused() {
    play("foreign_pages");
}

#[test]
fn a_wall_display_shows_all_and_changes_nothing() {
    play("wall_display");
}
