"""Trainings as people write them: each ground measures them, or refuses them by name, with rows that are right."""

from __future__ import annotations

import pytest

from tests.trainings.conftest import Measured
from tests.trainings.grounds import FAKE, REAL, VIRTUAL, N, config_of
from tests.trainings.steps import WIDTH
from tests.trainings.trainings import DTYPES, KERNEL_LIMITS, SPARSE, STEPS, TRAININGS
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Category, Measurement, Outcome

pytestmark = pytest.mark.slow

NET = 4 * (8 * WIDTH + WIDTH + WIDTH * 2 + 2)
LAST = 4 * (WIDTH * 2 + 2)
TABLE = 4 * 1000 * WIDTH
ADAPTER = 4 * (8 * 4 + 4 * WIDTH)
LAZY = NET + 2 * 4 * WIDTH

PARAMETERS_AND_STATE = {
    "two dtypes": (2 * 8 * WIDTH + ADAPTER + LAST + 16, 2 * (ADAPTER + LAST)),
    "float64": (2 * NET, 4 * NET),
    "complex weights": (8 * 5 + 4 * (8 * 2 + 2), 2 * (8 * 5 + 4 * (8 * 2 + 2))),
    "sparse gradients, SGD": (TABLE + LAST, 0),
    "sparse gradients of a bag, SGD": (TABLE + LAST, 0),
    "sparse gradients, SparseAdam": (TABLE + LAST, 2 * TABLE),
    "sparse gradients of a bag, Adagrad": (TABLE + LAST, TABLE),
    "lazy layers": (LAZY + 8 + 8 * WIDTH, 2 * LAZY),
    "a loss in a tuple": (NET, 2 * NET),
    "two optimizers": (NET, 2 * (NET + LAST)),
    "an optimizer with a closure": (NET, 7 * NET),
    "a gradient within the loss": (NET, 0),
    "a graph used twice, with hooks": (NET, 0),
    "questions to the device": (NET, 0),
}
STEP_COUNTS = 64
"""Bytes that the numbers of steps may take, and tensors of one number."""

REFUSED = {
    "sparse gradients, SGD": "sparse gradients",
    "sparse gradients of a bag, SGD": "sparse gradients",
    "sparse gradients, SparseAdam": "sparse gradients",
    "sparse gradients of a bag, Adagrad": "sparse gradients",
    "an optimizer with a closure": "torch.optim.LBFGS",
    "a gradient within the loss": "torch.autograd.grad",
    "a graph used twice, with hooks": "a hook on a node of the graph",
    "questions to the device": "torch.cuda.get_device_capability, which asks the GPU itself,",
}
"""What fake tensors refuse, by the words that name it; the virtual GPU refuses the closure too."""


@pytest.mark.parametrize("ground", [REAL, FAKE, VIRTUAL])
@pytest.mark.parametrize("name", PARAMETERS_AND_STATE)
def test_parameters_and_optimizer_state_are_in_their_rows(name: str, ground: str, measured: Measured) -> None:
    result = measured(name, ground)
    if name in REFUSED and (ground == FAKE or (ground == VIRTUAL and "closure" in name)):
        assert isinstance(result, str)
        assert REFUSED[name] in result
        assert "(steps.py:" in result or "LBFGS" in result
        return
    assert isinstance(result, Measurement), result
    assert result.outcome is Outcome.FITS, result.message
    assert result.breakdown is not None
    parameters, state = PARAMETERS_AND_STATE[name]
    assert result.breakdown.bytes_of(Category.PARAMETERS) == parameters
    assert 0 <= result.breakdown.bytes_of(Category.OPTIMIZER_STATE) - state <= STEP_COUNTS
    assert result.growth is None


@pytest.mark.parametrize("ground", [REAL, FAKE])
@pytest.mark.parametrize(
    ("name", "expected"), [("float64", "float64"), ("two dtypes", "bfloat16"), ("lazy layers", "float32")]
)
def test_answers_name_the_dtype_that_data_take(
    name: str, expected: str, ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vram_cli.probe.devices.cpu.ENFORCED", False)
    data = open_trials(config_of(TRAININGS[name], ground), download=False).ready.data
    assert data is not None
    assert [(tensor.name, tensor.dtype) for tensor in data.tensors] == [("x", expected), ("targets", "int64")]


@pytest.mark.parametrize("ground", [REAL, VIRTUAL])
def test_sparse_gradients_hold_the_rows_of_the_batch_only(ground: str, measured: Measured) -> None:
    for name in SPARSE:
        result = measured(name, ground)
        assert isinstance(result, Measurement), result
        assert result.breakdown is not None
        transient = result.breakdown.bytes_of(Category.GRADIENTS) + result.breakdown.bytes_of(Category.TEMPORARIES)
        rows = N * 3 * WIDTH * 4
        assert rows < transient < 8 * rows


@pytest.mark.parametrize("ground", [REAL, FAKE, VIRTUAL])
def test_the_answer_says_which_number_is_the_loss(ground: str, measured: Measured) -> None:
    result = measured("a loss in a tuple", ground)
    assert isinstance(result, Measurement)
    assert result.notes == ("the loss is output[1], the only number that needs a gradient",)
    other = measured("lazy layers", ground)
    assert isinstance(other, Measurement)
    assert other.notes == ()


@pytest.mark.parametrize("ground", [FAKE, VIRTUAL])
@pytest.mark.parametrize("name", KERNEL_LIMITS)
def test_sizes_that_a_kernel_refuses_are_no_matter_of_memory(name: str, ground: str, measured: Measured) -> None:
    result = measured(name, ground)
    assert isinstance(result, Measurement), result
    fits = name.endswith("65,535 rows")
    assert result.outcome is (Outcome.FITS if fits else Outcome.KERNEL_LIMIT), result.message


def test_all_kinds_are_tested() -> None:
    assert PARAMETERS_AND_STATE.keys() == {*DTYPES, *SPARSE, *STEPS}
