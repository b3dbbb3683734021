//! Accounts over HTTP: what their zones may use together, and what they use; passed on to zoned.

use crate::answer::{Answer, success};
use crate::daemon::{Daemon, Link};
use crate::problem::Problem;
use crate::zones::{ACT_MAX, read, stray};
use hyper::{Method, StatusCode};
use std::path::Path;
use wire::account::{AccountReply, AccountRequest, AccountSummary, PAGE_MAX};
use wire::admin::{AccountState, Accounts as AccountList, path};
use wire::machine::{ACCOUNTS_MAX, Login};
use wire::zone;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accounts {
    /// All accounts.
    List,
    /// One, with its limits.
    Get(Login),
    /// Limits are to be changed; the body says how.
    Limit(Login),
    /// What was set goes.
    Reset(Login),
}

/// Finds what a request asks for; nothing if its path has nothing to do with accounts.
pub fn route(method: &Method, target: &str, query: &str) -> Option<Result<Accounts, Problem>> {
    let rest = target.strip_prefix(path::ACCOUNTS)?;
    let words: Vec<&str> = rest.split('/').collect();
    let found = match words.as_slice() {
        [""] => Ok(("GET", (method == Method::GET).then_some(Accounts::List))),
        ["", name] => login(name)
            .map(|login| ("GET", (method == Method::GET).then_some(Accounts::Get(login)))),
        ["", name, "limits"] => login(name).map(|login| {
            let action = match *method {
                Method::GET => Some(Accounts::Get(login)),
                Method::PATCH => Some(Accounts::Limit(login)),
                Method::DELETE => Some(Accounts::Reset(login)),
                _ => None,
            };
            ("GET, PATCH, DELETE", action)
        }),
        _ => return None,
    };
    Some(found.and_then(|(allowed, action)| {
        let action = action.ok_or_else(|| Problem::method(allowed))?;
        match query {
            "" => Ok(action),
            _ => Err(Problem::parameter(format!("{query:?} is no parameter here"))),
        }
    }))
}

fn login(text: &str) -> Result<Login, Problem> {
    Login::try_from(text.to_owned())
        .map_err(|why| Problem::parameter(format!("{text:?} is no account's name: {why}")))
}

/// Does what a request asks; `body` is its body.
pub async fn perform(action: Accounts, body: &[u8], run: &Path) -> Result<Answer, Problem> {
    let mut link = Link::open(Daemon::Zoned, run).await?;
    let request = match action {
        Accounts::List => {
            return success(StatusCode::OK, &AccountList { accounts: all(&mut link).await? });
        }
        Accounts::Get(login) => AccountRequest::Get(login),
        Accounts::Limit(login) => {
            AccountRequest::Limit { login, change: read("InvalidChange", body)? }
        }
        Accounts::Reset(login) => AccountRequest::Reset(login),
    };
    match ask(&mut link, request).await? {
        AccountReply::Account(view) => success(StatusCode::OK, &AccountState::from(*view)),
        other @ AccountReply::Accounts(_) => Err(stray(&other)),
    }
}

async fn ask(link: &mut Link, request: AccountRequest) -> Result<AccountReply, Problem> {
    // Changes are on disk before they are answered.
    let changes = matches!(request, AccountRequest::Limit { .. } | AccountRequest::Reset(_));
    let request = zone::Request::Account(request);
    let answered = match changes {
        true => link.ask_within(ACT_MAX, &request).await?,
        false => link.ask(&request).await?,
    };
    match answered.0 {
        zone::Reply::Account(reply) => Ok(reply),
        other => Err(stray(&other)),
    }
}

/// All accounts, page by page.
pub async fn all(link: &mut Link) -> Result<Vec<AccountSummary>, Problem> {
    let mut accounts: Vec<AccountSummary> = Vec::new();
    let mut after: Option<Login> = None;
    // Those that are no longer configured stay in the store, and in the list.
    while accounts.len() <= 2 * ACCOUNTS_MAX {
        let page = match ask(link, AccountRequest::List { after }).await? {
            AccountReply::Accounts(page) => page,
            other @ AccountReply::Account(_) => return Err(stray(&other)),
        };
        let last = page.len() < PAGE_MAX;
        after = page.last().map(|account| account.login.clone());
        accounts.extend(page);
        if last {
            return Ok(accounts);
        }
    }
    Err(Problem::nonsense(Daemon::Zoned, "its list of accounts has no end"))
}

#[cfg(test)]
mod test {
    use super::*;

    fn find(method: &Method, target: &str) -> Option<Result<Accounts, u16>> {
        route(method, target, "").map(|found| found.map_err(|problem| problem.status.as_u16()))
    }

    #[test]
    fn each_path_leads_somewhere_by_its_methods_only() {
        let ada = || Login::try_from("ada".to_owned()).unwrap();
        let limits = "/v1/accounts/ada/limits";
        for (method, target, action) in [
            (Method::GET, "/v1/accounts", Accounts::List),
            (Method::GET, "/v1/accounts/ada", Accounts::Get(ada())),
            (Method::GET, limits, Accounts::Get(ada())),
            (Method::PATCH, limits, Accounts::Limit(ada())),
            (Method::DELETE, limits, Accounts::Reset(ada())),
        ] {
            assert_eq!(find(&method, target), Some(Ok(action)));
            assert_eq!(find(&Method::POST, target), Some(Err(405)), "{target}");
        }
        assert_eq!(find(&Method::GET, "/v1/accounts/.."), Some(Err(400)));
        assert_eq!(find(&Method::GET, "/v1/accounts/ada/mood"), None);
        assert_eq!(find(&Method::GET, "/v1/accountsx"), None);
        assert!(route(&Method::GET, limits, "x=1").unwrap().is_err());
    }
}
