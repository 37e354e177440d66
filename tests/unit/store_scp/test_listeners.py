import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from store_scp import listeners
from store_scp.errors import CannotStart
from store_scp.listeners import Listeners, open_listeners

LOOPBACK = "127.0.0.1"


@contextmanager
def opened(workers: int, address: str = LOOPBACK, port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = open_listeners(address, port, workers)
    try:
        yield list(sockets)
    finally:
        for each in sockets:
            each.close()


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_every_worker_has_a_socket_of_its_own_on_the_same_port() -> None:
    with opened(3) as sockets:
        assert len({each.fileno() for each in sockets}) == 3
        assert len({port_of(each) for each in sockets}) == 1
        assert not any(each.getblocking() for each in sockets)


def test_connections_are_shared_out() -> None:
    with opened(2) as sockets:
        peers = [socket.create_connection((LOOPBACK, port_of(sockets[0]))) for _ in range(64)]
        counts = [accepted(each) for each in sockets]
        for peer in peers:
            peer.close()
    assert sum(counts) == 64
    assert all(counts)


def accepted(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_where_the_kernel_does_not_share_out_the_workers_share_one_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listeners, "_BALANCES", False)
    with opened(3) as sockets:
        assert len(sockets) == 3
        assert len(set(sockets)) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_where_another_program_listens_is_refused(workers: int) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = port_of(other)
        message = f"cannot listen on {LOOPBACK}:{port}: Address already in use"
        with pytest.raises(CannotStart, match=message):
            open_listeners(LOOPBACK, port, workers)


def test_a_second_receiver_does_not_join_the_first_in_silence() -> None:
    with opened(2) as sockets, pytest.raises(CannotStart):
        open_listeners(LOOPBACK, port_of(sockets[0]), 2)


def test_the_port_of_connections_that_still_linger_can_be_taken_again() -> None:
    with opened(2) as sockets:
        port = port_of(sockets[0])
        with socket.create_connection((LOOPBACK, port)):
            assert sum(map(accepted, sockets)) == 1
    with opened(2, port=port) as again:
        assert port_of(again[1]) == port


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"cannot listen on 192\.0\.2\.1:104: "):
        open_listeners("192.0.2.1", 104, 2)


def test_ipv6_addresses_are_listened_on() -> None:
    with opened(2, "::1") as sockets:
        assert sockets[0].family == socket.AF_INET6


def test_each_process_keeps_its_own_sockets() -> None:
    with opened(2) as plain, opened(2) as tls, opened(1) as health:
        rows = list(zip(plain, tls, strict=True))
        Listeners(rows, health[0]).keep_for_worker(1)
        assert [each.fileno() >= 0 for each in (*plain, *tls, *health)] == [
            False, True, False, True, False,
        ]  # fmt: skip


def test_a_socket_that_the_workers_share_is_kept() -> None:
    with opened(1) as shared, opened(1) as health:
        Listeners([shared, shared], health[0]).keep_for_worker(0)
        assert shared[0].fileno() >= 0


def test_the_health_process_keeps_its_socket_only() -> None:
    with opened(2) as plain, opened(1) as health:
        Listeners([[each] for each in plain], health[0]).keep_for_health()
        assert [each.fileno() >= 0 for each in (*plain, *health)] == [False, False, True]
