//! Access control lists: who was granted what, by canned name, by headers, by document. Pure.
//!
//! An account is named by its name: that is its canonical id.

use http::HeaderMap;
use s3s::dto::{
    AccessControlPolicy, Grant, Grantee as GranteeDocument, Owner, Permission as Word, Type,
};
use s3s::xml::{DeResult, Deserialize, Deserializer, SerResult, Serialize, Serializer};
use thiserror::Error;

/// The most grants of a list: as S3 has it.
pub const GRANTS_MAX: usize = 100;

/// The owner of what was written by nobody in particular: the canonical id that AWS gives it. No account
/// has this name, since none begins with a digit.
pub const ANONYMOUS: &str = "65a011a29cdf8ec533ec3d1ccaae921c";

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// Why a list is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AclError {
    /// Not a canned list.
    #[error("{0:?} is no canned access control list")]
    Canned(String),
    /// A canned list, or a group, that is not offered.
    #[error("{0} is not served")]
    NotServed(String),
    /// More than one way of saying it.
    #[error("give a canned list or grants, not both")]
    Both,
    /// A header of grants that can't be read.
    #[error("{0:?} is no list of grantees: write id=\"…\", uri=\"…\"")]
    Header(String),
    /// A grant without a grantee or a permission that is known.
    #[error("the access control list is not well-formed")]
    Malformed,
    /// A grantee by mail address.
    #[error("accounts have no mail addresses here: grant to an id")]
    Email,
    /// A group that there is not.
    #[error("there is no group {0:?}")]
    Group(String),
    /// More than [`GRANTS_MAX`].
    #[error("a list has at most {GRANTS_MAX} grants")]
    TooMany,
}

/// To whom something is granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grantee {
    /// An account.
    Account(String),
    /// Anybody.
    AllUsers,
    /// Any account.
    AuthenticatedUsers,
}

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// All of the others.
    FullControl,
    /// To list the bucket, or to read the object.
    Read,
    /// To write objects into the bucket.
    Write,
    /// To read the list.
    ReadAcp,
    /// To change the list.
    WriteAcp,
}

impl Permission {
    const ALL: [Permission; 5] = [
        Permission::FullControl,
        Permission::Read,
        Permission::Write,
        Permission::ReadAcp,
        Permission::WriteAcp,
    ];

    const fn word(self) -> &'static str {
        match self {
            Permission::FullControl => Word::FULL_CONTROL,
            Permission::Read => Word::READ,
            Permission::Write => Word::WRITE,
            Permission::ReadAcp => Word::READ_ACP,
            Permission::WriteAcp => Word::WRITE_ACP,
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Permission::FullControl => "x-amz-grant-full-control",
            Permission::Read => "x-amz-grant-read",
            Permission::Write => "x-amz-grant-write",
            Permission::ReadAcp => "x-amz-grant-read-acp",
            Permission::WriteAcp => "x-amz-grant-write-acp",
        }
    }
}

/// An access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Whose the bucket or object is.
    pub owner: String,
    /// Who was granted what.
    pub grants: Vec<(Grantee, Permission)>,
}

/// A list as a request asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// By its name.
    Canned(Canned),
    /// Grant by grant.
    Grants(Vec<(Grantee, Permission)>),
}

/// The canned lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canned {
    /// The owner only.
    Private,
    /// Anybody reads.
    PublicRead,
    /// Anybody reads and writes.
    PublicReadWrite,
    /// Any account reads.
    AuthenticatedRead,
    /// The bucket's owner reads the object.
    BucketOwnerRead,
    /// The bucket's owner may do anything with the object.
    BucketOwnerFullControl,
}

impl Canned {
    /// The canned list of this name.
    ///
    /// # Errors
    /// When there is none, or it is not offered.
    pub fn parse(name: &str) -> Result<Canned, AclError> {
        match name {
            "private" => Ok(Canned::Private),
            "public-read" => Ok(Canned::PublicRead),
            "public-read-write" => Ok(Canned::PublicReadWrite),
            "authenticated-read" => Ok(Canned::AuthenticatedRead),
            "bucket-owner-read" => Ok(Canned::BucketOwnerRead),
            "bucket-owner-full-control" => Ok(Canned::BucketOwnerFullControl),
            "aws-exec-read" | "log-delivery-write" => Err(AclError::NotServed(name.to_owned())),
            _ => Err(AclError::Canned(name.to_owned())),
        }
    }

    fn grants(self, owner: &str, bucket_owner: &str) -> Vec<(Grantee, Permission)> {
        let account = |name: &str| Grantee::Account(name.to_owned());
        let mut grants = vec![(account(owner), Permission::FullControl)];
        let more: &[(Grantee, Permission)] = match self {
            Canned::Private => &[],
            Canned::PublicRead => &[(Grantee::AllUsers, Permission::Read)],
            Canned::PublicReadWrite => {
                &[(Grantee::AllUsers, Permission::Read), (Grantee::AllUsers, Permission::Write)]
            }
            Canned::AuthenticatedRead => &[(Grantee::AuthenticatedUsers, Permission::Read)],
            Canned::BucketOwnerRead => &[(account(bucket_owner), Permission::Read)],
            Canned::BucketOwnerFullControl => &[(account(bucket_owner), Permission::FullControl)],
        };
        grants
            .extend(more.iter().filter(|grant| **grant != grants[0]).cloned().collect::<Vec<_>>());
        grants
    }
}

impl Wanted {
    /// What the headers of a request ask for, if they ask for anything.
    ///
    /// # Errors
    /// When they can't be understood.
    pub fn of_headers(headers: &HeaderMap) -> Result<Option<Wanted>, AclError> {
        let text = |value: &http::HeaderValue| {
            let wrong = || AclError::Header(String::from_utf8_lossy(value.as_bytes()).into_owned());
            value.to_str().map(str::to_owned).map_err(|_| wrong())
        };
        let canned = headers.get("x-amz-acl").map(text).transpose()?;
        let canned = canned.map(|name| Canned::parse(&name)).transpose()?;
        let mut grants = Vec::new();
        for permission in Permission::ALL {
            for value in headers.get_all(permission.header()) {
                let grantees = parse_grantees(&text(value)?)?;
                grants.extend(grantees.into_iter().map(|grantee| (grantee, permission)));
            }
        }
        match (canned, grants.is_empty()) {
            (Some(_), false) => Err(AclError::Both),
            (Some(canned), true) => Ok(Some(Wanted::Canned(canned))),
            (None, false) => limited(grants).map(|grants| Some(Wanted::Grants(grants))),
            (None, true) => Ok(None),
        }
    }

    /// What a document asks for, and whom it calls the owner.
    ///
    /// # Errors
    /// When a grant is none.
    pub fn of_document(
        document: AccessControlPolicy,
    ) -> Result<(Option<String>, Wanted), AclError> {
        let owner = document.owner.and_then(|owner| owner.id);
        let grants = document.grants.ok_or(AclError::Malformed)?;
        let grants = grants.into_iter().map(read_grant).collect::<Result<_, _>>()?;
        Ok((owner, Wanted::Grants(limited(grants)?)))
    }

    /// The list itself, once it is known whose the thing is.
    #[must_use]
    pub fn list(self, owner: &str, bucket_owner: &str) -> Acl {
        let grants = match self {
            Wanted::Canned(canned) => canned.grants(owner, bucket_owner),
            Wanted::Grants(grants) => grants,
        };
        Acl { owner: owner.to_owned(), grants }
    }

    /// Whether it asks for nothing but that the bucket's owner may do anything: that is how things are
    /// where lists are switched off.
    #[must_use]
    pub fn is_bucket_owners(&self, bucket_owner: &str) -> bool {
        match self {
            Wanted::Canned(canned) => *canned == Canned::BucketOwnerFullControl,
            Wanted::Grants(grants) => {
                let own = |grantee: &Grantee| matches!(grantee, Grantee::Account(name) if name == bucket_owner);
                matches!(&grants[..], [(grantee, Permission::FullControl)] if own(grantee))
            }
        }
    }

    /// The accounts that it names.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        let grants: &[(Grantee, Permission)] = match self {
            Wanted::Canned(_) => &[],
            Wanted::Grants(grants) => grants,
        };
        grants.iter().filter_map(|(grantee, _)| match grantee {
            Grantee::Account(name) => Some(name.as_str()),
            Grantee::AllUsers | Grantee::AuthenticatedUsers => None,
        })
    }
}

fn limited(grants: Vec<(Grantee, Permission)>) -> Result<Vec<(Grantee, Permission)>, AclError> {
    if grants.len() > GRANTS_MAX { Err(AclError::TooMany) } else { Ok(grants) }
}

fn group(uri: &str) -> Result<Grantee, AclError> {
    match uri {
        ALL_USERS => Ok(Grantee::AllUsers),
        AUTHENTICATED_USERS => Ok(Grantee::AuthenticatedUsers),
        "http://acs.amazonaws.com/groups/s3/LogDelivery" => {
            Err(AclError::NotServed("the group LogDelivery".to_owned()))
        }
        other => Err(AclError::Group(other.to_owned())),
    }
}

/// Reads the value of an `x-amz-grant-` header: `id="ada", uri="http://…"`.
///
/// # Errors
/// When it is something else.
pub fn parse_grantees(text: &str) -> Result<Vec<Grantee>, AclError> {
    let wrong = || AclError::Header(text.to_owned());
    let read = |part: &str| {
        let (kind, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        if value.is_empty() || value.contains('"') {
            return Err(wrong());
        }
        match kind.trim().to_ascii_lowercase().as_str() {
            "id" => Ok(Grantee::Account(value.to_owned())),
            "uri" => group(value),
            "emailaddress" => Err(AclError::Email),
            _ => Err(wrong()),
        }
    };
    // Neither ids nor the groups' addresses have a comma.
    text.split(',').map(read).collect()
}

fn read_grant(grant: Grant) -> Result<(Grantee, Permission), AclError> {
    let grantee = grant.grantee.ok_or(AclError::Malformed)?;
    let word = grant.permission.ok_or(AclError::Malformed)?;
    let known = Permission::ALL.into_iter().find(|known| known.word() == word.as_str());
    let permission = known.ok_or(AclError::Malformed)?;
    let grantee = match grantee.type_.as_str() {
        Type::CANONICAL_USER => Grantee::Account(grantee.id.ok_or(AclError::Malformed)?),
        Type::GROUP => group(&grantee.uri.ok_or(AclError::Malformed)?)?,
        Type::AMAZON_CUSTOMER_BY_EMAIL => return Err(AclError::Email),
        _ => return Err(AclError::Malformed),
    };
    Ok((grantee, permission))
}

impl Acl {
    /// The list of what only its owner may touch.
    #[must_use]
    pub fn private(owner: &str) -> Acl {
        Wanted::Canned(Canned::Private).list(owner, owner)
    }

    /// Whether it grants anything to everybody, or to every account.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|(grantee, _)| !matches!(grantee, Grantee::Account(_)))
    }

    /// Whether it grants a permission to who asks. `public` says whether grants to groups count.
    #[must_use]
    pub fn grants(&self, account: Option<&str>, wanted: Permission, public: bool) -> bool {
        let meant = |grantee: &Grantee| match grantee {
            Grantee::Account(name) => account == Some(name),
            Grantee::AllUsers => public,
            Grantee::AuthenticatedUsers => public && account.is_some(),
        };
        self.grants.iter().any(|(grantee, permission)| {
            (*permission == wanted || *permission == Permission::FullControl) && meant(grantee)
        })
    }

    /// As the protocol shows it.
    #[must_use]
    pub fn document(&self) -> AccessControlPolicy {
        let grant = |(grantee, permission): &(Grantee, Permission)| Grant {
            grantee: Some(shown(grantee)),
            permission: Some(Word::from_static(permission.word())),
        };
        AccessControlPolicy {
            grants: Some(self.grants.iter().map(grant).collect()),
            owner: Some(Owner {
                display_name: Some(self.owner.clone()),
                id: Some(self.owner.clone()),
            }),
        }
    }

    /// As it is kept: the protocol's document.
    ///
    /// # Errors
    /// When the library can't write it.
    pub fn text(&self) -> SerResult<String> {
        let mut bytes = Vec::new();
        self.document().serialize(&mut Serializer::new(&mut bytes))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// When it is not a list.
    pub fn parse(bytes: &[u8]) -> Result<Acl, AclError> {
        let mut deserializer = Deserializer::new(bytes);
        let read: DeResult<AccessControlPolicy> =
            AccessControlPolicy::deserialize(&mut deserializer);
        let document = read.map_err(|_| AclError::Malformed)?;
        let (owner, wanted) = Wanted::of_document(document)?;
        let owner = owner.ok_or(AclError::Malformed)?;
        Ok(wanted.list(&owner, &owner))
    }
}

fn shown(grantee: &Grantee) -> GranteeDocument {
    let none = GranteeDocument {
        display_name: None,
        email_address: None,
        id: None,
        type_: Type::from_static(Type::GROUP),
        uri: None,
    };
    match grantee {
        Grantee::AllUsers => GranteeDocument { uri: Some(ALL_USERS.to_owned()), ..none },
        Grantee::AuthenticatedUsers => {
            GranteeDocument { uri: Some(AUTHENTICATED_USERS.to_owned()), ..none }
        }
        Grantee::Account(name) => GranteeDocument {
            display_name: Some(name.clone()),
            id: Some(name.clone()),
            type_: Type::from_static(Type::CANONICAL_USER),
            ..none
        },
    }
}

#[cfg(test)]
mod test;
