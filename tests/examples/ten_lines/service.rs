use {serde::Deserialize, serde_json::json, tars_mqtt::{Client, Config, Envelope, Error}};
#[derive(Deserialize)] struct Wake { word: String }
#[tokio::main]
async fn main() -> Result<(), Error> {
    Client::run(Config::from_env()?, async |client: Client| {
        client.subscribe("wake/event", async |wake: Envelope<Wake>| println!("{}", wake.data.word)).await?;
        client.publish_event("wake/ready", "wake.ready", &json!({"ok": true})).await?;
        client.until_signal().await
    }).await
}
