//! Threads that wait for the disk, so that no ring thread has to.

use super::mailbox::Waker;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use sys::ring::Descriptor;
use sys::transfer;

/// What came of it, once it is over.
pub type Outcome = Arc<OnceLock<io::Result<()>>>;

struct Order {
    file: Descriptor,
    offset: u64,
    length: u64,
    outcome: Outcome,
    waker: Arc<Waker>,
}

/// The threads' order book. They end when its last clone is dropped.
#[derive(Clone)]
pub struct ReadAhead(Sender<Order>);

impl ReadAhead {
    /// Starts the threads.
    pub fn start(threads: usize) -> io::Result<ReadAhead> {
        // Bounded by the connections: each waits for its one order.
        let (sender, receiver) = unbounded();
        for number in 0..threads {
            let orders: Receiver<Order> = receiver.clone();
            std::thread::Builder::new()
                .name(format!("read-ahead-{number}"))
                .spawn(move || orders.iter().for_each(serve))?;
        }
        Ok(ReadAhead(sender))
    }

    /// Brings bytes of a file into memory, then wakes the connection.
    pub fn order(&self, file: Descriptor, offset: u64, length: u64, waker: Arc<Waker>) -> Outcome {
        let outcome = Outcome::default();
        let order = Order { file, offset, length, outcome: Arc::clone(&outcome), waker };
        self.0.send(order).expect("the threads live as long as there is a sender");
        outcome
    }
}

fn serve(order: Order) {
    let result = transfer::read_ahead(&order.file, order.offset, order.length);
    // Nobody else sets it.
    order.outcome.set(result).expect("an outcome is set once");
    order.waker.wake();
}
