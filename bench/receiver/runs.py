"""One row: start the peer, send the set, read the meters, check what was stored."""

import functools
import hashlib

from bench.receiver.errors import BenchError
from bench.receiver.measure import PeakMemory, cpu_seconds
from bench.receiver.peers import Peer
from bench.receiver.rows import Key, Measured, Row, Sink
from bench.receiver.sender import RAW_MAX_PDU, Load, message, sender
from bench.receiver.sets import SETS, ImageSet
from bench.receiver.stage import Stage, stage


def measure(image_set: ImageSet, sink: Sink, peer: Peer, associations: int, images: int) -> Row:
    """One run; a peer that fails makes a row that says so."""
    key = Key(image_set.name, sink, peer.name, associations)
    try:
        with stage(peer, sink, associations, _wire_bytes(image_set)) as running:
            load = Load(running.port, image_set.name, images, associations, dicom=peer.dicom)
            return Row(key, (run_load(running, load),))
    except (BenchError, OSError) as error:
        return Row(key, problem=str(error))


def run_load(running: Stage, load: Load) -> Measured:
    """Send a load to a running peer; raises BenchError.

    The meters run from the moment all associations stand until all is answered and stored.
    """
    size = load.images * next(SETS[load.image_set].images(1)).size
    with sender(load) as sending, PeakMemory(running.pid) as memory:
        sending.connect()
        running.warm_up(size)
        before = cpu_seconds(running.pid)
        outcome = sending.send()
        running.wait_until_stored(load.images)
        cpu = cpu_seconds(running.pid) - before
        sending.release()
    expected = _digests(load.image_set, load.images, dicom=load.dicom)
    return Measured(
        images=load.images,
        seconds=outcome.seconds,
        cpu_seconds=cpu,
        peak_bytes=memory.peak,
        identical=len(expected & running.digests()),
        bytes=size,
        window=outcome.window,
    )


@functools.cache
def _digests(image_set: str, images: int, *, dicom: bool) -> frozenset[str]:
    """What has to be stored: the data sets, or for the raw TCP receiver all that was sent."""
    if dicom:
        return SETS[image_set].digests(images)
    return frozenset(
        hashlib.sha256(b"".join(message(image, number, RAW_MAX_PDU))).hexdigest()
        for number, image in enumerate(SETS[image_set].images(images), 1)
    )


def _wire_bytes(image_set: ImageSet) -> int:
    """The length of one image's message, which is the same for all of a set."""
    image = next(image_set.images(1))
    return sum(len(pdu) for pdu in message(image, 1, RAW_MAX_PDU))
