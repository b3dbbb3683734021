"""boto3 over HTTPS: it trusts the certificate that the server shows, and no other."""

import os
import ssl
import tempfile
from urllib.parse import urlparse

import boto3
from botocore.config import Config
from botocore.exceptions import SSLError

from common import (
    ACCESS_KEY, ENDPOINT, PART_BYTES, REGION, SECRET_KEY, body, bucket_name, fail, same, say, true,
)


def client(verify):
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
        verify=verify,
        config=Config(retries={"max_attempts": 1}, read_timeout=300, signature_version="s3v4"),
    )


def main():
    true("the endpoint is encrypted", ENDPOINT.startswith("https://"))
    say("a certificate that nobody vouches for is not trusted")
    try:
        client(True).list_buckets()
    except SSLError:
        pass
    else:
        fail("an unknown certificate was trusted")
    place = urlparse(ENDPOINT)
    shown = ssl.get_server_certificate((place.hostname, place.port))
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(shown)
    try:
        walk(client(file.name))
    finally:
        os.unlink(file.name)


def walk(s3):
    say("put, get and list with it trusted")
    bucket = bucket_name("https")
    s3.create_bucket(Bucket=bucket)
    for size in (0, 10, 100_000, PART_BYTES):
        content = body(size)
        s3.put_object(Bucket=bucket, Key=f"k{size}", Body=content)
        same(f"{size} bytes", s3.get_object(Bucket=bucket, Key=f"k{size}")["Body"].read(), content)
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    same("the keys", sorted(keys), sorted(f"k{size}" for size in (0, 10, 100_000, PART_BYTES)))
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)


main()
