//! The topic of an event: a topic name (MQTT 3.1.1 section 4.7) whose levels may be parameters.
//!
//! It is checked here so that a mistake is told where it stands in the source. `tars-contracts`,
//! which knows the rules too, cannot be asked: it depends on this crate.

/// The names of the parameters, or what is wrong.
pub(crate) fn parameters(topic: &str) -> Result<Vec<&str>, String> {
    match topic.len() {
        0 => return Err("the topic is empty; it needs at least one character".to_owned()),
        len if len > usize::from(u16::MAX) => return Err(format!("the topic has {len} bytes; at most 65535 fit")),
        _ if topic.contains('\0') => return Err("the topic contains the character U+0000".to_owned()),
        _ if topic.starts_with("$share/") => {
            return Err("`$share/` is for subscribing only; an event has the topic itself".to_owned());
        }
        _ => {}
    }
    let mut names = Vec::new();
    for level in topic.split('/') {
        if level.contains(['+', '#']) {
            return Err(format!(
                "the level `{level}` has a wildcard, which is for subscribing only; \
                 a parameter `{{field}}` stands for a level that changes"
            ));
        }
        let name = level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match name {
            Some("") => return Err("the parameter `{}` names no field".to_owned()),
            Some(name) if name.contains(['{', '}']) => return Err(not_a_level(level)),
            Some(name) if names.contains(&name) => return Err(format!("the parameter `{{{name}}}` is there twice")),
            Some(name) => names.push(name),
            None if level.contains(['{', '}']) => return Err(not_a_level(level)),
            None => {}
        }
    }
    Ok(names)
}

fn not_a_level(level: &str) -> String {
    format!("a parameter fills a whole level, as in `a/{{field}}/b`; this level is `{level}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_a_whole_level() {
        assert_eq!(parameters("system/health/{service}"), Ok(vec!["service"]));
        assert_eq!(parameters("{a}/x//{b_2}/"), Ok(vec!["a", "b_2"]));
        assert_eq!(parameters("stt/final"), Ok(vec![]));
        for (topic, why) in [
            ("", "empty"),
            ("a\0", "U+0000"),
            ("$share/g/a", "$share/"),
            ("a/+/b", "`+` has a wildcard"),
            ("a/b#", "`b#` has a wildcard"),
            ("a/{}", "names no field"),
            ("a/room-{n}", "`room-{n}`"),
            ("a/{n", "`{n`"),
            ("a/{n}{m}", "`{n}{m}`"),
            ("{n}/{n}", "twice"),
        ] {
            let error = parameters(topic).unwrap_err();
            assert!(error.contains(why), "{topic}: {error}");
        }
        assert!(parameters(&"a".repeat(65_535)).is_ok());
        assert!(parameters(&"a".repeat(65_536)).unwrap_err().contains("65536 bytes"));
    }
}
