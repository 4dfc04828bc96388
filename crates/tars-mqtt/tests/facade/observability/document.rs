//! The tables of docs/observability.md, and what the source says.

use std::collections::BTreeSet;
use std::path::Path;

/// A row of a table of spans or events.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) is_span: bool,
    pub(crate) is_trouble: bool,
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) fields: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Rows of the tables whose head is `| span | level | fields |`, or `event`.
pub(crate) fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let (mut rows, mut kind, mut section) = (Vec::new(), None, "");
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        kind = match line {
            "| span | level | fields |" => Some(true),
            "| event | level | fields |" => Some(false),
            _ if line.starts_with('|') => kind,
            _ => None,
        };
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let (Some(is_span), [_, name, level, fields, _]) = (kind, &*cells)
            && let Some(name) = name.strip_prefix('`')
        {
            rows.push(Row {
                is_span,
                is_trouble: section == "Trouble",
                name: name.trim_end_matches('`').to_owned(),
                level: (*level).to_owned(),
                fields: fields
                    .split(", ")
                    .map(|field| field.trim_matches('`').to_owned())
                    .collect(),
            });
            rows.last_mut().unwrap().fields.remove("");
        }
    }
    rows
}

/// The messages of all events in the source of the client.
pub(crate) fn messages_in_source() -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    let mut folders = vec![root().join("crates/tars-mqtt/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                messages.extend(messages_in(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    messages
}

fn messages_in(source: &str) -> Vec<String> {
    let begins = [
        "tracing::error!(",
        "tracing::warn!(",
        "tracing::info!(",
        "tracing::debug!(",
        "said!(",
    ];
    let calls = begins.iter().flat_map(|begin| source.split(begin).skip(1));
    calls
        .filter_map(|call| {
            // Up to the bracket that closes it; brackets in texts are in pairs as well.
            let mut depth = 1;
            let end = call.find(|c| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth == 0
            })?;
            call[..end].rsplit('"').nth(1).map(str::to_owned)
        })
        .collect()
}
