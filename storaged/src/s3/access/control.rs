//! What stands above policies and lists: how far a bucket may be public, and whether lists count. Pure.
//!
//! A new bucket has neither document and is as AWS makes it: nothing public, lists switched off. One whose
//! document was deleted keeps an empty one, which means what AWS means by none.

use s3s::dto::{
    ObjectOwnership, OwnershipControls, OwnershipControlsRule, PublicAccessBlockConfiguration,
};
use s3s::xml::{DeResult, Deserialize, Deserializer, SerResult, Serialize, Serializer};

/// How far a bucket may be public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Lists that let in the public are refused.
    pub block_public_acls: bool,
    /// Grants to the public do not count.
    pub ignore_public_acls: bool,
    /// Policies that let in the public are refused.
    pub block_public_policy: bool,
    /// A policy that lets in the public lets in nobody.
    pub restrict_public_buckets: bool,
}

impl Block {
    /// All of it: a new bucket.
    pub const ALL: Block = Block {
        block_public_acls: true,
        ignore_public_acls: true,
        block_public_policy: true,
        restrict_public_buckets: true,
    };
    /// Nothing.
    pub const OPEN: Block = Block {
        block_public_acls: false,
        ignore_public_acls: false,
        block_public_policy: false,
        restrict_public_buckets: false,
    };

    /// What the configuration says; what it leaves out is off.
    #[must_use]
    pub fn of(configuration: &PublicAccessBlockConfiguration) -> Block {
        let on = |setting: Option<bool>| setting.unwrap_or(false);
        Block {
            block_public_acls: on(configuration.block_public_acls),
            ignore_public_acls: on(configuration.ignore_public_acls),
            block_public_policy: on(configuration.block_public_policy),
            restrict_public_buckets: on(configuration.restrict_public_buckets),
        }
    }

    /// As the protocol shows it.
    #[must_use]
    pub fn configuration(self) -> PublicAccessBlockConfiguration {
        PublicAccessBlockConfiguration {
            block_public_acls: Some(self.block_public_acls),
            block_public_policy: Some(self.block_public_policy),
            ignore_public_acls: Some(self.ignore_public_acls),
            restrict_public_buckets: Some(self.restrict_public_buckets),
        }
    }

    /// As it is kept.
    ///
    /// # Errors
    /// When the library can't write it.
    pub fn document(self) -> SerResult<Vec<u8>> {
        written(&self.configuration())
    }

    /// What was kept: none if it was deleted.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn parse(bytes: &[u8]) -> DeResult<Option<Block>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let configuration =
            PublicAccessBlockConfiguration::deserialize(&mut Deserializer::new(bytes))?;
        Ok(Some(Block::of(&configuration)))
    }
}

/// Who owns what others write into a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The bucket's owner, and lists are switched off: a new bucket.
    BucketOwnerEnforced,
    /// The bucket's owner, if the writer says so.
    BucketOwnerPreferred,
    /// The writer.
    ObjectWriter,
}

impl Ownership {
    /// All of them.
    pub const ALL: [Ownership; 3] =
        [Ownership::BucketOwnerEnforced, Ownership::BucketOwnerPreferred, Ownership::ObjectWriter];

    const fn word(self) -> &'static str {
        match self {
            Ownership::BucketOwnerEnforced => ObjectOwnership::BUCKET_OWNER_ENFORCED,
            Ownership::BucketOwnerPreferred => ObjectOwnership::BUCKET_OWNER_PREFERRED,
            Ownership::ObjectWriter => ObjectOwnership::OBJECT_WRITER,
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Ownership> {
        Ownership::ALL.into_iter().find(|known| known.word() == word)
    }

    /// What a document says: one rule.
    #[must_use]
    pub fn of(controls: &OwnershipControls) -> Option<Ownership> {
        match &controls.rules[..] {
            [rule] => Ownership::from_word(rule.object_ownership.as_str()),
            _ => None,
        }
    }

    /// As the protocol shows it.
    #[must_use]
    pub fn controls(self) -> OwnershipControls {
        let object_ownership = ObjectOwnership::from_static(self.word());
        OwnershipControls { rules: vec![OwnershipControlsRule { object_ownership }] }
    }

    /// As it is kept.
    ///
    /// # Errors
    /// When the library can't write it.
    pub fn document(self) -> SerResult<Vec<u8>> {
        written(&self.controls())
    }

    /// What was kept: none if it was deleted, or makes no sense.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn parse(bytes: &[u8]) -> DeResult<Option<Ownership>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let controls = OwnershipControls::deserialize(&mut Deserializer::new(bytes))?;
        Ok(Ownership::of(&controls))
    }
}

fn written(value: &impl Serialize) -> SerResult<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::new(&mut bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn documents_are_read_as_they_were_kept() {
        for bits in 0..16_u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let block = Block {
                block_public_acls: bit(0),
                ignore_public_acls: bit(1),
                block_public_policy: bit(2),
                restrict_public_buckets: bit(3),
            };
            assert_eq!(Block::parse(&block.document().unwrap()).unwrap(), Some(block));
        }
        for ownership in Ownership::ALL {
            let document = ownership.document().unwrap();
            assert_eq!(Ownership::parse(&document).unwrap(), Some(ownership));
        }
        assert_eq!(Block::parse(b"").unwrap(), None);
        assert_eq!(Ownership::parse(b"").unwrap(), None);
        assert!(Block::parse(b"<x/>").is_err() && Ownership::parse(b"rubbish").is_err());
        assert_eq!(Ownership::of(&OwnershipControls { rules: Vec::new() }), None);
    }
}
