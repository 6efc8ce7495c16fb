//! Nothing grows without end.

use std::collections::BTreeMap;

use super::{Checker, Fact};

/// No queue ever held more than its bound.
#[derive(Default)]
pub(super) struct BoundedQueues {
    fullest_share: f64,
}

impl Checker for BoundedQueues {
    fn name(&self) -> &'static str {
        "bounded_queues"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Queue { name, most, bound } = fact else { return Ok(()) };
        self.fullest_share = self.fullest_share.max(*most as f64 / *bound as f64);
        if most > bound { Err(format!("{name}: {most} waited, allowed are {bound}")) } else { Ok(()) }
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("fullest_queue_share", self.fullest_share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_over_its_bound_is_refused() {
        let mut checker = BoundedQueues::default();
        assert!(checker.observe(&Fact::Queue { name: "effects", most: 9, bound: 10 }).is_ok());
        assert!(checker.observe(&Fact::Queue { name: "effects", most: 11, bound: 10 }).is_err());
    }
}
