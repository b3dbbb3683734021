# Goes through the object on stdin again and again: mapped, read, and got from the node over S3 on one connection. Each
# round is a line: what was done with the bytes, then the milliseconds of each way.
import mmap, os, socket, time, zlib

rounds, size = int(os.environ["ROUNDS"]), os.fstat(0).st_size
node = (os.environ["NODE_ADDRESS"], int(os.environ["NODE_PORT"]))
request = "GET %s HTTP/1.1\r\nhost: %s\r\n\r\n" % (os.environ["TARGET"], os.environ["HOST"])
buffer = bytearray(1 << 20)
view = memoryview(buffer)


def connect():
    # The network is made while this runs already.
    until = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(node)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


connection = connect()


def mapped(use):
    with mmap.mmap(0, 0, prot=mmap.PROT_READ) as whole:
        use(whole)


def read(use):
    os.lseek(0, 0, 0)
    while got := os.readv(0, [buffer]):
        use(view[:got])


def fetched(use):
    connection.sendall(request.encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(4096)
        assert more, "the node has closed the connection"
        head += more
    head, body = head.split(b"\r\n\r\n", 1)
    assert head.split()[1] == b"200", head
    use(body)
    left = size - len(body)
    while left:
        got = connection.recv_into(buffer, min(left, len(buffer)), socket.MSG_WAITALL)
        assert got, "the node has closed the connection"
        use(view[:got])
        left -= got


def touch(part):
    bytes(part[::4096])


def milliseconds(way, use):
    begun = time.perf_counter()
    way(use)
    return (time.perf_counter() - begun) * 1e3


for number in range(rounds + 1):
    for name, use in (("touch", touch), ("sum", zlib.crc32)):
        took = [milliseconds(way, use) for way in (mapped, read, fetched)]
        # The first round brings programs and pages into memory.
        if number:
            print(name, *took)
