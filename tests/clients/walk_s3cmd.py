"""s3cmd, an old and careful command: it compares MD5s, and reads the bucket's location first."""

import os
import urllib.parse

from common import (
    ACCESS_KEY, ENDPOINT, LARGE_BYTES, REGION, SECRET_KEY,
    body, bucket_name, content_of, file_of, program, run, same, say, scratch, true,
)

URL = urllib.parse.urlparse(ENDPOINT)
OPTIONS = [
    "--config=/dev/null",
    f"--access_key={ACCESS_KEY}",
    f"--secret_key={SECRET_KEY}",
    f"--host={URL.netloc}",
    f"--host-bucket={URL.netloc}",
    f"--region={REGION}",
    "--no-progress",
    "--max-retries=0",
] + ([] if URL.scheme == "https" else ["--no-ssl"])


def s3cmd(*arguments):
    return run([program("python3"), program("s3cmd"), *OPTIONS, *arguments])


def files(bucket, directory):
    say("put, info, get; small and in parts")
    for name, length in [("small", 4321), ("two words ü", 10), ("large", LARGE_BYTES)]:
        content = body(length)
        path = file_of(directory, name, content)
        s3cmd("put", "--multipart-chunk-size-mb=5", path, f"s3://{bucket}/{name}")
        true(f"information on {name}", f"{length}" in s3cmd("info", f"s3://{bucket}/{name}"))
        back = os.path.join(directory, "back")
        s3cmd("get", "--force", f"s3://{bucket}/{name}", back)
        same(f"the file {name}", content_of(back), content)


def within(bucket):
    say("copied, moved, listed, signed, removed")
    s3cmd("cp", f"s3://{bucket}/small", f"s3://{bucket}/copy")
    s3cmd("mv", f"s3://{bucket}/copy", f"s3://{bucket}/deep/moved")
    listed = s3cmd("ls", "--recursive", f"s3://{bucket}").splitlines()
    same("the lines of a listing", len(listed), 4)
    same("a directory in a listing", "DIR" in s3cmd("ls", f"s3://{bucket}"), True)
    del_many = s3cmd("del", "--recursive", "--force", f"s3://{bucket}/deep")
    true("what was deleted is told", "deep/moved" in del_many)


def walk():
    bucket = bucket_name("s3cmd")
    s3cmd("mb", f"s3://{bucket}")
    with scratch() as directory:
        files(bucket, directory)
        within(bucket)
        tree = os.path.join(directory, "tree")
        os.makedirs(tree)
        file_of(tree, "x", b"x")
        say("a tree")
        s3cmd("sync", f"{tree}/", f"s3://{bucket}/tree/")
        s3cmd("sync", "--delete-removed", f"{tree}/", f"s3://{bucket}/tree/")
    s3cmd("rb", "--recursive", "--force", f"s3://{bucket}")
    true("the bucket is gone", bucket not in s3cmd("ls"))


walk()
