//! A report as it is shown: tables, and the verdict in the last line.

use std::fmt;

use super::Report;
use crate::chaos::Plan;
use crate::chaos::fleet::FLEET;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { adapter, seed, .. } = &self.plan;
        if !self.is_good() {
            writeln!(f, "what was done:")?;
            for (at, step) in &self.steps {
                let (at, lasts) = (at.as_secs_f64(), step.lasts.as_secs_f64());
                writeln!(f, "  {at:>7.2} s  {:?}, for {lasts:.2} s", step.fault)?;
            }
        }
        writeln!(f, "{:<45} times", "fault")?;
        for (kind, times) in &self.faults {
            writeln!(f, "{kind:<45} {times:>5}")?;
        }
        writeln!(
            f,
            "\n{:<16} {:>8} {:>6} {:>9} {:>14} {:>14} {:>9}",
            "subscription", "handled", "lost", "forgotten", "twice in one", "again in next", "cut off"
        )?;
        for row in &self.subscriptions {
            let (name, lost, repeated) = (&row.name, row.lost.len(), row.repeated.len());
            writeln!(
                f,
                "{name:<16} {:>8} {lost:>6} {:>9} {repeated:>14} {:>14} {:>9}",
                row.handled, row.forgotten, row.again, row.cut_off
            )?;
        }
        writeln!(
            f,
            "\n{:<10} {:>5} {:>8} {:>13} {:>14} {:>15} {:>12}",
            "service", "lives", "connects", "sessions new", "longest outage", "memory halfway", "memory most"
        )?;
        for (service, health) in FLEET.iter().zip(&self.services) {
            let half = &health.memory[..health.memory.len() / 2];
            let most = |samples: &[u64]| samples.iter().max().copied().unwrap_or_default() as f64 / 1024.0;
            writeln!(
                f,
                "{:<10} {:>5} {:>8} {:>13} {:>12.2} s {:>11.1} MiB {:>8.1} MiB",
                service.name,
                health.lives,
                health.connects,
                health.sessions_lost,
                health.longest_outage.as_secs_f64(),
                most(half),
                most(&health.memory)
            )?;
        }
        let (lost, repeated) = (self.sum(|row| row.lost.len()), self.sum(|row| row.repeated.len()));
        writeln!(f)?;
        for cost in &self.costs {
            writeln!(f, "beyond the verdict: {cost}")?;
        }
        for problem in &self.problems {
            writeln!(f, "- {problem}")?;
        }
        if let Some(logs) = &self.logs {
            writeln!(f, "the logs of the services are in {}", logs.display())?;
        }
        let how = if self.is_good() { "ok" } else { "failed" };
        write!(
            f,
            "chaos: {how}: {adapter}, seed {seed}, {:.0} s, {} broker kills, {} service kills, {} attempted, {} accepted, \
             {} handled, lost {lost}, handled twice inside the window {repeated}, forgotten by the killed broker {}",
            self.time.as_secs_f64(),
            self.broker_kills(),
            self.service_kills(),
            self.attempted,
            self.accepted,
            self.sum(|row| row.handled),
            self.sum(|row| row.forgotten),
        )?;
        if !self.is_good() {
            let minutes = self.plan.time.as_secs_f64() / 60.0;
            write!(
                f,
                "\nto repeat it: cargo xtask chaos --minutes {minutes} --adapter {adapter} --seed {seed}"
            )?;
        }
        Ok(())
    }
}
