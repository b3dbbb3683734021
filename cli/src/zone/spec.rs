//! From the command line to what the node is asked for: pure.

use super::args::{Create, Limits};
use super::words::Allow;
use crate::failure::Failure;
use crate::name::Name;
use wire::carve::{Carve, CarveChange, Network};
use wire::standing::{PrefixMount, ZoneName, ZoneSpec};

/// The zone that `create` asks for, by the name given or by one made of `number`.
pub fn spec(create: &Create, account: &str, number: u64) -> Result<ZoneSpec, Failure> {
    let change = change(&create.limits);
    let given = Carve { scratch_mib: create.scratch.unwrap_or(0), ..Carve::default() };
    let mut carve = given.changed(&change);
    if create.scratch.is_none() {
        // As much as usual, and no more than the memory that it is in.
        carve.scratch_mib = Carve::default().scratch_mib.min((carve.memory_mib / 2).max(1));
    }
    let rates = create.limits.out_rate.is_some() || create.limits.in_rate.is_some();
    let wanted = create.network || !create.allow.is_empty() || rates;
    let allow = create.allow.clone();
    let network = wanted.then(|| Network { allow, ..Network::default() }.changed(&change));
    let mounts = create.mount.iter().map(|text| Ok(PrefixMount { prefix: place(text, account)? }));
    let spec = ZoneSpec {
        name: create.name.clone().map_or_else(|| made_up(number), Ok)?,
        login: account.to_owned(),
        image: create.image.clone(),
        command: create.command.clone(),
        environment: create.env.clone(),
        restart: create.restart,
        carve,
        mounts: mounts.collect::<Result<_, Failure>>()?,
        network,
        output: create.output.as_deref().map(|text| place(text, account)).transpose()?,
        autoboot: !create.no_autoboot,
    };
    spec.check().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(spec)
}

fn made_up(number: u64) -> Result<ZoneName, Failure> {
    let name = format!("zone-{:06x}", number & 0xff_ffff);
    ZoneName::try_from(name).map_err(|why| Failure::Usage(why.to_owned()))
}

/// `/ACCOUNT/stor/BUCKET/PREFIX`; a name that begins with a slash is one already.
pub fn place(text: &str, account: &str) -> Result<String, Failure> {
    if text.starts_with('/') {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    let path = Name::parse(text)?.manta(account);
    Ok(path.trim_end_matches('/').to_owned())
}

/// The limits that were given.
pub fn change(limits: &Limits) -> CarveChange {
    let Limits {
        cpu,
        cpu_weight,
        cpus,
        memory,
        memory_low,
        io_weight,
        read_rate,
        write_rate,
        read_ops,
        write_ops,
        pids,
        disk,
        out_rate,
        in_rate,
    } = limits;
    CarveChange {
        cpu_weight: *cpu_weight,
        cpu_milli: *cpu,
        cpus: cpus.clone(),
        memory_mib: *memory,
        memory_low_mib: *memory_low,
        io_weight: *io_weight,
        read_bytes: *read_rate,
        write_bytes: *write_rate,
        reads: *read_ops,
        writes: *write_ops,
        pids: *pids,
        disk_mib: disk.map(u64::from),
        out_bytes: *out_rate,
        in_bytes: *in_rate,
        allow: None,
    }
}

/// What `update` changes.
pub fn update(limits: &Limits, allow: &[Allow]) -> Result<CarveChange, Failure> {
    let rules = allow.iter().filter_map(|word| match word {
        Allow::Rule(rule) => Some(*rule),
        Allow::Nobody => None,
    });
    let rules: Vec<_> = rules.collect();
    if allow.contains(&Allow::Nobody) && allow.len() > 1 {
        return Err(Failure::Usage("--allow none stands alone: it is nobody at all".to_owned()));
    }
    Ok(CarveChange { allow: (!allow.is_empty()).then_some(rules), ..change(limits) })
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::args::{Arguments, Command};
    use crate::zone::args::Zone;
    use clap::Parser;

    fn made(words: &str) -> Result<ZoneSpec, Failure> {
        let words = format!("mobula zone create {words}");
        let read = Arguments::try_parse_from(words.split_whitespace()).unwrap();
        let Command::Zone { command: Zone::Create(create) } = read.command else { panic!() };
        spec(&create, "ada", 0xabc)
    }

    #[test]
    fn the_example_of_the_help_is_a_zone() {
        let spec =
            made("--cpu 0.5 --memory 256M --mount logs/2026-11/ --output out web -- httpd -f");
        let spec = spec.unwrap();
        assert_eq!((spec.name.as_str(), spec.login.as_str()), ("web", "ada"));
        assert_eq!((spec.carve.cpu_milli, spec.carve.memory_mib), (Some(500), 256));
        assert_eq!(spec.mounts[0].prefix, "/ada/stor/logs/2026-11");
        assert_eq!(spec.output.as_deref(), Some("/ada/stor/out"));
        assert_eq!(spec.command, ["httpd", "-f"]);
        assert_eq!(spec.network, None);
    }

    #[test]
    fn what_is_not_given_is_usual() {
        let spec = made("").unwrap();
        assert_eq!((spec.name.as_str(), spec.image.as_str()), ("zone-000abc", "base"));
        assert_eq!(spec.carve, Carve::default());
        assert!(spec.autoboot && !spec.restart && spec.command.is_empty());
    }

    #[test]
    fn scratch_shrinks_with_the_memory_that_it_is_in() {
        assert_eq!(made("--memory 16M").unwrap().carve.scratch_mib, 8);
        assert_eq!(made("--memory 16M --scratch 12M").unwrap().carve.scratch_mib, 12);
        assert!(made("--memory 16M --scratch 17M").is_err());
    }

    #[test]
    fn a_rule_or_a_rate_brings_a_network() {
        let network = made("--allow tcp:10.0.0.1:80").unwrap().network.unwrap();
        assert_eq!((network.allow.len(), network.out_bytes), (1, None));
        let network = made("--out-rate 1M").unwrap().network.unwrap();
        assert_eq!((network.allow.len(), network.out_bytes), (0, Some(1 << 20)));
        assert_eq!(made("--network").unwrap().network, Some(Network::default()));
    }

    #[test]
    fn rules_of_an_update_take_the_place_of_all_that_were() {
        let changed = |words: &str| {
            let words = format!("mobula zone update web {words}");
            let read = Arguments::try_parse_from(words.split_whitespace()).unwrap();
            let Command::Zone { command: Zone::Update { limits, allow, .. } } = read.command else {
                panic!()
            };
            update(&limits, &allow)
        };
        assert_eq!(changed("--cpu 1").unwrap().allow, None);
        assert_eq!(changed("--allow none").unwrap().allow, Some(Vec::new()));
        let two = changed("--allow tcp:10.0.0.1:80 --allow udp:10.0.0.2:53").unwrap();
        assert_eq!(two.allow.unwrap().len(), 2);
        assert!(changed("--allow none --allow tcp:10.0.0.1:80").is_err());
    }

    #[test]
    fn what_the_node_would_refuse_is_refused_here() {
        let error = made("--mount /bob/stor/logs").unwrap_err().to_string();
        assert!(error.contains("/bob/stor/logs"), "{error}");
        assert!(made("--pids 1").unwrap_err().to_string().contains("pids is 1"));
    }
}
