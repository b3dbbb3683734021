//! Which operations are offered, and who carries each one out: one line an operation.

use super::{
    Api, access, attributes, bucket, bucket_tagging, copy, cors, delete, get, lifecycle, list,
    lock, multipart, notification, put, tagging, versioning, versions,
};
use s3s::dto;
use s3s::{S3, S3Request, S3Response, S3Result};

/// The protocol library's trait, whose methods all have one shape.
macro_rules! offered {
    ($($name:ident($input:ident) -> $output:ident: |$api:ident, $req:ident| $call:expr;)*) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(async fn $name(
                &self,
                $req: S3Request<dto::$input>,
            ) -> S3Result<S3Response<dto::$output>> {
                let $api = self;
                $call
            })*
        }
    };
}

offered! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput:
        |api, req| multipart::abort(api, req).await;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput:
        |api, req| multipart::complete(api, req).await;
    copy_object(CopyObjectInput) -> CopyObjectOutput: |api, req| copy::copy(api, req).await;
    create_bucket(CreateBucketInput) -> CreateBucketOutput:
        |api, req| bucket::create(api, req).await;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput:
        |api, req| multipart::begin(api, req).await;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput:
        |api, req| bucket::delete(api, req).await;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput:
        |api, req| cors::delete(api, req).await;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput:
        |api, req| lifecycle::delete(api, req).await;
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput:
        |api, req| access::delete_ownership(api, req).await;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput:
        |api, req| access::delete_policy(api, req).await;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput:
        |api, req| bucket_tagging::delete(api, req).await;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput: |api, req| delete::one(api, req).await;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput:
        |api, req| tagging::delete(api, req).await;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput:
        |api, req| delete::many(api, req).await;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput:
        |api, req| access::delete_public_block(api, req).await;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput:
        |api, req| access::get_bucket_acl(api, &req);
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput: |api, req| cors::get(api, &req);
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput:
        |api, req| lifecycle::get(api, &req);
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput:
        |api, req| bucket::location(api, &req);
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput:
        |api, req| notification::get(api, &req);
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput:
        |api, req| access::get_ownership(api, &req);
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput:
        |api, req| access::get_policy(api, &req);
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput:
        |api, req| access::policy_status(api, &req);
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput:
        |api, req| bucket_tagging::get(api, &req);
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput:
        |api, req| versioning::get(api, &req);
    get_object(GetObjectInput) -> GetObjectOutput: |api, req| get::get(api, req);
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput:
        |api, req| access::get_object_acl(api, &req);
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput:
        |api, req| attributes::get(api, &req);
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput:
        |api, req| lock::get_legal_hold(api, &req);
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput:
        |api, req| lock::get_configuration(api, &req);
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput:
        |api, req| lock::get_retention(api, &req);
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput:
        |api, req| tagging::get(api, &req);
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput:
        |api, req| access::get_public_block(api, &req);
    head_bucket(HeadBucketInput) -> HeadBucketOutput: |api, req| bucket::head(api, &req);
    head_object(HeadObjectInput) -> HeadObjectOutput: |api, req| get::head(api, req);
    list_buckets(ListBucketsInput) -> ListBucketsOutput: |api, req| bucket::list(api, req);
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput:
        |api, req| multipart::list_uploads(api, req);
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput:
        |api, req| versions::list(api, req);
    list_objects(ListObjectsInput) -> ListObjectsOutput: |api, req| list::version_1(api, req);
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output:
        |api, req| list::version_2(api, req);
    list_parts(ListPartsInput) -> ListPartsOutput: |api, req| multipart::list_parts(api, req);
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput:
        |api, req| access::put_bucket_acl(api, req).await;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput:
        |api, req| cors::put(api, req).await;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput:
        |api, req| lifecycle::put(api, req).await;
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput:
        |api, req| notification::put(api, req).await;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput:
        |api, req| access::put_ownership(api, req).await;
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput:
        |api, req| access::put_policy(api, req).await;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput:
        |api, req| bucket_tagging::put(api, req).await;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput:
        |api, req| versioning::put(api, req).await;
    put_object(PutObjectInput) -> PutObjectOutput: |api, req| put::put(api, req).await;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput:
        |api, req| access::put_object_acl(api, req).await;
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput:
        |api, req| lock::put_legal_hold(api, req).await;
    put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput:
        |api, req| lock::put_configuration(api, req).await;
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput:
        |api, req| lock::put_retention(api, req).await;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput:
        |api, req| tagging::put(api, req).await;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput:
        |api, req| access::put_public_block(api, req).await;
    upload_part(UploadPartInput) -> UploadPartOutput: |api, req| multipart::part(api, req).await;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput:
        |api, req| multipart::copy(api, req).await;
}
