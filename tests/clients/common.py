"""What the walks share: where the server is, bytes to store, and checks that name what they found.

A walk is one program that drives one client library or command through what its users do with it. It makes
its own buckets, ends with none of them left, prints a line for each step, and exits with 1 at the first thing
that is not as it should be.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time

ENDPOINT = os.environ["WALK_ENDPOINT"]
ACCESS_KEY = os.environ["WALK_ACCESS_KEY"]
SECRET_KEY = os.environ["WALK_SECRET_KEY"]
REGION = "us-east-1"

MIB = 1 << 20
# More than two parts of the smallest size there is, and a last one that is shorter.
LARGE_BYTES = 11 * MIB + 12_345
# The smallest size of a part, but for the last: as AWS has it.
PART_BYTES = 5 * MIB
# A command that hangs is a failure, not a wait. Seconds; an emulated server is slow.
COMMAND_TIME = 300

# Keys that go wrong where a path, a URL, XML or a signature is put together carelessly.
ODD_KEYS = [
    " leading blank",
    "a b c",
    "a//b",
    "amp&lt<tag>'quote\"",
    "back\\slash",
    "colon:semi;comma,",
    "dollar$at@bang!",
    "ends/with/slash/",
    "equals=question?hash#",
    "per%25cent%2Fslash",
    "plus+plus",
    "tilde~star*paren()",
    "umlaut-äöü",
    "日本語/キー",
    "😀/emoji",
]


def say(step):
    print(f"  {step}", flush=True)


def fail(message):
    print(f"FAILED: {message}", flush=True)
    sys.exit(1)


def same(what, found, wanted):
    """Fails unless both are equal; long values are told by their length."""
    if found != wanted:
        fail(f"{what}: found {short(found)}, wanted {short(wanted)}")


def true(what, holds):
    if not holds:
        fail(what)


def short(value):
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:600]}… ({len(text)} characters)"


def body(length, seed=1):
    """Bytes that are the same for the same seed, and nowhere repeat."""
    out = bytearray()
    block = hashlib.sha256(str(seed).encode()).digest()
    while len(out) < length:
        block = hashlib.sha256(block).digest()
        out += block * 64
    return bytes(out[:length])


def bucket_name(client):
    return f"walk-{client}-{os.getpid()}-{int(time.time() * 1000) % 1_000_000}"


def file_of(directory, name, content):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


def content_of(path):
    with open(path, "rb") as file:
        return file.read()


def run(arguments, environment=None, check=True):
    """Runs a command and gives what it printed; what it says on failure is told."""
    done = subprocess.run(
        arguments,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=COMMAND_TIME,
        check=False,
    )
    if check and done.returncode != 0:
        errors = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
        fail(f"{' '.join(arguments)} ended with {done.returncode}: {errors[-2000:]}")
    return done.stdout.decode(errors="replace") if check else done


def program(name):
    """A command of the environment that this Python is of."""
    return os.path.join(os.path.dirname(sys.executable), name)


def scratch():
    return tempfile.TemporaryDirectory(prefix="walk-")
