import json
from typing import Any

from store_scp.board import Board
from store_scp.emf import emf_document
from store_scp.metrics import Counter, Gauge, WorkerState


def document(board: Board, before: Any = None) -> dict[str, Any]:
    started = Board.create(len(board.read()), seats=1).read()
    dimensions, certificate = {"AETitle": "STORESCP"}, board.certificate_seconds(0.0)
    return emf_document(before or started, board.read(), "Store/SCP", 17, dimensions, certificate)


def full_board() -> Board:
    """Every number as long as it gets in years of a minute's log lines."""
    board = Board.create(1, seats=1)
    panel = board.panel(0)
    for counter in Counter:
        panel.add(counter, 2**40)
    for gauge in Gauge:
        panel.gauge(gauge, 2**40)
    panel.clock_offset(-(2.0**31) - 0.123456)
    board.certificate_expires_at(2.0**31)
    for exponent in range(-3, 3):
        for factor in (1, 2, 4, 9):
            panel.observe_upload(factor * 10**exponent)
    return board


def test_counters_are_told_as_their_growth_and_gauges_as_they_stand() -> None:
    board = Board.create(2, seats=1)
    board.panel(0).add(Counter.INSTANCES_STORED, 5)
    board.panel(1).gauge(Gauge.BYTES_IN_FLIGHT, 10)
    before = board.read()
    board.panel(1).add(Counter.INSTANCES_STORED, 2)
    board.panel(0).gauge(Gauge.BYTES_IN_FLIGHT, 7)
    board.panel(0).beat(1.0, WorkerState.READY)
    found = document(board, before)
    assert found["InstancesStored"] == 2
    assert found["BytesInFlight"] == 17
    assert found["WorkersReady"] == 1
    assert found["Echoes"] == 0


def test_the_metadata_describes_every_value_and_its_dimension() -> None:
    found = document(full_board())
    metadata = found.pop("_aws")
    (directive,) = metadata["CloudWatchMetrics"]
    assert metadata["Timestamp"] == 17
    assert directive["Namespace"] == "Store/SCP"
    assert directive["Dimensions"] == [["AETitle"]]
    assert found.pop("AETitle") == "STORESCP"
    assert {each["Name"] for each in directive["Metrics"]} == set(found)
    units = {each["Name"]: each["Unit"] for each in directive["Metrics"]}
    assert (units["BytesStored"], units["Echoes"]) == ("Bytes", "Count")
    assert units["UploadSeconds"] == "Seconds"


def test_it_is_within_cloudwatchs_limits_and_goes_through_a_pipe_in_one_piece() -> None:
    found = document(full_board())
    assert len(found["_aws"]["CloudWatchMetrics"][0]["Metrics"]) <= 100
    # POSIX writes 4,096 bytes to a pipe whole (PIPE_BUF on Linux): no other line gets into it.
    assert len(json.dumps(found, separators=(",", ":"))) < 4_096


def test_uploads_are_a_distribution_of_the_buckets_middles() -> None:
    board = Board.create(2, seats=1)
    board.panel(0).observe_upload(0.2)
    before = board.read()
    board.panel(0).observe_upload(0.2)
    board.panel(1).observe_upload(0.15)
    board.panel(1).observe_upload(90.0)
    assert document(board, before)["UploadSeconds"] == {
        "Values": [0.175, 60.0],
        "Counts": [2, 1],
        "Min": 0.175,
        "Max": 60.0,
        "Count": 3,
        "Sum": 90.35,
    }


def test_without_an_upload_there_is_no_distribution() -> None:
    found = document(Board.create(1, seats=1))
    assert "UploadSeconds" not in found
    assert "UploadSeconds" not in json.dumps(found["_aws"])


def test_the_clocks_offset_is_the_largest_whichever_way_and_left_out_while_unknown() -> None:
    board = Board.create(3, seats=1)
    assert "ClockOffsetSeconds" not in document(board)
    board.panel(0).clock_offset(-600.12345)
    board.panel(2).clock_offset(2.0)
    found = document(board)
    assert found["ClockOffsetSeconds"] == 600.123
    (directive,) = found["_aws"]["CloudWatchMetrics"]
    assert {"Name": "ClockOffsetSeconds", "Unit": "Seconds"} in directive["Metrics"]


def test_the_first_certificates_end_is_told_in_days_where_there_is_a_certificate() -> None:
    board = Board.create(1, seats=1)
    assert "CertificateDaysLeft" not in document(board)
    board.certificate_expires_at(36 * 3_600)
    assert document(board)["CertificateDaysLeft"] == 1.5
    board.certificate_expires_at(None)
    assert "CertificateDaysLeft" not in document(board)
