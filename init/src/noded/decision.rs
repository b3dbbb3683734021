//! Which disk becomes the data disk: decided from what all disks hold, by rules that never touch a disk
//! with anything else on it.

use super::content::{Content, DISK_BYTES_MIN};

/// A disk, or a partition of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name beneath `/dev`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Nothing can be written to it.
    pub read_only: bool,
    /// It is a partition: used when labelled, never formatted.
    pub partition: bool,
    /// What it holds; none if it can't be read.
    pub content: Option<Content>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Check and mount this one.
    Mount(String),
    /// Format this one, then mount it.
    Format(String),
    /// Wait for a person, who is to be told this.
    Wait(String),
}

/// Decides.
#[must_use]
pub fn decide(disks: &[Disk]) -> Decision {
    let of = |wanted: Content| {
        let holds = move |disk: &&Disk| disk.content.as_ref() == Some(&wanted) && !disk.read_only;
        disks.iter().filter(holds).collect::<Vec<_>>()
    };
    match of(Content::Data).as_slice() {
        [] => {}
        [disk] => return Decision::Mount(disk.name.clone()),
        many => {
            return Decision::Wait(format!(
                "{} are labelled MOBULA-DATA: which one is the data disk? Take all but one out",
                names(many)
            ));
        }
    }
    if disks.iter().any(|disk| disk.content == Some(Content::Data)) {
        // A new disk beside the locked one would be an empty store that looks like the old one.
        return Decision::Wait("the data disk is read-only: make it writable".to_owned());
    }
    let formattable = |disk: &&&Disk| !disk.partition && disk.bytes >= DISK_BYTES_MIN;
    for content in [Content::HalfFormatted, Content::Blank] {
        let candidates = of(content);
        match candidates.iter().filter(formattable).copied().collect::<Vec<_>>().as_slice() {
            [] => {}
            [disk] => return Decision::Format(disk.name.clone()),
            many => {
                return Decision::Wait(format!(
                    "{} are blank: which one is to be the data disk? Take all but one out",
                    names(many)
                ));
            }
        }
    }
    Decision::Wait(nothing(disks))
}

fn nothing(disks: &[Disk]) -> String {
    let needed = format!(
        "Attach a blank disk of {} MiB or more (its first and last 4 MiB all zero), or the data disk",
        DISK_BYTES_MIN / (1024 * 1024)
    );
    if disks.is_empty() {
        return format!("no data disk: there is no disk at all. {needed}");
    }
    let found: Vec<_> = disks.iter().map(describe).collect();
    format!("no data disk: found {}. {needed}", found.join(", "))
}

fn describe(disk: &Disk) -> String {
    let holds = match &disk.content {
        None => "can't be read",
        Some(Content::Other(what)) => what,
        Some(Content::Data) => "labelled MOBULA-DATA",
        Some(Content::Blank) => "blank",
        Some(Content::HalfFormatted) => "half formatted",
    };
    let but = match (disk.read_only, disk.bytes < DISK_BYTES_MIN) {
        (true, _) => " but read-only",
        (false, true) => " but too small",
        (false, false) => "",
    };
    format!("{} ({holds}{but})", disk.name)
}

fn names(disks: &[&Disk]) -> String {
    disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn disk(name: &str, content: Content) -> Disk {
        Disk {
            name: name.to_owned(),
            bytes: DISK_BYTES_MIN,
            read_only: false,
            partition: false,
            content: Some(content),
        }
    }

    fn says(disks: &[Disk], word: &str) -> bool {
        matches!(decide(disks), Decision::Wait(text) if text.contains(word))
    }

    #[test]
    fn the_labelled_disk_is_mounted_whatever_else_is_there() {
        let disks = [
            disk("vda", Content::Blank),
            disk("vdb", Content::Data),
            disk("vdc", Content::HalfFormatted),
        ];
        assert_eq!(decide(&disks), Decision::Mount("vdb".into()));
    }

    #[test]
    fn two_labelled_disks_are_a_question() {
        assert!(says(&[disk("vda", Content::Data), disk("vdb", Content::Data)], "vda and vdb"));
    }

    #[test]
    fn the_one_blank_disk_is_formatted_and_two_are_a_question() {
        let other = disk("vda", Content::Other("a partition table"));
        let one = [other.clone(), disk("vdb", Content::Blank)];
        assert_eq!(decide(&one), Decision::Format("vdb".into()));
        let two = [other, disk("vdb", Content::Blank), disk("vdc", Content::Blank)];
        assert!(says(&two, "vdb and vdc"));
    }

    #[test]
    fn an_interrupted_format_is_redone_before_a_blank_disk_is_taken() {
        let disks = [disk("vda", Content::Blank), disk("vdb", Content::HalfFormatted)];
        assert_eq!(decide(&disks), Decision::Format("vdb".into()));
    }

    #[test]
    fn small_and_read_only_disks_and_partitions_are_not_formatted() {
        let small = Disk { bytes: DISK_BYTES_MIN - 1, ..disk("vda", Content::Blank) };
        let locked = Disk { read_only: true, ..disk("vdb", Content::Blank) };
        let part = Disk { partition: true, ..disk("vdc1", Content::Blank) };
        assert!(says(&[small, locked, part], "too small"));
    }

    #[test]
    fn a_read_only_data_disk_is_not_replaced_by_a_blank_one() {
        let locked = Disk { read_only: true, ..disk("vda", Content::Data) };
        assert!(says(&[locked, disk("vdb", Content::Blank)], "read-only"));
    }

    #[test]
    fn without_any_disk_a_person_is_told_what_to_do() {
        assert!(says(&[], "Attach a blank disk"));
    }

    fn any_disk() -> impl Strategy<Value = Disk> {
        let content = prop_oneof![
            Just(None),
            Just(Some(Content::Blank)),
            Just(Some(Content::Data)),
            Just(Some(Content::HalfFormatted)),
            Just(Some(Content::Other("something"))),
        ];
        ("[a-z]{4,12}", 0..DISK_BYTES_MIN * 2, any::<bool>(), any::<bool>(), content).prop_map(
            |(name, bytes, read_only, partition, content)| Disk {
                name,
                bytes,
                read_only,
                partition,
                content,
            },
        )
    }

    proptest! {
        #[test]
        fn only_a_blank_or_half_formatted_whole_disk_is_ever_formatted(
            disks in proptest::collection::vec(any_disk(), 0..8),
        ) {
            if let Decision::Format(name) = decide(&disks) {
                let chosen = disks.iter().find(|disk| {
                    disk.name == name
                        && !disk.read_only
                        && !disk.partition
                        && matches!(disk.content, Some(Content::Blank | Content::HalfFormatted))
                });
                prop_assert!(chosen.is_some());
                let data = |disk: &Disk| disk.content == Some(Content::Data);
                prop_assert!(!disks.iter().any(data));
            }
        }
    }
}
