//! Configurations that are whole, wrong in one place, or noise.

use super::*;
use proptest::prelude::*;

const WHOLE: &str = r#"hostname = "shelf-3"
[network]
mode = "static"
address = "10.0.0.7/24"
gateway = "10.0.0.1"
dns = ["10.0.0.1"]
[store]
durability = "none"
webhook_ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
[store.webhooks]
orders = "https://hooks.example/in?a=b"
[admin]
token = "0123456789abcdef"
[[account]]
name = "alice"
access_key = "ALICE"
secret_key = "very-secret"
ssh_keys = ["ssh-ed25519 AAAA alice"]
"#;

#[test]
fn limits_of_an_account_are_read_checked_and_written_again() {
    let account = "[[account]]\nname = \"ada\"\naccess_key = \"AKADA\"\n\
                   secret_key = \"0123456789abcdef\"\n[account.limits]\n";
    let parse = |limits: &str| MachineConfig::parse(format!("{account}{limits}").as_bytes());
    let config = parse("cpu_milli = 2000\nzones = 20\n").unwrap();
    let limits = config.accounts[0].limits;
    assert_eq!((limits.cpu_milli, limits.zones, limits.pids), (Some(2000), Some(20), None));
    let accounts = Accounts { accounts: config.accounts };
    let text = toml::to_string(&accounts).unwrap();
    assert_eq!(Accounts::parse(text.as_bytes()).unwrap(), accounts);
    let error = parse("pids = 1\n").unwrap_err().to_string();
    assert!(error.contains("ada") && error.contains("pids is 1"), "{error}");
    assert!(parse("colour = 1\n").unwrap_err().to_string().contains("colour"));
}

#[test]
fn a_whole_configuration_is_read_and_written_back() {
    let config = MachineConfig::parse(WHOLE.as_bytes()).unwrap();
    assert_eq!(config.accounts[0].name.as_str(), "alice");
    assert_eq!(config.store.durability, Durability::None);
    let again = toml::to_string(&config).unwrap();
    assert_eq!(MachineConfig::parse(again.as_bytes()).unwrap(), config);
}

#[test]
fn a_webhook_that_is_none_is_refused_with_its_line() {
    let refused = |text: &str| {
        let text = format!("[store]\n{text}\n");
        MachineConfig::parse(text.as_bytes()).unwrap_err().to_string()
    };
    let error = refused("webhooks = { \"a b\" = \"http://h\" }");
    assert!(error.contains("line 2") && error.contains("a webhook's name"), "{error}");
    assert!(refused("webhooks.a = \"ftp://h/\"").contains("a webhook's URL"));
    assert!(refused("webhook_ca = \"none\"").contains("BEGIN CERTIFICATE"));
    let many: String =
        (0..=WEBHOOKS_MAX).map(|n| format!("webhooks.w{n} = \"http://h\"\n")).collect();
    assert!(refused(&many).contains("17 webhooks"));
}

#[test]
fn an_empty_configuration_is_the_default() {
    assert_eq!(MachineConfig::parse(b"").unwrap(), MachineConfig::default());
}

#[test]
fn an_unknown_key_is_refused_with_line_and_column() {
    let error = MachineConfig::parse(b"[store]\n  durabilty = \"fsync\"\n").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("line 2, column 3") && text.contains("durabilty"), "{text}");
}

#[test]
fn an_unknown_key_of_the_network_is_refused() {
    let error = MachineConfig::parse(b"[network]\nmode = \"dhcp\"\nvlan = 3\n").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("line 3, column 1") && text.contains("vlan"), "{text}");
}

#[test]
fn an_address_means_a_static_network_and_contradicts_dhcp() {
    let address = "[network]\naddress = \"10.0.0.7/24\"\n";
    let config = MachineConfig::parse(address.as_bytes()).unwrap();
    assert!(matches!(config.network, Network::Static { .. }));
    let both = format!("{address}mode = \"dhcp\"\n");
    assert!(MachineConfig::parse(both.as_bytes()).is_err());
    assert!(MachineConfig::parse(b"[network]\nmode = \"static\"\n").is_err());
}

#[test]
fn a_bad_address_is_refused_with_its_line() {
    let text = "[network]\nmode = \"static\"\naddress = \"10.0.0.7/33\"\n";
    let error = MachineConfig::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("line 3, column 11") && error.contains("10.0.0.7/24"), "{error}");
}

#[test]
fn a_bad_hostname_is_refused_with_its_line() {
    let error = MachineConfig::parse(b"\nhostname = \"-x\"\n").unwrap_err().to_string();
    assert!(error.contains("line 2, column 12"), "{error}");
}

#[test]
fn two_accounts_of_one_name_are_refused() {
    let one = "[[account]]\nname = \"a\"\naccess_key = \"AAA\"\nsecret_key = \"12345678\"\n";
    let two = one.replace("AAA", "BBB");
    let error = MachineConfig::parse(format!("{one}{two}").as_bytes()).unwrap_err();
    assert!(matches!(error, ConfigError::Twice { what: "name", .. }));
}

#[test]
fn a_line_with_a_secret_is_not_repeated_in_its_error() {
    let text = WHOLE.replace("secret_key", "secret_kye");
    let error = MachineConfig::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("line 17, column 1") && !error.contains("very-secret"), "{error}");
}

#[test]
fn secrets_do_not_reach_a_log() {
    let config = MachineConfig::parse(WHOLE.as_bytes()).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("very-secret") && !shown.contains("0123456789abcdef"));
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_never_a_panic(bytes: Vec<u8>) {
        if let Ok(config) = MachineConfig::parse(&bytes) {
            prop_assert!(config.accounts.is_empty());
        }
    }

    #[test]
    fn damaged_configurations_are_an_answer_never_a_panic(at in 0..WHOLE.len(), byte: u8) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(config) = MachineConfig::parse(&bytes) {
            prop_assert!(config.accounts.len() <= 1);
        }
    }
}
