//! User name and password from their own settings, each over its part of the URL.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use tars_ports::Credentials;

use super::files;
use super::reading::{Given, Reading};
use super::report::named;
use super::settings::{self, Setting, is_mqtt_text, is_password};
use super::sources::Source;

/// What the three settings say.
pub(super) struct Login {
    pub(super) username: Option<Given<String>>,
    pub(super) password: Option<Given<SecretString>>,
    pub(super) file: Option<Given<PathBuf>>,
}

/// The password that counts among the two ways to give one.
struct Password {
    setting: &'static Setting,
    source: Source,
    /// `None`: its problem is reported.
    secret: Option<SecretString>,
    file: Option<PathBuf>,
}

impl Login {
    /// The credentials, and the file if the password is from one. `url` has those of the URL, or
    /// `None` if the URL could not be read: then nothing is said about a missing user name.
    pub(super) fn resolve(
        self,
        read: &mut Reading<'_>,
        url: Option<Option<Credentials>>,
    ) -> (Option<Credentials>, Option<PathBuf>) {
        if let Some(username) = &self.username
            && !is_mqtt_text(&username.value)
        {
            read.report
                .broken_rule(&settings::USERNAME, &username.value, username.source);
        }
        let password = password(read, self.password, self.file);

        let url_is_known = url.is_some();
        let (url_username, url_password) = match url.flatten() {
            Some(credentials) => (Some(credentials.username), credentials.password),
            None => (None, None),
        };
        match (self.username.map(|given| given.value).or(url_username), password) {
            (Some(username), Some(own)) => (Some(Credentials::new(username, own.secret)), own.file),
            (Some(username), None) => (Some(Credentials::new(username, url_password)), None),
            (None, Some(own)) if url_is_known => {
                read.report.add(format!(
                    "{} ({}) is a password without a user name, which MQTT 3.1.1 forbids: expected {} or one in the URL",
                    named(own.setting, own.source),
                    own.source.name(),
                    settings::USERNAME.name(),
                ));
                (None, None)
            }
            (None, _) => (None, None),
        }
    }
}

fn password(
    read: &mut Reading<'_>,
    given: Option<Given<SecretString>>,
    file: Option<Given<PathBuf>>,
) -> Option<Password> {
    if let Some(password) = &given
        && !is_password(password.value.expose_secret())
    {
        read.report.broken_rule(&settings::PASSWORD, "", password.source);
    }
    // The higher source has its way; within one there is no telling which was meant.
    match (given, file) {
        (given, Some(file)) if given.as_ref().is_none_or(|given| given.source <= file.source) => {
            let problem = match &given {
                Some(given) if given.source == file.source => {
                    let other = named(&settings::PASSWORD, given.source);
                    Err(format!("{other} is given as well; expected one of them"))
                }
                _ => files::password(&file.value)
                    .map_err(|reason| format!("{reason}; expected {}", settings::PASSWORD_FILE.rule)),
            };
            let secret = match problem {
                Ok(secret) => Some(secret),
                Err(why) => {
                    let path = file.value.display().to_string();
                    read.report.refused(&settings::PASSWORD_FILE, &path, file.source, why);
                    None
                }
            };
            Some(Password {
                setting: &settings::PASSWORD_FILE,
                source: file.source,
                secret,
                file: Some(file.value),
            })
        }
        (Some(given), _) => Some(Password {
            setting: &settings::PASSWORD,
            source: given.source,
            secret: Some(given.value),
            file: None,
        }),
        (None, _) => None,
    }
}
