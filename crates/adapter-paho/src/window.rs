//! How much is under way at one time. Pure counting.

use tars_ports::{Message, QoS};

/// QoS 0 messages that paho has and has not reported as written.
const MAX_UNWRITTEN: usize = 128;
/// The same in bytes; one message always fits.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Window {
    max_inflight: usize,
    max_qos2: usize,
    inflight: usize,
    qos2: usize,
    unwritten: usize,
    unwritten_bytes: usize,
}

impl Window {
    pub(crate) fn new(max_inflight: u16, max_qos2: u16) -> Self {
        Self {
            max_inflight: usize::from(max_inflight.max(1)),
            max_qos2: usize::from(max_qos2.max(1)),
            inflight: 0,
            qos2: 0,
            unwritten: 0,
            unwritten_bytes: 0,
        }
    }

    /// Whether this one may leave now; if so it counts.
    pub(crate) fn admit(&mut self, message: &Message) -> bool {
        let size = message.payload.len();
        match message.qos {
            QoS::AtMostOnce => {
                if self.unwritten >= MAX_UNWRITTEN || self.unwritten_bytes >= MAX_UNWRITTEN_BYTES {
                    return false;
                }
                self.unwritten += 1;
                self.unwritten_bytes += size;
            }
            // A broker that counts QoS 1 against the same window (Mosquitto) drops what
            // exceeds it, and acknowledges it all the same: so nothing that is
            // acknowledged is sent while QoS 2 fills the window.
            _ if self.inflight >= self.max_inflight || self.qos2 >= self.max_qos2 => return false,
            qos => {
                self.inflight += 1;
                self.qos2 += usize::from(qos == QoS::ExactlyOnce);
            }
        }
        true
    }

    /// It is written (QoS 0), or confirmed.
    pub(crate) fn release(&mut self, qos: QoS, size: usize) {
        match qos {
            QoS::AtMostOnce => {
                self.unwritten -= 1;
                self.unwritten_bytes -= size;
            }
            qos => {
                self.inflight -= 1;
                self.qos2 -= usize::from(qos == QoS::ExactlyOnce);
            }
        }
    }

    /// QoS 0 messages that paho has not reported as written.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// QoS 1 and 2 messages that are not confirmed.
    pub(crate) fn inflight(&self) -> usize {
        self.inflight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(qos: QoS, size: usize) -> Message {
        Message::new("t".parse().expect("a topic name"), vec![0; size]).with_qos(qos)
    }

    #[test]
    fn qos_2_that_fills_its_window_holds_qos_1_back_and_not_qos_0() {
        let mut window = Window::new(3, 1);
        assert!(window.admit(&message(QoS::ExactlyOnce, 1)));
        assert!(!window.admit(&message(QoS::AtLeastOnce, 1)));
        assert!(window.admit(&message(QoS::AtMostOnce, 1)));
        window.release(QoS::ExactlyOnce, 1);
        for _ in 0..3 {
            assert!(window.admit(&message(QoS::AtLeastOnce, 1)));
        }
        assert!(!window.admit(&message(QoS::AtLeastOnce, 1)));
        assert_eq!((window.inflight(), window.unwritten()), (3, 1));
    }

    #[test]
    fn one_large_message_fits_and_a_second_waits() {
        let mut window = Window::new(1, 1);
        assert!(window.admit(&message(QoS::AtMostOnce, MAX_UNWRITTEN_BYTES * 2)));
        assert!(!window.admit(&message(QoS::AtMostOnce, 1)));
        window.release(QoS::AtMostOnce, MAX_UNWRITTEN_BYTES * 2);
        assert!(window.admit(&message(QoS::AtMostOnce, 1)));
    }
}
