//! What a proxy is told to do, as data that its links watch.

use std::num::NonZeroU64;
use std::time::Duration;

#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    pub(super) stopped: bool,
    pub(super) refuse: bool,
    /// Counts cuts: a link ends when it is no longer what it was at the link's start.
    pub(super) cuts: u64,
    pub(super) to_broker: Flow,
    pub(super) to_client: Flow,
}

/// The faults of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    pub(super) black_hole: bool,
    pub(super) hold: bool,
    pub(super) delay: Duration,
    pub(super) rate: Option<NonZeroU64>,
    pub(super) cut_after: Option<u64>,
}

/// Which [`Flow`] a pump looks at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    ToBroker,
    ToClient,
}

impl Faults {
    pub(super) fn cut(&mut self) {
        self.cuts += 1;
        // A count that was left over is not for the next link.
        self.to_broker.cut_after = None;
        self.to_client.cut_after = None;
    }

    pub(super) fn flow(&self, way: Way) -> &Flow {
        match way {
            Way::ToBroker => &self.to_broker,
            Way::ToClient => &self.to_client,
        }
    }

    /// How many of `wanted` bytes may pass, and whether the cut follows them.
    pub(super) fn pass(&mut self, way: Way, wanted: usize) -> (usize, bool) {
        let flow = match way {
            Way::ToBroker => &mut self.to_broker,
            Way::ToClient => &mut self.to_client,
        };
        let Some(left) = &mut flow.cut_after else {
            return (wanted, false);
        };
        let passing = usize::try_from(*left).map_or(wanted, |left| left.min(wanted));
        *left -= passing as u64;
        (passing, *left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_runs_down_to_the_cut() {
        let mut faults = Faults::default();
        assert_eq!(faults.pass(Way::ToBroker, 7), (7, false));
        faults.to_broker.cut_after = Some(10);
        assert_eq!(faults.pass(Way::ToClient, 7), (7, false));
        assert_eq!(faults.pass(Way::ToBroker, 7), (7, false));
        assert_eq!(faults.pass(Way::ToBroker, 7), (3, true));
        faults.cut();
        assert_eq!(faults.pass(Way::ToBroker, 7), (7, false));
    }
}
