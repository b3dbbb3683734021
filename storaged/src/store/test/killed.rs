//! A store that is killed has what it acknowledged.

use super::*;

/// The variable that tells the child of the next test where its store is.
const CHILD_STORE: &str = "MOBULA_TEST_CHILD_STORE";

#[test]
#[ignore = "it is the process that the next test kills"]
fn the_child_that_is_killed() {
    let store = open(Path::new(&std::env::var(CHILD_STORE).unwrap()));
    let first = store.object(&path("rounds")).unwrap().map_or(0, |record| record.size);
    for n in first.. {
        // One object in two sizes, and a counter beside it, in one transaction.
        let (key, length) = (format!("object-{}", n % 7), if n % 2 == 0 { 100 } else { 50_000 });
        let bytes = vec![n as u8; length];
        let sealed = (n % 2 == 1).then(|| seal(&store, &bytes));
        let put = move |txn: &mut Txn<'_>| {
            let metadata = meta(&bytes);
            let content = sealed.map_or(Content::Inline(bytes.into()), Content::Blob);
            txn.put_object(&path(&key), content, metadata)?;
            let counter = Content::Inline(vec![0; (n + 1) as usize % 8000].into());
            txn.put_object(&path("rounds"), counter, Metadata::default())
        };
        store.transact_wait(put).unwrap();
        // One write: the parent sees whole lines or nothing.
        println!("{}", n + 1);
    }
}

/// Checks a store that was killed after `acknowledged` rounds; how many rounds it had.
fn check_killed(folder: &Path, acknowledged: u64) -> u64 {
    let store = open(folder);
    let rounds = store.object(&path("rounds")).unwrap().map_or(0, |record| record.size);
    assert!(
        (acknowledged..=acknowledged + 1).contains(&rounds),
        "{acknowledged} or one more, not {rounds}"
    );
    let mut blobs = Vec::new();
    for n in rounds.saturating_sub(7)..rounds {
        let (record, file) =
            store.open_object(&path(&format!("object-{}", n % 7))).unwrap().unwrap();
        let length = if n % 2 == 0 { 100 } else { 50_000 };
        let bytes = match (record.content, file) {
            (ContentRef::Inline(bytes), None) => bytes.to_vec(),
            (ContentRef::Blob(blob), Some(file)) => {
                blobs.push(format!("{:016x}", blob.0));
                read_all(file)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(bytes, vec![n as u8; length], "round {n}");
    }
    blobs.sort();
    // No file is left without a record, once what was replaced is unlinked.
    eventually("only files with records are left", || {
        files_below(&folder.join("objects")) == blobs
    });
    assert_eq!(files_below(&folder.join("staging")), [""; 0]);
    rounds
}

#[test]
fn a_killed_store_has_what_it_acknowledged_and_nothing_else() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let name = "store::test::killed::the_child_that_is_killed";
    let mut rounds = 0;
    for round in 0_u64..8 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture"])
            .env(CHILD_STORE, folder.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines =
            std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let wanted = rounds + 3 + round * 5;
        let mut acknowledged = rounds;
        for line in lines.by_ref() {
            // The first lines are the test runner's.
            if let Some(number) =
                line.split_whitespace().next_back().and_then(|word| word.parse().ok())
            {
                acknowledged = acknowledged.max(number);
                if acknowledged >= wanted {
                    break;
                }
            }
        }
        child.kill().unwrap();
        // What it said before it died was said, too.
        let rest =
            lines.filter_map(|line| line.split_whitespace().next_back()?.parse::<u64>().ok());
        acknowledged = rest.fold(acknowledged, u64::max);
        child.wait().unwrap();
        assert!(acknowledged >= wanted, "the child ended by itself after {acknowledged}");
        rounds = check_killed(folder.path(), acknowledged);
    }
}
