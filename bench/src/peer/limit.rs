//! The broker's own limit: PUBLISH frames of exactly the size of the others, encoded before the
//! clock starts, written to and read from plain sockets in large pieces.

use std::io::{BufRead as _, Read, Write};
use std::net::TcpStream;

use anyhow::{Result, bail};
use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish, Subscribe};

use super::talk::say;
use super::{Job, Report, Side};
use crate::clock;
use crate::event::{Plain, Transcript};

/// Frames in one write.
const BATCH: u64 = 256;

pub(super) fn run(job: &Job) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", job.port))?;
    stream.set_nodelay(true)?;
    connect(&mut stream, job)?;
    let mut lines = std::io::stdin().lock().lines();
    let mut hear = || lines.next().transpose();
    let frame = frame(job)?;
    let mut report = Report::default();
    if job.side == Side::Subscribe {
        let mut subscribe = Subscribe::new(job.topic.clone(), QoS::AtMostOnce);
        subscribe.pkid = 1;
        let mut bytes = BytesMut::new();
        subscribe.write(&mut bytes).map_err(not_encoded)?;
        stream.write_all(&bytes)?;
        expect(&mut stream, 5, 0x90)?;
    }
    say("ready")?;
    hear()?;
    let cpu = clock::cpu();
    match job.side {
        Side::Publish => {
            report.first = clock::now();
            let batch = frame.repeat(BATCH as usize);
            let mut left = job.messages;
            while left > 0 {
                let now = left.min(BATCH);
                stream.write_all(&batch[..frame.len() * now as usize])?;
                left -= now;
            }
            report.count = job.messages;
        }
        Side::Subscribe => {
            let mut buffer = vec![0; 256 * 1024];
            let (mut left, all) = (frame.len() as u64 * job.messages, frame.len() as u64);
            while left > 0 {
                let read = stream.read(&mut buffer)? as u64;
                if read == 0 {
                    bail!("the broker closed the connection with {left} bytes to come");
                }
                left = left.saturating_sub(read);
            }
            report.count = job.messages - left / all;
        }
        side => bail!("the limit has no side {side:?}"),
    }
    report.last = clock::now();
    say("done")?;
    hear()?;
    report.cpu = clock::cpu() - cpu;
    report.resident = clock::resident();
    say(&serde_json::to_string(&report)?)
}

fn connect(stream: &mut TcpStream, job: &Job) -> Result<()> {
    let mut bytes = BytesMut::new();
    Connect::new(job.client_id()).write(&mut bytes).map_err(not_encoded)?;
    stream.write_all(&bytes)?;
    expect(stream, 4, 0x20)
}

/// Reads an answer of this length that begins so.
fn expect(stream: &mut TcpStream, length: usize, first: u8) -> Result<()> {
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    if answer[0] != first {
        bail!("the broker answered {answer:02x?}");
    }
    Ok(())
}

fn frame(job: &Job) -> Result<Vec<u8>> {
    let mut envelope = Plain::new("bench", Transcript::of_size(job.size));
    // Both sides make it: it has to have one size.
    envelope.ts = 1_697_472_000.125;
    let payload = serde_json::to_vec(&envelope)?;
    let mut bytes = BytesMut::new();
    let publish = Publish::new(job.topic.clone(), QoS::AtMostOnce, payload);
    publish.write(&mut bytes).map_err(not_encoded)?;
    Ok(bytes.to_vec())
}

fn not_encoded(error: rumqttc::mqttbytes::Error) -> anyhow::Error {
    anyhow::anyhow!("a packet could not be encoded: {error}")
}
