//! Handlers that hold on to what they must not.

use std::rc::Rc;

use tars_mqtt::{Client, InboundMessage};

fn not_send(client: Client) {
    let shared = Rc::new(1);
    let _ = client.subscribe("a", move |_: InboundMessage| { //~ `Rc<i32>`
        let _ = &shared;
        async {}
    });
}

fn not_send_meanwhile(client: Client) {
    let _ = client.subscribe("a", async |_: InboundMessage| { //~ future
        let held = Rc::new(1);
        std::future::ready(()).await;
        drop(held);
    });
}

fn borrowed(client: Client) {
    let text = String::new();
    let _ = client.subscribe("a", async |_: InboundMessage| println!("{text}")); //~ `text`
}

// To be had: `move |…| { let text = text.clone(); async move { … } }`.
fn lent(client: Client) {
    let text = String::new();
    let _ = client.subscribe("a", async move |_: InboundMessage| println!("{text}")); //~ async closure
}

fn main() {
    let _ = (not_send, not_send_meanwhile, borrowed, lent);
}
