//! Signatures of an independent signer are accepted, and nothing is that the protocol library refuses.

use super::*;
use crate::accounts::Accounts;
use crate::front::Service;
use crate::s3::Auth;
use crate::s3::door::Door;
use crate::store::{Options, Store};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{Method, Request, StatusCode};
use proptest::prelude::*;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

const ACCESS: &str = "AKADA";
const SECRET: &str = "secret-of-ada/+=";
const HOST: &str = "localhost:9000";

/// Answers NotImplemented to whatever has got past the signature.
struct Nothing;
impl S3 for Nothing {}

struct World {
    accounts: Arc<Accounts>,
    library: Door,
    verifier: Verifier,
    _data: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(Options { kept_bytes: Some(0), ..Options::new(data.path()) }).unwrap();
    let account = wire::machine::Account {
        name: "ada".to_owned().try_into().unwrap(),
        access_key: ACCESS.to_owned().try_into().unwrap(),
        secret_key: SECRET.to_owned().try_into().unwrap(),
        ssh_keys: Vec::new(),
        limits: Default::default(),
    };
    let given = wire::machine::Accounts { accounts: vec![account] };
    let accounts = Arc::new(Accounts::enter(&store, given).unwrap());
    let mut builder = S3ServiceBuilder::new(Nothing);
    builder.set_auth(Auth(Arc::clone(&accounts)));
    World {
        accounts: Arc::clone(&accounts),
        library: Door { library: builder.build(), accounts, verifier: Arc::default() },
        verifier: Verifier::default(),
        _data: data,
    }
});

/// How a request is signed.
#[derive(Debug, Clone)]
struct Way {
    location: SignatureLocation,
    region: String,
    extra: Vec<(String, String)>,
    expires: u64,
    /// Seconds ago.
    age: i64,
    body: bool,
}

impl Way {
    fn plain(location: SignatureLocation) -> Way {
        let region = "us-east-1".to_owned();
        Way { location, region, extra: Vec::new(), expires: 900, age: 0, body: false }
    }
}

/// A request as an independent signer signs it: its target, and its headers.
fn signed(method: &str, target: &str, way: &Way) -> (String, Vec<(String, String)>) {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.signature_location = way.location;
    if way.location == SignatureLocation::Headers {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    } else {
        settings.expires_in = Some(Duration::from_secs(way.expires));
    }
    let identity = Credentials::new(ACCESS, SECRET, None, None, "test").into();
    let time = match u64::try_from(way.age) {
        Ok(ago) => SystemTime::now() - Duration::from_secs(ago),
        Err(_) => SystemTime::now() + Duration::from_secs(way.age.unsigned_abs()),
    };
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&way.region)
        .name("s3")
        .time(time)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let mut headers = vec![("host".to_owned(), HOST.to_owned())];
    headers.extend(way.extra.iter().cloned());
    let url = format!("http://{HOST}{target}");
    let body = if way.body { SignableBody::Bytes(b"") } else { SignableBody::UnsignedPayload };
    let names = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = SignableRequest::new(method, &url, names, body).unwrap();
    let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
    let mut uri: http::Uri = url.parse().unwrap();
    let mut target = target.to_owned();
    if way.location == SignatureLocation::QueryParams {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        instructions.apply_to_request_http1x(&mut request);
        uri = request.uri().clone();
        target = uri.path_and_query().unwrap().to_string();
    } else {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        headers.extend(instructions.headers().map(own));
    }
    (target, headers)
}

fn parts(method: &str, target: &str, headers: &[(String, String)]) -> Option<Parts> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

fn ours(head: &Parts) -> bool {
    let world = &*WORLD;
    let account = |key: &str| world.accounts.by_access_key(key);
    parse(head).and_then(|claim| world.verifier.signer(&claim, head, now(), account)).is_some()
}

/// Whether the protocol library, with the screen before it, takes the request for signed.
fn theirs(head: &Parts) -> bool {
    let request = Request::from_parts(head.clone(), Body::empty());
    crate::committer::wait(WORLD.library.call(request)).status() == StatusCode::NOT_IMPLEMENTED
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9/._~-]{1,20}", "[ -~]{1,12}", "\\PC{1,6}"]
}

fn way() -> impl Strategy<Value = Way> {
    let location =
        prop_oneof![Just(SignatureLocation::Headers), Just(SignatureLocation::QueryParams)];
    let extra = proptest::collection::btree_map(
        prop_oneof![Just("x-amz-meta-first"), Just("accept"), Just("x-second")],
        "[!-~]([ !-~]{0,8}[!-~])?",
        0..3,
    );
    let region = prop_oneof![Just("us-east-1".to_owned()), "[a-z]{2}-[a-z]{4}-[0-9]"];
    (location, region, extra, 1_u64..700_000, -1200_i64..1200, any::<bool>()).prop_map(
        |(location, region, extra, expires, age, body)| {
            let body = body && location == SignatureLocation::Headers;
            let own = |(name, value): (&str, String)| (name.to_owned(), value);
            Way {
                location,
                region,
                extra: extra.into_iter().map(own).collect(),
                expires,
                age,
                body,
            }
        },
    )
}

fn target(key: &str) -> String {
    format!("/bucket/{}", tests::sigv4::percent(key.as_bytes(), true))
}

#[test]
fn what_clients_sign_is_verified_without_the_library() {
    for location in [SignatureLocation::Headers, SignatureLocation::QueryParams] {
        for (method, key) in [("GET", "a/b c+d.txt"), ("HEAD", "é/~"), ("GET", "plain")] {
            let (target, headers) = signed(method, &target(key), &Way::plain(location));
            let head = parts(method, &target, &headers).unwrap();
            assert!(ours(&head) && theirs(&head), "{head:?}");
        }
    }
}

#[test]
fn a_key_is_kept_for_an_account_and_not_for_one_of_the_same_name() {
    let (target, headers) = signed("GET", "/b/k", &Way::plain(SignatureLocation::Headers));
    let head = parts("GET", &target, &headers).unwrap();
    let account = &WORLD.accounts.by_access_key(ACCESS).unwrap();
    let verifier = Verifier::default();
    let ask = |account: &Arc<Account>| {
        let account = Arc::clone(account);
        let claim = parse(&head).unwrap();
        verifier.signer(&claim, &head, now(), move |_| Some(account)).is_some()
    };
    assert!(ask(account) && ask(account));
    assert_eq!(verifier.keys.read().unwrap().len(), 1);
    let other = Arc::new(Account {
        id: account.id,
        name: account.name.clone(),
        access_key: account.access_key.clone(),
        secret_key: "another-secret".into(),
        ssh_keys: Vec::new(),
    });
    assert!(!ask(&other));
    assert!(ask(account));
}

#[test]
fn a_header_of_the_family_that_is_not_signed_has_no_verdict() {
    for location in [SignatureLocation::Headers, SignatureLocation::QueryParams] {
        let (target, mut headers) = signed("GET", "/b/k", &Way::plain(location));
        headers.push(("x-amz-user-agent".to_owned(), "u".to_owned()));
        assert!(ours(&parts("GET", &target, &headers).unwrap()));
        headers.push(("x-amz-expected-bucket-owner".to_owned(), "1".to_owned()));
        assert!(!ours(&parts("GET", &target, &headers).unwrap()));
    }
}

#[test]
fn the_time_of_a_request_is_held_to() {
    let at = |location, age, expires| {
        let way = Way { age, expires, ..Way::plain(location) };
        let (target, headers) = signed("GET", "/b/k", &way);
        ours(&parts("GET", &target, &headers).unwrap())
    };
    let (header, query) = (SignatureLocation::Headers, SignatureLocation::QueryParams);
    assert!(at(header, 890, 0) && at(header, -890, 0));
    assert!(!at(header, 901, 0) && !at(header, -910, 0));
    assert!(at(query, 890, 1000) && at(query, 5, 10) && !at(query, 11, 10));
    assert!(!at(query, -910, 1000) && !at(query, 0, 604_801) && at(query, 0, 604_800));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn yes_is_never_said_where_the_library_says_no(key in key(), way in way()) {
        let (target, headers) = signed("GET", &target(&key), &way);
        let Some(head) = parts("GET", &target, &headers) else { return Ok(()) };
        prop_assert!(!ours(&head) || theirs(&head), "{:?}", head);
        let timely = way.age > -880 && way.age < if way.location == SignatureLocation::Headers { 880 } else { way.expires.cast_signed() - 10 };
        let ordinary = key.bytes().all(|b| matches!(b, b' '..=b'~')) && way.expires <= 604_800;
        let spaced = way.extra.iter().any(|(_, value)| value.contains("  "));
        prop_assert!(!(timely && ordinary && !spaced) || ours(&head), "{:?}", head);
    }

    #[test]
    fn nor_for_a_request_that_was_altered(
        key in key(), way in way(), what in 0..6_u8, at in any::<prop::sample::Index>(), byte in any::<u8>(),
        other in prop::sample::select(vec!["HEAD", "PUT", "DELETE"]),
    ) {
        let way = Way { age: 0, expires: way.expires.clamp(100, 600_000), ..way };
        let (mut target, mut headers) = signed("GET", &target(&key), &way);
        let mut method = "GET";
        let spoil = |text: &mut String| {
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(spoilt) = String::from_utf8(bytes) { *text = spoilt; }
        };
        match what {
            0 => spoil(&mut target),
            1 => { let count = headers.len(); spoil(&mut headers[at.index(count)].1); }
            2 => { headers.remove(at.index(headers.len())); }
            3 => { let again = headers[at.index(headers.len())].clone(); headers.push(again); }
            4 => method = other,
            _ => {
                let separator = if target.contains('?') { "&" } else { "?" };
                target = format!("{target}{separator}{}=1", ["acl", "versionId", "X-Amz-Expires"][at.index(3)]);
            }
        }
        let Some(head) = parts(method, &target, &headers) else { return Ok(()) };
        prop_assert!(!ours(&head) || theirs(&head), "{:?}", head);
        if what >= 4 {
            prop_assert!(!ours(&head), "{:?}", head);
        }
    }

    #[test]
    fn any_text_is_a_claim_or_none(path in "/[ -~]{0,40}", value in "\\PC{0,120}") {
        for name in ["authorization", "x-amz-date", "host"] {
            let Ok(request) = Request::builder().method(Method::GET).uri(path.replace(' ', "%20")).header(name, &value).body(()) else { continue };
            prop_assert!(!ours(&request.into_parts().0));
        }
    }
}
