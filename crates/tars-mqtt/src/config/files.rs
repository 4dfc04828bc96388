//! The files a configuration names: a password, and PEM files for TLS.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use secrecy::SecretString;

use super::settings::{LONGEST_TEXT, is_password};

/// Far above any bundle of certificates, in bytes.
const LARGEST_PEM: u64 = 16 * 1024 * 1024;

/// The content of a password file without one line end. Reads no more than a password can have,
/// and an error says nothing of the content.
pub(super) fn password(path: &Path) -> Result<SecretString, String> {
    let mut text = String::new();
    let limit = LONGEST_TEXT as u64 + 3;
    match File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err("it is not UTF-8".to_owned()),
        Err(error) => return Err(format!("it cannot be read: {error}")),
    }
    // One line end, which editors and `echo` add; a second one belongs to the password.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if !is_password(&text) {
        return Err(format!("it has more than {LONGEST_TEXT} bytes"));
    }
    Ok(text.into())
}

/// Whether `path` can be read and looks like PEM. What it holds is for the TLS library to judge.
pub(super) fn check_pem(path: &Path) -> Result<(), String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_PEM).read_to_end(&mut bytes))
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let begin = b"-----BEGIN ";
    if bytes.windows(begin.len()).any(|window| window == begin) {
        Ok(())
    } else {
        Err("it has no line that starts with `-----BEGIN `: not PEM".to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use secrecy::ExposeSecret as _;

    use super::*;

    /// A directory of a test's own, gone with it.
    pub(in crate::config) struct Scratch(PathBuf);

    impl Scratch {
        pub(in crate::config) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("tars-mqtt-config-{}-{number}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(in crate::config) fn path(&self) -> &Path {
            &self.0
        }

        pub(in crate::config) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_password_file_loses_one_line_end() {
        let scratch = Scratch::new();
        let longest = "x".repeat(LONGEST_TEXT);
        let table = [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            ("hunter2\n\n", "hunter2\n"),
            (" hunter2 \n", " hunter2 "),
            ("hunter2\r", "hunter2\r"),
            (&*format!("{longest}\r\n"), &*longest),
        ];
        for (content, expected) in table {
            let read = password(&scratch.write("password", content)).unwrap();
            assert_eq!(read.expose_secret(), expected);
        }
    }

    #[test]
    fn a_password_file_that_cannot_be_used_says_why() {
        let scratch = Scratch::new();
        let long = "x".repeat(LONGEST_TEXT + 1);
        let table: [(&[u8], &str); 5] = [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"\r\n", "empty"),
            (b"hunter\xff", "not UTF-8"),
            (long.as_bytes(), "more than 65535"),
        ];
        for (content, reason) in table {
            let why = password(&scratch.write("password", content)).unwrap_err();
            assert!(why.contains(reason) && !why.contains("hunter"), "{why}");
        }
        for path in [scratch.path().join("none"), scratch.path().to_owned()] {
            assert!(password(&path).unwrap_err().contains("cannot be read"));
        }
    }

    #[test]
    fn a_pem_file_is_looked_at() {
        let scratch = Scratch::new();
        assert!(check_pem(&scratch.write("a", "# x\n-----BEGIN CERTIFICATE-----\n")).is_ok());
        assert!(
            check_pem(&scratch.write("b", b"\x30\x82\xff"))
                .unwrap_err()
                .contains("not PEM")
        );
        assert!(
            check_pem(&scratch.path().join("none"))
                .unwrap_err()
                .contains("cannot be read")
        );
    }
}
