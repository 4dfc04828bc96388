//! Where settings come from besides code: the environment, over the file `.env`.
//!
//! Values pass through here as the text they are. (figment's own provider for the environment
//! reads them as TOML-like literals: a client id `007` would become the number 7.) Nothing is ever
//! written into the process environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::env_file;
use super::settings::{Setting, VARIABLES};

/// What the variables of this library begin with.
const PREFIX: &str = "MQTT_";

/// Where a value stands; a later one overrides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Default,
    EnvFile,
    Environment,
    Code,
}

impl Source {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::EnvFile => ".env",
            Self::Environment => "environment",
            Self::Code => "code",
        }
    }

    fn of(metadata: Option<&Metadata>) -> Self {
        match metadata {
            Some(metadata) if metadata.name == Self::EnvFile.name() => Self::EnvFile,
            _ => Self::Environment,
        }
    }
}

/// A variable's value. May be a secret, hence without `Debug`.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) text: String,
    pub(super) source: Source,
}

/// The variables, and what was wrong with reading them. Without `Debug`, as [`Raw`].
#[derive(Clone, Default)]
pub(super) struct Sources {
    values: BTreeMap<String, Raw>,
    pub(super) problems: Vec<String>,
}

impl Sources {
    /// The process environment over the file, which need not be there.
    pub(super) fn read(file: &Path) -> Self {
        Self::layered(Self::file(file), std::env::vars_os())
    }

    /// These variables in place of the environment, and no file.
    pub(super) fn variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self::layered(env_file::Content::default(), variables)
    }

    fn file(path: &Path) -> env_file::Content {
        match fs::read(path) {
            Ok(bytes) => env_file::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => env_file::Content::default(),
            Err(error) => env_file::Content {
                problems: vec![format!(".env cannot be read: {error}")],
                ..Default::default()
            },
        }
    }

    fn layered(file: env_file::Content, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut problems = file.problems;
        let mut texts = Vec::new();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => texts.push((name, value)),
                Err(_) if name.starts_with(PREFIX) => problems.push(format!("{name} (environment) is not UTF-8")),
                Err(_) => {}
            }
        }
        let figment = Figment::new()
            .merge(Layer::new(Source::EnvFile, file.variables))
            .merge(Layer::new(Source::Environment, texts));

        let mut values = BTreeMap::new();
        match figment.data() {
            Ok(mut profiles) => {
                for (name, value) in profiles.remove(&Profile::Default).unwrap_or_default() {
                    let source = Source::of(figment.get_metadata(value.tag()));
                    if let Some(text) = value.into_string() {
                        values.insert(name, Raw { text, source });
                    }
                }
            }
            Err(error) => problems.push(format!("the sources cannot be layered: {}", error.kind)),
        }
        Self { values, problems }
    }

    /// What counts for `setting`. An empty value means "not set", also over a lower source.
    pub(super) fn value(&self, setting: &Setting) -> Option<&Raw> {
        self.values.get(setting.variable?).filter(|raw| !raw.text.is_empty())
    }

    /// Variables that begin like ours and are none, each with the known name that is nearest.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&str, Source, &'static str)> {
        let known = |name: &str| VARIABLES.iter().any(|setting| setting.name() == name);
        self.values
            .iter()
            .filter(move |(name, _)| !known(name))
            .map(|(name, raw)| (name.as_str(), raw.source, nearest(name)))
    }
}

/// One source, as figment sees it.
struct Layer {
    source: Source,
    values: Dict,
}

impl Layer {
    fn new(source: Source, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let values = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| (name, Value::from(value)))
            .collect();
        Self { source, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.name())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn nearest(name: &str) -> &'static str {
    VARIABLES
        .iter()
        .map(|setting| setting.name())
        .min_by_key(|known| distance(known, name))
        .unwrap_or_default()
}

/// Levenshtein's: insertions, deletions and replacements that turn one into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::settings::{CLIENT_ID, SOURCE_NAME, URL};

    fn layered(file: &str, environment: &[(&str, &str)]) -> Sources {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Sources::layered(env_file::parse(file.as_bytes()), environment)
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let sources = layered(
            "MQTT_URL=mqtt://file\nMQTT_CLIENT_ID=007\nMQTT_SOURCE_NAME=file\n",
            &[("MQTT_URL", "mqtt://env"), ("MQTT_SOURCE_NAME", ""), ("HOME", "/")],
        );
        let url = sources.value(&URL).unwrap();
        assert_eq!((&*url.text, url.source), ("mqtt://env", Source::Environment));
        let id = sources.value(&CLIENT_ID).unwrap();
        assert_eq!((&*id.text, id.source), ("007", Source::EnvFile));
        assert!(
            sources.value(&SOURCE_NAME).is_none(),
            "empty in the environment unsets the file's"
        );
        assert!(sources.problems.is_empty());
        assert_eq!(sources.unknown().count(), 0, "HOME is none of ours");
    }

    #[test]
    fn values_keep_their_text() {
        for text in [
            "007",
            "1e3",
            "true",
            "[1]",
            "{a=1}",
            "\"quoted\"",
            " spaces ",
            "a.b",
            "ü",
        ] {
            let sources = layered("", &[("MQTT_CLIENT_ID", text)]);
            assert_eq!(sources.value(&CLIENT_ID).unwrap().text, text);
        }
    }

    #[test]
    fn an_unknown_variable_has_a_nearest_name() {
        let sources = layered(
            "MQTT_KEEP_ALIVE=1",
            &[("MQTT_CLIENTID", "x"), ("MQTT_", "x"), ("MQTT_a.b", "x")],
        );
        let unknown: Vec<_> = sources.unknown().collect();
        assert_eq!(unknown.len(), 4, "{unknown:?}");
        assert!(unknown.contains(&("MQTT_CLIENTID", Source::Environment, "MQTT_CLIENT_ID")));
        assert!(unknown.contains(&("MQTT_KEEP_ALIVE", Source::EnvFile, "MQTT_KEEPALIVE")));
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("kitten", "sitting", 3),
            ("ü", "u", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf8_is_a_problem() {
        use std::os::unix::ffi::OsStringExt as _;
        let bad = || OsString::from_vec(vec![b'h', 0xff]);
        let sources = Sources::layered(
            env_file::Content::default(),
            [
                ("MQTT_PASSWORD".into(), bad()),
                ("OTHER".into(), bad()),
                (bad(), "x".into()),
            ],
        );
        assert_eq!(sources.problems, ["MQTT_PASSWORD (environment) is not UTF-8"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_fine_and_one_that_cannot_be_read_is_not() {
        assert!(Sources::file(Path::new("no/such/.env")).problems.is_empty());
        let problems = Sources::file(&std::env::temp_dir()).problems;
        assert!(problems[0].starts_with(".env cannot be read: "), "{problems:?}");
    }
}
