//! Limits of accounts: set, shown, on disk over everything, and zones let in by them.

use crate::client::Client;
use crate::common::eventually;
use crate::machine::{ACCOUNT, Machine, name, on_a_machine};
use std::fs;
use sys::process::Exit;
use wire::account::{AccountLimits, AccountReply, AccountRequest, AccountView};
use wire::machine::Login;
use wire::standing::{Subject, What, ZoneReply, ZoneRequest, ZoneState};

fn ann() -> Login {
    Login::try_from("ann".to_owned()).unwrap()
}

fn view(client: &mut Client, request: AccountRequest) -> AccountView {
    match client.account(request).unwrap() {
        AccountReply::Account(view) => *view,
        other => panic!("unexpected {other:?}"),
    }
}

fn limit(client: &mut Client, change: AccountLimits) -> AccountView {
    view(client, AccountRequest::Limit { login: ann(), change })
}

fn asked<'a>(view: &'a AccountView, name: &str) -> &'a str {
    &view.limits.iter().find(|limit| limit.name == name).unwrap().asked
}

const ZONES: AccountLimits = AccountLimits {
    cpu_weight: None,
    cpu_milli: None,
    memory_mib: None,
    io_weight: None,
    read_bytes: None,
    write_bytes: None,
    reads: None,
    writes: None,
    pids: None,
    zones: Some(2),
};

#[test]
fn an_account_has_no_more_zones_than_it_may() {
    on_a_machine("accounts::an_account_has_no_more_zones_than_it_may", |machine| {
        let mut client = machine.client();
        let set = limit(&mut client, ZONES);
        assert_eq!((set.summary.id, set.summary.effective.zones), (ACCOUNT, Some(2)));
        client.run("one", "");
        client.run("two", "");
        // The small init reads what it is told when it is asked, and has room for ten words.
        machine.kept();
        let spec = r#"{"name":"three","login":"ann","image":"base"}"#;
        let spec = || Box::new(serde_json::from_str(spec).unwrap());
        let refused = client.ask(ZoneRequest::Create(spec())).unwrap_err();
        assert_eq!(refused.code, "AccountFull");
        for word in ["may have 2", "has 2", "delete one", "--zones 3"] {
            assert!(refused.message.contains(word), "{}", refused.message);
        }
        assert_eq!(machine.records().len(), 2);
        // One that is stopped counts; one that is deleted does not.
        client.zone(ZoneRequest::Stop { name: name("one"), timeout_s: 0 });
        client.reach("one", ZoneState::Installed);
        assert!(client.ask(ZoneRequest::Create(spec())).is_err());
        client.ask(ZoneRequest::Delete(name("one"))).unwrap();
        eventually("it is forgotten", || machine.records().len() == 1);
        client.ask(ZoneRequest::Create(spec())).unwrap();
        client.reach("three", ZoneState::Running);
        machine.kept();
        // Fewer than there are: those that are stay.
        let view = limit(&mut client, AccountLimits { zones: Some(1), ..ZONES });
        assert_eq!((view.summary.zones, view.summary.zones_running), (2, 2));
        let reset = AccountRequest::Reset(ann());
        assert_eq!(self::view(&mut client, reset).summary.effective.zones, None);
        client.run("four", "");
        for zone in ["two", "three", "four"] {
            machine.kept();
            client.ask(ZoneRequest::Delete(name(zone))).unwrap();
        }
        eventually("they are gone", || machine.kept().is_empty() && machine.zones().is_empty());
    });
}

#[test]
fn limits_of_an_account_are_there_after_a_crash_and_after_a_power_cut() {
    on_a_machine(
        "accounts::limits_of_an_account_are_there_after_a_crash_and_after_a_power_cut",
        |machine| {
            let mut client = machine.client();
            client.run("web", "");
            let change = AccountLimits { cpu_milli: Some(1500), memory_mib: Some(64), ..ZONES };
            let set = limit(&mut client, change);
            assert_eq!(asked(&set, "memory.max"), (64 << 20).to_string());
            assert_eq!(asked(&set, "cpu.max"), "150000 100000");
            let events = client.events(0);
            let told = events.iter().any(|event| {
                event.subject == Subject::Account(ann())
                    && matches!(event.what, What::Updated { .. })
            });
            assert!(told, "{events:?}");
            let after = |machine: &mut Machine| {
                machine.start(None);
                let mut client = machine.client();
                let view = view(&mut client, AccountRequest::Get(ann()));
                assert_eq!(view.set, change);
                assert_eq!(asked(&view, "cpu.max"), "150000 100000");
                client.reach("web", ZoneState::Running);
            };
            machine.crash();
            after(machine);
            machine.cut_power();
            after(machine);
            let mut client = machine.client();
            // What is not changed stays as it was.
            let changed =
                limit(&mut client, AccountLimits { zones: None, cpu_milli: Some(0), ..ZONES });
            let expected = AccountLimits { cpu_milli: Some(0), ..change };
            assert_eq!((changed.set, asked(&changed, "cpu.max")), (expected, "max 100000"));
            client.ask(ZoneRequest::Delete(name("web"))).unwrap();
            eventually("it is gone", || machine.zones().is_empty());
        },
    );
}

#[test]
fn killed_while_limits_are_set_zoned_has_the_old_ones_or_the_new_ones() {
    on_a_machine(
        "accounts::killed_while_limits_are_set_zoned_has_the_old_ones_or_the_new_ones",
        |machine| {
            let mut most = 1;
            limit(&mut machine.client(), AccountLimits { zones: Some(most), ..ZONES });
            for place in zoned::failpoint::ACCOUNT {
                machine.crash();
                machine.start(Some(place));
                let next = AccountLimits { zones: Some(most + 1), ..ZONES };
                let request = AccountRequest::Limit { login: ann(), change: next };
                machine.client().try_account(request).unwrap_err();
                assert_eq!(machine.ended(), Exit::Signal(libc::SIGKILL), "{place}");
                machine.start(None);
                let now = view(&mut machine.client(), AccountRequest::Get(ann())).set.zones;
                let expected = if place == "account-written" { most } else { most + 1 };
                assert_eq!(now, Some(expected), "{place}");
                most = expected;
            }
            let folder = machine.place().join("data/accounts");
            let left: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
            assert_eq!(left.len(), 1, "{left:?}");
        },
    );
}

#[test]
fn what_is_configured_counts_until_something_else_is_set() {
    on_a_machine("accounts::what_is_configured_counts_until_something_else_is_set", |machine| {
        machine.crash();
        let configured = r#"{"ann":{"zones":1,"pids":99},"bob":{"zones":1}}"#;
        fs::write(machine.place().join("account-limits.json"), configured).unwrap();
        machine.start(None);
        let mut client = machine.client();
        client.run("one", "");
        let spec = r#"{"name":"two","login":"ann","image":"base"}"#;
        let spec = Box::new(serde_json::from_str(spec).unwrap());
        let refused = client.ask(ZoneRequest::Create(spec)).unwrap_err();
        assert_eq!(refused.code, "AccountFull");
        let now = view(&mut client, AccountRequest::Get(ann()));
        assert_eq!((asked(&now, "pids.max"), asked(&now, "zones")), ("99", "1"));
        assert!(now.set.is_empty() && now.configured.pids == Some(99));
        let set = limit(&mut client, ZONES);
        assert_eq!((asked(&set, "pids.max"), asked(&set, "zones")), ("99", "2"));
        client.run("two", "");
        let AccountReply::Accounts(all) =
            client.account(AccountRequest::List { after: None }).unwrap()
        else {
            panic!("no list")
        };
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].login.as_str(), all[0].zones, all[0].zones_running), ("ann", 2, 2));
        for zone in ["one", "two"] {
            client.ask(ZoneRequest::Delete(name(zone))).unwrap();
        }
        eventually("they are gone", || machine.zones().is_empty());
    });
}

#[test]
fn what_makes_no_sense_changes_nothing_and_who_is_nobody_is_told_so() {
    on_a_machine(
        "accounts::what_makes_no_sense_changes_nothing_and_who_is_nobody_is_told_so",
        |machine| {
            let mut client = machine.client();
            let change = AccountLimits { memory_mib: Some(1), ..ZONES };
            let request = AccountRequest::Limit { login: ann(), change };
            let refused = client.account(request).unwrap_err();
            assert_eq!(refused.code, "InvalidChange");
            assert!(refused.message.contains("memory_mib is 1"), "{refused:?}");
            assert!(view(&mut client, AccountRequest::Get(ann())).set.is_empty());
            let nobody = Login::try_from("nobody".to_owned()).unwrap();
            let refused = client.account(AccountRequest::Get(nobody)).unwrap_err();
            assert_eq!(refused.code, "NoSuchAccount");
            client.run("web", "");
            let Ok((ZoneReply::Why(_), _)) = client.ask(ZoneRequest::Why(name("web"))) else {
                panic!("no reasons")
            };
            client.ask(ZoneRequest::Delete(name("web"))).unwrap();
            eventually("it is gone", || machine.zones().is_empty());
        },
    );
}
