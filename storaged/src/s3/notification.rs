//! Notification configurations of buckets, and what handlers say once they have changed something.

use super::access::Caller;
use super::{Api, document};
use crate::events::{Change, Rules, RulesError, Who};
use crate::front::Origin;
use crate::store::{AccountId, BucketConfig};
use s3s::dto::{
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
    NotificationConfiguration, PutBucketNotificationConfigurationInput,
    PutBucketNotificationConfigurationOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::net::IpAddr;

/// Who asks for a change, kept while the request is used up.
pub(super) struct Teller {
    caller: Caller,
    address: Option<IpAddr>,
    owner: AccountId,
}

impl Api {
    /// Who tells of the changes that this request makes to its bucket.
    ///
    /// # Errors
    /// When the request has no bucket; the hook has answered that before.
    pub(super) fn teller<T>(&self, req: &S3Request<T>) -> S3Result<Teller> {
        let admitted = self.admitted(req)?;
        let owner = admitted.bucket()?.owner;
        let address = req.extensions.get::<Origin>().and_then(|origin| origin.address);
        Ok(Teller { caller: admitted.caller, address, owner })
    }

    /// Tells of changes that are committed, before they are acknowledged. They are only put together if
    /// somebody wants to hear of the bucket.
    pub(super) async fn tell<C: IntoIterator<Item = Change>>(
        &self,
        teller: &Teller,
        bucket: &str,
        changes: impl FnOnce() -> C,
    ) {
        if self.events.rules(bucket).is_none() {
            return;
        }
        self.events.tell(&self.who(teller), bucket, changes()).await;
    }

    /// The same, by name.
    pub(super) fn who(&self, teller: &Teller) -> Who {
        let principal = match &teller.caller {
            Caller::Anonymous => String::new(),
            Caller::Account(account) => account.name.clone(),
        };
        Who { principal, address: teller.address, owner: self.accounts.name_of(teller.owner) }
    }
}

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
    let admitted = api.admitted(&req)?;
    let record = admitted.bucket()?;
    let input = req.input;
    let configuration = Rules::with_ids(input.notification_configuration);
    let document = document::to_xml(&configuration)?;
    let rules = Rules::parse(&document).map_err(|e| refusal(&e))?;
    if let Some(target) = rules.all().find(|target| !api.events.knows(&target.webhook)) {
        return Err(s3_error!(
            InvalidArgument,
            "Unable to validate the following destination configurations: there is no webhook {}",
            target.webhook
        ));
    }
    let (bucket, kind) = (input.bucket, BucketConfig::Notification);
    if rules.is_empty() {
        document::drop(api, bucket, record, kind).await?;
        return Ok(S3Response::new(PutBucketNotificationConfigurationOutput {}));
    }
    document::keep(api, bucket.clone(), record, kind, document).await?;
    let mut told: Vec<_> = rules.all().map(|target| &*target.webhook).collect();
    told.sort_unstable();
    told.dedup();
    for webhook in told {
        api.events.tell_test(webhook, &bucket, super::now_ms()).await;
    }
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput {}))
}

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    // A bucket without one has an empty one.
    let found = document::found(api, &req.input.bucket, BucketConfig::Notification)?;
    let Some(found) = found else {
        return Ok(S3Response::new(GetBucketNotificationConfigurationOutput::default()));
    };
    let configuration: NotificationConfiguration = document::from_xml(&found)?;
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
        queue_configurations: configuration.queue_configurations,
        ..GetBucketNotificationConfigurationOutput::default()
    }))
}

fn refusal(error: &RulesError) -> S3Error {
    match error {
        RulesError::Malformed(_) => s3_error!(MalformedXML, "{error}"),
        RulesError::Invalid(_) => s3_error!(InvalidArgument, "{error}"),
        RulesError::NotOffered(_) => s3_error!(NotImplemented, "{error}"),
    }
}
