"""minio-py: a client that was not made by AWS, and signs each chunk of a body in its own way."""

import io
import urllib.parse
import urllib.request

from minio import Minio
from minio.commonconfig import ENABLED, CopySource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.versioningconfig import VersioningConfig

from common import (
    ACCESS_KEY, ENDPOINT, LARGE_BYTES, ODD_KEYS, PART_BYTES, REGION, SECRET_KEY,
    body, bucket_name, fail, same, say, true,
)

URL = urllib.parse.urlparse(ENDPOINT)
CLIENT = Minio(
    URL.netloc, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=URL.scheme == "https", region=REGION,
)


def read(bucket, key, **more):
    answer = CLIENT.get_object(bucket, key, **more)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def refused(code, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except S3Error as error:
        return same("the code of a refusal", error.code, code)
    return fail(f"{call.__name__} was not refused with {code}")


def round_trip(bucket):
    say("put, get, stat")
    content = body(50_000)
    CLIENT.put_object(bucket, "a", io.BytesIO(content), len(content), metadata={"colour": "blue"})
    same("the object", read(bucket, "a"), content)
    same("a part of it", read(bucket, "a", offset=10, length=20), content[10:30])
    stat = CLIENT.stat_object(bucket, "a")
    same("its size", stat.size, len(content))
    same("its metadata", stat.metadata["x-amz-meta-colour"], "blue")
    refused("NoSuchKey", read, bucket, "nobody put this")


def parts(bucket):
    say("an upload in parts, of unknown length, and one composed of others")
    content = body(LARGE_BYTES)
    CLIENT.put_object(bucket, "large", io.BytesIO(content), -1, part_size=PART_BYTES)
    same("a large object", read(bucket, "large"), content)
    from minio.commonconfig import ComposeSource

    CLIENT.compose_object(bucket, "twice", [ComposeSource(bucket, "large"), ComposeSource(bucket, "large")])
    same("what was composed", read(bucket, "twice"), content + content)


def listing(bucket):
    say("odd keys")
    for key in ODD_KEYS:
        CLIENT.put_object(bucket, f"odd/{key}", io.BytesIO(key.encode()), len(key.encode()))
    wanted = sorted((f"odd/{key}" for key in ODD_KEYS), key=lambda key: key.encode())
    found = [entry.object_name for entry in CLIENT.list_objects(bucket, "odd/", recursive=True)]
    same("the odd keys", found, wanted)
    for key in wanted:
        same(f"what is at {key!r}", read(bucket, key), key.removeprefix("odd/").encode())
    # This client writes what is not ASCII as numeric references.
    errors = list(CLIENT.remove_objects(bucket, [DeleteObject(key) for key in wanted]))
    same("what could not be deleted", errors, [])
    same("what is left", [entry.object_name for entry in CLIENT.list_objects(bucket, "odd/")], [])


def copies_and_tags(bucket):
    say("copies, tags, presigned URLs")
    CLIENT.copy_object(bucket, "copy", CopySource(bucket, "a"))
    same("a copy", read(bucket, "copy"), read(bucket, "a"))
    tags = Tags.new_object_tags()
    tags["colour"] = "blue"
    CLIENT.set_object_tags(bucket, "copy", tags)
    same("its tags", dict(CLIENT.get_object_tags(bucket, "copy")), {"colour": "blue"})
    url = CLIENT.presigned_get_object(bucket, "copy")
    same("what a URL gives", urllib.request.urlopen(url, timeout=60).read(), read(bucket, "a"))


def versions(bucket):
    say("versions")
    CLIENT.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    one = CLIENT.put_object(bucket, "v", io.BytesIO(b"one"), 3).version_id
    CLIENT.put_object(bucket, "v", io.BytesIO(b"two"), 3)
    same("an older version", read(bucket, "v", version_id=one), b"one")
    CLIENT.remove_object(bucket, "v")
    refused("NoSuchKey", read, bucket, "v")
    # This client shows all versions of a page before its markers.
    found = CLIENT.list_objects(bucket, "v", include_version=True)
    same("versions and markers", [entry.is_delete_marker for entry in found], [False, False, True])


def walk():
    bucket = bucket_name("minio")
    CLIENT.make_bucket(bucket)
    true("the bucket is there", CLIENT.bucket_exists(bucket))
    round_trip(bucket)
    parts(bucket)
    listing(bucket)
    copies_and_tags(bucket)
    versions(bucket)
    everything = CLIENT.list_objects(bucket, recursive=True, include_version=True)
    for entry in list(everything):
        CLIENT.remove_object(bucket, entry.object_name, version_id=entry.version_id)
    CLIENT.remove_bucket(bucket)
    true("the bucket is gone", not CLIENT.bucket_exists(bucket))


walk()
