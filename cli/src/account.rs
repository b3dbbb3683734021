//! `mobula account …`: what the zones of an account may use together, and what they use.

use crate::admin::Admin;
use crate::config::Settings;
use crate::failure::Failure;
use crate::http::Http;
use crate::output::{Screen, plain, size, span, table};
use crate::zone::words::{cpus, mib, rate};
use crate::zone::{Changed, show};
use clap::{Args, Subcommand};
use std::time::Duration;
use wire::account::{AccountLimits, AccountSummary};
use wire::admin::{AccountState, Accounts, path};
use wire::carve::Limit;

/// `mobula account`.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// List accounts, with what their zones use
    List,
    /// Show one account: its zones, what they use together, and its limits
    Get {
        /// The account
        login: String,
    },
    /// Show or change what an account's zones may use together
    #[command(after_help = "\
  mobula account limits ada
  mobula account limits ada --cpu 2 --memory 4G --zones 20
  mobula account limits ada --cpu none
  mobula account limits ada --reset

What is not set here is as the machine's configuration says, or else as the node has it for all accounts.")]
    Limits {
        /// The account
        login: String,
        /// What changes.
        #[command(flatten)]
        limits: Change,
        /// Forget what was set: the configuration's limits count again, or the node's
        #[arg(long, conflicts_with = "Change")]
        reset: bool,
    },
}

/// Limits that change. `none` takes a cap away.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits (a cap that is `none` is taken away)")]
pub struct Change {
    /// Processors, as 0.5
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    cpu: Option<u32>,
    /// Its share of busy processors among accounts, 1 to 10000
    #[arg(long, value_name = "N")]
    cpu_weight: Option<u32>,
    /// Memory, as 4G
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Its share of a busy disk among accounts, 1 to 10000
    #[arg(long, visible_alias = "io", value_name = "N")]
    io_weight: Option<u32>,
    /// Bytes read from the disk a second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    read_rate: Option<u64>,
    /// Bytes written to the disk a second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    write_rate: Option<u64>,
    /// Reads from the disk a second
    #[arg(long, value_name = "N", value_parser = rate)]
    read_ops: Option<u64>,
    /// Writes to the disk a second
    #[arg(long, value_name = "N", value_parser = rate)]
    write_ops: Option<u64>,
    /// Processes
    #[arg(long, value_name = "N", value_parser = count)]
    pids: Option<u32>,
    /// Standing zones, running or not
    #[arg(long, value_name = "N", value_parser = count)]
    zones: Option<u32>,
}

/// A size in MiB, or `none`.
fn memory(text: &str) -> Result<u64, String> {
    if text == "none" { Ok(0) } else { mib(text).map(u64::from) }
}

/// A number, or `none`.
fn count(text: &str) -> Result<u32, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(0),
        (_, Ok(0)) => Err("none at all is no limit; `none` takes the limit away".to_owned()),
        (_, Ok(count)) => Ok(count),
        (_, Err(_)) => Err(format!("{text:?} is no whole number")),
    }
}

impl From<&Change> for AccountLimits {
    fn from(limits: &Change) -> Self {
        Self {
            cpu_weight: limits.cpu_weight,
            cpu_milli: limits.cpu,
            memory_mib: limits.memory,
            io_weight: limits.io_weight,
            read_bytes: limits.read_rate,
            write_bytes: limits.write_rate,
            reads: limits.read_ops,
            writes: limits.write_ops,
            pids: limits.pids,
            zones: limits.zones,
        }
    }
}

/// Does what an `account` command asks.
pub fn run(
    http: &Http,
    settings: &Settings,
    screen: &Screen,
    command: &Account,
) -> Result<(), Failure> {
    let admin = &Admin::new(http, settings)?;
    match command {
        Account::List => list(admin, screen),
        Account::Get { login } => {
            let state = state(admin, login)?;
            tell(screen, &state, account)
        }
        Account::Limits { login, limits, reset } => {
            let change = AccountLimits::from(limits);
            if !reset && change.is_empty() {
                let state = state(admin, login)?;
                return tell(screen, &state, limits_of);
            }
            let before = state(admin, login)?.limits;
            let (what, target) = (format!("limit {login}"), of(login, "/limits"));
            let after: AccountState = match reset {
                true => admin.ask(&what, "DELETE", target)?,
                false => admin.tell(&what, "PATCH", target, &change)?,
            };
            changes(screen, &before, &after.limits)
        }
    }
}

fn tell(
    screen: &Screen,
    state: &AccountState,
    words: impl Fn(&AccountState) -> String,
) -> Result<(), Failure> {
    if screen.json { screen.value(state) } else { screen.bytes(words(state).as_bytes()) }
}

fn of(login: &str, rest: &str) -> String {
    format!("{}/{}{rest}", path::ACCOUNTS, crate::name::encode_value(login))
}

fn state(admin: &Admin<'_>, login: &str) -> Result<AccountState, Failure> {
    admin.ask(&format!("look at account {login}"), "GET", of(login, ""))
}

fn list(admin: &Admin<'_>, screen: &Screen) -> Result<(), Failure> {
    let list: Accounts = admin.ask("list accounts", "GET", path::ACCOUNTS.to_owned())?;
    if screen.json {
        return list.accounts.iter().try_for_each(|account| screen.value(account));
    }
    screen.bytes(table_of(&list.accounts).as_bytes())
}

/// A line for each.
fn table_of(accounts: &[AccountSummary]) -> String {
    let row = |account: &AccountSummary| {
        let AccountSummary { zones, zones_running, tasks, stats, effective, .. } = account;
        vec![
            plain(account.login.as_str()),
            format!("{zones_running}/{zones}"),
            most(effective.zones),
            tasks.to_string(),
            size(stats.memory_bytes),
            effective.memory_mib.map_or("max".to_owned(), |mib| size(mib << 20)),
            span(Duration::from_micros(stats.cpu_us)),
            processors(effective),
            stats.processes.to_string(),
            most(effective.pids),
        ]
    };
    let rows: Vec<_> = accounts.iter().map(row).collect();
    let head =
        ["ACCOUNT", "ZONES", "OF", "TASKS", "MEMORY", "OF", "CPU", "CPUS", "PROCESSES", "OF"];
    table(&head, &[1, 2, 3, 4, 5, 6, 7, 8, 9], &rows)
}

fn most(cap: Option<u32>) -> String {
    cap.map_or("max".to_owned(), |cap| cap.to_string())
}

fn processors(effective: &AccountLimits) -> String {
    effective.cpu_milli.map_or("max".to_owned(), |milli| (f64::from(milli) / 1000.0).to_string())
}

/// All about one account.
fn account(state: &AccountState) -> String {
    let AccountSummary { login, zones, zones_running, tasks, stats, .. } = &state.summary;
    let login = plain(login.as_str());
    format!(
        "account  {login}\nzones    {zones}, of which {zones_running} run\ntasks    {tasks}\n{}\n{}",
        show::stats(stats),
        limits_of(state)
    )
}

/// A line for each limit, with what is used of it.
fn limits_of(state: &AccountState) -> String {
    let row = |limit: &Limit| {
        let from = origin(state, &limit.name);
        let used = used(state, &limit.name);
        vec![plain(&limit.name), plain(&limit.asked), plain(&limit.got), used, from.to_owned()]
    };
    let rows: Vec<_> = state.limits.iter().map(row).collect();
    table(&["LIMIT", "ASKED", "IN FORCE", "USED", "FROM"], &[], &rows)
}

/// Who says so.
fn origin(state: &AccountState, limit: &str) -> &'static str {
    let says = |limits: &AccountLimits| match limit {
        "cpu.weight" => limits.cpu_weight.is_some(),
        "cpu.max" => limits.cpu_milli.is_some(),
        "memory.max" => limits.memory_mib.is_some(),
        "io.weight" => limits.io_weight.is_some(),
        "io.max" => {
            let AccountLimits { read_bytes, write_bytes, reads, writes, .. } = limits;
            [read_bytes, write_bytes, reads, writes].iter().any(|rate| rate.is_some())
        }
        "pids.max" => limits.pids.is_some(),
        "zones" => limits.zones.is_some(),
        _ => false,
    };
    match (says(&state.set), says(&state.configured)) {
        (true, _) => "set",
        (false, true) => "configured",
        (false, false) => "the node",
    }
}

fn used(state: &AccountState, limit: &str) -> String {
    let AccountSummary { stats, zones, .. } = &state.summary;
    match limit {
        "cpu.max" => format!(
            "{}, held back for {}",
            span(Duration::from_micros(stats.cpu_us)),
            span(Duration::from_micros(stats.throttled_us))
        ),
        "memory.max" => format!("{} ({} bytes)", size(stats.memory_bytes), stats.memory_bytes),
        "io.max" => format!("{} read, {} written", size(stats.read_bytes), size(stats.write_bytes)),
        "pids.max" => stats.processes.to_string(),
        "zones" => zones.to_string(),
        _ => String::new(),
    }
}

fn changes(screen: &Screen, before: &[Limit], after: &[Limit]) -> Result<(), Failure> {
    for limit in after {
        let old = before.iter().find(|old| old.name == limit.name);
        if old.is_some_and(|old| old == limit) {
            continue;
        }
        let before = old.map(|old| old.got.as_str());
        let Limit { name, asked, got } = limit;
        match screen.json {
            true => screen.value(&Changed { name, before, asked, got })?,
            false => screen.line(&show::change(limit, before))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn change(words: &str) -> Result<AccountLimits, clap::Error> {
        let words = format!("mobula account limits ada {words}");
        let read = Arguments::try_parse_from(words.split_whitespace())?;
        let Command::Account { command: Account::Limits { limits, .. } } = read.command else {
            panic!("another command")
        };
        Ok(AccountLimits::from(&limits))
    }

    #[test]
    fn what_is_given_changes_and_none_takes_a_cap_away() {
        let given = change("--cpu 0.5 --memory 4G --io 50 --pids none --zones 20").unwrap();
        let expected = AccountLimits {
            cpu_milli: Some(500),
            memory_mib: Some(4096),
            io_weight: Some(50),
            pids: Some(0),
            zones: Some(20),
            ..AccountLimits::default()
        };
        assert_eq!(given, expected);
        assert!(change("").unwrap().is_empty());
        assert_eq!(change("--memory none").unwrap().memory_mib, Some(0));
        for wrong in ["--zones 0", "--memory 1K", "--reset --cpu 1", "--zones -1"] {
            assert!(change(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_shown_with_its_use_and_with_who_says_so() {
        let text = r#"{"summary":{"login":"ada","id":7,"zones":3,"zones_running":2,"tasks":1,
            "stats":{"memory_bytes":1048576},"effective":{"zones":4}},
            "set":{"zones":4},"configured":{"memory_mib":64},"limits":[
            {"name":"memory.max","asked":"67108864","got":"67108864"},
            {"name":"zones","asked":"4","got":"4"},
            {"name":"pids.max","asked":"9","got":"9"}]}"#;
        let state: AccountState = serde_json::from_str(text).unwrap();
        let text = limits_of(&state);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("(1048576 bytes)") && lines[1].ends_with("configured"), "{text}");
        assert!(lines[2].contains(" 3 ") && lines[2].ends_with("set"), "{text}");
        assert!(lines[3].ends_with("the node"), "{text}");
        let list = table_of(std::slice::from_ref(&state.summary));
        assert!(list.lines().nth(1).unwrap().contains("2/3"), "{list}");
    }
}
