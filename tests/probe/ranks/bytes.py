"""One rank of two, of which the other does not exist, against two real ones: every tensor of a step is the same.

Run by test_ranks.py. On the CPU both are counted by the same tracker; PyTorch's "fake" backend answers at once for the
rank that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.probe.ranks.searches import fork, one_thread_less
from vram_cli.config import Config, load_config
from vram_cli.probe.live.forked_worker import ForkedWorker
from vram_cli.probe.local_ranks import LocalRanks
from vram_cli.probe.messages import OpenSession, RankPlace
from vram_cli.probe.rank_probe import RankProbe
from vram_cli.probe.worker import rank_trials
from vram_cli.probe.worker.main import TrialService
from vram_cli.probe.worker.trials import Trials
from vram_cli.probe.worker_process import WorkerProcess
from vram_cli.records import Category, Detail
