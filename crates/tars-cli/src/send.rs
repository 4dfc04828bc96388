//! `tars send`: one event.

use std::io::{self, Read as _};

use tars_mqtt::{Client, Data};

use crate::args::{EventArgs, SendArgs};
use crate::exit::Failure;
use crate::output;

/// Bytes that are read from stdin at most: more than MQTT can carry.
const MOST: u64 = 268_435_456;

/// See the module.
pub(crate) async fn run(args: SendArgs) -> Result<(), Failure> {
    let SendArgs { event, broker, retain } = args;
    // Before connecting: a slip of the keyboard needs no broker.
    let data = event.data()?;
    let client = Client::new(broker.config("send", event.source.as_deref())?)?;
    client
        .run_until(async |client: Client| {
            let publish = client.publish_event(event.topic.as_str(), &event.event_type, &data);
            let mut publish = publish.qos(event.qos).retain(retain);
            if let Some(id) = event.correlation_id {
                publish = publish.correlation_id(id);
            }
            output::line(&publish.await?)
        })
        .await
}

impl EventArgs {
    /// The data, from the command line or stdin.
    pub(crate) fn data(&self) -> Result<Data, Failure> {
        let mut text = String::new();
        let text = match self.data.as_str() {
            "-" => {
                io::stdin().lock().take(MOST).read_to_string(&mut text)?;
                text.as_str()
            }
            given => given,
        };
        serde_json::from_str(text).map_err(|error| {
            let what = format!("the data is no JSON object: {error}; expected something like '{{\"text\":\"Hello\"}}'");
            Failure::Usage(what)
        })
    }
}
