"""AWS HealthImaging on one machine: a moto backend driven by botocore's service model.

::

    emulator = install()                       # before moto's server or mock_aws starts
    emulator.configure(EmulatorOptions(quota_profile=QuotaProfile.NONE, seconds_per_job=0.5))
    ...
    emulator.shutdown()                        # no thread is left

boto3 calls ``runtime-<host>`` for image-set actions: with an endpoint URL of one's own it needs
``Config(inject_host_prefix=False)`` or ``AWS_DISABLE_HOST_PREFIX_INJECTION=true``.
"""

import re
import sys

from moto import backend_index

from local.healthimaging import models
from local.healthimaging.emulator import EMULATOR, Emulator
from local.healthimaging.options import EmulatorOptions, InputFileForm
from local.healthimaging.quotas import QuotaProfile
from local.healthimaging.scheduler import ManualScheduler, Scheduler, ThreadScheduler
from local.healthimaging.urls import HOST_PATTERN

__all__ = [
    "Emulator",
    "EmulatorOptions",
    "InputFileForm",
    "ManualScheduler",
    "QuotaProfile",
    "Scheduler",
    "ThreadScheduler",
    "install",
]

_MOTO_SERVICE = "medicalimaging"


def install() -> Emulator:
    """Register the service with moto, once, and return its switchboard.

    moto looks a service up by its URL and imports ``moto.<service>`` for its ``*_backends``.
    """
    if f"moto.{_MOTO_SERVICE}" not in sys.modules:
        sys.modules[f"moto.{_MOTO_SERVICE}"] = models
        backend_index.backend_url_patterns.append((_MOTO_SERVICE, re.compile(HOST_PATTERN)))
    return EMULATOR
