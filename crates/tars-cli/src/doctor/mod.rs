//! `tars doctor`: step by step from the variables to a message and back, up to the first thing
//! that is in the way.
//!
//! It changes nothing in the fleet: its client has an id of its own, publishes to a scratch topic
//! and retains nothing. Only `--as-service` takes the id of the service, and says so.

mod client_id;
mod network;
mod report;
mod session;
mod tls;

use tars_mqtt::Config;

use self::report::{Finding, Report, Step};
use self::session::Doctor;
use crate::args::DoctorArgs;
use crate::broker::suffix;
use crate::exit::Failure;

/// See the module.
pub(crate) async fn run(args: DoctorArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.json);
    // The finding of the step that failed is in the report; here it ends the way.
    let _ = examine(&args, &mut report).await?;
    report.finish()
}

/// `None` when a step failed.
async fn examine(args: &DoctorArgs, report: &mut Report) -> Result<Option<()>, Failure> {
    let Some(service) = report.step(Step::Variables, async { variables(args) }).await? else {
        return Ok(None);
    };
    if args.as_service && !service.clean_session {
        let what = "--as-service would receive the messages that the broker keeps for the service \
                    (MQTT_CLEAN_SESSION=false), and they would be lost to it";
        return Err(Failure::Usage(what.to_owned()));
    }
    let broker = &service.broker;
    let limit = args.broker.connect_timeout;
    let looked_up = report.step(Step::Lookup, network::look_up(broker, limit)).await?;
    let Some(addresses) = looked_up else { return Ok(None) };
    if report
        .step(Step::Tcp, network::reach(broker, &addresses, limit))
        .await?
        .is_none()
    {
        return Ok(None);
    }
    if service.broker.transport.is_encrypted() {
        let shaken = report.step(Step::Tls, tls::shake_hands(&service, limit)).await?;
        if shaken.is_none() {
            return Ok(None);
        }
    }
    let doctor = Doctor::new(own(&service, args), args)?;
    let examined = async {
        if report.step(Step::Connect, doctor.connect()).await?.is_none() {
            return Ok(None);
        }
        let mut steps = async || -> Result<Option<()>, Failure> {
            let Some(mut echoes) = report.step(Step::Subscribe, doctor.subscribe()).await? else {
                return Ok(None);
            };
            if report.step(Step::Echo, doctor.echo(&mut echoes)).await?.is_none() {
                return Ok(None);
            }
            if let Some(size) = args.payload
                && report
                    .step(Step::Payload, doctor.payload(size, &mut echoes))
                    .await?
                    .is_none()
            {
                return Ok(None);
            }
            report
                .step(Step::ClientId, client_id::look(&doctor, &service, args))
                .await
        };
        steps().await
    };
    let done = examined.await;
    doctor.end().await;
    done
}

fn variables(args: &DoctorArgs) -> Result<(Config, String), Finding> {
    let mut builder = args.broker.as_a_service();
    if let Some(id) = &args.broker.client_id {
        builder = builder.client_id(id);
    }
    let config = builder.build().map_err(|error| {
        Finding::new(error.to_string())
            .check("the environment of the service, and the file .env in its working directory")
            .check("docs/configuration.md has every variable with its rule")
    })?;
    let mut said = format!(
        "{}, client id {:?}, {}",
        config.broker,
        config.client_id,
        login(&config)
    );
    for warning in config.warnings() {
        said.push_str(&format!("\n! {warning}"));
    }
    Ok((config, said))
}

fn login(config: &Config) -> String {
    match (&config.credentials, &config.password_file) {
        (None, _) => "without user and password".to_owned(),
        (Some(credentials), Some(file)) => {
            format!("user {:?}, password from {}", credentials.username, file.display())
        }
        (Some(credentials), None) => {
            let password = if credentials.password.is_some() {
                "with"
            } else {
                "without"
            };
            format!("user {:?} {password} password", credentials.username)
        }
    }
}

/// What the doctor's own client is made with: all that decides whether a connection comes about
/// is the service's, all that leaves traces is not.
fn own(service: &Config, args: &DoctorArgs) -> Config {
    let mut own = service.clone();
    args.broker.quieten(&mut own);
    // A connection that ends is a finding.
    own.reconnect = false;
    if !args.as_service {
        own.client_id = format!("{}-doctor-{}", service.client_id, suffix());
    }
    own
}
