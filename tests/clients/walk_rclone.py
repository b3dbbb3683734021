"""rclone, which backs up trees and compares what it finds by checksum."""

import json
import os

from common import (
    ACCESS_KEY, ENDPOINT, LARGE_BYTES, REGION, SECRET_KEY,
    body, bucket_name, content_of, file_of, program, run, same, say, scratch,
)

ENVIRONMENT = {
    "RCLONE_CONFIG": "/dev/null",
    "RCLONE_CONFIG_HERE_TYPE": "s3",
    "RCLONE_CONFIG_HERE_PROVIDER": "Other",
    "RCLONE_CONFIG_HERE_ACCESS_KEY_ID": ACCESS_KEY,
    "RCLONE_CONFIG_HERE_SECRET_ACCESS_KEY": SECRET_KEY,
    "RCLONE_CONFIG_HERE_ENDPOINT": ENDPOINT,
    "RCLONE_CONFIG_HERE_REGION": REGION,
    "RCLONE_S3_UPLOAD_CUTOFF": "5Mi",
    "RCLONE_S3_CHUNK_SIZE": "5Mi",
    "RCLONE_RETRIES": "1",
    "RCLONE_LOW_LEVEL_RETRIES": "1",
}
FILES = {
    "one": b"1",
    "empty": b"",
    "deep/er/two words": b"2",
    "deep/ünï": body(70_000),
    "odd/per%cent+plus#hash": b"odd",
    "large": body(LARGE_BYTES),
}


def rclone(*arguments):
    return run([program("rclone"), *arguments], ENVIRONMENT)


def trees(bucket, directory):
    say("a tree there, checked, and back")
    tree, back = (os.path.join(directory, name) for name in ("tree", "back"))
    for name, content in FILES.items():
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        file_of(tree, name, content)
    rclone("copy", tree, f"HERE:{bucket}/tree")
    rclone("check", "--download", tree, f"HERE:{bucket}/tree")
    rclone("check", tree, f"HERE:{bucket}/tree")
    rclone("copy", f"HERE:{bucket}/tree", back)
    for name, content in FILES.items():
        same(f"the file {name}", content_of(os.path.join(back, name)), content)


def within(bucket):
    say("copied, moved, listed and removed on the server")
    rclone("copyto", f"HERE:{bucket}/tree/large", f"HERE:{bucket}/copy")
    rclone("moveto", f"HERE:{bucket}/copy", f"HERE:{bucket}/moved")
    listed = json.loads(rclone("lsjson", "--recursive", "--files-only", f"HERE:{bucket}"))
    wanted = sorted([f"tree/{name}" for name in FILES] + ["moved"])
    same("the files", sorted(entry["Path"] for entry in listed), wanted)
    head = rclone("cat", "--count", "9", f"HERE:{bucket}/moved")
    same("the moved one", head, FILES["large"][:9].decode(errors="replace"))
    rclone("copy", f"HERE:{bucket}/tree/odd", f"HERE:{bucket}/synced")
    rclone("sync", f"HERE:{bucket}/tree/deep", f"HERE:{bucket}/synced")
    listed = json.loads(rclone("lsjson", "--recursive", "--files-only", f"HERE:{bucket}/synced"))
    same("after a sync", sorted(entry["Path"] for entry in listed), ["er/two words", "ünï"])


def walk():
    bucket = bucket_name("rclone")
    rclone("mkdir", f"HERE:{bucket}")
    with scratch() as directory:
        trees(bucket, directory)
        within(bucket)
    rclone("purge", f"HERE:{bucket}")
    same("that the bucket is gone", bucket in rclone("lsd", "HERE:"), False)


walk()
