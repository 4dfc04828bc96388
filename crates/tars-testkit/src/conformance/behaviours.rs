//! The list of behaviours, in one place: the table and the tests of
//! [`conformance_suite!`](crate::conformance_suite) are both made from it.

use std::time::Duration;

use super::{
    Failure, Need, Played, Setup, ack, cancel, connect, end, keepalive, publish, qos2, subscribe, transport, will,
};

/// Above every wait of a behaviour together: only a behaviour that hangs in a way its
/// own bounds do not see comes here.
const LIMIT: Duration = Duration::from_secs(100);

/// One promise of the contract.
#[derive(Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// What it is about: the name of its module.
    pub subject: &'static str,
    /// Its own name; unique within the subject.
    pub name: &'static str,
    /// The promise.
    pub says: &'static str,
    /// When it applies: all of these.
    pub needs: &'static [Need],
    run: for<'a> fn(&'a Setup) -> Played<'a>,
}

impl Behaviour {
    /// Why it does not apply to this adapter and this broker, if so.
    #[must_use]
    pub fn not_applicable(&self, setup: &Setup) -> Option<&'static str> {
        setup.lacks(self.needs).map(Need::unmet)
    }

    /// Plays it.
    ///
    /// # Errors
    /// The promise that was not kept.
    pub async fn run(&self, setup: &Setup) -> Result<(), Failure> {
        match tokio::time::timeout(LIMIT, (self.run)(setup)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(format!("it did not come to an end within {LIMIT:?}"))),
        }
    }
}

/// All of them, in the order of the table.
#[must_use]
pub fn behaviours() -> &'static [Behaviour] {
    BEHAVIOURS
}

/// Plays one behaviour as a test.
///
/// # Panics
/// When the setup could not be made, the promise was not kept, or there is no such
/// behaviour.
pub async fn check(subject: &str, name: &str, setup: impl Future<Output = Result<Setup, Failure>>) {
    let behaviour = behaviours()
        .iter()
        .find(|behaviour| behaviour.subject == subject && behaviour.name == name);
    let Some(behaviour) = behaviour else {
        panic!("there is no behaviour {subject}::{name}")
    };
    let setup = match setup.await {
        Ok(setup) => setup,
        Err(failure) => panic!("{subject}::{name} could not begin: {failure}"),
    };
    if let Some(why) = behaviour.not_applicable(&setup) {
        println!("{subject}::{name} does not apply: {why}");
        return;
    }
    if let Err(failure) = behaviour.run(&setup).await {
        panic!("{subject}::{name} ({}): {failure}", behaviour.says);
    }
}

macro_rules! table {
    ([] $($subject:ident { $($name:ident [$($need:ident),*] $says:literal;)* })*) => {
        static BEHAVIOURS: &[Behaviour] = &[$($(
            Behaviour {
                subject: stringify!($subject),
                name: stringify!($name),
                says: $says,
                needs: &[$(Need::$need),*],
                run: |setup| Box::pin($subject::$name(setup)),
            },
        )*)*];
    };
}

/// Calls a macro with what it was given and the whole list:
/// `subject { name [needs] "promise"; }`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_behaviours {
    ([$($callback:tt)+] $($given:tt)*) => {
        $($callback)+! { [$($given)*]
connect {
    accepted [] "a broker accepts; no session was there, and messages go both ways";
    refused_by_code [] "each reason of a refusal is told apart";
    bad_credentials [Passwords] "a wrong password is a refusal, and does not show in the error";
    unreachable [] "where nobody listens, it says so";
    host_not_found [Sockets] "a host name that is not known is told apart";
    silence_is_a_timeout [] "a peer that accepts and says nothing ends the attempt in time";
    session_present [] "a kept session is reported, a clean one is not";
    missing_transports_are_refused [MissingTransport] "a transport that the adapter lacks is Unsupported";
    connections_have_numbers_of_their_own [ManualAck] "tokens of two connections differ";
    capabilities_are_stable [] "the capabilities are the same before, during and after";
}
transport {
    each_carries_messages [Transports] "each transport that the adapter has carries messages both ways, large ones too";
    bad_certificates_are_told_apart [Tls, Transports] "a certificate that is expired, early, of another host or of nobody trusted";
    client_certificates_are_shown [Tls, Transports] "a client certificate lets in; one that is missing or foreign is told apart";
    files_are_told_apart [Tls, Transports] "files that cannot be read, are not PEM, or do not belong together";
    files_are_read_each_time [Tls, Transports] "renewed files are taken over by the next attempt";
    a_peer_without_tls_is_told [Tls, Sockets] "a port without TLS is told, and so is TLS where none was expected";
}
publish {
    every_level_makes_the_round [] "each QoS arrives once, at its level, and its receipt settles";
    missing_qos2_is_refused [NoQos2] "QoS 2 is Unsupported where the adapter lacks it";
    the_lower_level_is_delivered [] "a delivery has the lower QoS of publish and subscription";
    empty_payload [] "an empty payload arrives as one";
    payloads_are_exact [] "payloads of 0 B to 2 MiB arrive byte by byte";
    topics_are_utf8 [] "topics of many scripts, with spaces and dots, arrive as they are";
    retained_has_its_flag [] "a retained message has the flag for who comes later, and only then";
    retained_is_cleared [] "an empty retained payload clears";
    too_large_harms_nothing [] "a message above the limit is TooLarge, unsent, and the link stays up";
    full_gives_the_message_back [] "at the bound the message comes back, and ready() waits for room";
    unacknowledged_is_bounded_too [] "QoS 0 to a peer that does not read is bounded";
    order_is_kept [] "messages of one QoS arrive in the order in which they were taken over";
    many_publishers [] "many publishers at once: every receipt settles, nothing is lost or mixed up";
}
subscribe {
    answers_are_in_order [] "150 filters: each is granted as asked, in the order of asking";
    refused_filter [] "a refused filter is an answer of its own, and never taken as granted";
    no_filters_is_no_error [] "an empty list is answered at once";
    unsubscribed_is_silent [] "after unsubscribe nothing arrives any more";
    no_answer_is_a_timeout [] "without an answer it is Timeout, and the link stays up";
    waiters_learn_of_the_end [] "who waits for an answer learns that the link ended";
}
ack {
    withheld_comes_again [ManualAck] "what was not acknowledged comes again with the session, as dup";
    late_is_as_good [ManualAck] "an acknowledgement long after, behind others, counts";
    out_of_order_is_complete [ManualAck] "acknowledged backwards, nothing comes again";
    a_gap_comes_again [ManualAck] "what lies unacknowledged between others comes again";
    stale_token_does_nothing [ManualAck] "a token of an old connection acknowledges nothing on a new one";
    second_use_does_nothing [ManualAck] "a token used twice acknowledges nothing else";
    tokens_are_for_acknowledged_levels [] "QoS 0 has no token; QoS 1 and 2 have one with manual_ack only";
    acknowledged_on_receipt [NoManualAck] "without manual_ack what was delivered does not come again";
    reading_pauses_at_the_budget [ManualAck] "at the budget reading pauses, writing goes on, and reading after it";
    one_message_always_fits [ManualAck] "a message above the byte budget is delivered all the same";
}
qos2 {
    outbound_resumes_exactly_once [Qos2, Qos2Resume] "cut again and again, each QoS 2 publish arrives once";
    inbound_resumes_exactly_once [Qos2, Qos2Resume, ManualAck] "cut again and again, each acknowledged delivery came once";
    nothing_is_resumed [Qos2, NoQos2Resume] "without qos2_resume no flow is handed on";
    session_lost_is_forgotten [Qos2, Qos2Resume] "without its session at the broker, no flow goes on";
}
end {
    once_and_last [] "Ended comes once, says why, and nothing follows";
    not_connected_afterwards [] "after every kind of end each call is NotConnected";
    receipts_settle_when_cut [] "a cut settles every receipt, with what is known of the message";
    receipts_settle_when_the_broker_dies [] "a killed broker settles every receipt";
    receipts_settle_at_close [] "close settles every receipt";
    the_broker_goes_away [] "a broker that stops ends the link; it can be connected to when it is back";
    the_client_id_is_taken_over [] "a second connection with the client id ends the first";
    dropped_handles_close [] "without handles the connection ends";
    dropped_inbound_closes [] "without its stream the connection ends";
    disconnect_again_is_no_error [] "a second disconnect is no error; after another end it is";
}
will {
    speaks_after_a_cut [] "a cut link lets the will speak";
    speaks_after_close [AbruptClose] "close lets the will speak";
    is_silent_after_close [NoAbruptClose] "without abrupt_close the will does not speak after close";
    is_silent_after_disconnect [] "disconnect writes out what was taken over, and no will speaks";
}
keepalive {
    idle_link_stays_up [] "nothing is sent for several keepalives, and the link stays up";
    the_consumer_may_sleep [] "nobody reads the stream for several keepalives, and the link stays up";
    the_broker_is_told_of_it [Sockets] "a client that falls silent is given up by the broker";
    a_silent_broker_is_given_up [] "a broker that stops answering ends the connection";
}
cancel {
    connect_at_every_await [] "a dropped attempt leaves nothing in the way of the next";
    subscribe_at_every_await [] "a dropped subscribe leaves a working connection";
    unsubscribe_at_every_await [] "a dropped unsubscribe leaves a working connection";
    publish_at_every_await [] "a dropped publish leaves a working connection";
    ready_at_every_await [] "a dropped ready() takes nobody's turn";
    disconnect_at_every_await [] "a dropped disconnect goes on by itself";
}
        }
    };
}
crate::__conformance_behaviours! { [table] }

/// One test for each behaviour, in a module for each subject: the attribute of a test,
/// and an expression whose future makes a [`Setup`].
///
/// ```
/// use tars_testkit::conformance::{Setup, conformance_suite};
///
/// conformance_suite!(#[tokio::test(start_paused = true)] Setup::memory());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance_suite {
    (#[$test:meta] $setup:expr) => {
        $crate::__conformance_behaviours! { [$crate::__conformance_tests] [$test] [$setup] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    // The attribute and the expression are used in every module: taken apart one by one.
    ([$test:tt $setup:tt] $($subject:ident { $($name:ident [$($need:ident),*] $says:literal;)* })*) => {
        $($crate::__conformance_tests! { @subject $test $setup $subject { $($name)* } })*
    };
    (@subject $test:tt $setup:tt $subject:ident { $($name:ident)* }) => {
        mod $subject {
            #[allow(unused_imports)]
            use super::*;
            $($crate::__conformance_tests! { @test $test $setup $subject $name })*
        }
    };
    (@test [$test:meta] [$setup:expr] $subject:ident $name:ident) => {
        #[$test]
        async fn $name() {
            $crate::conformance::check(stringify!($subject), stringify!($name), $setup).await;
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_behaviour_has_a_name_of_its_own() {
        let names: BTreeSet<_> = behaviours().iter().map(|b| (b.subject, b.name)).collect();
        assert_eq!(names.len(), behaviours().len());
        assert!(names.len() > 50);
    }
}
