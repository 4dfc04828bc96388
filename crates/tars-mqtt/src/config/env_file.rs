//! The file `.env`: `NAME=value` lines, read with dotenvy.
//!
//! dotenvy says what is wrong with a line by quoting it, password and all, and not where it
//! stands. Here it is the other way round.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// What a file says. Without `Debug`: values may be secrets.
#[derive(Default)]
pub(super) struct Content {
    /// In the file's order: of two lines for one name the last one counts.
    pub(super) variables: Vec<(String, String)>,
    pub(super) problems: Vec<String>,
}

/// Reads what it can; every line it cannot read is a problem.
pub(super) fn parse(bytes: &[u8]) -> Content {
    let mut content = Content::default();
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            content.problems.push(format!(".env line {line} is not UTF-8"));
            return content;
        }
    };

    let lines = Lines::new(text);
    let passed = Rc::clone(&lines.passed);
    for item in dotenvy::from_read_iter(lines) {
        match item {
            Ok(variable) => content.variables.push(variable),
            Err(dotenvy::Error::LineParse(quoted, _)) => {
                // A quoted value may span lines; the first one has the name.
                let first = (passed.get() + 1).saturating_sub(quoted.lines().count().max(1));
                content.problems.push(problem(text, first.max(1)));
            }
            Err(_) => content.problems.push(".env cannot be read".to_owned()),
        }
    }
    content
}

fn problem(text: &str, number: usize) -> String {
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let name = line.split_once('=').map_or("", |(name, _)| name.trim());
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    // Only what is surely a name: the line may be the middle of a secret.
    let is_ours = name.starts_with("MQTT_") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let name = if is_ours { format!(" ({name})") } else { String::new() };
    format!(".env line {number}{name} cannot be read: expected NAME=value, with quotes around a value that has spaces")
}

/// A reader that hands over one line at a time, so that the lines passed so far are known.
struct Lines<'a> {
    rest: &'a [u8],
    passed: Rc<Cell<usize>>,
    needs_newline: bool,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.as_bytes(),
            passed: Rc::new(Cell::new(0)),
            // dotenvy takes a space at the very end of the file for an open quote.
            needs_newline: !text.is_empty() && !text.ends_with('\n'),
        }
    }
}

impl Read for Lines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.rest.is_empty() {
            if !self.needs_newline {
                return Ok(0);
            }
            self.needs_newline = false;
            self.passed.set(self.passed.get() + 1);
            into[0] = b'\n';
            return Ok(1);
        }
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(self.rest.len(), |at| at + 1);
        let (line, _) = self.rest.split_at(end.min(into.len()));
        into[..line.len()].copy_from_slice(line);
        self.rest = &self.rest[line.len()..];
        if line.ends_with(b"\n") {
            self.passed.set(self.passed.get() + 1);
        }
        Ok(line.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_names_and_values() {
        let table = [
            ("A=1", "1"),
            ("A=1\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("export A=1", "1"),
            ("  A = 1  ", "1"),
            ("A=1 # why", "1"),
            ("A=", ""),
            ("A='x y' ", "x y"),
            ("A=\"x\\ny\"", "x\ny"),
            ("A='$5#5'", "$5#5"),
            ("A=mqtt://u:p@h:1", "mqtt://u:p@h:1"),
            ("# A=2\n\nA=1\n", "1"),
        ];
        for (text, value) in table {
            let content = parse(text.as_bytes());
            assert_eq!(content.problems, Vec::<String>::new(), "{text:?}");
            assert_eq!(content.variables, [("A".to_owned(), value.to_owned())], "{text:?}");
        }
        assert!(parse(b"").variables.is_empty());
    }

    #[test]
    fn says_where_a_line_cannot_be_read_and_not_what_it_says() {
        let table: [(&[u8], &str); 9] = [
            (b"MQTT_PASSWORD=hunter2 hunter2", ".env line 1 (MQTT_PASSWORD)"),
            (
                b"A=1\n# x\n\nexport MQTT_PASSWORD=hunter2 hunter2\n",
                ".env line 4 (MQTT_PASSWORD)",
            ),
            (b"A=1\nhunter2\nB=2", ".env line 2 cannot"),
            (b"A=1\nhunter2=x y\nB=2", ".env line 2 cannot"),
            (b"MQTT_hunter 2=1", ".env line 1 cannot"),
            (b"=hunter2", ".env line 1 cannot"),
            (b"A=1\nMQTT_PASSWORD='hunter2\nB=2\n", ".env line 2 (MQTT_PASSWORD)"),
            (
                b"A=1\nMQTT_PASSWORD='hunter2\nhunter2' x\nB=2\n",
                ".env line 2 (MQTT_PASSWORD)",
            ),
            (b"A=1\nMQTT_PASSWORD=hunter2\xff\n", ".env line 2 is not UTF-8"),
        ];
        for (text, start) in table {
            let problems = parse(text).problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with(start),
                "{problems:?} for {}",
                String::from_utf8_lossy(text)
            );
            assert!(!problems[0].contains("hunter"), "{problems:?}");
        }
    }

    #[test]
    fn reads_on_after_a_bad_line() {
        let content = parse(b"A=x y\nB=1\nC=x y\n");
        assert_eq!(content.variables, [("B".to_owned(), "1".to_owned())]);
        assert_eq!(content.problems.len(), 2);
    }

    #[test]
    fn a_line_longer_than_any_buffer_is_one_line() {
        let long = "x".repeat(100_000);
        let content = parse(format!("A={long}\nB=x y\n").as_bytes());
        assert_eq!(content.variables, [("A".to_owned(), long)]);
        assert!(
            content.problems[0].starts_with(".env line 2 "),
            "{:?}",
            content.problems
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_a_problem(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }

        #[test]
        fn any_text_is_read_or_a_problem(text in "[A-C=\"'$#\\\\{} \n\r]{0,40}") {
            parse(text.as_bytes());
        }
    }
}
