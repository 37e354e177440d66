"""pynetdicom's storescp application as it is, but for its limit of 10 associations at once."""

import sys
from unittest.mock import patch

from pynetdicom import AE
from pynetdicom.apps.storescp import storescp

_ASSOCIATIONS = 300


class _RoomyEntity(AE):
    def __init__(self, ae_title: str) -> None:
        super().__init__(ae_title)
        self.maximum_associations = _ASSOCIATIONS


if __name__ == "__main__":
    with patch.object(storescp, "AE", _RoomyEntity):
        storescp.main(sys.argv[1:])  # type: ignore[no-untyped-call]
