//! All problems of a configuration, told together.
//!
//! Invariant: the value of a secret setting, and the password in a URL, never get into a line.

use std::fmt::{Display, Write as _};

use tars_ports::{Error, ErrorKind};

use super::settings::{self, Setting};
use super::sources::Source;
use super::url;

/// Longest value that is shown whole, in characters.
const SHOWN: usize = 100;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<String>,
}

impl Report {
    /// A problem that is no setting's, such as a line that could not be read.
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// A value that breaks the rule of its setting.
    pub(super) fn broken_rule(&mut self, setting: &Setting, value: &str, source: Source) {
        self.refused(setting, value, source, format_args!("expected {}", setting.rule));
    }

    /// A value that cannot be used, for a reason of its own.
    pub(super) fn refused(&mut self, setting: &Setting, value: &str, source: Source, why: impl Display) {
        let name = named(setting, source);
        let value = shown(setting, value);
        self.add(format!("{name} is {value} ({}): {why}", source.name()));
    }

    /// A setting without which nothing goes.
    pub(super) fn missing(&mut self, setting: &Setting, hint: &str) {
        self.add(format!(
            "{} is not set{hint}: required, {}",
            setting.name(),
            setting.rule
        ));
    }

    /// The error, if there is a problem.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut text = match self.problems.len() {
            1 => "the configuration has 1 problem".to_owned(),
            count => format!("the configuration has {count} problems"),
        };
        for problem in &self.problems {
            // Writing to a string does not fail.
            let _ = write!(text, "\n- {problem}");
        }
        Err(Error::new(ErrorKind::Config, text))
    }
}

/// The name a setting was given by: code knows the builder's method, not the variable.
pub(super) fn named(setting: &Setting, source: Source) -> &'static str {
    match source {
        Source::Code => setting.method,
        _ => setting.name(),
    }
}

fn shown(setting: &Setting, value: &str) -> String {
    if setting.secret {
        return "***".to_owned();
    }
    if setting.method == settings::URL.method {
        return quoted(&url::redacted(value));
    }
    quoted(value)
}

/// Text as one line, cut short.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::settings::{CLIENT_ID, PASSWORD, URL};

    #[test]
    fn tells_all_problems_one_a_line() {
        let mut report = Report::default();
        report.missing(&URL, "");
        report.broken_rule(&CLIENT_ID, "a\nb", Source::Code);
        report.broken_rule(&PASSWORD, "hunter2", Source::EnvFile);
        let error = report.finish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "the configuration has 3 problems");
        assert!(
            lines[1].starts_with("- MQTT_URL is not set: required, mqtt://["),
            "{text}"
        );
        assert_eq!(
            lines[2],
            r#"- client_id is "a\nb" (code): expected 1 to 65535 bytes without the character U+0000"#
        );
        assert_eq!(lines[3], "- MQTT_PASSWORD is *** (.env): expected at most 65535 bytes");
    }

    #[test]
    fn nothing_found_is_no_error() {
        assert!(Report::default().finish().is_ok());
    }

    #[test]
    fn long_values_are_cut() {
        let text = quoted(&"ü".repeat(5000));
        assert!(text.chars().count() < 110, "{text}");
    }
}
