//! Positions that two people can insert between at the same time.
//!
//! Problem: a list type moves an item by deleting and inserting it, so two people moving one track at once end up
//! with two tracks. Idea: each item carries its own position as text and items are sorted by it; a position
//! between two others always exists, because text can grow (a fractional index). A few random digits at the end
//! make it unlikely that two people who insert at the same place choose the same text; ties are broken by the
//! item's id, so every node shows one order.
//!
//! A position is what somebody else may have written, so any text can stand in its place. [`Position::read`] takes
//! it as the nearest position there is; since every node does the same, all show one order.
//!
//! Limits: positions grow by about one digit for every five insertions at one spot, at the end for every 18, and have
//! at most [`MAX_DIGITS`]. Where that leaves no room, which no thousand insertions at one spot come to, a new position is
//! only near its place until those who stand there are moved elsewhere. They never are rebalanced behind people's backs.

use rand::Rng;

/// Digits in the order of their bytes, so that comparing texts compares positions.
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Most digits of a position: room for a thousand insertions at one spot.
pub(crate) const MAX_DIGITS: usize = 256;

/// Random digits appended to every position, 36^4 = 1.7 million values, and one more that is not the smallest.
const RANDOM_DIGITS: usize = 4;

/// A place in a list: up to [`MAX_DIGITS`] digits, of which the last is not the smallest, since that would leave no
/// room directly before it. Without digits it is the very first place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(Vec<usize>);

impl Position {
    /// The position that a text says. Other characters count as the nearest digit, what is too long ends early, and
    /// the smallest digits at the end count for nothing.
    pub(crate) fn read(text: &str) -> Position {
        let mut digits: Vec<usize> = text.bytes().take(MAX_DIGITS).map(digit).collect();
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Position(digits)
    }

    /// A position after `before` and before `after`; `None` means the start or the end.
    ///
    /// If `before` is not smaller than `after`, the result is only after `before`.
    pub(crate) fn between(
        before: Option<&Position>,
        after: Option<&Position>,
        rng: &mut impl Rng,
    ) -> Position {
        let low = before.map_or(&[][..], |before| before.0.as_slice());
        let at_the_end = before.is_some() && after.is_none();
        // While the digits so far equal the upper bound's, the next digit is bounded by it as well.
        let mut high = after.map(|after| after.0.as_slice()).filter(|high| *high > low);
        let mut position = Vec::new();
        while position.len() < MAX_DIGITS - RANDOM_DIGITS - 1 {
            let index = position.len();
            let least = low.get(index).copied().unwrap_or(0);
            let limit = high.map_or(DIGITS.len(), |high| high.get(index).copied().unwrap_or(0));
            if limit > least + 1 {
                // Lists grow at their end: small steps there keep positions short.
                position.push(if at_the_end { least + 1 } else { least + (limit - least) / 2 });
                break;
            }
            position.push(least);
            if limit > least {
                high = None;
            }
        }
        position.extend((0..RANDOM_DIGITS).map(|_| rng.random_range(0..DIGITS.len())));
        position.push(rng.random_range(1..DIGITS.len()));
        Position(position)
    }

    /// As it is stored.
    pub(crate) fn text(&self) -> String {
        self.0.iter().filter_map(|digit| DIGITS.get(*digit)).map(|byte| char::from(*byte)).collect()
    }
}

fn digit(byte: u8) -> usize {
    DIGITS.partition_point(|known| *known < byte).min(DIGITS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// What is stored between two stored texts, after checking that it is a position.
    fn between(before: Option<&str>, after: Option<&str>, rng: &mut StdRng) -> Position {
        let read = |text: Option<&str>| text.map(Position::read);
        let new = Position::between(read(before).as_ref(), read(after).as_ref(), rng);
        assert!((1..=MAX_DIGITS).contains(&new.text().len()), "{new:?}");
        assert_eq!(Position::read(&new.text()), new, "what is written reads as it was meant");
        new
    }

    proptest! {
        #[test]
        fn a_position_lies_between_its_neighbours(inserts in prop::collection::vec(any::<prop::sample::Index>(), 1..120), seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut positions: Vec<String> = Vec::new();
            for insert in inserts {
                let at = insert.index(positions.len() + 1);
                let before = at.checked_sub(1).map(|i| positions[i].as_str());
                let new = between(before, positions.get(at).map(String::as_str), &mut rng);
                positions.insert(at, new.text());
                prop_assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
            }
        }

        #[test]
        fn any_two_texts_have_a_position_between_them(before: Option<String>, after: Option<String>, seed: u64) {
            let new = between(before.as_deref(), after.as_deref(), &mut StdRng::seed_from_u64(seed));
            let [low, high] = [&before, &after].map(|text| text.as_deref().map(Position::read));
            prop_assert!(low.as_ref().is_none_or(|low| *low < new), "{new:?}");
            if let Some(high) = high && low.is_none_or(|low| low < high) && high > Position::read("") {
                prop_assert!(new < high, "{new:?}");
            }
        }
    }

    #[test]
    fn texts_without_room_between_them_give_a_position_of_bounded_length() {
        let mut rng = StdRng::seed_from_u64(1);
        let (zeros, last) = ("0".repeat(16_384), "z".repeat(16_384));
        let texts =
            ["", "0", " ", ".", "a", "a ", "5", "50", "\u{10ffff}", &zeros, &last, &last[..MAX_DIGITS]];
        let texts: Vec<Option<&str>> = texts.into_iter().map(Some).chain([None]).collect();
        for before in &texts {
            for after in &texts {
                between(*before, *after, &mut rng);
            }
        }
        // The neighbour is at the very last place; what comes next to it is still close by.
        assert!(between(Some(&last), None, &mut rng) > Position::read(&last[..MAX_DIGITS / 2]));
    }

    #[test]
    fn a_thousand_items_added_at_the_end_have_short_positions() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut last: Option<String> = None;
        for _ in 0..1_000 {
            let new = between(last.as_deref(), None, &mut rng).text();
            assert!(last.is_none_or(|last| last < new));
            last = Some(new);
        }
        assert!(last.is_some_and(|last| last.len() < 80));
    }

    #[test]
    fn a_thousand_items_added_at_one_spot_find_room() {
        let mut rng = StdRng::seed_from_u64(3);
        let (mut at_start, mut in_middle) = ("i".to_owned(), "i".to_owned());
        for _ in 0..1_000 {
            let new = between(None, Some(&at_start), &mut rng).text();
            assert!(new < at_start);
            at_start = new;
            let new = between(Some("h"), Some(&in_middle), &mut rng).text();
            assert!("h" < new.as_str() && new < in_middle);
            in_middle = new;
        }
    }
}
