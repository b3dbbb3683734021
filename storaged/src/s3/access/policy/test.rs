use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(document: &Value) -> Result<Policy, PolicyError> {
    Policy::parse(document.to_string().as_bytes(), "b")
}

fn statement(more: &Value) -> Value {
    let mut all = json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*",
    });
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

#[expect(clippy::needless_pass_by_value, reason = "as json! gives it")]
fn with(more: Value) -> Result<Policy, PolicyError> {
    parse(&json!({ "Version": "2012-10-17", "Statement": [statement(&more)] }))
}

fn said(
    policy: &Policy,
    account: Option<&str>,
    action: Action,
    key: Option<&str>,
) -> Option<Effect> {
    let values = |name: &Key| match name {
        Key::Username => account.map(|name| vec![name.to_owned()]),
        _ => None,
    };
    policy.evaluate(&Question { account, action, bucket: "b", key, values: &values })
}

#[test]
fn principals_are_everyone_or_accounts() {
    let get = |policy: &Policy, who| said(policy, who, Action::GetObject, Some("k")).is_some();
    for everyone in [json!("*"), json!({"AWS": "*"}), json!({"AWS": ["ada", "*"]})] {
        let policy = with(json!({ "Principal": everyone })).unwrap();
        assert!(get(&policy, None) && get(&policy, Some("bob")));
    }
    for ada in [
        json!({"AWS": "ada"}),
        json!({"AWS": "arn:aws:iam::ada:root"}),
        json!({"CanonicalUser": "ada"}),
    ] {
        let policy = with(json!({ "Principal": ada })).unwrap();
        assert!(get(&policy, Some("ada")) && !get(&policy, Some("bob")) && !get(&policy, None));
        assert_eq!(policy.accounts().collect::<Vec<_>>(), ["ada"]);
    }
    for wrong in [
        json!("ada"),
        json!({"AWS": "arn:aws:iam::ada:user/x"}),
        json!({"AWS": []}),
        json!({"Service": "x"}),
        json!({"AWS": "a*"}),
        json!({}),
    ] {
        let refused = with(json!({ "Principal": wrong }));
        assert!(matches!(refused, Err(PolicyError::Principal(_))), "{refused:?}");
    }
}

#[test]
fn not_principal_denies_all_others() {
    let more = json!({"Principal": null, "NotPrincipal": {"AWS": "ada"}, "Effect": "Deny"});
    let policy = with(more).unwrap();
    assert_eq!(said(&policy, Some("ada"), Action::GetObject, Some("k")), None);
    for other in [None, Some("bob")] {
        assert_eq!(said(&policy, other, Action::GetObject, Some("k")), Some(Effect::Deny));
    }
    let more = json!({"Principal": null, "NotPrincipal": {"AWS": "ada"}});
    assert!(matches!(with(more), Err(PolicyError::NotPrincipalAllows)));
}

#[test]
fn actions_have_wildcards_and_no_case() {
    let policy = with(json!({"Action": ["S3:getobject", "s3:Put*"]})).unwrap();
    let yes = |action| said(&policy, None, action, Some("k")).is_some();
    assert!(yes(Action::GetObject) && yes(Action::PutObject) && yes(Action::PutObjectAcl));
    assert!(!yes(Action::GetObjectAcl) && !yes(Action::DeleteObject));
    let policy = with(json!({"Action": null, "NotAction": "s3:Get*"})).unwrap();
    let yes = |action| said(&policy, None, action, Some("k")).is_some();
    assert!(!yes(Action::GetObject) && yes(Action::DeleteObject));
    for wrong in [json!("s3:GetObjects"), json!("GetObject"), json!("ec2:*"), json!([])] {
        assert!(matches!(with(json!({ "Action": wrong })), Err(PolicyError::Action(_))));
    }
}

#[test]
fn resources_are_of_this_bucket() {
    let policy = with(json!({"Resource": ["arn:aws:s3:::b/a/*", "arn:aws:s3:::b/x"]})).unwrap();
    let get = |key| said(&policy, None, Action::GetObject, Some(key)).is_some();
    assert!(get("a/") && get("a/b/c") && get("x") && !get("xy") && !get("a"));
    for wrong in
        ["arn:aws:s3:::c/*", "b/*", "arn:aws:sqs:::b/*", "arn:aws:s3:::", "arn:aws:s3:::bb*/k"]
    {
        let refused = with(json!({ "Resource": wrong }));
        assert!(matches!(refused, Err(PolicyError::Resource(_))), "{wrong} {refused:?}");
    }
    for whole in ["*", "arn:aws:s3:::*", "arn:aws:s3:::b*", "arn:aws:s3:::?/*"] {
        with(json!({ "Resource": whole })).unwrap();
    }
    let policy = with(json!({"Resource": null, "NotResource": "arn:aws:s3:::b/a/*"})).unwrap();
    let get = |key| said(&policy, None, Action::GetObject, Some(key)).is_some();
    assert!(!get("a/x") && get("x"));
}

#[test]
fn an_action_must_fit_one_of_the_resources() {
    let refused = with(json!({"Resource": "arn:aws:s3:::b"}));
    assert!(matches!(refused, Err(PolicyError::Applies(_))), "{refused:?}");
    let refused = with(json!({"Action": ["s3:ListBucket"]}));
    assert!(matches!(refused, Err(PolicyError::Applies(_))), "{refused:?}");
    let both = json!(["arn:aws:s3:::b", "arn:aws:s3:::b/*"]);
    with(json!({"Action": ["s3:ListBucket", "s3:GetObject"], "Resource": both})).unwrap();
    with(json!({"Action": "s3:*"})).unwrap();
    with(json!({"Action": "s3:*", "Resource": "arn:aws:s3:::b"})).unwrap();
}

#[test]
fn variables_name_who_asks() {
    let policy = with(json!({"Resource": "arn:aws:s3:::b/home/${aws:username}/*"})).unwrap();
    let get = |who, key| said(&policy, who, Action::GetObject, Some(key)).is_some();
    assert!(get(Some("ada"), "home/ada/x") && !get(Some("bob"), "home/ada/x"));
    assert!(!get(None, "home/ada/x") && !get(None, "home//x"));
    assert!(policy.asks(|key| *key == Key::Username));
}

#[test]
fn what_is_not_understood_is_refused() {
    for wrong in [
        json!({"Effect": "allow"}),
        json!({"Effect": null}),
        json!({"Principal": null}),
        json!({"Action": null}),
        json!({"Resource": null}),
        json!({"NotAction": "s3:GetObject"}),
        json!({"Sidd": "x"}),
        json!({"Condition": {"StringEquals": {"aws:SourceVpce": "v"}}}),
        json!({"Condition": {"StringIs": {"aws:SourceIp": "v"}}}),
        json!({"Condition": {"IpAddress": {"aws:SourceIp": {"x": 1}}}}),
        json!({"Condition": []}),
    ] {
        with(wrong.clone()).expect_err(&wrong.to_string());
    }
    for wrong in [
        json!({"Statement": []}),
        json!({"Version": "2012-10-17"}),
        json!({"Version": "2013-01-01", "Statement": statement(&json!({}))}),
        json!({"Statement": statement(&json!({})), "Comment": "x"}),
        json!([]),
    ] {
        parse(&wrong).expect_err(&wrong.to_string());
    }
    let text = statement(&json!({})).to_string();
    let twice = format!("{{\"Statement\": {text}, \"Statement\": {text}}}");
    assert!(matches!(Policy::parse(twice.as_bytes(), "b"), Err(PolicyError::Syntax(_))));
    let text =
        text.replace("{\"Action\"", "{\"Condition\": {\"Bool\": {}, \"Bool\": {}}, \"Action\"");
    let twice = format!("{{\"Statement\": {text}}}");
    assert!(matches!(Policy::parse(twice.as_bytes(), "b"), Err(PolicyError::Syntax(_))));
    let long = vec![b' '; POLICY_BYTES_MAX + 1];
    assert!(matches!(Policy::parse(&long, "b"), Err(PolicyError::TooLong(_))));
    // One statement need not be a list, and values need not be texts.
    let one = statement(&json!({"Condition": {"Bool": {"aws:SecureTransport": true}}}));
    parse(&json!({ "Statement": one })).unwrap();
}

#[test]
fn the_public_is_everyone_from_anywhere() {
    let public = |more| with(more).unwrap().is_public();
    let when = |operator: &str, key: &str, value: &str| {
        public(json!({"Condition": {operator: {key: value}}}))
    };
    assert!(public(json!({})) && !public(json!({"Principal": {"AWS": "ada"}})));
    assert!(!public(json!({"Effect": "Deny"})));
    assert!(
        when("IpAddress", "aws:SourceIp", "0.0.0.0/1") && when("IpAddress", "aws:SourceIp", "::/0")
    );
    assert!(!when("IpAddress", "aws:SourceIp", "10.0.0.0/8"));
    assert!(when("NotIpAddress", "aws:SourceIp", "10.0.0.0/8"));
    assert!(when("IpAddressIfExists", "aws:SourceIp", "10.0.0.0/8"));
    assert!(!when("StringEquals", "aws:PrincipalAccount", "ada"));
    assert!(when("StringLike", "aws:PrincipalAccount", "*"));
    assert!(when("ForAllValues:StringEquals", "aws:PrincipalAccount", "ada"));
    assert!(when("StringEquals", "aws:UserAgent", "secret"));
    assert!(when("Bool", "aws:SecureTransport", "true"));
}

fn any_statement() -> impl Strategy<Value = Value> {
    let effect = prop_oneof![Just("Allow"), Just("Deny")];
    let principal = prop_oneof![
        Just(json!("*")),
        Just(json!({"AWS": "ada"})),
        Just(json!({"AWS": ["ada", "bob"]})),
    ];
    let action = prop_oneof![
        Just(json!("s3:*")),
        Just(json!("s3:GetObject")),
        Just(json!(["s3:PutObject", "s3:GetObject*"])),
    ];
    let resource =
        prop_oneof![Just("arn:aws:s3:::b/*"), Just("arn:aws:s3:::b*"), Just("arn:aws:s3:::b/k")];
    let condition = prop_oneof![
        Just(json!({})),
        Just(json!({"StringEquals": {"aws:username": "ada"}})),
        Just(json!({"StringNotEquals": {"aws:username": "ada"}})),
    ];
    (effect, principal, action, resource, condition).prop_map(
        |(effect, principal, action, resource, condition)| {
            json!({
                "Effect": effect, "Principal": principal, "Action": action, "Resource": resource,
                "Condition": condition,
            })
        },
    )
}

const ACTIONS: [Action; 4] =
    [Action::GetObject, Action::PutObject, Action::GetObjectAcl, Action::ListBucket];

fn answers(statements: &[Value]) -> Vec<Option<Effect>> {
    let policy = parse(&json!({ "Statement": statements })).unwrap();
    let mut all = Vec::new();
    for who in [None, Some("ada"), Some("bob"), Some("eve")] {
        for action in ACTIONS {
            all.extend([None, Some("k"), Some("j")].map(|key| said(&policy, who, action, key)));
        }
    }
    all
}

proptest! {
    #[test]
    fn the_order_of_statements_says_nothing(
        statements in proptest::collection::vec(any_statement(), 1..6),
        seed: u64,
    ) {
        let mut shuffled = statements.clone();
        shuffle(&mut shuffled, seed);
        prop_assert_eq!(answers(&statements), answers(&shuffled));
    }

    #[test]
    fn one_more_deny_never_allows_more(
        statements in proptest::collection::vec(any_statement(), 1..6),
        mut more in any_statement(),
    ) {
        more["Effect"] = json!("Deny");
        let before = answers(&statements);
        let after = answers(&[statements, vec![more]].concat());
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(after == before || after == Some(Effect::Deny));
        }
    }

    #[test]
    fn one_more_allow_never_lifts_a_deny(
        statements in proptest::collection::vec(any_statement(), 1..6),
        mut more in any_statement(),
    ) {
        more["Effect"] = json!("Allow");
        let before = answers(&statements);
        let after = answers(&[statements, vec![more]].concat());
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(after == before || (before.is_none() && after == Some(Effect::Allow)));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        prop_assert!(Policy::parse(&bytes, "b").is_err(), "noise is no policy");
    }

    #[test]
    fn texts_in_any_place_are_read_or_refused(a: String, b: String, c: String, d: String) {
        let one = with(json!({ "Action": a, "Resource": format!("arn:aws:s3:::b/{b}") }));
        let other = with(json!({ "Condition": { c: { d: b } }, "Principal": { "AWS": a } }));
        for policy in [one, other].into_iter().flatten() {
            prop_assert!(said(&policy, Some("nobody-there"), Action::CreateBucket, None).is_none());
        }
    }
}

fn shuffle(all: &mut [Value], seed: u64) {
    let mut state = seed | 1;
    for at in (1..all.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        all.swap(at, (state >> 33) as usize % (at + 1));
    }
}
