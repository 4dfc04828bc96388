//! What the doctor finds: steps in their order, each with what it did, how long it took, and if
//! it failed, why and what to check.

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::exit::Failure;
use crate::output::{self, BAD, FAINT, GOOD};
use crate::times::took;

/// A step, by what it tries. The number is the exit code where it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Variables = 10,
    Lookup = 11,
    Tcp = 12,
    Tls = 13,
    Connect = 14,
    Subscribe = 15,
    Echo = 16,
    Payload = 17,
    ClientId = 18,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Variables => "variables",
            Self::Lookup => "name lookup",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Connect => "CONNECT",
            Self::Subscribe => "subscribe",
            Self::Echo => "publish and back",
            Self::Payload => "large message",
            Self::ClientId => "client id",
        }
    }
}

/// Why a step failed, and what to check.
#[derive(Debug)]
pub(super) struct Finding {
    /// Another step's, where it turns out to be that one's fault.
    step: Option<Step>,
    said: String,
    checks: Vec<String>,
}

impl Finding {
    /// What is in the way, in a sentence.
    pub(super) fn new(said: impl Into<String>) -> Self {
        Self {
            step: None,
            said: said.into(),
            checks: Vec::new(),
        }
    }

    /// Adds something to look at; the likeliest first.
    pub(super) fn check(mut self, what: impl Into<String>) -> Self {
        self.checks.push(what.into());
        self
    }

    /// It showed here, and belongs to another step.
    pub(super) fn of(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }
}

/// What a step found good: its result, and what to say of it.
pub(super) type Found<T> = Result<(T, String), Finding>;

/// The steps that were gone.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    steps: Vec<Value>,
    failed: Option<Step>,
}

impl Report {
    /// As text it is printed step by step, as JSON at the end.
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            steps: Vec::new(),
            failed: None,
        }
    }

    /// Goes a step and tells of it. `None` if it failed.
    pub(super) async fn step<T>(
        &mut self,
        step: Step,
        going: impl Future<Output = Found<T>>,
    ) -> Result<Option<T>, Failure> {
        let start = Instant::now();
        let found = going.await;
        let time = start.elapsed();
        match found {
            Ok((result, said)) => {
                self.tell(step, true, time, &said, &[])?;
                Ok(Some(result))
            }
            Err(Finding {
                step: other,
                said,
                checks,
            }) => {
                let step = other.unwrap_or(step);
                self.failed = Some(step);
                self.tell(step, false, time, &said, &checks)?;
                Ok(None)
            }
        }
    }

    fn tell(&mut self, step: Step, good: bool, time: Duration, said: &str, checks: &[String]) -> Result<(), Failure> {
        if self.json {
            self.steps.push(json!({
                "step": step.name(),
                "outcome": if good { "ok" } else { "failed" },
                "ms": (time.as_secs_f64() * 1e6).round() / 1e3,
                "said": said,
                "check": checks,
            }));
            return Ok(());
        }
        let (style, mark) = if good { (GOOD, "ok") } else { (BAD, "failed") };
        let (name, time) = (step.name(), took(time));
        let mut lines = said.lines();
        let first = lines.next().unwrap_or_default();
        output::line(&format!(
            "{style}{mark:<7}{style:#}{name:<17}{FAINT}{time:>8}{FAINT:#}  {first}"
        ))?;
        for line in lines {
            output::line(&format!("{:34}{line}", ""))?;
        }
        for check in checks {
            output::line(&format!("{:34}{FAINT}check:{FAINT:#} {check}", ""))?;
        }
        Ok(())
    }

    /// The end: as an exit code, and as JSON if that is wanted.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let code = self.failed.map_or(0, |step| step as u8);
        if self.json {
            let failed = self.failed.map(Step::name);
            output::json(&json!({"ok": code == 0, "exit_code": code, "failed": failed, "steps": self.steps}))?;
        }
        match self.failed {
            None => Ok(()),
            Some(_) => Err(Failure::Told(code)),
        }
    }
}
