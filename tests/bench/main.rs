//! `./dev bench`: the figures of this machine, as Markdown tables.
//!
//! Times of the callback and of the project come from the packages' own benchmarks, which run offline; latency comes
//! from two nodes with the `null` device that play over loopback, in their own words after they have settled.
//! How Bandmesh does beside other programs is `./dev bench peers`.
#![allow(clippy::print_stdout, reason = "this program prints tables")]

use tests::{Lan, Node, Options, eventually, number, seconds};

/// Time for the playout delay to find its lowest.
const SETTLED_AFTER_S: f64 = 10.0;

fn main() {
    callback();
    latency();
    project();
}

fn callback() {
    println!("## Callback time against the number of peers (48 kHz, stereo, 1 % loss)\n");
    println!("| period, frames | peers | median, us | p99, us | max, us | p99 of the period, % |");
    println!("|---|---|---|---|---|---|");
    for row in engine::bench::callback_times(&[32, 64, 128, 256], &[0, 1, 3, 7, 15]) {
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.2} |",
            row.period_frames,
            row.sources,
            row.median_us,
            row.p99_us,
            row.max_us,
            row.p99_share * 100.0
        );
    }
}

fn latency() {
    println!("\n## One-way latency, two nodes, `null` device, loopback (mouth to ear between the engines)\n");
    println!(
        "| codec | period, frames | period, ms | one way, ms | playout delay, ms | concealed, % | callback max, us |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (codec, period) in [("pcm16", 64), ("pcm16", 128), ("pcm16", 256), ("opus", 128)] {
        let lan = Lan::alone(2);
        let frames = period.to_string();
        let start = |host, name| {
            Node::start(lan.host(host), Options::named(name).with(&["--codec", codec, "--period", &frames]))
        };
        let (alice, bob) = (start(0, "Alice"), start(1, "Bob"));
        eventually(seconds(10), "they hear each other", || alice.hears(&bob) && bob.hears(&alice));
        eventually(seconds(20), "they have settled", || number(&bob.status(), "/uptime_s") > SETTLED_AFTER_S);
        let (peer, status) = (bob.peer(&alice), bob.status());
        println!(
            "| {codec} | {period} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} |",
            f64::from(period) / 48.0,
            number(&peer, "/audio/one_way_ms"),
            number(&peer, "/audio/playout_delay_ms"),
            number(&peer, "/audio/concealed_ratio") * 100.0,
            number(&status, "/audio/callback_max_us")
        );
    }
}

fn project() {
    println!("\n## The shared project\n");
    println!("| tracks | notes | measured | median | p99 |");
    println!("|---|---|---|---|---|");
    for (tracks, notes) in [(1, 1_000), (16, 20_000), (64, 100_000)] {
        for row in [crdt::bench::apply(tracks, notes, 500), crdt::bench::load(tracks, notes, 5)] {
            println!(
                "| {} | {} | {} | {:.1} | {:.1} |",
                row.tracks, row.notes, row.what, row.median, row.p99
            );
        }
    }
}
