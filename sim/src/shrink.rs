//! The fewest faults that still fail.
//!
//! A random run that fails has a dozen things going wrong in it, of which one or two matter. Delta debugging (Zeller and
//! Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 2002) takes away halves, then quarters
//! and so on, and keeps what still fails. What comes out can be played again, because a run without some of its faults
//! is a run like any other.

use std::collections::BTreeSet;

/// What is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The faults that still fail together, by their place in the list.
    pub kept: BTreeSet<usize>,
    /// How many sets were tried.
    pub tries: usize,
}

/// Finds a small set out of `0..faults` for which `fails` says yes, as it is known to do for all of them. Tries at most
/// `most_tries` sets, so that what is left may not be the smallest.
pub fn shrink(faults: usize, most_tries: usize, mut fails: impl FnMut(&BTreeSet<usize>) -> bool) -> Shrunk {
    let mut kept: Vec<usize> = (0..faults).collect();
    let mut tries = 0;
    let mut still_fails = |set: &[usize]| {
        (tries < most_tries).then(|| {
            tries += 1;
            fails(&set.iter().copied().collect())
        })
    };
    if still_fails(&[]) == Some(true) {
        kept.clear();
    }
    let mut parts = 2;
    while kept.len() > 1 || (kept.len() == 1 && parts == 1) {
        let size = kept.len().div_ceil(parts).max(1);
        let chunks: Vec<Vec<usize>> = kept.chunks(size).map(<[usize]>::to_vec).collect();
        let without = |chunk: &Vec<usize>| -> Vec<usize> {
            kept.iter().filter(|fault| !chunk.contains(fault)).copied().collect()
        };
        // One part alone is the greatest step, all but one part the next.
        let alone = chunks.iter().filter(|_| chunks.len() > 1).map(|chunk| (chunk.clone(), 2));
        let others = chunks.iter().filter(|_| chunks.len() > 2).map(|chunk| (without(chunk), parts - 1));
        let mut found = None;
        for (set, next_parts) in alone.chain(others) {
            match still_fails(&set) {
                Some(true) => {
                    found = Some((set, next_parts));
                    break;
                }
                Some(false) => {}
                None => return Shrunk { kept: kept.into_iter().collect(), tries },
            }
        }
        match found {
            Some((set, next_parts)) => {
                kept = set;
                parts = next_parts.max(2).min(kept.len().max(1));
            }
            None if size > 1 => parts = (parts * 2).min(kept.len()),
            None => break,
        }
    }
    Shrunk { kept: kept.into_iter().collect(), tries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_faults_that_matter_are_found_among_twenty() {
        for (a, b) in [(0, 1), (3, 17), (18, 19), (9, 10)] {
            let shrunk = shrink(20, 200, |set| set.contains(&a) && set.contains(&b));
            assert_eq!(shrunk.kept, BTreeSet::from([a, b]));
            assert!(shrunk.tries < 100, "{}", shrunk.tries);
        }
    }

    #[test]
    fn a_run_that_fails_without_any_fault_is_left_with_none() {
        let shrunk = shrink(12, 10, |_| true);
        assert_eq!((shrunk.kept.len(), shrunk.tries), (0, 1));
    }

    #[test]
    fn one_fault_is_found_and_all_are_kept_when_all_are_needed() {
        assert_eq!(shrink(9, 100, |set| set.contains(&4)).kept, BTreeSet::from([4]));
        assert_eq!(shrink(1, 100, |set| set.contains(&0)).kept, BTreeSet::from([0]));
        assert_eq!(shrink(5, 100, |set| set.len() == 5).kept.len(), 5);
        assert_eq!(shrink(0, 100, |_| true).kept.len(), 0);
    }

    #[test]
    fn the_number_of_tries_is_bounded_and_what_is_left_is_known_to_fail() {
        let mut failing = vec![];
        let shrunk = shrink(64, 7, |set| {
            let fails = set.contains(&40) && set.contains(&41);
            if fails {
                failing.push(set.clone());
            }
            fails
        });
        assert_eq!(shrunk.tries, 7);
        assert!(shrunk.kept.len() == 64 || failing.contains(&shrunk.kept));
    }
}
