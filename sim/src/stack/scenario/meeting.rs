//! Meeting, losing each other, meeting again.

use std::time::Duration;

use transport::driver::Channel;

use crate::{
    network::{Weather, weather::Bursts},
    stack::{host::Lan, stage::Stage},
};

/// Datagrams of 128 frames of 16-bit mono with an RTP header.
const MEDIA_BYTES: usize = 268;

/// Two nodes, one of whom knows the other's address.
pub async fn lossy_line(stage: &mut Stage) {
    let loss = stage.random.between(0.0, 0.04);
    let weather = Weather {
        jitter_ms: 4.0,
        jitter_memory_ms: 20.0,
        loss,
        bursts: Bursts { quiet_ms: 800.0, burst_ms: 15.0, loss: 0.7 },
        reorder: 0.01,
        reorder_ms: 12.0,
        duplicate: 0.01,
        ..Weather::calm(stage.random.between(5.0, 60.0))
    };
    stage.add_hosts(2, weather);
    stage.start_all(None);
    let met = stage.meet(&[0, 1], 8.0).await;
    stage.figure("met_s", met);

    let begin = stage.now();
    // 2000 datagrams at 375 a second.
    let end = begin + Duration::from_secs_f64(2000.0 / 375.0);
    stage.play(0, &[1], MEDIA_BYTES, end);
    stage.play(1, &[0], MEDIA_BYTES, end);
    let mut said = [0u64; 2];
    while stage.now() < end {
        for (from, to) in [(0, 1), (1, 0)] {
            let (channel, longest) = match stage.random.below(4) {
                0 => (Channel::Project, 20_000),
                _ => (Channel::Control, 2_000),
            };
            let length = 8 + stage.random.below(longest) as usize;
            match stage.say(from, to, channel, length) {
                Ok(()) => said[from] += 1,
                Err(error) => stage.ledger.object("messages", format!("{from}: {error}")),
            }
        }
        let pause = stage.random.between(0.005, 0.05);
        stage.sleep(pause).await;
    }
    // On the worst of these lines a project gets 25 kB/s beside music.
    stage.sleep(40.0).await;

    let media = stage.ledger.media(begin, end, |_, _| true);
    // Bursts lose 0.7 in 15 of 815 ms; half as much again for luck, and for what is dropped in the sender meanwhile.
    let bound = 1.5 * (loss + 0.7 * 15.0 / 815.0) + 0.01;
    if media.lost > bound {
        stage
            .ledger
            .object("datagrams", format!("lost {:.4} on a line that loses {loss:.4} and bursts", media.lost));
    }
    stage.figure("line_loss", loss);
    stage.figure("messages", (said[0] + said[1]) as f64);
    stage.figure("media_sent", media.sent as f64);
    stage.figure("media_lost", media.lost);
    stage.figure("media_p50_ms", media.p50_ms);
    stage.figure("media_p99_ms", media.p99_ms);
}

/// A LAN whose switch dies for a while.
pub async fn split_and_heal(stage: &mut Stage) {
    let count = 2 + stage.random.below(3) as usize;
    let hosts = stage.add_hosts(count, Weather::lan());
    let lan = Lan::default();
    stage.start_all(Some(&lan));
    let met = stage.meet(&hosts, 2.0).await;
    stage.figure("met_s", met);
    chat(stage, 40).await;

    let (left, right) = hosts.split_at(count / 2);
    let cut = |stage: &Stage, is_cut| {
        for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
            stage.internet.set_cut(a, b, is_cut);
        }
    };
    cut(stage, true);
    chat(stage, 40).await;
    // The idle timeout is 4 s, from the last packet that came.
    let noticed = stage.part(left, right, 6.0).await;
    stage.figure("noticed_s", noticed);
    let apart = stage.random.between(1.0, 90.0);
    stage.sleep(apart).await;
    cut(stage, false);
    // Dials follow one another by at most 4 s, and one may be on its way in vain.
    let healed = stage.meet(&hosts, 8.0).await;
    stage.figure("apart_s", apart);
    stage.figure("healed_s", healed);
    chat(stage, 40).await;
    stage.sleep(5.0).await;
}

/// Everybody says something to everybody who is there, so many times over.
async fn chat(stage: &mut Stage, times: usize) {
    for _ in 0..times {
        for from in 0..stage.host_count() {
            for to in 0..stage.host_count() {
                if from != to && stage.ledger.link(from, to).connected {
                    let length = 8 + stage.random.below(3_000) as usize;
                    let channel = if stage.random.chance(0.5) { Channel::Control } else { Channel::Project };
                    // Refused if the connection ends just now, of which we shall hear.
                    let _ = stage.say(from, to, channel, length);
                }
            }
        }
        stage.sleep(0.02).await;
    }
}
