//! The addresses of this machine, watched for as long as the program runs.
//!
//! The kernel tells of changes by messages, and where there are too many at once (a machine that starts a hundred
//! containers) it drops some and the watcher ends. Then it is begun anew, and what was missed is made up for.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::{Instant, sleep, sleep_until};

use super::net::InterfaceEvent;

/// Pause before a watcher is begun anew, doubled with each that ends soon, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A new watcher has told of all addresses there are after this.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

type Watcher = BoxStream<'static, io::Result<InterfaceEvent>>;

/// The changes that the watchers tell of which `open` makes: the first one's addresses, then every change, for ever.
pub(crate) fn steadily(
    open: impl Fn() -> io::Result<Watcher> + Send + 'static,
) -> io::Result<BoxStream<'static, InterfaceEvent>> {
    let watcher = open()?;
    let watch = Watch {
        open: Box::new(open),
        watcher: Some(watcher),
        pause: FIRST_PAUSE,
        known: BTreeSet::new(),
        renewed: None,
        waiting: VecDeque::new(),
        is_told: false,
    };
    Ok(stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) }).boxed())
}

type Address = (IpAddr, u8);

struct Watch {
    open: Box<dyn Fn() -> io::Result<Watcher> + Send>,
    /// `None`: to be begun anew after a pause.
    watcher: Option<Watcher>,
    pause: Duration,
    /// Those that others have been told of.
    known: BTreeSet<Address>,
    /// While a new watcher tells what there is: until when, and what there was so far.
    renewed: Option<(Instant, BTreeSet<Address>)>,
    waiting: VecDeque<InterfaceEvent>,
    /// Whether the user was told.
    is_told: bool,
}

impl Watch {
    async fn next(&mut self) -> InterfaceEvent {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            let Some(watcher) = &mut self.watcher else {
                sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.watcher = (self.open)().ok();
                self.renewed = Some((Instant::now() + SETTLED_AFTER, BTreeSet::new()));
                continue;
            };
            let settled = self.renewed.as_ref().map(|(until, _)| *until);
            let settled = async {
                match settled {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                event = watcher.next() => match event {
                    Some(Ok(event)) => self.handle(event),
                    Some(Err(error)) => self.end(&error.to_string()),
                    None => self.end("it has ended"),
                },
                () = settled => self.settle(),
            }
        }
    }

    fn handle(&mut self, event: InterfaceEvent) {
        let address = (event.address, event.prefix_len);
        if let Some((_, seen)) = &mut self.renewed {
            if event.up {
                seen.insert(address)
            } else {
                seen.remove(&address)
            };
        }
        let is_news = if event.up { self.known.insert(address) } else { self.known.remove(&address) };
        if is_news {
            self.waiting.push_back(event);
        }
    }

    fn end(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!("watching the network interfaces was interrupted ({why}) and is begun anew");
        }
        self.watcher = None;
        self.renewed = None;
    }

    /// The new watcher has told of all there are: the others have gone meanwhile.
    fn settle(&mut self) {
        let Some((_, seen)) = self.renewed.take() else { return };
        self.pause = FIRST_PAUSE;
        let gone: Vec<_> = self.known.difference(&seen).copied().collect();
        for (address, prefix_len) in gone {
            self.known.remove(&(address, prefix_len));
            self.waiting.push_back(InterfaceEvent { up: false, address, prefix_len });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    fn event(up: bool, last: u8) -> InterfaceEvent {
        InterfaceEvent { up, address: [10, 0, 0, last].into(), prefix_len: 24 }
    }

    fn broken() -> io::Error {
        io::ErrorKind::BrokenPipe.into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_ends_is_begun_anew_and_what_it_missed_is_made_up_for() {
        // The first tells of 1 and 2 and breaks; meanwhile 2 goes and 3 comes; the second tells of 1 and 3, then of changes.
        let watchers: Mutex<VecDeque<Watcher>> = Mutex::new(VecDeque::from([
            stream::iter([Ok(event(true, 1)), Ok(event(true, 2)), Err(broken())])
                .chain(stream::repeat_with(|| Err(broken())))
                .boxed(),
            stream::iter([Ok(event(true, 1)), Ok(event(true, 3))])
                .chain(stream::once(async {
                    sleep(Duration::from_secs(600)).await;
                    Ok(event(false, 1))
                }))
                .chain(stream::pending())
                .boxed(),
        ]));
        let watch = steadily(move || watchers.lock().unwrap().pop_front().ok_or_else(broken)).unwrap();
        let told: Vec<_> = watch.take(5).collect().await;
        assert_eq!(told, [event(true, 1), event(true, 2), event(true, 3), event(false, 2), event(false, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_again_and_again_is_begun_anew_ever_less_often() {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = begun.clone();
        let mut watch = steadily(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(stream::repeat_with(|| Err(broken())).boxed())
        })
        .unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(3600), watch.next()).await.is_err());
        let begun = begun.load(Ordering::Relaxed);
        assert!((30..80).contains(&begun), "{begun} times in an hour");
    }
}
