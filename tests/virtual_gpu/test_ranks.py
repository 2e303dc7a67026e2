"""Ranks of DDP and FSDP2 on the virtual GPU: PyTorch's own code, with other ranks that do not exist."""

from __future__ import annotations

from typing import Any

import pytest

from tests.virtual_gpu.preloaded import preloaded_environment, run_preloaded
from vram_cli.hardware.gpus import find_gpu
from vram_cli.virtual_gpu import obstacle

from .rank_trials import TRAININGS

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=f"no virtual GPU here: {obstacle()}")
BLOCK = 512
"""Bytes that the allocator rounds tensors up to."""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    environment = preloaded_environment(find_gpu("a100-80gb"))
    measured: dict[str, Any] = run_preloaded("tests.virtual_gpu.rank_trials", environment)
    return measured


@pytest.mark.parametrize("name", TRAININGS)
def test_every_strategy_trains_and_leaves_nothing(found: dict[str, Any], name: str) -> None:
    run = found[name]
    assert (run["outcome"], run["message"], run["poisoned"]) == ("fits", "", False)
    assert run["again"] == run["allocated"], "the second trial starts as the first"
    assert run["modules"][:2] == ["", "2"], "modules have the names of the user's model"


def test_ddp_adds_buckets_of_all_gradients(found: dict[str, Any]) -> None:
    one, ddp = found["one"], found["ddp"]
    assert ddp["rows"]["gradient_buckets"] == one["rows"]["gradients"]
    assert 0 <= ddp["allocated"] - one["allocated"] - one["rows"]["gradients"] < 100 * BLOCK
    shared = one["rows"].keys() - {"allocator_slack", "context", "free"}
    assert {key: ddp["rows"][key] for key in shared} == {key: one["rows"][key] for key in shared}


def test_gradients_that_are_views_of_buckets_are_held_once(found: dict[str, Any]) -> None:
    assert "gradient_buckets" not in found["views"]["rows"]
    assert abs(found["views"]["allocated"] - found["one"]["allocated"]) < 100 * BLOCK


def test_accumulation_and_a_static_graph_take_no_more_than_ddp(found: dict[str, Any]) -> None:
    assert found["accumulated"]["allocated"] == found["ddp"]["allocated"]
    assert found["static"]["allocated"] == found["ddp"]["allocated"] + BLOCK, "which parameters were used"


def test_fsdp2_divides_parameters_and_state(found: dict[str, Any]) -> None:
    whole = found["one"]["rows"]
    for name, ranks in (("fsdp2", 8), ("hsdp", 4), ("1024", 1024)):
        rows = found[name]["rows"]
        # Chunks of dimension 0 are rounded up: at 1,024 ranks each has one of 510 to 1,530 rows of every weight.
        assert (
            whole["parameters"] / ranks <= rows["parameters"] < whole["parameters"] / ranks * (2 if ranks > 8 else 1.01)
        )
        assert abs(rows["optimizer_state"] - 2 * rows["parameters"]) < 1024
        assert rows["gathered_parameters"] > 0
        assert rows["reduce_scatter_buffers"] > 0


def test_what_is_gathered_follows_the_modules_and_their_dtype(found: dict[str, Any]) -> None:
    gathered = {name: found[name]["rows"]["gathered_parameters"] for name in ("fsdp2", "kept", "root", "mixed")}
    whole = found["one"]["rows"]["parameters"]
    assert gathered["fsdp2"] < whole < gathered["kept"] < gathered["root"]
    assert gathered["mixed"] == gathered["fsdp2"] // 2


def test_the_rank_that_is_asked_holds_the_most(found: dict[str, Any]) -> None:
    for name in ("zero", "fsdp2"):
        peaks = found[f"ranks of {name}"]
        assert max(peaks) > min(peaks), "the ranks differ"
        assert peaks[found[name]["rank"]] == max(peaks)


def test_zero_divides_the_state_alone(found: dict[str, Any]) -> None:
    zero, ddp = found["zero"]["rows"], found["ddp"]["rows"]
    assert ddp["optimizer_state"] / 3 <= zero["optimizer_state"] < ddp["optimizer_state"] / 2
    assert zero["parameters"] == ddp["parameters"]


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    measured: dict[str, Any] = run_preloaded("tests.virtual_gpu.real_ranks", preloaded_environment(find_gpu("t4")))
    return measured


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_ranks_on_gpus_of_this_machine_run_together(real: dict[str, Any], name: str) -> None:
    small, confirmed = real[name]["small"], real[name]["confirmed"]
    assert [small["outcome"], confirmed["outcome"], small["steps"]] == ["fits", "fits", 3]
    assert [rank["outcome"] for rank in small["ranks"]] == ["fits", "fits"]
    rows = {row["category"]: row["bytes"] for row in small["breakdown"]["rows"]}
    assert sum(rows.values()) == real[name]["capacity_bytes"] == 600 * 1024**2
    assert rows["gradient_buckets" if name == "ddp" else "gathered_parameters"] > 0
    assert real[name]["large"]["outcome"] == "out_of_memory"


def test_the_gpu_with_less_memory_decides(real: dict[str, Any]) -> None:
    small, between = real["ddp"]["small"], real["ddp"]["between"]
    assert small["rank"] == between["rank"] == 1
    assert [rank["outcome"] for rank in between["ranks"]] == ["fits", "out_of_memory"]
