//! A disk that may lose power.
//!
//! "Saved" means something only if a power cut at the worst moment cannot take it back. [`Disk`] is the file
//! that a node's project store writes to. It keeps what a write cache would: everything since the last
//! completed sync is at risk. On a power cut each such write independently survives, is lost, or is torn: of its
//! sectors some are written and some are not, in any order, and whatever the order the writes were made in; on a mere
//! crash of the process all of them
//! survive, because the operating system still has them.
//!
//! The store commits synchronously, in no virtual time, but a commit takes [`Disk::commit_time`] to be
//! reported. A cut inside that span falls at a random point between the operations of the commit.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::random::Random;

/// Torn writes tear here, bytes: the atomic unit of nearly all disks.
const SECTOR: usize = 512;

/// One host's disk. Clones share it: one stays with the world, one goes to the store.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    /// What a reader sees.
    live: Vec<u8>,
    /// What the platter held when the last commit was reported.
    settled: Vec<u8>,
    /// What happened since, in order.
    since: Vec<Operation>,
    /// The store that opened the disk last; older handles no longer reach it.
    owner: u64,
    /// Set by a checker's test: syncs are reported and do nothing.
    lies_about_sync: bool,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
    Sync,
}

impl Disk {
    /// The backend for a store that opens the disk now. Handles given out before are cut off, as those of
    /// a process that is gone.
    pub fn open(&self) -> DiskHandle {
        let mut content = self.lock();
        content.owner += 1;
        DiskHandle { disk: self.clone(), owner: content.owner }
    }

    /// How long a commit takes until it is reported: a solid-state disk's flush, sometimes a slow one.
    pub fn commit_time(random: &mut Random) -> Duration {
        Duration::from_nanos((random.between(0.5, 3.0) * 1e6 + random.exponential(4.0) * 1e6) as u64)
    }

    /// A commit was reported as done: what was synced can no longer be lost.
    pub fn settle(&self) {
        let mut content = self.lock();
        let synced = if content.lies_about_sync { None } else { content.last_sync(content.since.len()) };
        let Some(last) = synced else { return };
        let Content { settled, since, .. } = &mut *content;
        for operation in since.drain(..=last) {
            apply(settled, &operation, None);
        }
    }

    /// The process died: the operating system keeps all it was given. When it died in the middle of a
    /// commit, that is a random beginning of its operations.
    pub fn crash(&self, random: &mut Random, mid_commit: bool) {
        let mut content = self.lock();
        content.owner += 1;
        let keep = content.cut_point(random, mid_commit);
        content.since.truncate(keep);
        let mut image = content.settled.clone();
        for operation in &content.since {
            apply(&mut image, operation, None);
        }
        content.live = image;
    }

    /// The power failed: what was not synced survives in part, in any order.
    pub fn lose_power(&self, random: &mut Random, mid_commit: bool) {
        let mut content = self.lock();
        content.owner += 1;
        let cut = content.cut_point(random, mid_commit);
        // A lying disk had everything in a cache that is gone as a whole: what is left is old, but not torn.
        let keep = if content.lies_about_sync { 0 } else { cut };
        let safe = content.last_sync(keep).map_or(0, |last| last + 1);
        let mut image = std::mem::take(&mut content.settled);
        for (index, operation) in content.since.drain(..).take(keep).enumerate() {
            apply(&mut image, &operation, (index >= safe).then_some(&mut *random));
        }
        content.live = image.clone();
        content.settled = image;
    }

    /// From now on syncs are reported and do nothing. For tests that a checker notices.
    pub fn lie_about_sync(&self) {
        self.lock().lies_about_sync = true;
    }

    /// Everything on it is overwritten. For tests that a checker notices.
    pub fn spoil(&self) {
        let mut content = self.lock();
        content.live.fill(0xA5);
        content.settled.fill(0xA5);
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// How many of the operations since the last report happened before the end.
    fn cut_point(&self, random: &mut Random, mid_commit: bool) -> usize {
        let all = self.since.len();
        if mid_commit { random.below(all as u64 + 1) as usize } else { all }
    }

    fn last_sync(&self, before: usize) -> Option<usize> {
        self.since.iter().take(before).rposition(|operation| matches!(operation, Operation::Sync))
    }
}

/// Carries out `operation`; with `luck` it may be lost or torn.
fn apply(image: &mut Vec<u8>, operation: &Operation, luck: Option<&mut Random>) {
    match operation {
        Operation::Sync => {}
        Operation::SetLen(len) => {
            if luck.is_none_or(|random| random.chance(0.5)) {
                image.resize(*len, 0);
            }
        }
        Operation::Write { offset, data } => match luck {
            None => write(image, *offset, data),
            Some(random) => match random.below(3) {
                0 => {}
                1 => write(image, *offset, data),
                _ => tear(image, *offset, data, random),
            },
        },
    }
}

/// Writes some of the sectors that the data covers.
fn tear(image: &mut Vec<u8>, offset: usize, data: &[u8], random: &mut Random) {
    let (mut at, mut rest) = (offset, data);
    while !rest.is_empty() {
        let to_next_sector = (SECTOR - at % SECTOR).min(rest.len());
        let (sector, after) = rest.split_at(to_next_sector);
        if random.chance(0.5) {
            write(image, at, sector);
        }
        (at, rest) = (at + sector.len(), after);
    }
}

fn write(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    if let Some(place) = image.get_mut(offset..end) {
        place.copy_from_slice(data);
    }
}

/// A store's way to its disk.
#[derive(Clone, Debug)]
pub struct DiskHandle {
    disk: Disk,
    owner: u64,
}

impl DiskHandle {
    fn content(&self) -> io::Result<MutexGuard<'_, Content>> {
        let content = self.disk.lock();
        if content.owner == self.owner {
            Ok(content)
        } else {
            Err(io::Error::new(io::ErrorKind::BrokenPipe, "the process that had this file open is gone"))
        }
    }
}

impl redb::StorageBackend for DiskHandle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content()?.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content()?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = content
            .live
            .get(offset..offset.saturating_add(out.len()))
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.content()?;
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        content.live.resize(len, 0);
        content.since.push(Operation::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.content()?.since.push(Operation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.content()?;
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        let operation = Operation::Write { offset, data: data.to_vec() };
        apply(&mut content.live, &operation, None);
        content.since.push(operation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::StorageBackend;

    fn read(disk: &Disk) -> Vec<u8> {
        let handle = disk.open();
        let mut bytes = vec![0; handle.len().unwrap() as usize];
        handle.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_synced_survives_a_power_cut_and_the_rest_may_not() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = Disk::default();
            let handle = disk.open();
            handle.set_len(2_048).unwrap();
            handle.write(0, &[1; 1_024]).unwrap();
            handle.sync_data().unwrap();
            handle.write(1_024, &[2; 1_024]).unwrap();
            disk.lose_power(&mut Random::new(seed), false);
            let bytes = read(&disk);
            assert_eq!(bytes[..1_024], [1; 1_024]);
            lost += u32::from(bytes[1_024..] != [2; 1_024]);
        }
        assert!((10..45).contains(&lost), "{lost} of 50");
    }

    #[test]
    fn a_torn_write_leaves_any_of_its_sectors_and_later_writes_may_survive_earlier_ones() {
        let (mut holes, mut reordered) = (0, 0);
        for seed in 0..200 {
            let disk = Disk::default();
            let handle = disk.open();
            handle.set_len(8 * SECTOR as u64).unwrap();
            handle.sync_data().unwrap();
            handle.write(0, &[1; 4 * SECTOR]).unwrap();
            handle.write(4 * SECTOR as u64, &[2; 4 * SECTOR]).unwrap();
            disk.lose_power(&mut Random::new(seed), false);
            let bytes = read(&disk);
            let written: Vec<bool> = bytes.chunks(SECTOR).map(|sector| sector[0] != 0).collect();
            assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            holes += u32::from(!written[0] && written[1] || written[0] && !written[1] && written[2]);
            reordered += u32::from(!written[0..4].contains(&true) && written[4..].contains(&true));
        }
        assert!(holes > 10 && reordered > 10, "{holes} with holes, {reordered} in another order");
    }

    #[test]
    fn a_crash_of_the_process_loses_no_write_that_was_made() {
        let disk = Disk::default();
        disk.open().write(0, b"chorus").unwrap();
        disk.crash(&mut Random::new(1), false);
        assert_eq!(read(&disk), b"chorus");
    }

    #[test]
    fn a_settled_commit_survives_everything() {
        let disk = Disk::default();
        let handle = disk.open();
        handle.write(0, b"verse").unwrap();
        handle.sync_data().unwrap();
        disk.settle();
        for seed in 0..20 {
            disk.lose_power(&mut Random::new(seed), true);
            assert_eq!(read(&disk), b"verse");
        }
    }

    #[test]
    fn a_dead_process_cannot_write_any_more() {
        let disk = Disk::default();
        let handle = disk.open();
        disk.crash(&mut Random::new(1), false);
        assert!(handle.write(0, b"ghost").is_err());
    }
}
