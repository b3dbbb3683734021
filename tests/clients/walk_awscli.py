"""The aws command, as people type it: its default checksums are on, what is large goes in parts."""

import json
import os
import urllib.request

from common import (
    ACCESS_KEY, ENDPOINT, LARGE_BYTES, REGION, SECRET_KEY,
    body, bucket_name, content_of, file_of, program, run, same, say, scratch, true,
)

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_PAGER": "",
    "AWS_CONFIG_FILE": os.path.join(os.path.dirname(__file__), "aws.config"),
    "HOME": "/nonexistent",
}


def aws(*arguments, check=True):
    return run([program("aws"), *arguments], ENVIRONMENT, check)


def api(*arguments):
    text = aws("s3api", *arguments, "--output", "json")
    return json.loads(text) if text.strip() else {}


def copies(bucket, directory):
    say("s3 cp up, between and down, small and in parts")
    for name, length in [("small", 1234), ("large", LARGE_BYTES)]:
        content = body(length)
        path = file_of(directory, name, content)
        aws("s3", "cp", path, f"s3://{bucket}/{name}")
        aws("s3", "cp", f"s3://{bucket}/{name}", f"s3://{bucket}/copies/{name}")
        back = os.path.join(directory, "back")
        aws("s3", "cp", f"s3://{bucket}/copies/{name}", back)
        same(f"the {name} file", content_of(back), content)
    tag = api("head-object", "--bucket", bucket, "--key", "large")["ETag"]
    true("the large one came in parts", "-" in tag)


def synchronising(bucket, directory):
    say("s3 sync there and back")
    tree = os.path.join(directory, "tree")
    files = {"one": b"1", "deep/er/two words": b"2", "deep/ünï": body(5000), "empty": b""}
    for name, content in files.items():
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        # Older than any clock may differ: what is younger than its object is sent again.
        os.utime(file_of(tree, name, content), (946_684_800, 946_684_800))
    aws("s3", "sync", tree, f"s3://{bucket}/tree")
    same("a second sync", aws("s3", "sync", tree, f"s3://{bucket}/tree"), "")
    back = os.path.join(directory, "tree-back")
    aws("s3", "sync", f"s3://{bucket}/tree", back)
    for name, content in files.items():
        same(f"the file {name}", content_of(os.path.join(back, name)), content)
    listed = aws("s3", "ls", "--recursive", f"s3://{bucket}/tree/")
    same("the lines of a listing", len(listed.splitlines()), len(files))


def versions(bucket, directory):
    say("s3api: versions, tags, a presigned URL")
    api("put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Enabled")
    where = ["--bucket", bucket, "--key", "v"]
    one = api("put-object", *where, "--body", file_of(directory, "v", b"one"))["VersionId"]
    api("put-object", *where, "--body", file_of(directory, "v", b"two"))
    back = os.path.join(directory, "v-back")
    api("get-object", *where, "--version-id", one, back)
    same("the first version", content_of(back), b"one")
    api("put-object-tagging", *where, "--tagging", "TagSet=[{Key=a,Value=b}]")
    same("the tags", api("get-object-tagging", *where)["TagSet"], [{"Key": "a", "Value": "b"}])
    url = aws("s3", "presign", f"s3://{bucket}/v").strip()
    same("what a URL gives", urllib.request.urlopen(url, timeout=60).read(), b"two")
    api("delete-object", *where)
    found = api("list-object-versions", "--bucket", bucket, "--prefix", "v")
    same("versions and markers", (len(found["Versions"]), len(found["DeleteMarkers"])), (2, 1))
    for entry in found["Versions"] + found["DeleteMarkers"]:
        api("delete-object", *where, "--version-id", entry["VersionId"])
    api("put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Suspended")


def walk():
    bucket = bucket_name("awscli")
    with scratch() as directory:
        aws("s3", "mb", f"s3://{bucket}")
        copies(bucket, directory)
        synchronising(bucket, directory)
        versions(bucket, directory)
    missing = aws("s3", "cp", f"s3://{bucket}/nobody-put-this", "-", check=False)
    said = missing.stderr.decode(errors="replace")
    true(f"a missing key is an error: {said}", missing.returncode != 0 and ("404" in said or "NoSuchKey" in said))
    found = api("list-object-versions", "--bucket", bucket)
    for entry in found.get("Versions", []) + found.get("DeleteMarkers", []):
        api("delete-object", "--bucket", bucket, "--key", entry["Key"], "--version-id", entry["VersionId"])
    aws("s3", "rb", f"s3://{bucket}")


walk()
