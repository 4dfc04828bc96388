//! The last step: does somebody else have the client id?

use tars_mqtt::contracts::{health_topic, unix_now};
use tars_mqtt::{Config, HealthStatus, State};
use tokio::time::timeout;

use super::report::Found;
use super::session::Doctor;
use crate::args::DoctorArgs;
use crate::output::tame;
use crate::times::span;

/// As the service: whether the connection lasts. Else what the broker keeps of the service.
pub(super) async fn look(doctor: &Doctor, service: &Config, args: &DoctorArgs) -> Found<()> {
    let id = &service.client_id;
    if args.as_service {
        let mut state = doctor.client.state();
        return match timeout(args.hold, state.until(State::Disconnected)).await {
            Err(_) => Ok(((), format!("nobody else connected as {id:?} within {:?}", args.hold))),
            Ok(_) => Err(doctor.lost_at("while it did nothing")),
        };
    }
    let said = match health_topic(id) {
        Err(_) => format!("{id:?} is no level of a topic, so there is no health to look at"),
        Ok(topic) => match doctor.client.retained::<HealthStatus>(topic).await {
            Ok(Some(health)) => told(id, &health.data),
            Ok(None) => format!("no health is kept of {id:?}: it never ran, or has MQTT_ENABLE_HEALTH off"),
            Err(error) => format!("what the broker keeps of {id:?} is not known: {error}"),
        },
    };
    let hint = "--as-service takes the id for a moment and sees whether another client wants it";
    Ok(((), format!("{said}\n{hint}")))
}

fn told(id: &str, health: &HealthStatus) -> String {
    let ago = span(unix_now() - health.timestamp);
    let event = tame(health.event.as_deref().unwrap_or("nothing more"));
    match (health.ok, health.event.as_deref()) {
        (true, _) => format!("a service with the id {id:?} is running: it said {event:?} {ago} ago"),
        (false, Some("offline" | "shutdown")) => format!("nobody runs as {id:?}: {event:?} since {ago}"),
        (false, _) => {
            let error = tame(health.error.as_deref().unwrap_or("no reason"));
            format!("a service with the id {id:?} is running and not well: {event:?}, {error}, {ago} ago")
        }
    }
}
