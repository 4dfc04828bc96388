//! Reads one setting at a time: code over variable over default, checked, a problem noted.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::report::Report;
use super::settings::{Bounded, Flag, KEEPALIVE, Setting};
use super::sources::{Source, Sources};

/// A setting's value, and who gave it.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) source: Source,
    /// `false`: what was given broke its rule and is reported; `value` is the default, so that
    /// the other settings can still be read. Checks across settings leave it alone.
    pub(super) sound: bool,
}

impl<T> Given<T> {
    fn sound(value: T, source: Source) -> Self {
        let sound = true;
        Self { value, source, sound }
    }
}

/// The settings being read, and the problems met.
pub(super) struct Reading<'a> {
    sources: &'a Sources,
    pub(super) report: Report,
}

impl<'a> Reading<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        let mut report = Report::default();
        for problem in &sources.problems {
            report.add(problem.as_str());
        }
        Self { sources, report }
    }

    fn read<T: Debug>(
        &mut self,
        setting: &Setting,
        code: Option<T>,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
        allowed: impl FnOnce(&T) -> bool,
    ) -> Given<T> {
        let (value, shown, source) = match (code, self.sources.value(setting)) {
            (Some(value), _) => {
                let shown = format!("{value:?}");
                (Some(value), shown, Source::Code)
            }
            (None, Some(raw)) => (parse(raw.text.trim()), raw.text.clone(), raw.source),
            (None, None) => {
                return Given::sound(default, Source::Default);
            }
        };
        match value.filter(allowed) {
            Some(value) => Given::sound(value, source),
            None => {
                self.report.broken_rule(setting, &shown, source);
                Given {
                    value: default,
                    source,
                    sound: false,
                }
            }
        }
    }

    pub(super) fn seconds(&mut self, of: &Bounded<Duration>, code: Option<Duration>) -> Given<Duration> {
        // No float makes this panic: NaN, infinite, negative and huge are errors here.
        let parse = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
        self.read(&of.setting, code, of.default, parse, |value| {
            (of.min..=of.max).contains(value)
        })
    }

    /// Seconds, and no fraction of one: the protocol's field is an integer.
    pub(super) fn keepalive(&mut self, code: Option<Duration>) -> Given<Duration> {
        let of = &KEEPALIVE;
        let parse = |text: &str| text.parse().ok().map(Duration::from_secs);
        let allowed = |value: &Duration| value.subsec_nanos() == 0 && (of.min..=of.max).contains(value);
        self.read(&of.setting, code, of.default, parse, allowed)
    }

    pub(super) fn integer<T>(&mut self, of: &Bounded<T>, code: Option<T>) -> Given<T>
    where
        T: Copy + Debug + PartialOrd + std::str::FromStr,
    {
        let allowed = |value: &T| (of.min..=of.max).contains(value);
        self.read(&of.setting, code, of.default, |text| text.parse().ok(), allowed)
    }

    pub(super) fn flag(&mut self, of: &Flag, code: Option<bool>) -> Given<bool> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        };
        self.read(&of.setting, code, of.default, parse, |_| true)
    }

    /// One of a few words, in any case.
    pub(super) fn word<T>(&mut self, setting: &Setting, code: Option<T>, words: &[(&str, T)]) -> Given<T>
    where
        T: Copy + Debug + Default,
    {
        let parse = |text: &str| {
            words
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text))
                .map(|(_, value)| *value)
        };
        self.read(setting, code, T::default(), parse, |_| true)
    }

    /// Text as it stands; `None` where it is empty or not set.
    pub(super) fn text(&self, setting: &Setting, code: Option<String>) -> Option<Given<String>> {
        let (value, source) = match code {
            Some(text) => (text, Source::Code),
            None => self.sources.value(setting).map(|raw| (raw.text.clone(), raw.source))?,
        };
        (!value.is_empty()).then_some(Given::sound(value, source))
    }

    /// As [`text`](Self::text), kept out of sight.
    pub(super) fn secret(&self, setting: &Setting, code: Option<SecretString>) -> Option<Given<SecretString>> {
        let code = code.map(|secret| secret.expose_secret().to_owned());
        self.text(setting, code)
            .map(|given| Given::sound(given.value.into(), given.source))
    }

    /// As [`text`](Self::text); from code, a path need not be UTF-8.
    pub(super) fn path(&self, setting: &Setting, code: Option<PathBuf>) -> Option<Given<PathBuf>> {
        match code {
            Some(path) => (!path.as_os_str().is_empty()).then(|| Given::sound(path, Source::Code)),
            None => self
                .sources
                .value(setting)
                .map(|raw| Given::sound(PathBuf::from(&raw.text), raw.source)),
        }
    }

    /// Notes that a required setting has no value, and which misspelt variable may be the reason.
    pub(super) fn missing(&mut self, setting: &Setting) {
        let misspelt = self
            .sources
            .unknown()
            .find(|(_, _, nearest)| *nearest == setting.name());
        let hint = misspelt.map_or(String::new(), |(name, _, _)| format!(" (did you mean it by {name}?)"));
        self.report.missing(setting, &hint);
    }
}
