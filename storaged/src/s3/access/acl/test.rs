//! Lists as requests ask for them and as they are kept.

use super::*;
use proptest::prelude::*;

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    all.iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect::<HeaderMap>()
}

fn list(all: &[(&'static str, &str)]) -> Acl {
    Wanted::of_headers(&headers(all)).unwrap().unwrap().list("bob", "ada")
}

#[test]
fn canned_lists_grant_what_their_names_say() {
    let grants = |name, who, permission| list(&[("x-amz-acl", name)]).grants(who, permission, true);
    assert!(grants("private", Some("bob"), Permission::WriteAcp));
    assert!(
        !grants("private", Some("ada"), Permission::Read)
            && !grants("private", None, Permission::Read)
    );
    assert!(
        grants("public-read", None, Permission::Read)
            && !grants("public-read", None, Permission::Write)
    );
    assert!(grants("public-read-write", None, Permission::Write));
    assert!(grants("authenticated-read", Some("eve"), Permission::Read));
    assert!(!grants("authenticated-read", None, Permission::Read));
    assert!(grants("bucket-owner-read", Some("ada"), Permission::Read));
    assert!(!grants("bucket-owner-read", Some("ada"), Permission::ReadAcp));
    assert!(grants("bucket-owner-full-control", Some("ada"), Permission::WriteAcp));
    let public = list(&[("x-amz-acl", "public-read")]);
    assert!(public.is_public() && !public.grants(None, Permission::Read, false));
    assert!(matches!(Canned::parse("log-delivery-write"), Err(AclError::NotServed(_))));
    assert!(matches!(Canned::parse("Private"), Err(AclError::Canned(_))));
}

#[test]
fn headers_grant_one_by_one() {
    let acl = list(&[
        ("x-amz-grant-read", "id=\"eve\", uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""),
        ("x-amz-grant-write-acp", "ID=dan"),
    ]);
    assert!(
        acl.grants(None, Permission::Read, true)
            && acl.grants(Some("eve"), Permission::Read, false)
    );
    assert!(acl.grants(Some("dan"), Permission::WriteAcp, false));
    // Even the owner has what was granted.
    assert!(!acl.grants(Some("bob"), Permission::Read, false));
    let both = [("x-amz-grant-read", "id=eve"), ("x-amz-acl", "private")];
    assert_eq!(Wanted::of_headers(&headers(&both)), Err(AclError::Both));
    assert_eq!(Wanted::of_headers(&headers(&[])), Ok(None));
    for wrong in ["", "eve", "id=", "id=\"\"", "id=\"a\"b\"", "name=eve", "uri=http://x"] {
        assert!(parse_grantees(wrong).is_err(), "{wrong}");
    }
    assert_eq!(parse_grantees("emailAddress=a@b"), Err(AclError::Email));
    let many = ["id=a"; GRANTS_MAX + 1].join(",");
    let many = headers(&[("x-amz-grant-read", &many)]);
    assert_eq!(Wanted::of_headers(&many), Err(AclError::TooMany));
}

#[test]
fn what_the_bucket_owner_has_anyway_is_recognised() {
    let is = |all: &[(&'static str, &str)]| {
        Wanted::of_headers(&headers(all)).unwrap().unwrap().is_bucket_owners("ada")
    };
    assert!(is(&[("x-amz-acl", "bucket-owner-full-control")]));
    assert!(is(&[("x-amz-grant-full-control", "id=ada")]));
    assert!(!is(&[("x-amz-grant-full-control", "id=bob")]) && !is(&[("x-amz-acl", "private")]));
    assert!(!is(&[("x-amz-grant-full-control", "id=ada,id=bob")]));
}

fn any_acl() -> impl Strategy<Value = Acl> {
    let grantee = prop_oneof![
        Just(Grantee::AllUsers),
        Just(Grantee::AuthenticatedUsers),
        "[a-zA-Z][a-z0-9_.-]{0,8}".prop_map(Grantee::Account),
    ];
    let permission = proptest::sample::select(Permission::ALL.to_vec());
    let grants = proptest::collection::vec((grantee, permission), 0..6);
    ("[a-zA-Z][a-z0-9_.-]{0,8}", grants).prop_map(|(owner, grants)| Acl { owner, grants })
}

proptest! {
    #[test]
    fn a_list_is_read_as_it_was_kept(acl in any_acl()) {
        prop_assert_eq!(Acl::parse(acl.text().unwrap().as_bytes()), Ok(acl));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text: String) {
        if let Ok(acl) = Acl::parse(&bytes) {
            prop_assert_eq!(Acl::parse(acl.text().unwrap().as_bytes()), Ok(acl));
        }
        let grantees = parse_grantees(&text);
        prop_assert!(grantees.is_err() || text.contains('='));
    }
}
