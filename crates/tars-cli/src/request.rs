//! `tars request`: one event, and the reply to it.

use std::io::IsTerminal as _;

use serde_json::{Value, json};
use tars_mqtt::{Client, Data};

use crate::args::RequestArgs;
use crate::exit::Failure;
use crate::output;

/// See the module.
pub(crate) async fn run(args: RequestArgs) -> Result<(), Failure> {
    let event = &args.event;
    let data = event.data()?;
    let client = Client::new(args.broker.config("request", event.source.as_deref())?)?;
    client
        .run_until(async |client: Client| {
            let mut request = client
                .request::<Data>(event.topic.as_str(), &event.event_type, &data)
                .reply_on(&args.reply_on)
                .timeout(args.timeout)
                .qos(event.qos);
            if let Some(id) = &event.correlation_id {
                request = request.correlation_id(id);
            }
            if let Some(event_type) = &args.reply_type {
                request = request.reply_type(event_type);
            }
            let reply = tokio::select! {
                reply = request => reply?,
                stopped = client.until_signal() => return stopped.map_err(Failure::from),
            };
            let value = match args.envelope {
                true => json!({
                    "id": reply.id, "type": reply.event_type, "ts": reply.ts,
                    "source": reply.source, "data": reply.data,
                }),
                false => Value::Object(reply.data),
            };
            // For a person on several lines, for a pipe on one.
            match std::io::stdout().is_terminal() {
                true => output::line(&format!("{value:#}")),
                false => output::json(&value),
            }
        })
        .await
}
