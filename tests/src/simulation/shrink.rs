//! Making a schedule that breaks something as short and as plain as it can be.

use std::time::Duration;

use super::schedule::{Schedule, Step};

/// The plainest schedule found for which `fails` still holds: steps are taken away, by
/// halves and then one by one, and what is left is made plainer, as long as it fails.
/// Nothing can be taken from the result alone. The same each time, if `fails` is.
#[must_use]
pub fn minimise(schedule: &Schedule, fails: impl Fn(&Schedule) -> bool) -> Schedule {
    let mut smallest = schedule.clone();
    let mut size = smallest.steps.len() / 2;
    while size > 1 {
        let mut at = 0;
        while at < smallest.steps.len() {
            let mut shorter = smallest.clone();
            shorter.steps.drain(at..(at + size).min(shorter.steps.len()));
            if fails(&shorter) {
                smallest = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    while let Some(plainer) = plainer(&smallest).find(&fails) {
        smallest = plainer;
    }
    smallest
}

/// Schedules that differ from this one in one thing, and are plainer there.
fn plainer(schedule: &Schedule) -> impl Iterator<Item = Schedule> + use<> {
    let change = |change: &dyn Fn(&mut Schedule)| {
        let mut changed = schedule.clone();
        change(&mut changed);
        changed
    };
    let mut all = Vec::new();
    for at in 0..schedule.steps.len() {
        all.push(change(&|schedule| drop(schedule.steps.remove(at))));
    }
    for at in 0..schedule.steps.len() {
        if let Step::Publish { events: 2.., qos } = schedule.steps[at] {
            all.push(change(&|schedule| {
                schedule.steps[at] = Step::Publish { events: 1, qos }
            }));
        }
    }
    all.extend([
        change(&|schedule| schedule.clean = false),
        change(&|schedule| schedule.copies = false),
        change(&|schedule| schedule.dedupe = false),
        change(&|schedule| schedule.concurrency = 1),
        change(&|schedule| schedule.window = 20),
        change(&|schedule| schedule.outbox = 10_000),
        change(&|schedule| schedule.patience = Duration::from_secs(20)),
        change(&|schedule| schedule.latency = Duration::ZERO),
    ]);
    let own = schedule.clone();
    all.into_iter().filter(move |plainer| *plainer != own)
}

#[cfg(test)]
mod tests {
    use tars_mqtt::QoS;

    use super::*;

    #[test]
    fn what_has_no_part_in_a_failure_goes() {
        // It takes a cut before, somewhere, a publish of several, and a narrow window.
        let fails = |schedule: &Schedule| {
            let mut rest = schedule.steps.iter();
            rest.any(|step| *step == Step::CutSubscriber)
                && rest.any(|step| {
                    matches!(
                        step,
                        Step::Publish {
                            qos: QoS::AtLeastOnce,
                            ..
                        }
                    )
                })
                && schedule.window < 20
        };
        let failing: Vec<_> = (0..2000).map(Schedule::from_seed).filter(fails).collect();
        assert!(failing.len() > 100);
        for schedule in failing {
            let short = minimise(&schedule, fails);
            let qos = QoS::AtLeastOnce;
            assert_eq!(short.steps, [Step::CutSubscriber, Step::Publish { events: 1, qos }]);
            assert_eq!(
                (short.window, short.clean, short.copies),
                (schedule.window, false, false)
            );
            assert_eq!(short, minimise(&schedule, fails));
        }
    }
}
