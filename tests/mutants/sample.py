"""Picks mutants over all rooms of the product: the same seed and source give the same mutants."""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from tests.mutants.finder import Mutant, mutants

ROOMS = {
    "contract": ("contract",),
    "receiver": ("scp/store_scp",),
    "lambdas": ("chalice_app/chalicelib", "chalice_app/app.py"),
    "deploy": ("infra/deploy",),
    "local": ("local",),
}
# Of every hundred mutants, a room has at least so many, however small it is.
LEAST_PERCENT = 8


def product_files(repository: Path) -> dict[str, list[str]]:
    """Every source file of the product, by room."""
    found = {}
    for room, places in ROOMS.items():
        paths = [repository / place for place in places]
        files = [each for path in paths for each in [path, *path.rglob("*.py")] if each.is_file()]
        found[room] = sorted(each.relative_to(repository).as_posix() for each in files)
    return found


def candidates(repository: Path) -> dict[str, list[Mutant]]:
    """Every mutant there is, by room."""
    return {
        room: [each for file in files for each in mutants(file, (repository / file).read_text())]
        for room, files in product_files(repository).items()
    }


def chosen(everything: dict[str, list[Mutant]], seed: int, count: int) -> list[Mutant]:
    """``count`` mutants: each room has its share, and in a room each operator takes its turn."""
    sizes = {room: len(found) for room, found in everything.items()}
    return [
        mutant
        for room, share in shares(sizes, count).items()
        for mutant in sorted(_turns(everything[room], seed, share), key=lambda each: each.key)
    ]


def shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """How many mutants each room has: by its size, with a least share for a small room."""
    least = count * LEAST_PERCENT // 100
    spare, total = count - least * len(sizes), sum(sizes.values())
    found = {room: least + spare * size // total for room, size in sizes.items()}
    for room in sorted(sizes, key=lambda each: -sizes[each])[: count - sum(found.values())]:
        found[room] += 1
    return found


def _turns(found: Iterable[Mutant], seed: int, count: int) -> list[Mutant]:
    """Operator after operator in turn, and no function a second time while others are left."""
    queues: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in sorted(found, key=lambda each: _rank(seed, each.key), reverse=True):
        queues[mutant.operator].append(mutant)
    names = sorted(queues, key=lambda name: _rank(seed, name))
    picked: list[Mutant] = []
    again: list[Mutant] = []
    used: set[tuple[str, str]] = set()
    while len(picked) < count and any(queues.values()):
        for name in names:
            if unused := _next_unused(queues[name], used, again):
                used.add((unused.path, unused.scope or unused.name))
                picked.append(unused)
    return [*picked, *again][:count]


def _next_unused(
    queue: list[Mutant], used: set[tuple[str, str]], again: list[Mutant]
) -> Mutant | None:
    while queue:
        mutant = queue.pop()
        if (mutant.path, mutant.scope or mutant.name) not in used:
            return mutant
        again.append(mutant)
    return None


def _rank(seed: int, text: str) -> bytes:
    return blake2b(f"{seed}|{text}".encode(), digest_size=8).digest()
