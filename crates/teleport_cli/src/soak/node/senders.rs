//! Senders: numbered messages to all destinations, sent in every way there is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use teleport::{Acknowledgement, DeliveryError, Mailbox, NodeName, SendError, SendOptions};

use super::book::{Author, Book, Place};
use super::inboxes::Parcel;
use super::{INBOXES, inbox_name, node_name};
use crate::args::Plant;
use crate::bench::child::NodeError;

/// After a message that was refused.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// The longest pause, so that connections are idle now and then.
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// So many messages of its first sender are all right at a node that plays a fault.
const PLANTED_AFTER: u64 = 50;

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Acknowledged,
    Cast,
    Nosuspend,
    Timeout,
    Broadcast,
}

struct Sender {
    book: Arc<Book>,
    name: Author,
    mailbox: Mailbox,
    places: Vec<Arc<Place>>,
    random: SmallRng,
    serial: u64,
    has_played: bool,
}

/// A sender that begins when this is polled, and ends when it is calm and all its destinations have confirmed a last message.
pub(super) fn open(book: &Arc<Book>, worker: u16) -> Result<impl Future<Output = ()> + use<>, NodeError> {
    let mailbox = book.node.mailbox().map_err(NodeError::teleport("cannot start a sender"))?;
    let places = book.places.iter().filter(|place| place.worker == worker).cloned().collect();
    let (name, random) = (book.author(worker), book.random("sender", worker));
    let sender =
        Sender { book: Arc::clone(book), name, mailbox, places, random, serial: 0, has_played: false };
    Ok(sender.run())
}

impl Sender {
    async fn run(mut self) {
        while !self.book.is_calm() || self.is_to_play() {
            match self.send_one().await {
                Ok(()) => {}
                Err(SendError::NotRunning) => return,
                Err(_) => self.book.pause(AFTER_REFUSAL).await,
            }
            if self.random.random_ratio(1, 50) {
                self.book.pause(self.random.random_range(Duration::ZERO..LONGEST_PAUSE)).await;
            }
        }
        for place in self.places.clone() {
            self.send_last(&place).await;
        }
    }

    async fn send_one(&mut self) -> Result<(), SendError> {
        let way = match self.random.random_range(0..100) {
            0..55 => Way::Plain,
            55..75 => Way::Acknowledged,
            75..85 => Way::Cast,
            85..91 => Way::Nosuspend,
            91..95 => Way::Timeout,
            _ => Way::Broadcast,
        };
        let place = Arc::clone(&self.places[self.random.random_range(0..self.places.len())]);
        if way == Way::Broadcast {
            return self.broadcast(place.inbox).await;
        }
        let number = place.next();
        let parcel = self.parcel(vec![(place.node, number)]);
        if self.plays() {
            return self.play(&place, &parcel).await;
        }
        let options = match way {
            Way::Nosuspend => SendOptions::default().nosuspend(),
            Way::Timeout => SendOptions::default().timeout(Duration::from_millis(50)),
            _ => SendOptions::default(),
        };
        let process = self.mailbox.process();
        match way {
            Way::Acknowledged => {
                let ack = process.send_acknowledged(&place.address, &parcel, options).await?;
                self.follow(ack, Arc::clone(&place), number);
            }
            Way::Cast => process.cast(&place.address, &parcel).await?,
            _ => process.send_with(&place.address, &parcel, options).await?,
        }
        place.accept(number);
        Ok(())
    }

    fn parcel(&mut self, numbers: Vec<(u16, u64)>) -> Parcel {
        self.serial += 1;
        Parcel::new(&self.book, self.name, self.serial, numbers)
    }

    /// One message to the same-numbered inbox of all other nodes.
    async fn broadcast(&mut self, inbox: u16) -> Result<(), SendError> {
        let places: Vec<_> = self.places.iter().filter(|place| place.inbox == inbox).cloned().collect();
        let parcel = self.parcel(places.iter().map(|place| (place.node, place.next())).collect());
        let names: Vec<NodeName> = places.iter().filter_map(|place| node_name(place.node).ok()).collect();
        let (process, name) = (self.mailbox.process(), inbox_name(inbox));
        let refused = process.abcast(names, &name, &parcel).await?;
        for (place, (node, number)) in places.iter().zip(&parcel.numbers) {
            let is_accepted =
                node_name(*node).is_ok_and(|name| refused.iter().all(|(other, _)| *other != name));
            if is_accepted {
                place.accept(*number);
            }
        }
        // Had all been accepted there would be nothing to wait for.
        refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    fn follow(&self, ack: Acknowledgement, place: Arc<Place>, number: u64) {
        let book = Arc::clone(&self.book);
        book.open_acks.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            match ack.await {
                Ok(()) => place.confirm(number),
                // Its number is missing besides, and no session has ended.
                Err(DeliveryError::NoProcess) => {
                    let (node, inbox) = (place.node, place.inbox);
                    book.complain(format!("was told that node {node} has no inbox {inbox}"));
                }
                Err(_) => {}
            }
            book.open_acks.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// When it is calm there is a way to every node, and all before this message has come.
    async fn send_last(&mut self, place: &Arc<Place>) {
        loop {
            let number = place.next();
            let parcel = self.parcel(vec![(place.node, number)]);
            let sending = self
                .mailbox
                .process()
                .send_acknowledged(&place.address, &parcel, SendOptions::default())
                .await;
            match sending {
                Ok(ack) => {
                    place.accept(number);
                    if ack.await.is_ok() {
                        place.confirm(number);
                        return;
                    }
                }
                Err(SendError::NotRunning) => return,
                Err(_) => {}
            }
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }

    /// A fault that was planted is played, however slow all goes.
    fn is_to_play(&self) -> bool {
        let kinds = [Plant::Lose, Plant::Double, Plant::Swap];
        let is_player = !self.has_played && self.name == (0, 0, 0);
        is_player && self.book.plant.is_some_and(|plant| kinds.contains(&plant))
    }

    fn plays(&self) -> bool {
        self.serial > PLANTED_AFTER && self.is_to_play()
    }

    /// Breaks a promise on purpose.
    async fn play(&mut self, place: &Place, parcel: &Parcel) -> Result<(), SendError> {
        self.has_played = true;
        let number = place.next();
        match self.book.plant {
            Some(Plant::Double) => {
                self.mailbox.send(&place.address, parcel).await?;
                self.mailbox.send(&place.address, parcel).await?;
                place.accept(number);
            }
            Some(Plant::Swap) => {
                let next = self.parcel(vec![(place.node, number + 1)]);
                self.mailbox.send(&place.address, &next).await?;
                place.accept(number + 1);
                self.mailbox.send(&place.address, parcel).await?;
            }
            _ => place.accept(number),
        }
        Ok(())
    }
}

const _: () = assert!(INBOXES > 1, "messages of one sender to several destinations of a node");
