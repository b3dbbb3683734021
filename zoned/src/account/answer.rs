//! Requests of people about accounts, and what they are answered.

use super::plan;
use super::record::Record;
use crate::chain;
use crate::daemon::{Daemon, Written};
use crate::disk::FileError;
use crate::standing::{Asker, refusal};
use wire::account::PAGE_MAX;
use wire::account::{AccountLimits, AccountReply, AccountRequest, AccountSummary, AccountView};
use wire::carve::Limit;
use wire::frame::{Kind, Refusal, encode};
use wire::machine::Login;
use wire::standing::{Stats, Subject, What};
use wire::zone::Reply;

type Answer = Result<AccountReply, Refusal>;

/// A change of limits that is on its way to the disk.
#[derive(Debug)]
pub(super) struct Change {
    asker: Asker,
    login: Login,
    number: u32,
    /// What was set until then.
    before: AccountLimits,
}

impl Daemon {
    /// Does what is asked, and answers at once or when storaged has said who it is about.
    pub(crate) fn account_request(&mut self, asker: Asker, request: AccountRequest) {
        let answer = match request.login() {
            // The list begins with what storaged knows, if it is there.
            None if matches!(request, AccountRequest::List { after: None }) => {
                if self.ask_accounts(asker, None) {
                    return;
                }
                Ok(self.accounts_after(None))
            }
            Some(login) if self.accounts.number(login.as_str()).is_none() => {
                if self.ask_number(asker, request) {
                    return;
                }
                let message = "storaged, which knows the accounts, is not there: try again";
                Err(refusal("Unavailable", message))
            }
            _ => return self.act_on_account(asker, request),
        };
        self.answer_account(asker, answer);
    }

    /// storaged has named all accounts, or will not: the list is of those that are known.
    pub(crate) fn accounts_known(&mut self, asker: Asker) {
        let list = self.accounts_after(None);
        self.answer_account(asker, Ok(list));
    }

    /// storaged has named the account that a request is about, or not.
    pub(crate) fn number_known(
        &mut self,
        asker: Asker,
        request: &AccountRequest,
        number: Result<u32, Refusal>,
    ) {
        match number {
            Ok(number) => {
                if let Some(login) = request.login() {
                    self.learn_account(login.as_str(), number);
                }
                self.act_on_account(asker, request.clone());
            }
            Err(refused) => self.answer_account(asker, Err(refused)),
        }
    }

    /// Answers, at once or when what is asked for is on disk.
    fn act_on_account(&mut self, asker: Asker, request: AccountRequest) {
        let answer = match &request {
            AccountRequest::List { after } => Ok(self.accounts_after(after.as_ref())),
            AccountRequest::Get(login) => self.account_view(login),
            AccountRequest::Limit { .. } | AccountRequest::Reset(_)
                if self.accounts.change.is_some() =>
            {
                return self.accounts.later.push_back((asker, request));
            }
            AccountRequest::Limit { login, change } => {
                let set =
                    change.check().map_err(|error| refusal("InvalidChange", error.to_string()));
                let number = set.and_then(|()| self.known(login));
                match number.and_then(|number| {
                    let set = change.over(&self.accounts.set_of(number));
                    self.limit_account(asker, login, number, set)
                }) {
                    Ok(()) => return,
                    Err(refused) => Err(refused),
                }
            }
            AccountRequest::Reset(login) => {
                let set = AccountLimits::default();
                match self.known(login).and_then(|at| self.limit_account(asker, login, at, set)) {
                    Ok(()) => return,
                    Err(refused) => Err(refused),
                }
            }
        };
        self.answer_account(asker, answer);
    }

    fn known(&self, login: &Login) -> Result<u32, Refusal> {
        let none = || refusal("NoSuchAccount", format!("there is no account {}", login.as_str()));
        self.accounts.number(login.as_str()).ok_or_else(none)
    }

    /// Sets an account's limits: in the kernel first, which may refuse them, then on disk.
    fn limit_account(
        &mut self,
        asker: Asker,
        login: &Login,
        number: u32,
        set: AccountLimits,
    ) -> Result<(), Refusal> {
        let before = self.accounts.set_of(number);
        let change = Change { asker, login: login.clone(), number, before };
        self.accounts.set.insert(number, set);
        let carve = plan::carve(&self.accounts.effective(login, number));
        if let Err(error) = self.cgroups.set_account(number, &carve) {
            self.take_back_limits(&change);
            return Err(refusal("Internal", chain(&error)));
        }
        let job = self.accounts.records.job(number, &Record::new(login.clone(), set));
        self.accounts.change = Some(change);
        self.disk.submit(job, Written::Account);
        Ok(())
    }

    fn take_back_limits(&mut self, change: &Change) {
        self.accounts.set.insert(change.number, change.before);
        let effective = self.accounts.effective(&change.login, change.number);
        super::tell(&mut self.cgroups, change.number, &effective);
    }

    /// The disk has taken in, or not, what was set for an account.
    pub(crate) fn account_written(&mut self, written: Result<(), FileError>) {
        let Some(change) = self.accounts.change.take() else { return };
        let answer = match written {
            Ok(()) => self.account_view(&change.login),
            Err(error) => {
                self.take_back_limits(&change);
                Err(refusal("Internal", chain(&error)))
            }
        };
        if let Ok(AccountReply::Account(view)) = &answer {
            let what = What::Updated { limits: view.limits.clone() };
            self.events.tell(Subject::Account(change.login), what);
        }
        self.answer_account(change.asker, answer);
        while self.accounts.change.is_none()
            && let Some((asker, request)) = self.accounts.later.pop_front()
        {
            self.act_on_account(asker, request);
        }
    }

    fn account_view(&self, login: &Login) -> Answer {
        let number = self.known(login)?;
        let summary = self.summary(login, number);
        let limits = self.limits_of_account(number, &summary.effective);
        let (set, configured) = (self.accounts.set_of(number), self.accounts.configured_of(login));
        Ok(AccountReply::Account(Box::new(AccountView { summary, set, configured, limits })))
    }

    fn limits_of_account(&self, number: u32, effective: &AccountLimits) -> Vec<Limit> {
        let mut limits = self.cgroups.account_limits(number);
        let most = effective.zones.map_or("max".to_owned(), |most| most.to_string());
        // Nobody but zoned keeps this one.
        limits.push(Limit { name: "zones".to_owned(), asked: most.clone(), got: most });
        limits
    }

    fn accounts_after(&self, after: Option<&Login>) -> AccountReply {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.accounts.numbers.range::<Login, _>((from, Bound::Unbounded));
        let page = page.take(PAGE_MAX).map(|(login, number)| self.summary(login, *number));
        AccountReply::Accounts(page.collect())
    }

    fn summary(&self, login: &Login, number: u32) -> AccountSummary {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let running = self.standing.of_account(number).filter(|zone| zone.runs()).count();
        let tasks = self.zones.values().filter(|entry| entry.account() == number).count();
        AccountSummary {
            login: login.clone(),
            id: number,
            zones: self.standing_of(number),
            zones_running: count(running),
            tasks: count(tasks),
            stats: self.account_stats(number),
            effective: self.accounts.effective(login, number),
        }
    }

    /// What an account's zones use together, networks included.
    fn account_stats(&self, number: u32) -> Stats {
        let mut stats = self.cgroups.account_stats(number);
        for zone in self.standing.of_account(number) {
            let network = self.network_stats(zone);
            stats.out_bytes += network.out_bytes;
            stats.out_packets += network.out_packets;
            stats.in_bytes += network.in_bytes;
            stats.in_packets += network.in_packets;
            stats.refused += network.refused;
        }
        stats
    }

    fn answer_account(&mut self, asker: Asker, answer: Answer) {
        let message = match answer {
            Ok(reply) => encode(Kind::Reply, asker.request, &Reply::Account(reply), 0),
            Err(refusal) => encode(Kind::Refusal, asker.request, &refusal, 0),
        };
        match message {
            Ok(message) => self.clients.send(asker.peer, &message, &[]),
            Err(error) => eprintln!("zoned: an answer is lost: {}", chain(&error)),
        }
    }
}
