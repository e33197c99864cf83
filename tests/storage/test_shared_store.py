"""The shared store with a real Redis: deadlines, an absence that is noticed once and ends, refusals."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, own_server, redis_server
from tests.waiting import wait_for
from xiaozhi.errors import StorageError, StorageUnavailable
from xiaozhi.settings.redis_address import read_address
from xiaozhi.storage.shared_store import SharedStore, key

CHECK_S = 0.02


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One that this test may kill."""
    server = own_server()
    server.start()
    yield server
    server.stop()


def opened(url: str, **options: float) -> SharedStore:
    store = SharedStore(read_address(url), check_s=CHECK_S, **options)
    store.start()
    return store


def test_keys_say_their_version_and_group() -> None:
    assert key("dialogue", "aa:bb") == "xiaozhi:1:dialogue:{aa:bb}"
    assert key("fence", "next", group="aa:bb") == "xiaozhi:1:fence:{aa:bb}:next"


def test_questions_and_refusals(request: pytest.FixtureRequest) -> None:
    store = opened(redis_server(request.config).url)
    name = key("test", "a")

    store.ask(lambda client: client.set(name, b"1", ex=5))
    assert store.ask(lambda client: client.get(name)) == b"1"
    with pytest.raises(StorageError, match=r"the shared store refuses: .*WRONGTYPE") as refusal:
        store.ask(lambda client: client.lpush(name, b"x"))

    assert not isinstance(refusal.value, StorageUnavailable) and store.available
    store.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        store.ask(lambda client: client.get(name))


def test_a_server_that_dies_and_comes_back(server: RedisServer) -> None:
    store = opened(server.url)
    told = []
    store.on_away.append(lambda: told.append("away"))
    store.on_back.append(lambda: told.append("back"))

    server.kill()
    with pytest.raises(StorageUnavailable):
        store.ask(lambda client: client.ping())
    assert not store.available and told == ["away"]
    asked = store.questions
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="away"):
            store.ask(lambda client: client.ping())
    assert (store.questions, store.refused) == (asked, 3), "nobody else waits"

    server.start()
    wait_for(lambda: store.available, "the keeper to reach it")
    assert told == ["away", "back"] and store.ask(lambda client: client.ping())
    store.close()


def test_an_absence_is_noticed_without_a_question(server: RedisServer) -> None:
    store = opened(server.url)
    server.kill()

    wait_for(lambda: not store.available, "the keeper to miss it")
    store.close()


def test_a_server_that_hangs_is_away_after_two_late_answers(server: RedisServer) -> None:
    store = SharedStore(read_address(server.url), deadline_s=0.05, check_s=30)
    store.start()
    with server.hung():
        with pytest.raises(StorageUnavailable, match="50 ms"):
            store.ask(lambda client: client.ping())
        assert store.available, "one late answer may be our own fault"
        with pytest.raises(StorageUnavailable, match="50 ms"):
            store.ask(lambda client: client.ping())
        assert not store.available
    wait_for(lambda: store.available, "the keeper to reach it")
    store.close()


def test_a_start_without_a_server_goes_on_without(server: RedisServer) -> None:
    server.kill()
    store = opened(server.url)
    assert not store.available and store.away_since is not None

    server.start()
    wait_for(lambda: store.available, "the keeper to reach it")
    store.close()


def test_a_wrong_password_is_told() -> None:
    server = own_server(["--requirepass", "right"])
    server.start()
    try:
        store = opened(server.url.replace("://", "://:wrong@"))
        assert not store.available and "password" in store.reason
        store.close()
        store = opened(server.url.replace("://", "://:right@"))
        assert store.available
        store.close()
    finally:
        server.stop()


def test_a_full_server_counts_as_away() -> None:
    server = own_server(["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"])
    server.start()
    try:
        store = SharedStore(read_address(server.url), check_s=30)
        store.start()
        with pytest.raises(StorageUnavailable, match="maxmemory"):
            for number in range(1_000):
                store.ask(lambda client, number=number: client.set(key("fill", str(number)), bytes(10_000)))
        store.close()
    finally:
        server.stop()


def test_acl_and_tls(tmp_path: Path) -> None:
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    san = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *asked.split(), *san, "-keyout", str(private), "-out", str(cert)], check=True, capture_output=True
    )
    files = ["--tls-cert-file", str(cert), "--tls-key-file", str(private), "--tls-ca-cert-file", str(cert)]
    tls = own_server().port
    user = ["--user", "anna", "on", ">pa:ss", "~xiaozhi:*", "&*", "+@all"]
    server = own_server([*files, "--tls-port", str(tls), "--tls-auth-clients", "no", *user])
    server.start()
    try:
        store = opened(f"rediss://anna:pa%3Ass@127.0.0.1:{tls}?ssl_ca_certs={cert}", deadline_s=2.0)
        assert store.available, store.reason
        store.ask(lambda client: client.set(key("test", "a"), b"1", ex=5))
        with pytest.raises(StorageError, match="no permissions"):
            store.ask(lambda client: client.set("other", b"1"))
        store.close()
    finally:
        server.stop()


def test_sentinels_lead_to_the_new_master(tmp_path: Path) -> None:
    master, replica = own_server(), own_server()
    master.start()
    replica = RedisServer(["--replicaof", "127.0.0.1", str(master.port)])
    replica.start()
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"sentinel monitor main 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds main 300\n"
        "sentinel failover-timeout main 1000\n"
    )
    sentinel = RedisServer(configuration=file)
    sentinel.start()
    try:
        store = opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/main", deadline_s=1.0)
        wait_for(lambda: store.available, "the master")
        with sentinel.client() as looking:
            wait_for(lambda: looking.execute_command("SENTINEL", "replicas", "main"), "the replica to be known")
        store.ask(lambda client: client.set(key("test", "a"), b"1"))
        master.kill()
        wait_for(lambda: not store.available, "the loss")
        wait_for(lambda: store.available, "the replica to take over")
        wait_for(lambda: _set(store), "the replica to accept")
        store.close()
    finally:
        for one in (sentinel, replica, master):
            one.stop()


def _set(store: SharedStore) -> bool:
    try:
        return bool(store.ask(lambda client: client.set(key("test", "b"), b"2")))
    except StorageUnavailable:
        return False


def test_a_cluster(tmp_path: Path) -> None:
    server = own_server(["--cluster-enabled", "yes", "--cluster-config-file", str(tmp_path / "nodes.conf")])
    server.start()
    try:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), "the cluster")
        store = opened(f"redis+cluster://127.0.0.1:{server.port}", deadline_s=1.0)
        assert store.available, store.reason
        store.ask(lambda client: client.set(key("test", "a"), b"1"))
        assert store.ask(lambda client: client.get(key("test", "a"))) == b"1"
        store.close()
    finally:
        server.stop()
