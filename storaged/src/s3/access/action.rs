//! What can be allowed or denied: the actions of bucket policies, by their names, and which of them an
//! operation of the protocol needs. Plain data.
//!
//! The list is the one of AWS's service authorisation reference for Amazon S3, for general purpose
//! buckets and their objects. A policy may name any of them; those of operations that are not offered
//! allow nothing.

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A bucket.
    Bucket,
    /// An object.
    Object,
}

macro_rules! actions {
    ($($name:ident $scope:ident $meaning:literal,)*) => {
        /// An action of a policy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $(#[doc = $meaning] $name,)*
        }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Action] = &[$(Action::$name,)*];

            /// Its name, without the `s3:` before it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Action::$name => stringify!($name),)* }
            }

            /// What it is done to.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Action::$name => Scope::$scope,)* }
            }
        }
    };
}

actions! {
    AbortMultipartUpload Object "End an upload in parts without an object.",
    BypassGovernanceRetention Object "Delete or change what governance retention protects.",
    CreateBucket Bucket "Make a bucket.",
    DeleteBucket Bucket "Remove an empty bucket.",
    DeleteBucketPolicy Bucket "Remove its policy.",
    DeleteBucketWebsite Bucket "Not offered.",
    DeleteObject Object "Delete an object, or lay a delete marker on it.",
    DeleteObjectTagging Object "Remove an object's tags.",
    DeleteObjectVersion Object "Delete a version for ever.",
    DeleteObjectVersionTagging Object "Remove a version's tags.",
    GetAccelerateConfiguration Bucket "Not offered.",
    GetAnalyticsConfiguration Bucket "Not offered.",
    GetBucketAcl Bucket "Read a bucket's access control list.",
    GetBucketCORS Bucket "Read its rules for pages of other origins.",
    GetBucketLocation Bucket "Read where it is.",
    GetBucketLogging Bucket "Not offered.",
    GetBucketNotification Bucket "Read whom its events are told.",
    GetBucketObjectLockConfiguration Bucket "Read its default retention.",
    GetBucketOwnershipControls Bucket "Read who owns what others write.",
    GetBucketPolicy Bucket "Read its policy.",
    GetBucketPolicyStatus Bucket "Read whether its policy is public.",
    GetBucketPublicAccessBlock Bucket "Read how far it may be public.",
    GetBucketRequestPayment Bucket "Not offered.",
    GetBucketTagging Bucket "Read its tags.",
    GetBucketVersioning Bucket "Read whether it keeps versions.",
    GetBucketWebsite Bucket "Not offered.",
    GetEncryptionConfiguration Bucket "Not offered.",
    GetIntelligentTieringConfiguration Bucket "Not offered.",
    GetInventoryConfiguration Bucket "Not offered.",
    GetLifecycleConfiguration Bucket "Read its lifecycle rules.",
    GetMetricsConfiguration Bucket "Not offered.",
    GetObject Object "Read an object.",
    GetObjectAcl Object "Read an object's access control list.",
    GetObjectAttributes Object "Read an object's size, parts and checksums.",
    GetObjectLegalHold Object "Read an object's legal hold.",
    GetObjectRetention Object "Read until when an object is kept.",
    GetObjectTagging Object "Read an object's tags.",
    GetObjectTorrent Object "Not offered.",
    GetObjectVersion Object "Read a version.",
    GetObjectVersionAcl Object "Read a version's access control list.",
    GetObjectVersionAttributes Object "Read a version's size, parts and checksums.",
    GetObjectVersionForReplication Object "Not offered.",
    GetObjectVersionTagging Object "Read a version's tags.",
    GetObjectVersionTorrent Object "Not offered.",
    GetReplicationConfiguration Bucket "Not offered.",
    ListBucket Bucket "List a bucket's objects.",
    ListBucketMultipartUploads Bucket "List a bucket's uploads in parts.",
    ListBucketVersions Bucket "List a bucket's versions.",
    ListMultipartUploadParts Object "List an upload's parts.",
    ObjectOwnerOverrideToBucketOwner Object "Not offered.",
    PutAccelerateConfiguration Bucket "Not offered.",
    PutAnalyticsConfiguration Bucket "Not offered.",
    PutBucketAcl Bucket "Change a bucket's access control list.",
    PutBucketCORS Bucket "Change its rules for pages of other origins.",
    PutBucketLogging Bucket "Not offered.",
    PutBucketNotification Bucket "Change whom its events are told.",
    PutBucketObjectLockConfiguration Bucket "Change its default retention.",
    PutBucketOwnershipControls Bucket "Change who owns what others write.",
    PutBucketPolicy Bucket "Change its policy.",
    PutBucketPublicAccessBlock Bucket "Change how far it may be public.",
    PutBucketRequestPayment Bucket "Not offered.",
    PutBucketTagging Bucket "Change its tags.",
    PutBucketVersioning Bucket "Change whether it keeps versions.",
    PutBucketWebsite Bucket "Not offered.",
    PutEncryptionConfiguration Bucket "Not offered.",
    PutIntelligentTieringConfiguration Bucket "Not offered.",
    PutInventoryConfiguration Bucket "Not offered.",
    PutLifecycleConfiguration Bucket "Change its lifecycle rules.",
    PutMetricsConfiguration Bucket "Not offered.",
    PutObject Object "Write an object.",
    PutObjectAcl Object "Change an object's access control list.",
    PutObjectLegalHold Object "Set or lift an object's legal hold.",
    PutObjectRetention Object "Say until when an object is kept.",
    PutObjectTagging Object "Change an object's tags.",
    PutObjectVersionAcl Object "Change a version's access control list.",
    PutObjectVersionTagging Object "Change a version's tags.",
    PutReplicationConfiguration Bucket "Not offered.",
    ReplicateDelete Object "Not offered.",
    ReplicateObject Object "Not offered.",
    ReplicateTags Object "Not offered.",
    RestoreObject Object "Not offered.",
}

/// How an operation is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// An account, any: the operation is about nobody else's.
    Account,
    /// This action on the bucket or the object of the request.
    One(Action),
    /// The first action, or the second where the request names a version.
    Versioned(Action, Action),
    /// All that writing an object may take: by its headers also its tags, its list, its lock.
    Write,
    /// Both an object's content and its attributes.
    Attributes,
    /// The handler asks key by key; here only who can't be allowed anything is sent away.
    EachKey,
    /// The bucket's owner: what is not known is nobody else's business.
    Owner,
}

/// What an operation of the protocol library needs, by its name.
#[must_use]
pub fn needs(operation: &str) -> Needs {
    use Action as A;
    match operation {
        "ListBuckets" | "ListDirectoryBuckets" | "CreateBucket" => Needs::Account,
        "PutObject" | "CopyObject" | "CreateMultipartUpload" => Needs::Write,
        "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => Needs::One(A::PutObject),
        "DeleteObjects" | "PostObject" => Needs::EachKey,
        "GetObjectAttributes" => Needs::Attributes,
        "GetObject" | "HeadObject" => Needs::Versioned(A::GetObject, A::GetObjectVersion),
        "GetObjectAcl" => Needs::Versioned(A::GetObjectAcl, A::GetObjectVersionAcl),
        "PutObjectAcl" => Needs::Versioned(A::PutObjectAcl, A::PutObjectVersionAcl),
        "GetObjectTagging" => Needs::Versioned(A::GetObjectTagging, A::GetObjectVersionTagging),
        "PutObjectTagging" => Needs::Versioned(A::PutObjectTagging, A::PutObjectVersionTagging),
        "DeleteObjectTagging" => {
            Needs::Versioned(A::DeleteObjectTagging, A::DeleteObjectVersionTagging)
        }
        "DeleteObject" => Needs::Versioned(A::DeleteObject, A::DeleteObjectVersion),
        name => plain(name).map_or(Needs::Owner, Needs::One),
    }
}

/// The operations with one action, whatever the request says.
fn plain(operation: &str) -> Option<Action> {
    use Action as A;
    Some(match operation {
        "AbortMultipartUpload" => A::AbortMultipartUpload,
        "DeleteBucket" => A::DeleteBucket,
        "DeleteBucketCors" | "PutBucketCors" => A::PutBucketCORS,
        "DeleteBucketLifecycle" | "PutBucketLifecycleConfiguration" => A::PutLifecycleConfiguration,
        "DeleteBucketOwnershipControls" | "PutBucketOwnershipControls" => {
            A::PutBucketOwnershipControls
        }
        "DeleteBucketPolicy" => A::DeleteBucketPolicy,
        "DeleteBucketTagging" | "PutBucketTagging" => A::PutBucketTagging,
        "DeletePublicAccessBlock" | "PutPublicAccessBlock" => A::PutBucketPublicAccessBlock,
        "GetBucketAcl" => A::GetBucketAcl,
        "GetBucketCors" => A::GetBucketCORS,
        "GetBucketLifecycleConfiguration" => A::GetLifecycleConfiguration,
        "GetBucketLocation" => A::GetBucketLocation,
        "GetBucketNotificationConfiguration" => A::GetBucketNotification,
        "GetBucketOwnershipControls" => A::GetBucketOwnershipControls,
        "GetBucketPolicy" => A::GetBucketPolicy,
        "GetBucketPolicyStatus" => A::GetBucketPolicyStatus,
        "GetBucketTagging" => A::GetBucketTagging,
        "GetBucketVersioning" => A::GetBucketVersioning,
        "GetObjectLegalHold" => A::GetObjectLegalHold,
        "GetObjectLockConfiguration" => A::GetBucketObjectLockConfiguration,
        "GetObjectRetention" => A::GetObjectRetention,
        "GetPublicAccessBlock" => A::GetBucketPublicAccessBlock,
        "HeadBucket" | "ListObjects" | "ListObjectsV2" => A::ListBucket,
        "ListMultipartUploads" => A::ListBucketMultipartUploads,
        "ListObjectVersions" => A::ListBucketVersions,
        "ListParts" => A::ListMultipartUploadParts,
        "PutBucketAcl" => A::PutBucketAcl,
        "PutBucketNotificationConfiguration" => A::PutBucketNotification,
        "PutBucketPolicy" => A::PutBucketPolicy,
        "PutBucketVersioning" => A::PutBucketVersioning,
        "PutObjectLegalHold" => A::PutObjectLegalHold,
        "PutObjectLockConfiguration" => A::PutBucketObjectLockConfiguration,
        "PutObjectRetention" => A::PutObjectRetention,
        _ => return None,
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_operation_that_is_not_known_is_the_owners() {
        assert_eq!(needs("PutBucketWebsite"), Needs::Owner);
        assert_eq!(needs(""), Needs::Owner);
        assert_eq!(needs("HeadBucket"), Needs::One(Action::ListBucket));
    }

    #[test]
    fn names_are_unique_and_in_order() {
        let names: Vec<_> = Action::ALL.iter().map(|action| action.name()).collect();
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
