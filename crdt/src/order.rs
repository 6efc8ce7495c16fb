//! Positions that two people can insert between at the same time.
//!
//! Problem: a list type moves an item by deleting and inserting it, so two people moving one track at once end up
//! with two tracks. Idea: each item carries its own position as text and items are sorted by it; a position
//! between two others always exists, because text can grow (a fractional index). A few random digits at the end
//! make it unlikely that two people who insert at the same place choose the same text; ties are broken by the
//! item's id, so every node shows one order.
//!
//! Limits: positions grow by about one digit for every five insertions at one spot. They never are rebalanced
//! behind people's backs.

use rand::Rng;

/// Digits in the order of their bytes, so that comparing texts compares positions.
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Random digits appended to every position: 36^4 = 1.7 million values.
const RANDOM_DIGITS: usize = 4;

/// A position strictly after `before` and strictly before `after`; `None` means the start or the end.
///
/// Positions that come from elsewhere may hold anything: unknown characters count as the nearest digit, and if
/// `before` is not smaller than `after` the result is only after `before`.
pub(crate) fn between(before: Option<&str>, after: Option<&str>, rng: &mut impl Rng) -> String {
    let low: Vec<usize> = before.unwrap_or_default().bytes().map(digit).collect();
    let high: Option<Vec<usize>> =
        after.map(|text| text.bytes().map(digit).collect()).filter(|high| *high > low);
    let mut position = Vec::new();
    // While the digits so far equal the upper bound's, the next digit is bounded by it as well.
    let mut high = high.as_deref();
    for index in 0.. {
        let least = low.get(index).copied().unwrap_or(0);
        let limit = high.map_or(DIGITS.len(), |high| high.get(index).copied().unwrap_or(0));
        if limit > least + 1 {
            position.push(least + (limit - least) / 2);
            break;
        }
        position.push(least);
        if limit > least {
            high = None;
        }
    }
    position.extend((0..RANDOM_DIGITS).map(|_| rng.random_range(0..DIGITS.len())));
    // A position ending in the smallest digit would leave no room directly before it.
    position.push(rng.random_range(1..DIGITS.len()));
    position.iter().filter_map(|digit| DIGITS.get(*digit)).map(|byte| char::from(*byte)).collect()
}

fn digit(byte: u8) -> usize {
    DIGITS.partition_point(|known| *known < byte).min(DIGITS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    proptest! {
        #[test]
        fn a_position_lies_between_its_neighbours(inserts in prop::collection::vec(any::<prop::sample::Index>(), 1..120), seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut positions: Vec<String> = Vec::new();
            for insert in inserts {
                let at = insert.index(positions.len() + 1);
                let before = at.checked_sub(1).map(|i| positions[i].as_str());
                let new = between(before, positions.get(at).map(String::as_str), &mut rng);
                positions.insert(at, new);
                prop_assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
            }
        }

        #[test]
        fn hostile_positions_give_some_position(before: String, after: String) {
            let new = between(Some(&before), Some(&after), &mut StdRng::seed_from_u64(0));
            prop_assert!(!new.is_empty());
        }
    }
}
