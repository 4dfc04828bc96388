//! What needs no broker: help, completions, the command line.

use crate::Tars;

#[tokio::test]
async fn completions_of_each_shell_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Tars::new(&["completions", shell]).run().await;
        assert_eq!(ended.code, 0, "{shell}: {}", ended.err);
        assert!(
            ended.out.contains("doctor") && ended.out.contains("reply-on"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn help_has_examples_and_the_exit_codes() {
    for command in ["doctor", "watch", "tail", "send", "request", "completions"] {
        let ended = Tars::new(&[command, "--help"]).run().await;
        assert_eq!(ended.code, 0);
        assert!(ended.out.contains("Examples:"), "{command}: {}", ended.out);
        assert!(!ended.out.contains('\u{1b}'), "no colours in a pipe");
    }
    let ended = Tars::new(&["doctor", "--help"]).run().await;
    for code in 10..=18 {
        assert!(ended.out.contains(&format!("\n  {code}  ")), "{code}: {}", ended.out);
    }
}

#[tokio::test]
async fn what_is_not_understood_exits_with_2() {
    for arguments in [
        &["walk"][..],
        &["tail", "--qos", "3"],
        &["watch", "--check"],
        &["send", "a", "b"],
        &["request", "a", "b", "{}"],
        &["completions", "c64"],
    ] {
        let ended = Tars::new(arguments).run().await;
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
    }
}

#[tokio::test]
async fn without_a_broker_to_talk_to_it_says_which_variable_is_missing() {
    for arguments in [&["tail"][..], &["watch"], &["send", "a", "b", "{}"]] {
        let ended = Tars::new(arguments).run().await;
        assert_eq!(ended.code, 10, "{arguments:?}");
        assert!(ended.err.contains("MQTT_URL is not set"), "{}", ended.err);
    }
}
