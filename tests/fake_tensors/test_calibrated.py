"""Calibrated predictions: the context, the GPU's memory, and workspaces if the PyTorch version matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.calibrations import calibration, case
from vram_cli.config import Config, load_config
from vram_cli.fake_tensors import FakeTensorProbe
from vram_cli.fake_tensors.simulation import running_version
from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.calibration_store import save_calibration
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe import WorkerProbe
from vram_cli.records import Breakdown, Category
from vram_cli.search import find_largest
from vram_cli.units import GIB, MIB

MLP, CNN = load_config("mlp_mnist"), load_config("cnn_cifar10")
TORCH = "{}.{}.9+cu130".format(*running_version())


def probe(calibrated: Calibration | None, config: Config = CNN, **options: Any) -> FakeTensorProbe:
    return FakeTensorProbe(config, find_gpu("t4"), calibration=calibrated, **options)


def breakdown(calibrated: Calibration | None, config: Config = CNN, **options: Any) -> Breakdown:
    result = probe(calibrated, config, **options).measure(256, explain=True).breakdown
    assert result is not None
    return result


def fitted(products_mib: int = 0, convolutions_mib: int = 0, outside_mib: int = 115, torch: str = TORCH) -> Calibration:
    cases = case(products_mib, outside_mib=outside_mib), case(convolutions_mib, convolutions=True, outside_mib=1)
    return calibration(cases=cases, torch=torch)


def test_context_and_memory_are_the_measured_ones() -> None:
    calibrated = breakdown(fitted(outside_mib=333))
    assert calibrated.bytes_of(Category.CONTEXT) == 333 * MIB
    assert calibrated.total_bytes == find_gpu("t4").memory_bytes - 100 * MIB


@pytest.mark.parametrize(
    ("config", "products", "convolutions", "allowed"),
    [(MLP, 64, 256, 64), (CNN, 64, 256, 256), (CNN, 64, 16, 64), (CNN, 0, 0, 0)],
    ids=["products only", "convolutions need more", "products need more", "no shortfall"],
)
def test_peak_rises_by_the_allowance(config: Config, products: int, convolutions: int, allowed: int) -> None:
    plain, calibrated = breakdown(None, config), breakdown(fitted(products, convolutions), config)
    rows = {category: calibrated.bytes_of(category) - plain.bytes_of(category) for category in Category}
    assert rows[Category.WORKSPACES] == allowed * MIB
    assert not any(rows[category] for category in (Category.PARAMETERS, Category.ACTIVATIONS, Category.BATCH_DATA))


def test_largest_batch_shrinks_by_the_allowance() -> None:
    def largest(calibrated: Calibration | None) -> int:
        simulated = probe(calibrated, capacity_bytes=GIB)
        result = find_largest(simulated.measure, capacity_bytes=simulated.capacity_bytes, confirm=simulated.measure)
        assert result.max_batch_size is not None
        return result.max_batch_size

    plain, context, both = largest(None), largest(fitted(outside_mib=415)), largest(fitted(0, 300, 415))
    assert plain > context > both
    # Of about 900 MiB, the context takes a third, and workspaces another.
    assert (plain - context) / plain == pytest.approx(300 / 909, abs=0.05)
    assert (context - both) / plain == pytest.approx(300 / 909, abs=0.05)


def test_user_overhead_replaces_the_context() -> None:
    calibrated = probe(fitted(64, 256), overhead_bytes=50 * MIB)
    assert calibrated.outside_bytes == 50 * MIB
    assert calibrated.device.accuracy.startswith("workspaces calibrated")


def test_another_pytorch_leaves_the_workspaces_out() -> None:
    older = fitted(64, 256, outside_mib=333, torch="2.1.0")
    calibrated = breakdown(older)
    assert calibrated.bytes_of(Category.CONTEXT) == 333 * MIB
    assert calibrated.bytes_of(Category.WORKSPACES) == breakdown(None).bytes_of(Category.WORKSPACES)
    accuracy = probe(older).device.accuracy
    assert accuracy.startswith("context calibrated on this GPU model on 2026-11-24, torch 2.1.0; workspaces not")


def test_accuracy_text_is_extended_by_the_calibration() -> None:
    plain, calibrated = probe(None).device.accuracy, probe(fitted(outside_mib=333)).device.accuracy
    assert "calibrated on" not in plain
    assert calibrated.endswith(plain)
    assert f"2026-11-24, torch {TORCH}" in calibrated
    assert "\n" not in calibrated


def test_worker_loads_the_calibration_unless_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAM_CONFIG_DIR", str(tmp_path))
    save_calibration(fitted(outside_mib=333))
    config = load_config("mlp_mnist", ["device.gpu=t4"])
    for calibrated, context in ((True, 333 * MIB), (False, find_gpu("t4").context_bytes)):
        with WorkerProbe(config, calibrated=calibrated) as opened:
            assert opened.info.device.outside_bytes == context
            assert ("calibrated on" in opened.info.device.accuracy) is calibrated


def test_workspaces_belong_to_the_whole_model() -> None:
    calibrated = probe(fitted(64, 256)).measure(64, detail=True).breakdown
    assert calibrated is not None
    whole, *parts = calibrated.modules
    assert whole.by_category[Category.WORKSPACES] >= 256 * MIB
    assert max(part.by_category.get(Category.WORKSPACES, 0) for part in parts) < 100 * MIB
