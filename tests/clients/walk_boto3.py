"""boto3, as Python programs use it: its default checksums are on, its transfers go in parts."""

import io
import urllib.error
import urllib.request
import uuid

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from common import (
    ACCESS_KEY, ENDPOINT, LARGE_BYTES, ODD_KEYS, PART_BYTES, REGION, SECRET_KEY,
    body, bucket_name, fail, same, say, true,
)

CLIENT = boto3.client(
    "s3",
    endpoint_url=ENDPOINT,
    aws_access_key_id=ACCESS_KEY,
    aws_secret_access_key=SECRET_KEY,
    region_name=REGION,
    config=Config(retries={"max_attempts": 1}, read_timeout=300, signature_version="s3v4"),
)
PARTS = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)


def refused(code, call, **arguments):
    """The call must be refused with this code."""
    try:
        call(**arguments)
    except ClientError as error:
        same("the code of a refusal", error.response["Error"]["Code"], code)
        return error.response
    return fail(f"{call.__name__} was not refused with {code}")


def keys_of(bucket, **more):
    pages = CLIENT.get_paginator("list_objects_v2").paginate(Bucket=bucket, **more)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def round_trip(bucket):
    say("put, get, head, ranges, conditions")
    content = body(100_000)
    put = CLIENT.put_object(
        Bucket=bucket, Key="a", Body=content, ContentType="text/plain",
        CacheControl="no-cache", Metadata={"colour": "blue"},
    )
    true("a checksum is answered by default", any(name.startswith("Checksum") for name in put))
    got = CLIENT.get_object(Bucket=bucket, Key="a")
    same("the object", got["Body"].read(), content)
    same("its type", got["ContentType"], "text/plain")
    same("its cache control", got["CacheControl"], "no-cache")
    same("its metadata", got["Metadata"], {"colour": "blue"})
    same("its tag", got["ETag"], put["ETag"])
    head = CLIENT.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    same("its length", head["ContentLength"], len(content))
    part = CLIENT.get_object(Bucket=bucket, Key="a", Range="bytes=10-19")
    same("a range", part["Body"].read(), content[10:20])
    same("its place", part["ContentRange"], f"bytes 10-19/{len(content)}")
    refused("304", CLIENT.get_object, Bucket=bucket, Key="a", IfNoneMatch=put["ETag"])
    refused("PreconditionFailed", CLIENT.put_object, Bucket=bucket, Key="a", Body=b"", IfNoneMatch="*")
    refused("NoSuchKey", CLIENT.get_object, Bucket=bucket, Key="nobody put this")
    refused("InvalidRange", CLIENT.get_object, Bucket=bucket, Key="a", Range="bytes=200000-")
    overridden = CLIENT.get_object(Bucket=bucket, Key="a", ResponseContentType="x/y")
    same("a type asked for", overridden["ContentType"], "x/y")


def checksums(bucket):
    say("every checksum algorithm, right and wrong")
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        put = CLIENT.put_object(Bucket=bucket, Key=algorithm, Body=b"content", ChecksumAlgorithm=algorithm)
        name = f"Checksum{algorithm}"
        head = CLIENT.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        same(f"the {algorithm}", head[name], put[name])
    refused(
        "BadDigest", CLIENT.put_object, Bucket=bucket, Key="wrong", Body=b"content",
        ChecksumSHA256="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    )
    refused("NoSuchKey", CLIENT.get_object, Bucket=bucket, Key="wrong")
    attributes = CLIENT.get_object_attributes(
        Bucket=bucket, Key="SHA256", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass"]
    )
    same("the size among the attributes", attributes["ObjectSize"], 7)
    true("the checksum among the attributes", "ChecksumSHA256" in attributes["Checksum"])


def parts(bucket):
    say("an upload in parts, by the library and by hand")
    content = body(LARGE_BYTES)
    CLIENT.upload_fileobj(io.BytesIO(content), bucket, "large", Config=PARTS)
    got = io.BytesIO()
    CLIENT.download_fileobj(bucket, "large", got, Config=PARTS)
    same("a large object", got.getvalue(), content)
    same("its tag's end", CLIENT.head_object(Bucket=bucket, Key="large")["ETag"][-3:-1], "-3")
    second = CLIENT.get_object(Bucket=bucket, Key="large", PartNumber=2)
    same("its second part", second["Body"].read(), content[PART_BYTES:2 * PART_BYTES])
    same("the number of its parts", second["PartsCount"], 3)
    upload = CLIENT.create_multipart_upload(Bucket=bucket, Key="by hand")["UploadId"]
    where = {"Bucket": bucket, "Key": "by hand", "UploadId": upload}
    last = CLIENT.upload_part(PartNumber=7, Body=b"the end", **where)["ETag"]
    CLIENT.upload_part(PartNumber=3, Body=body(PART_BYTES, 9), **where)
    again = CLIENT.upload_part(PartNumber=3, Body=content[:PART_BYTES], **where)["ETag"]
    copied = CLIENT.upload_part_copy(
        PartNumber=5, CopySource={"Bucket": bucket, "Key": "large"},
        CopySourceRange=f"bytes=1-{PART_BYTES}", **where,
    )["CopyPartResult"]["ETag"]
    listed = CLIENT.list_parts(**where)["Parts"]
    same("the parts", [part["PartNumber"] for part in listed], [3, 5, 7])
    uploads = CLIENT.list_multipart_uploads(Bucket=bucket)["Uploads"]
    same("the uploads", [one["UploadId"] for one in uploads], [upload])
    chosen = [(3, again), (5, copied), (7, last)]
    wrong = {"Parts": [{"PartNumber": 3, "ETag": last}]}
    refused("InvalidPart", CLIENT.complete_multipart_upload, MultipartUpload=wrong, **where)
    chosen = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in chosen]}
    CLIENT.complete_multipart_upload(MultipartUpload=chosen, **where)
    wanted = content[:PART_BYTES] + content[1:PART_BYTES + 1] + b"the end"
    same("what was made by hand", CLIENT.get_object(Bucket=bucket, Key="by hand")["Body"].read(), wanted)
    left = CLIENT.create_multipart_upload(Bucket=bucket, Key="never")["UploadId"]
    CLIENT.upload_part(Bucket=bucket, Key="never", UploadId=left, PartNumber=1, Body=b"x")
    CLIENT.abort_multipart_upload(Bucket=bucket, Key="never", UploadId=left)
    refused("NoSuchUpload", CLIENT.list_parts, Bucket=bucket, Key="never", UploadId=left)


def listing(bucket):
    say("odd keys, pages, delimiters")
    for key in ODD_KEYS:
        CLIENT.put_object(Bucket=bucket, Key=f"odd/{key}", Body=key.encode())
    wanted = sorted((f"odd/{key}" for key in ODD_KEYS), key=lambda key: key.encode())
    same("the odd keys", keys_of(bucket, Prefix="odd/"), wanted)
    same("the odd keys in pages", keys_of(bucket, Prefix="odd/", PaginationConfig={"PageSize": 4}), wanted)
    for key in ODD_KEYS:
        got = CLIENT.get_object(Bucket=bucket, Key=f"odd/{key}")["Body"].read()
        same(f"what is at {key!r}", got, key.encode())
    top = CLIENT.list_objects_v2(Bucket=bucket, Delimiter="/")
    same("the prefixes", [entry["Prefix"] for entry in top["CommonPrefixes"]], ["odd/"])
    first = CLIENT.list_objects(Bucket=bucket, Prefix="odd/", MaxKeys=3)
    same("a page of version 1", [entry["Key"] for entry in first["Contents"]], wanted[:3])
    true("that it is not the last", first["IsTruncated"])
    gone = CLIENT.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in wanted]})
    same("how many are deleted", len(gone["Deleted"]), len(wanted))
    same("what is left of them", keys_of(bucket, Prefix="odd/"), [])


def copies_and_tags(bucket):
    say("copies and tags")
    CLIENT.put_object(Bucket=bucket, Key="source ä", Body=b"copied", Metadata={"a": "1"}, Tagging="x=1&y=2")
    source = {"Bucket": bucket, "Key": "source ä"}
    CLIENT.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    copy = CLIENT.get_object(Bucket=bucket, Key="copy")
    same("a copy", (copy["Body"].read(), copy["Metadata"]), (b"copied", {"a": "1"}))
    same("the number of its tags", copy["TagCount"], 2)
    CLIENT.copy_object(
        Bucket=bucket, Key="copy", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"},
    )
    same("new metadata", CLIENT.head_object(Bucket=bucket, Key="copy")["Metadata"], {"b": "2"})
    tags = [{"Key": "colour", "Value": "blue"}]
    CLIENT.put_object_tagging(Bucket=bucket, Key="copy", Tagging={"TagSet": tags})
    same("the tags", CLIENT.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"], tags)
    CLIENT.delete_object_tagging(Bucket=bucket, Key="copy")
    same("no tags", CLIENT.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"], [])


def presigned(bucket):
    say("presigned URLs and a form")
    key = "presigned ö"
    where = {"Bucket": bucket, "Key": key}
    url = CLIENT.generate_presigned_url("put_object", Params=where)
    urllib.request.urlopen(urllib.request.Request(url, data=b"by URL", method="PUT"), timeout=60)
    url = CLIENT.generate_presigned_url("get_object", Params=where)
    same("what a URL gives", urllib.request.urlopen(url, timeout=60).read(), b"by URL")
    try:
        urllib.request.urlopen(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"), timeout=60)
        fail("an altered URL was served")
    except urllib.error.HTTPError as error:
        same("the status of an altered URL", error.code, 403)
    old = boto3.client(
        "s3", endpoint_url=ENDPOINT, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        region_name=REGION, config=Config(signature_version="s3"),
    ).generate_presigned_url("get_object", Params=where)
    same("the status of a URL signed in the second version", status(old), 400)
    post = CLIENT.generate_presigned_post(bucket, "form", Conditions=[["content-length-range", 1, 100]])
    same("the status of a form", send_form(post, b"by form"), 204)
    same("what a form put", CLIENT.get_object(Bucket=bucket, Key="form")["Body"].read(), b"by form")
    true("a form that is too long is refused", send_form(post, b"x" * 101) == 400)


def send_form(post, content):
    boundary = uuid.uuid4().hex
    lines = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in post["fields"].items()
    ]
    lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n')
    data = "".join(lines).encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(post["url"], data=data, headers=headers, method="POST")
    try:
        return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def versions(bucket):
    say("versions and delete markers")
    CLIENT.put_object(Bucket=bucket, Key="v", Body=b"before")
    CLIENT.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    same("the status", CLIENT.get_bucket_versioning(Bucket=bucket)["Status"], "Enabled")
    one = CLIENT.put_object(Bucket=bucket, Key="v", Body=b"one")["VersionId"]
    two = CLIENT.put_object(Bucket=bucket, Key="v", Body=b"two")["VersionId"]
    read = lambda version: CLIENT.get_object(Bucket=bucket, Key="v", VersionId=version)["Body"].read()
    same("the versions", (read("null"), read(one), read(two)), (b"before", b"one", b"two"))
    marker = CLIENT.delete_object(Bucket=bucket, Key="v")
    true("a marker is made", marker["DeleteMarker"])
    refused("NoSuchKey", CLIENT.get_object, Bucket=bucket, Key="v")
    listed = CLIENT.list_object_versions(Bucket=bucket, Prefix="v")
    same("the versions listed", [one["VersionId"] for one in listed["Versions"]], [two, one, "null"])
    same("the marker listed", listed["DeleteMarkers"][0]["VersionId"], marker["VersionId"])
    CLIENT.delete_object(Bucket=bucket, Key="v", VersionId=marker["VersionId"])
    same("what is back", CLIENT.get_object(Bucket=bucket, Key="v")["Body"].read(), b"two")
    CLIENT.delete_object(Bucket=bucket, Key="v", VersionId=two)
    same("what comes to the front", CLIENT.get_object(Bucket=bucket, Key="v")["Body"].read(), b"one")
    CLIENT.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    CLIENT.put_object(Bucket=bucket, Key="v", Body=b"after")
    same("the null version", read("null"), b"after")


def configurations(bucket):
    say("what a bucket can be told")
    tags = [{"Key": "team", "Value": "rays"}]
    CLIENT.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    same("the bucket's tags", CLIENT.get_bucket_tagging(Bucket=bucket)["TagSet"], tags)
    rules = [{"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}]
    CLIENT.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    found = CLIENT.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    same("the rules", found, rules)
    CLIENT.delete_bucket_lifecycle(Bucket=bucket)
    refused("NoSuchLifecycleConfiguration", CLIENT.get_bucket_lifecycle_configuration, Bucket=bucket)
    cors = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"], "MaxAgeSeconds": 60}]
    CLIENT.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": cors})
    same("the CORS rules", CLIENT.get_bucket_cors(Bucket=bucket)["CORSRules"], cors)
    preflight = urllib.request.Request(f"{ENDPOINT}/{bucket}/a", method="OPTIONS", headers={
        "Origin": "https://example.org", "Access-Control-Request-Method": "GET",
    })
    answer = urllib.request.urlopen(preflight, timeout=60)
    true("a preflight's answer", answer.headers["Access-Control-Allow-Origin"])
    refused("NoSuchBucketPolicy", CLIENT.get_bucket_policy, Bucket=bucket)
    same("the location", CLIENT.get_bucket_location(Bucket=bucket)["LocationConstraint"], None)


def public_reading(bucket):
    say("a policy lets anybody read, and only that")
    url = f"{ENDPOINT}/{bucket}/a"
    same("a stranger's status before", status(url), 403)
    CLIENT.delete_public_access_block(Bucket=bucket)
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",'
        f'"Action":"s3:GetObject","Resource":"arn:aws:s3:::{bucket}/*"}}]}}'
    )
    CLIENT.put_bucket_policy(Bucket=bucket, Policy=policy)
    same("a stranger's status with it", status(url), 200)
    same("a stranger who lists", status(f"{ENDPOINT}/{bucket}"), 403)
    same("a stranger who writes", status(url, "PUT", b"x"), 403)
    CLIENT.delete_bucket_policy(Bucket=bucket)
    same("a stranger's status after", status(url), 403)


def status(url, method="GET", data=None):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def locks():
    say("a locked version stays")
    bucket = bucket_name("boto3-lock")
    CLIENT.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    version = CLIENT.put_object(Bucket=bucket, Key="held", Body=b"x", ObjectLockLegalHoldStatus="ON")["VersionId"]
    held = {"Bucket": bucket, "Key": "held", "VersionId": version}
    refused("AccessDenied", CLIENT.delete_object, **held)
    same("it is there", CLIENT.get_object(**held)["Body"].read(), b"x")
    CLIENT.put_object_legal_hold(LegalHold={"Status": "OFF"}, **held)
    CLIENT.delete_object(**held)
    empty(bucket)


def empty(bucket):
    for page in CLIENT.get_paginator("list_object_versions").paginate(Bucket=bucket):
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        if objects:
            done = CLIENT.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            same("what could not be deleted", done.get("Errors", []), [])
    CLIENT.delete_bucket(Bucket=bucket)


def walk():
    bucket = bucket_name("boto3")
    CLIENT.create_bucket(Bucket=bucket)
    refused("BucketAlreadyOwnedByYou", CLIENT.create_bucket, Bucket=bucket)
    true("the bucket is listed", bucket in [one["Name"] for one in CLIENT.list_buckets()["Buckets"]])
    round_trip(bucket)
    checksums(bucket)
    parts(bucket)
    listing(bucket)
    copies_and_tags(bucket)
    presigned(bucket)
    configurations(bucket)
    public_reading(bucket)
    versions(bucket)
    locks()
    refused("BucketNotEmpty", CLIENT.delete_bucket, Bucket=bucket)
    empty(bucket)
    refused("404", CLIENT.head_bucket, Bucket=bucket)


walk()
