//! The broker's own limit: PUBLISH frames of exactly the size of the others, encoded before the
//! clock starts, written to and read from plain blocking sockets.
//!
//! Between two reads it sleeps. A reader that waits in `read` is woken for nearly every message, and it is
//! the broker's `write` that pays for that: such a reader makes the broker slower than a client that is
//! busy with its messages. So messages and acknowledgements gather in the socket meanwhile, and are
//! read, and answered, many at once.

use std::io::{BufRead as _, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Connect, Publish, Subscribe};

use super::raw_rumqttc::qos;
use super::talk::say;
use super::{Job, Report, Side};
use crate::clock;
use crate::event::{Plain, Transcript};

/// Frames in one write at QoS 0.
const BATCH: u16 = 256;
/// Between two reads of messages: some dozens come meanwhile, far below what the broker has in flight.
const GATHER_MESSAGES: Duration = Duration::from_millis(1);
/// Between two reads of acknowledgements: at most a part of the window comes meanwhile, so that
/// the broker always has something to do.
const GATHER_ACKS: Duration = Duration::from_micros(500);

pub(super) fn run(job: &Job) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", job.port))?;
    stream.set_nodelay(true)?;
    send(&mut stream, |bytes| Connect::new(job.client_id()).write(bytes))?;
    expect(&mut stream, 4, 0x20)?;
    if job.side == Side::Subscribe {
        let mut subscribe = Subscribe::new(job.topic.clone(), qos(job));
        subscribe.pkid = 1;
        send(&mut stream, |bytes| subscribe.write(bytes))?;
        expect(&mut stream, 5, 0x90)?;
    }
    let mut lines = std::io::stdin().lock().lines();
    let mut hear = || lines.next().transpose();
    // Made before the clock starts.
    let frames = match (job.side, job.qos) {
        (Side::Publish, 0) => vec![frame(job, 0)?; usize::from(BATCH)],
        (Side::Publish, _) => (1..=job.window).map(|id| frame(job, id)).collect::<Result<_>>()?,
        (Side::Subscribe, _) => vec![frame(job, 1)?],
        (side, _) => bail!("the limit has no side {side:?}"),
    };
    say("ready")?;
    hear()?;
    let cpu = clock::cpu();
    let mut report = Report {
        first: clock::now(),
        ..Report::default()
    };
    match (job.side, job.qos) {
        (Side::Subscribe, _) => subscribe(&mut stream, job, &frames[0])?,
        (_, 0) => publish_at_most_once(&mut stream, job, &frames)?,
        _ => publish_at_least_once(&mut stream, job, &frames)?,
    }
    report.count = job.messages;
    report.last = clock::now();
    say("done")?;
    hear()?;
    report.cpu = clock::cpu() - cpu;
    report.resident = clock::resident();
    say(&serde_json::to_string(&report)?)
}

fn publish_at_most_once(stream: &mut TcpStream, job: &Job, frames: &[Vec<u8>]) -> Result<()> {
    let (batch, length) = (frames.concat(), frames[0].len());
    let mut left = job.messages as usize;
    while left > 0 {
        let now = left.min(frames.len());
        stream.write_all(&batch[..now * length])?;
        left -= now;
    }
    Ok(())
}

/// With as many in flight as there are frames, whose packet ids are those from 1.
fn publish_at_least_once(stream: &mut TcpStream, job: &Job, frames: &[Vec<u8>]) -> Result<()> {
    const PUBACK: usize = 4;
    let (ring, length, window) = (frames.concat(), frames[0].len(), frames.len());
    let (mut sent, mut confirmed, messages) = (0, 0, job.messages as usize);
    let mut input = Input::new();
    while confirmed < messages {
        let end = messages.min(confirmed + window);
        while sent < end {
            let at = sent % window;
            let now = (end - sent).min(window - at);
            stream.write_all(&ring[at * length..(at + now) * length])?;
            sent += now;
        }
        sleep(GATHER_ACKS);
        confirmed = input
            .read(stream, PUBACK)?
            .chunks_exact(PUBACK)
            .try_fold(confirmed, |known, ack| {
                let [high, low] = ((known % window + 1) as u16).to_be_bytes();
                ensure!(
                    ack == [0x40, 2, high, low],
                    "the broker sent {ack:02x?} in answer to publish {known}"
                );
                Ok(known + 1)
            })?;
    }
    Ok(())
}

/// Reads frames of the size of this one, and acknowledges those of one read at once.
fn subscribe(stream: &mut TcpStream, job: &Job, frame: &[u8]) -> Result<()> {
    let packet_id = frame.len() - payload(job)?.len() - 2;
    let (mut input, mut acks, mut left) = (Input::new(), Vec::new(), job.messages);
    while left > 0 {
        sleep(GATHER_MESSAGES);
        acks.clear();
        for publish in input.read(stream, frame.len())?.chunks_exact(frame.len()) {
            ensure!(publish[..3] == frame[..3], "the broker sent {:02x?}", &publish[..3]);
            if job.qos > 0 {
                acks.extend([0x40, 2, publish[packet_id], publish[packet_id + 1]]);
            }
            left -= 1;
        }
        stream.write_all(&acks)?;
    }
    Ok(())
}

/// What has been read, in pieces of one length.
struct Input {
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
}

impl Input {
    fn new() -> Self {
        Self {
            buffer: vec![0; 1 << 20],
            filled: 0,
            taken: 0,
        }
    }

    /// Reads once. All pieces that are complete.
    fn read(&mut self, stream: &mut TcpStream, length: usize) -> Result<&[u8]> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        let read = stream.read(&mut self.buffer[self.filled..])?;
        ensure!(read > 0, "the broker closed the connection");
        self.filled += read;
        self.taken = self.filled - self.filled % length;
        Ok(&self.buffer[..self.taken])
    }
}

fn send(
    stream: &mut TcpStream,
    write: impl FnOnce(&mut BytesMut) -> Result<usize, rumqttc::mqttbytes::Error>,
) -> Result<()> {
    Ok(stream.write_all(&encoded(write)?)?)
}

fn encoded(write: impl FnOnce(&mut BytesMut) -> Result<usize, rumqttc::mqttbytes::Error>) -> Result<BytesMut> {
    let mut bytes = BytesMut::new();
    match write(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => bail!("a packet could not be encoded: {error}"),
    }
}

/// Reads an answer of this length that begins so.
fn expect(stream: &mut TcpStream, length: usize, first: u8) -> Result<()> {
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    ensure!(answer[0] == first, "the broker answered {answer:02x?}");
    Ok(())
}

/// A PUBLISH; of the packet id only QoS 1 takes notice.
fn frame(job: &Job, packet_id: u16) -> Result<Vec<u8>> {
    let mut publish = Publish::new(job.topic.clone(), qos(job), payload(job)?);
    publish.pkid = packet_id;
    Ok(encoded(|bytes| publish.write(bytes))?.to_vec())
}

fn payload(job: &Job) -> Result<Vec<u8>> {
    let mut envelope = Plain::new("bench", Transcript::of_size(job.size));
    // Both sides make it: it has to have one size.
    envelope.ts = 1_697_472_000.125;
    Ok(serde_json::to_vec(&envelope)?)
}
