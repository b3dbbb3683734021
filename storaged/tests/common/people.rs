//! Who asks: ada, whose bucket it is, bob, and nobody; and policies that let them in.

use super::{BOB, BUCKET, Server, keys};
use tests::s3::{Answer, Ask, Client, Signing};

/// As somebody: what they get.
pub struct As<'a> {
    pub client: Client,
    pub signing: Signing,
    pub _server: &'a Server,
}

impl As<'_> {
    pub fn ask(&self, method: &str, path: &str, query: &[(&str, &str)], more: Ask<'_>) -> Answer {
        let empty = || matches!(method, "PUT" | "POST").then_some(&b""[..]);
        let body = more.body.or_else(empty);
        let ask = Ask { method, path, query, signing: self.signing, body, ..more };
        self.client.request(&ask).unwrap()
    }

    pub fn plain(&self, method: &str, path: &str) -> Answer {
        self.ask(method, path, &[], Ask::new("", ""))
    }

    pub fn put(&self, path: &str, query: &[(&str, &str)], body: &str) -> Answer {
        let headers = [("content-type", "application/octet-stream")];
        self.ask(
            "PUT",
            path,
            query,
            Ask { body: Some(body.as_bytes()), headers: &headers, ..Ask::new("", "") },
        )
    }

    pub fn with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let body = (method == "PUT").then_some(&b"x"[..]);
        self.ask(method, path, &[], Ask { headers, body, ..Ask::new("", "") })
    }

    pub fn get(&self, key: &str) -> u16 {
        self.plain("GET", &format!("/{BUCKET}/{key}")).status
    }

    pub fn code(&self, key: &str) -> String {
        said(&self.plain("GET", &format!("/{BUCKET}/{key}")))
    }
}

pub fn said(answer: &Answer) -> String {
    answer.elements("Code").first().cloned().unwrap_or_else(|| answer.status.to_string())
}

pub fn start() -> Server {
    let server = Server::start();
    for key in ["k", "open/k", "home/bob/k"] {
        server.client.put(BUCKET, key, b"secret").unwrap();
    }
    server
}

pub fn ada(server: &Server) -> As<'_> {
    As { client: server.client.clone(), signing: Signing::Signed, _server: server }
}

pub fn bob(server: &Server) -> As<'_> {
    let client = Client::new(&server.address.to_string(), keys(BOB));
    As { client, signing: Signing::Signed, _server: server }
}

pub fn nobody(server: &Server) -> As<'_> {
    As { signing: Signing::Anonymous, ..ada(server) }
}

pub fn bucket() -> String {
    format!("/{BUCKET}")
}

/// Takes away what keeps the public out.
pub fn open(server: &Server) {
    let answer =
        ada(server).ask("DELETE", &bucket(), &[("publicAccessBlock", "")], Ask::new("", ""));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

pub fn policy(server: &Server, statements: &str) -> Answer {
    let text = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}");
    ada(server).put(&bucket(), &[("policy", "")], &text)
}

pub fn allow(who: &str, action: &str, resource: &str, condition: &str) -> String {
    statement("Allow", who, action, resource, condition)
}

pub fn statement(effect: &str, who: &str, action: &str, resource: &str, condition: &str) -> String {
    format!(
        "{{\"Effect\":\"{effect}\",\"Principal\":{who},\"Action\":\"{action}\",\
         \"Resource\":\"arn:aws:s3:::{BUCKET}{resource}\",\"Condition\":{condition}}}"
    )
}

pub const ALL: &str = "\"*\"";
pub const BOBS: &str = "{\"AWS\":\"bob\"}";
