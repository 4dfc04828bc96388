//! The configuration as a whole; each file here has one concern.

#![allow(clippy::unwrap_used)]

mod document;
mod layers;
mod login;
mod properties;
mod rules;

use secrecy::ExposeSecret as _;
use tars_ports::{Error, ErrorKind};

use super::Config;

/// What is needed, in code, and these variables below it.
fn with(variables: &[(&str, &str)]) -> Result<Config, Error> {
    Config::builder()
        .url("mqtt://h")
        .client_id("svc")
        .vars(variables.iter().copied())
        .build()
}

/// The lines after the first.
fn problems(result: Result<Config, Error>) -> Vec<String> {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    let problems: Vec<_> = text
        .lines()
        .skip(1)
        .map(|line| line.strip_prefix("- ").unwrap().to_owned())
        .collect();
    let plural = if problems.len() == 1 { "" } else { "s" };
    assert!(
        text.starts_with(&format!("the configuration has {} problem{plural}\n", problems.len())),
        "{text}"
    );
    problems
}

fn password(config: &Config) -> Option<String> {
    let password = config.credentials.as_ref()?.password.as_ref()?;
    Some(password.expose_secret().to_owned())
}
