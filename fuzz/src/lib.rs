//! What is fuzzed: each target takes any bytes, gives them to a parser as a stranger would, and panics if
//! what comes out contradicts itself.
//!
//! The corpora are in `corpus/<target>/`: inputs that once reached something new, small enough to be read.
//! `cargo test` runs every target over them; `make fuzz` looks for more.
#![forbid(unsafe_code)]

mod documents;
mod images;
mod manifests;
mod protocol;
mod usage;
mod zones;

/// A target: its name and what it does with bytes.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "http", run: protocol::http },
    Target { name: "chunked", run: protocol::chunked },
    Target { name: "aws-chunked", run: documents::aws_chunked },
    Target { name: "checksums", run: documents::checksums },
    Target { name: "signature", run: protocol::signature },
    Target { name: "policy", run: documents::policy },
    Target { name: "form", run: documents::form },
    Target { name: "form-policy", run: documents::form_policy },
    Target { name: "documents", run: documents::documents },
    Target { name: "references", run: documents::references },
    Target { name: "tag-list", run: documents::tag_list },
    Target { name: "image", run: images::archive },
    Target { name: "image-layers", run: images::layers },
    Target { name: "image-documents", run: images::documents },
    Target { name: "kernel-log", run: zones::kernel_log },
    Target { name: "manifest", run: manifests::manifest },
    Target { name: "session", run: zones::session },
    Target { name: "usage", run: usage::lines },
    Target { name: "zone-documents", run: zones::documents },
    Target { name: "zone-records", run: zones::records },
    Target { name: "zone-messages", run: zones::messages },
    Target { name: "zone-wishes", run: zones::wishes },
];

#[cfg(test)]
mod test {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_target_bears_its_corpus() {
        for target in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
            let files: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(Result::unwrap).collect();
            assert!(!files.is_empty(), "{} has no corpus", target.name);
            for file in files {
                let bytes = std::fs::read(file.path()).unwrap();
                (target.run)(&bytes);
                // And what a connection that breaks off would leave of it.
                (target.run)(&bytes[..bytes.len() / 2]);
            }
        }
    }
}
