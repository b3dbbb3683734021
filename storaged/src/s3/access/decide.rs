//! The decision itself, from what is known of the bucket, the object and the request. Pure.
//!
//! ```text
//!   the policy denies ──▶ no, but the bucket's owner may always mend the policy
//!   the bucket's owner ─▶ yes
//!   the policy allows ──▶ yes, unless it is public and that is blocked
//!   a list grants ──────▶ yes, where lists count and as far as the public is not left out
//!   else ───────────────▶ no
//! ```

use super::acl::{Acl, Permission};
use super::action::Action;
use super::control::Ownership;
use super::facts::{Facts, Rules};
use super::policy::{Effect, Question, Values};

/// What is to be decided.
pub struct Case<'a> {
    /// The bucket.
    pub facts: &'a Facts,
    /// The account that asks; none if nobody signed.
    pub account: Option<&'a str>,
    /// Whether that is the bucket's owner.
    pub is_owner: bool,
    /// What is to be done.
    pub action: Action,
    /// To which key; none for the bucket.
    pub key: Option<&'a str>,
    /// What the request says of condition keys.
    pub values: &'a Values<'a>,
    /// The list of the object there is, if there is one.
    pub object: Option<&'a Acl>,
}

/// On what grounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The bucket is theirs.
    Ownership,
    /// The policy allows it.
    Policy,
    /// A list grants it.
    Acl,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed(By),
    /// Nothing allows it.
    Silent,
    /// The policy denies it.
    Denied,
}

/// Decides.
#[must_use]
pub fn decide(case: &Case<'_>) -> Verdict {
    let facts = case.facts;
    let said = match &facts.rules {
        Rules::None => None,
        // What can't be read may have denied anything.
        Rules::Broken => Some(Effect::Deny),
        Rules::Policy(policy) => policy.evaluate(&Question {
            account: case.account,
            action: case.action,
            bucket: &facts.name,
            key: case.key,
            values: case.values,
        }),
    };
    let mends = matches!(
        case.action,
        Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy
    );
    match said {
        Some(Effect::Deny) if case.is_owner && mends => Verdict::Allowed(By::Ownership),
        Some(Effect::Deny) => Verdict::Denied,
        _ if case.is_owner => Verdict::Allowed(By::Ownership),
        Some(Effect::Allow)
            if !(facts.block.restrict_public_buckets && facts.has_public_policy()) =>
        {
            Verdict::Allowed(By::Policy)
        }
        Some(Effect::Allow) | None if listed(case) => Verdict::Allowed(By::Acl),
        Some(Effect::Allow) | None => Verdict::Silent,
    }
}

fn listed(case: &Case<'_>) -> bool {
    let facts = case.facts;
    if facts.ownership == Ownership::BucketOwnerEnforced {
        return false;
    }
    let public = !facts.block.ignore_public_acls;
    let bucket = |permission| facts.acl.grants(case.account, permission, public);
    let object =
        |permission| case.object.is_some_and(|acl| acl.grants(case.account, permission, public));
    // Whose an object is may always see and change its list.
    let own = || case.object.is_some_and(|acl| case.account == Some(&acl.owner));
    match case.action {
        Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads => {
            bucket(Permission::Read)
        }
        Action::GetBucketAcl => bucket(Permission::ReadAcp),
        Action::PutBucketAcl => bucket(Permission::WriteAcp),
        // New objects, and one's own again.
        Action::PutObject => bucket(Permission::Write) && (case.object.is_none() || own()),
        Action::GetObject | Action::GetObjectVersion => object(Permission::Read),
        Action::GetObjectAcl | Action::GetObjectVersionAcl => own() || object(Permission::ReadAcp),
        Action::PutObjectAcl | Action::PutObjectVersionAcl => own() || object(Permission::WriteAcp),
        _ => false,
    }
}

#[cfg(test)]
mod test {
    use super::super::acl::Wanted;
    use super::super::control::Block;
    use super::super::policy::Policy;
    use super::*;
    use crate::store::{AccountId, BucketRecord};
    use http::HeaderMap;
    use proptest::prelude::*;

    const ALLOW: &str = r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"]}"#;
    const ADA_ONLY: &str = r#"{"Effect":"Allow","Principal":{"AWS":"bob"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}"#;
    const DENY: &str = r#"{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"]}"#;

    fn rules(statements: &[&str]) -> Rules {
        let text = format!("{{\"Statement\":[{}]}}", statements.join(","));
        Rules::Policy(Policy::parse(text.as_bytes(), "b").unwrap())
    }

    fn acl(canned: &'static str, owner: &str) -> Acl {
        let headers: HeaderMap =
            [("x-amz-acl".parse().unwrap(), canned.parse().unwrap())].into_iter().collect();
        Wanted::of_headers(&headers).unwrap().unwrap().list(owner, "ada")
    }

    fn facts(rules: Rules, bucket: &'static str, ownership: Ownership, block: Block) -> Facts {
        Facts {
            name: "b".to_owned(),
            record: BucketRecord::new(AccountId(1), 0),
            owner_name: "ada".to_owned(),
            rules,
            block,
            ownership,
            acl: acl(bucket, "ada"),
        }
    }

    fn verdict(facts: &Facts, who: Option<&str>, action: Action, object: Option<&Acl>) -> Verdict {
        let key = Some("k").filter(|_| action.scope() == super::super::Scope::Object);
        let is_owner = who == Some("ada");
        decide(&Case { facts, account: who, is_owner, action, key, values: &|_| None, object })
    }

    const OPEN: Block = Block::OPEN;

    #[test]
    fn without_anything_the_owner_is_alone() {
        let facts = facts(Rules::None, "private", Ownership::ObjectWriter, OPEN);
        for action in Action::ALL {
            assert_eq!(
                verdict(&facts, Some("ada"), *action, None),
                Verdict::Allowed(By::Ownership)
            );
            assert_eq!(verdict(&facts, Some("bob"), *action, None), Verdict::Silent);
            assert_eq!(verdict(&facts, None, *action, None), Verdict::Silent);
        }
    }

    #[test]
    fn a_policy_that_denies_everything_can_still_be_mended_by_the_owner() {
        for rules in [rules(&[ALLOW, DENY]), Rules::Broken] {
            let facts = facts(rules, "public-read-write", Ownership::ObjectWriter, OPEN);
            for action in Action::ALL {
                let mends = action.name().ends_with("BucketPolicy");
                let expected =
                    if mends { Verdict::Allowed(By::Ownership) } else { Verdict::Denied };
                assert_eq!(verdict(&facts, Some("ada"), *action, None), expected);
                assert_eq!(verdict(&facts, Some("bob"), *action, None), Verdict::Denied);
            }
        }
    }

    #[test]
    fn a_public_policy_opens_nothing_where_that_is_blocked() {
        let block = Block { restrict_public_buckets: true, ..OPEN };
        let get = |rules, block| {
            let facts = facts(rules, "private", Ownership::BucketOwnerEnforced, block);
            verdict(&facts, Some("bob"), Action::GetObject, None)
        };
        assert_eq!(get(rules(&[ALLOW]), OPEN), Verdict::Allowed(By::Policy));
        assert_eq!(get(rules(&[ALLOW]), block), Verdict::Silent);
        assert_eq!(get(rules(&[ADA_ONLY]), block), Verdict::Allowed(By::Policy));
        // Whom a public policy names is kept out with the public.
        assert_eq!(get(rules(&[ADA_ONLY, ALLOW]), block), Verdict::Silent);
    }

    #[test]
    fn lists_count_where_they_are_not_switched_off() {
        let read = acl("public-read", "bob");
        let get = |ownership, block| {
            let facts = facts(Rules::None, "public-read-write", ownership, block);
            [Action::GetObject, Action::ListBucket].map(|action| {
                verdict(&facts, None, action, Some(&read)) == Verdict::Allowed(By::Acl)
            })
        };
        assert_eq!(get(Ownership::ObjectWriter, OPEN), [true, true]);
        assert_eq!(get(Ownership::BucketOwnerPreferred, OPEN), [true, true]);
        assert_eq!(get(Ownership::BucketOwnerEnforced, OPEN), [false, false]);
        let block = Block { ignore_public_acls: true, ..OPEN };
        assert_eq!(get(Ownership::ObjectWriter, block), [false, false]);
    }

    #[test]
    fn who_may_write_a_bucket_overwrites_only_what_is_theirs() {
        let facts = facts(Rules::None, "public-read-write", Ownership::ObjectWriter, OPEN);
        let put = |who, object| verdict(&facts, who, Action::PutObject, object);
        let (bobs, adas) = (acl("private", "bob"), acl("private", "ada"));
        assert_eq!(put(Some("bob"), None), Verdict::Allowed(By::Acl));
        assert_eq!(put(None, None), Verdict::Allowed(By::Acl));
        assert_eq!(put(Some("bob"), Some(&bobs)), Verdict::Allowed(By::Acl));
        assert_eq!(put(Some("bob"), Some(&adas)), Verdict::Silent);
        assert_eq!(put(None, Some(&bobs)), Verdict::Silent);
        let acp = |action| verdict(&facts, Some("bob"), action, Some(&bobs));
        assert_eq!(acp(Action::PutObjectAcl), Verdict::Allowed(By::Acl));
        assert_eq!(acp(Action::DeleteObject), Verdict::Silent);
        assert_eq!(acp(Action::GetBucketAcl), Verdict::Silent);
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let statements =
            proptest::collection::vec(proptest::sample::select(vec![ALLOW, ADA_ONLY, DENY]), 0..4);
        let canned = proptest::sample::select(vec![
            "private",
            "public-read",
            "public-read-write",
            "authenticated-read",
        ]);
        let ownership = proptest::sample::select(Ownership::ALL.to_vec());
        (statements, canned, ownership, any::<[bool; 2]>()).prop_map(
            |(statements, canned, ownership, block)| {
                let rules = if statements.is_empty() { Rules::None } else { rules(&statements) };
                let [restrict_public_buckets, ignore_public_acls] = block;
                let block = Block { restrict_public_buckets, ignore_public_acls, ..OPEN };
                facts(rules, canned, ownership, block)
            },
        )
    }

    fn any_case() -> impl Strategy<Value = (Option<&'static str>, Action, Option<Acl>)> {
        let who = proptest::sample::select(vec![None, Some("ada"), Some("bob"), Some("eve")]);
        let action = proptest::sample::select(Action::ALL.to_vec());
        let object = prop_oneof![
            Just(None),
            Just(Some(acl("public-read", "bob"))),
            Just(Some(acl("private", "ada"))),
        ];
        (who, action, object)
    }

    proptest! {
        #[test]
        fn what_restricts_never_allows_more(facts in any_facts(), (who, action, object) in any_case()) {
            let before = verdict(&facts, who, action, object.as_ref());
            let allowed = |facts: &Facts| {
                matches!(verdict(facts, who, action, object.as_ref()), Verdict::Allowed(_))
            };
            let was = matches!(before, Verdict::Allowed(_));
            let blocked = Facts { block: Block::ALL, ..copy(&facts) };
            prop_assert!(!allowed(&blocked) || was);
            let enforced = Facts { ownership: Ownership::BucketOwnerEnforced, ..copy(&facts) };
            prop_assert!(!allowed(&enforced) || was);
            let private = Facts { acl: Acl::private("ada"), ..copy(&facts) };
            prop_assert!(!allowed(&private) || was);
            if before == Verdict::Denied {
                let open = Facts { block: OPEN, ownership: Ownership::ObjectWriter, ..copy(&facts) };
                prop_assert!(!allowed(&open));
            }
        }
    }

    fn copy(facts: &Facts) -> Facts {
        Facts {
            name: facts.name.clone(),
            record: facts.record.clone(),
            owner_name: facts.owner_name.clone(),
            rules: facts.rules.clone(),
            block: facts.block,
            ownership: facts.ownership,
            acl: facts.acl.clone(),
        }
    }
}
