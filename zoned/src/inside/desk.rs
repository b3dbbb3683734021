//! Who in the zone wants its `/out` published, and who is answered when. Pure.
//!
//! One wish is zoned's at a time. Whoever asks meanwhile has written something since, perhaps: all of them
//! together are the next wish. Whoever comes may be hostile to the zone, and finds a bounded number of places.

/// Programs that are served at once; what a script or a few workers need.
pub const CLIENTS_MAX: usize = 16;

/// A client asks while it waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one connection asks once")]
pub struct AskedTwice;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// It has not said.
    Nothing,
    /// To be in the next wish.
    Next,
    /// The answer to this one.
    Wish(u64),
}

#[derive(Debug)]
struct Client<S> {
    socket: S,
    wants: Wants,
}

/// The desk; `S` is how a client is reached.
#[derive(Debug)]
pub struct Desk<S> {
    clients: Vec<Client<S>>,
    asked: Option<u64>,
    wishes: u64,
}

impl<S> Default for Desk<S> {
    fn default() -> Self {
        Self { clients: Vec::new(), asked: None, wishes: 0 }
    }
}

impl<S> Desk<S> {
    /// Somebody comes. When all places are taken somebody goes: who has been silent longest or, if all
    /// wait for an answer, who has just come.
    pub fn come(&mut self, socket: S) -> Option<S> {
        let mut gone = None;
        if self.clients.len() >= CLIENTS_MAX {
            let silent = self.clients.iter().position(|client| client.wants == Wants::Nothing);
            match silent {
                Some(at) => gone = Some(self.clients.remove(at).socket),
                None => return Some(socket),
            }
        }
        self.clients.push(Client { socket, wants: Wants::Nothing });
        gone
    }

    /// All that are here, in the order of their places.
    pub fn clients(&self) -> impl Iterator<Item = &S> {
        self.clients.iter().map(|client| &client.socket)
    }

    /// The one in this place.
    #[must_use]
    pub fn client(&self, at: usize) -> Option<&S> {
        self.clients.get(at).map(|client| &client.socket)
    }

    /// The client in this place asks; gives the wish that zoned is to be told, if that is a new one.
    ///
    /// # Errors
    /// [`AskedTwice`]; an empty place has nobody who may ask either.
    pub fn ask(&mut self, at: usize) -> Result<Option<u64>, AskedTwice> {
        let client = self.clients.get_mut(at).ok_or(AskedTwice)?;
        if client.wants != Wants::Nothing {
            return Err(AskedTwice);
        }
        client.wants = Wants::Next;
        Ok(if self.asked.is_none() { self.next() } else { None })
    }

    /// The client in this place goes.
    pub fn go(&mut self, at: usize) -> Option<S> {
        (at < self.clients.len()).then(|| self.clients.remove(at).socket)
    }

    /// The wish that is zoned's.
    #[must_use]
    pub const fn asked(&self) -> Option<u64> {
        self.asked
    }

    /// zoned has answered this wish: whom to tell, and the next wish.
    pub fn answered(&mut self, wish: u64) -> (Vec<S>, Option<u64>) {
        if self.asked != Some(wish) {
            // Of an earlier zoned.
            return (Vec::new(), None);
        }
        self.asked = None;
        let (told, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(|client| client.wants == Wants::Wish(wish));
        self.clients = rest;
        (told.into_iter().map(|client| client.socket).collect(), self.next())
    }

    /// All who want to be in the next wish are in it now, if there are any.
    fn next(&mut self) -> Option<u64> {
        let wish = self.wishes + 1;
        let mut any = false;
        for client in self.clients.iter_mut().filter(|client| client.wants == Wants::Next) {
            client.wants = Wants::Wish(wish);
            any = true;
        }
        any.then(|| {
            (self.wishes, self.asked) = (wish, Some(wish));
            wish
        })
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whoever_asks_meanwhile_is_in_the_next_wish() {
        let mut desk = Desk::default();
        for name in ["a", "b", "c"] {
            assert_eq!(desk.come(name), None);
        }
        assert_eq!(desk.ask(0), Ok(Some(1)));
        assert_eq!((desk.ask(1), desk.ask(2), desk.ask(1)), (Ok(None), Ok(None), Err(AskedTwice)));
        assert_eq!(desk.answered(9), (vec![], None));
        assert_eq!(desk.answered(1), (vec!["a"], Some(2)));
        assert_eq!(desk.answered(2), (vec!["b", "c"], None));
        assert_eq!(desk.asked(), None);
    }

    #[test]
    fn the_silent_make_place_and_those_who_wait_do_not() {
        let mut desk = Desk::default();
        for number in 0..CLIENTS_MAX {
            assert_eq!(desk.come(number), None);
        }
        assert_eq!(desk.ask(0), Ok(Some(1)));
        assert_eq!(desk.come(100), Some(1));
        for at in 1..CLIENTS_MAX {
            assert_eq!(desk.ask(at), Ok(None));
        }
        assert_eq!(desk.come(101), Some(101));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Come,
        Ask(usize),
        Go(usize),
        Answer,
        Stray(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => Just(Act::Come),
            4 => (0..CLIENTS_MAX + 2).prop_map(Act::Ask),
            1 => (0..CLIENTS_MAX + 2).prop_map(Act::Go),
            2 => Just(Act::Answer),
            1 => any::<u64>().prop_map(Act::Stray),
        ]
    }

    proptest! {
        #[test]
        fn everybody_is_answered_once_and_by_a_wish_that_came_after_them(
            acts in prop::collection::vec(act(), 0..300)
        ) {
            let mut desk = Desk::default();
            // Of each client: what it must not be answered by, once it has asked.
            let mut asked = std::collections::BTreeMap::new();
            let (mut clients, mut last) = (0_u32, 0);
            for act in acts {
                let new = match act {
                    Act::Come => {
                        clients += 1;
                        let gone = desk.come(clients);
                        prop_assert!(gone.is_none_or(|gone| !asked.contains_key(&gone)));
                        None
                    }
                    Act::Ask(at) => {
                        let client = desk.client(at).copied();
                        let new = desk.ask(at);
                        if new.is_ok() {
                            asked.insert(client.unwrap(), last);
                        }
                        new.unwrap_or(None)
                    }
                    Act::Go(at) => {
                        if let Some(gone) = desk.go(at) {
                            asked.remove(&gone);
                        }
                        None
                    }
                    Act::Answer => match desk.asked() {
                        None => None,
                        Some(wish) => {
                            let (told, new) = desk.answered(wish);
                            for client in told {
                                prop_assert!(asked.remove(&client).is_some_and(|not| wish > not));
                            }
                            new
                        }
                    },
                    Act::Stray(wish) => {
                        if desk.asked() != Some(wish) {
                            prop_assert_eq!(desk.answered(wish), (vec![], None));
                        }
                        None
                    }
                };
                if let Some(new) = new {
                    prop_assert_eq!(new, last + 1);
                    last = new;
                }
                prop_assert!(desk.clients().count() <= CLIENTS_MAX);
                prop_assert_eq!(desk.asked().is_some() || !asked.is_empty(), desk.asked().is_some());
            }
        }
    }
}
