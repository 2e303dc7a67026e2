"""Scripts on the CPU and on the virtual GPU: their loaders, phases, failures and ends, as their users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probe.scripts.children import checksums
from tests.scripts.conftest import RunScript
from tests.scripts.runs import Run
from vram_cli.records import Detail, LoaderInfo, Measurement, Outcome, Phase

WITH_N = ("--batch-size", "{n}")
GROUNDS = ["on_cpu", "on_t4"]

HEAD = """
import os, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

n = int(sys.argv[1]) if len(sys.argv) > 1 else 8
device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 4)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(torch.randn(256, 64), torch.randint(0, 4, (256,)))

def train(x, y):
    loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
"""
LOOP = """
for step, (x, y) in enumerate(DataLoader(data, batch_size=n, shuffle=True)):
    train(x, y)
"""


@pytest.fixture(params=GROUNDS)
def run_script(request: pytest.FixtureRequest) -> RunScript:
    run: RunScript = request.getfixturevalue(request.param)
    return run


def peaks(measurement: Measurement) -> dict[Phase, int]:
    return {peak.phase: peak.allocated_bytes for peak in measurement.peaks}


def trial_of(run: Run) -> Measurement:
    assert run.refusal is None, run.refusal
    assert len(run.trials) == 1
    return run.trials[0]


def test_n_is_taken_by_the_loader(run_script: RunScript) -> None:
    run = run_script("plain.py", *WITH_N, sizes=(16, 64))
    assert run.ready is not None
    assert run.ready.script is not None
    assert run.ready.script.set_in == ""
    assert run.ready.script.loaders == (
        LoaderInfo(line="plain.py:83", batch_size=6, num_samples=1024, trains=True),
        LoaderInfo(line="plain.py:84", batch_size=1000, num_samples=2000, trains=False),
    )
    assert run.ready.data is not None
    assert (run.ready.data.detail, run.ready.data.num_samples) == ("plain.py:83", 1024)
    small, large = run.trials
    assert small.outcome is large.outcome is Outcome.FITS
    assert small.steps == large.steps == 3
    assert [peak.phase.value for peak in small.peaks] == ["build", "batch", "forward", "backward", "optimizer"]
    assert peaks(large)[Phase.BACKWARD] > peaks(small)[Phase.BACKWARD] + 6_000_000
    assert "test: loss" not in run.printed  # the script never gets there


def test_a_trial_changes_nothing_in_the_worker(run_script: RunScript) -> None:
    run = run_script(HEAD + "torch.manual_seed(5); torch.set_default_dtype(torch.float32)" + LOOP, "{n}", sizes=(4, 8))
    assert [trial.outcome for trial in run.trials] == [Outcome.FITS] * 2
    assert run.changes == []


def test_without_n_the_loader_that_trains_is_set(run_script: RunScript) -> None:
    run = run_script("plain_loader.py", sizes=(16, 64))
    assert run.ready is not None
    assert run.ready.script is not None
    assert (run.ready.script.set_in, run.ready.script.batch_size) == ("plain_loader.py:15", 64)
    small, large = (peaks(trial)[Phase.FORWARD] for trial in run.trials)
    assert large > small + 3_000_000


def test_a_batch_as_large_as_the_data_set_and_larger(on_t4: RunScript) -> None:
    run = on_t4(HEAD.replace("1 else 8", "9 else 8") + LOOP, sizes=(256, 1024, 4096))
    assert [trial.steps for trial in run.trials] == [3, 3, 3]
    small, middle, large = (peaks(trial)[Phase.BACKWARD] for trial in run.trials)
    assert large - middle == pytest.approx(4 * (middle - small), rel=0.2)
    assert run.ready is not None
    assert run.ready.data is not None
    assert run.ready.data.num_samples == 256


@pytest.mark.parametrize(
    ("script", "words", "message", "hint"),
    [
        ("ignores_n.py", WITH_N, "with 6 and with 12, ignores_n.py:17 has batches of 32", "put {n} where the script"),
        (
            "bucket.py",
            (),
            "bucket.py:52: the batch size of this DataLoader cannot be set: its batch sampler",
            "put {n}",
        ),
        ("two_loaders.py", (), "two_loaders.py:21 (8), two_loaders.py:22 (32)", "script.loader=two_loaders.py:21"),
        ("nanogpt.py", (), "no DataLoader of torch feeds its training, and the command has no {n}", "put {n}"),
        ("exits_early.py", WITH_N, "the script ended after 2 of 3 steps", "--steps"),
    ],
)
def test_refusals_name_the_line_and_the_way_out(
    on_t4: RunScript, script: str, words: tuple[str, ...], message: str, hint: str
) -> None:
    run = on_t4(script, *words)
    assert run.refusal is not None
    assert run.refusal.kind == ("WorkloadError" if script == "exits_early.py" else "ConfigError")
    assert message in run.refusal.message
    assert hint in run.refusal.hint


def test_one_of_two_loaders_is_chosen(on_t4: RunScript) -> None:
    run = on_t4("two_loaders.py", overrides=["script.loader=two_loaders.py:22"], sizes=(32, 64))
    assert run.ready is not None
    assert run.ready.script is not None
    assert (run.ready.script.set_in, run.ready.script.batch_size) == ("two_loaders.py:22", 32)
    run = on_t4("two_loaders.py", overrides=["script.loader=two_loaders.py:23"])
    assert run.refusal is not None
    assert "no DataLoader of two_loaders.py:23 trains" in run.refusal.message


@pytest.mark.parametrize(
    ("script", "words", "size"),
    [
        ("nanogpt.py", ("--batch_size={n}",), 64),
        ("policy_gradient.py", ("--num-envs", "{n}"), 64),
        ("workers.py", WITH_N, 64),
        ("iterable.py", WITH_N, 1024),
        ("iterable.py", (), 1024),
        ("bucket.py", WITH_N, 64),
        ("gan.py", WITH_N, 64),
        ("lstm.py", WITH_N, 64),
        ("amp_fp16.py", WITH_N, 64),
    ],
)
def test_more_takes_more(on_t4: RunScript, script: str, words: tuple[str, ...], size: int) -> None:
    run = on_t4(script, *words, sizes=(16, size))
    assert [trial.outcome for trial in run.trials] == [Outcome.FITS] * 2, run.refusal
    small, large = (peaks(trial) for trial in run.trials)
    assert large[Phase.FORWARD] > small[Phase.FORWARD]
    assert large[Phase.BACKWARD] > small[Phase.BACKWARD]


def test_accumulation_has_several_backward_passes_per_step(run_script: RunScript) -> None:
    run = run_script(
        HEAD
        + """
for step, (x, y) in enumerate(DataLoader(data, batch_size=n)):
    loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device)) / 4
    loss.backward()
    if step % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
    print(f"micro batch {step}")
""",
        "{n}",
        sizes=(4,),
    )
    assert trial_of(run).steps == 3
    assert run.ready is not None
    assert run.ready.script is not None
    assert run.ready.script.micro_batches == 4
    assert "micro batch 11" in run.printed
    assert "micro batch 12" not in run.printed


def test_every_optimizer_steps(run_script: RunScript) -> None:
    run = run_script(
        HEAD
        + """
judge = nn.Linear(4, 1).to(device)
other = torch.optim.Adam(judge.parameters())
for step, (x, y) in enumerate(DataLoader(data, batch_size=n)):
    train(x, y)
    if step % 2:
        other.zero_grad()
        judge(model(x.to(device)).detach()).mean().backward()
        other.step()
        print("judged")
""",
        "{n}",
        sizes=(4,),
    )
    assert trial_of(run).steps == 6  # more than 3, since the late state of the other looks as if memory grew
    assert run.trials[0].growth is None
    assert run.printed.count("judged") == 2 * 6  # in the rehearsal, too


def test_a_closure_runs_within_its_step(on_cpu: RunScript) -> None:
    run = on_cpu("closure.py", "--points", "{n}", sizes=(1024,))
    phases = peaks(trial_of(run))
    assert phases.keys() == {Phase.BUILD, Phase.BATCH, Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    assert phases[Phase.BACKWARD] > phases[Phase.BUILD] + 1024 * 64 * 4


def test_an_optimizer_within_the_backward_pass(run_script: RunScript) -> None:
    run = run_script(
        HEAD
        + """
own = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in model.parameters()}

def update(p):
    own[p].step()
    own[p].zero_grad()

for p in model.parameters():
    p.register_post_accumulate_grad_hook(update)
for x, y in DataLoader(data, batch_size=n):
    nn.functional.cross_entropy(model(x.to(device)), y.to(device)).backward()
""",
        "{n}",
        sizes=(4,),
    )
    phases = peaks(trial_of(run))
    assert run.trials[0].steps == 3
    assert Phase.OPTIMIZER not in phases


def test_checkpointing_recomputes_in_backward(run_script: RunScript) -> None:
    body = HEAD.replace(
        "nn.Linear(64, 512), nn.ReLU()", "*(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(8))"
    )
    body = body.replace("nn.Linear(512, 4)", "nn.Linear(64, 4)")
    body += """
from torch.utils.checkpoint import checkpoint
def forward(x):
    for layer in model[:-1]:
        x = checkpoint(layer, x, use_reentrant=REENTRANT) if KEEPS else layer(x)
    return model[-1](x)
class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = model
    def forward(self, x):
        return forward(x)
whole = Whole()
for x, y in DataLoader(data, batch_size=n):
    optimizer.zero_grad()
    nn.functional.cross_entropy(whole(x.to(device).requires_grad_()), y.to(device)).backward()
    optimizer.step()
"""
    found = {}
    for keeps, reentrant in ((False, False), (True, False), (True, True)):
        text = body.replace("REENTRANT", str(reentrant)).replace("KEEPS", str(keeps))
        found[keeps, reentrant] = trial_of(run_script(text, "{n}", sizes=(4096,)))
    assert {trial.steps for trial in found.values()} == {3}
    plain, saved, reentered = (peaks(trial)[Phase.FORWARD] for trial in found.values())
    assert max(saved, reentered) < plain - 4 * 4096 * 64 * 4


def test_memory_that_grows_is_told(run_script: RunScript) -> None:
    run = run_script(
        HEAD
        + """
losses = []
for x, y in DataLoader(data, batch_size=n):
    train(x, y)
    losses.append(nn.functional.cross_entropy(model(x.to(device)), y.to(device)))
""",
        "{n}",
        sizes=(16,),
    )
    growth = trial_of(run).growth
    assert growth is not None
    assert growth.steps >= 6
    assert growth.bytes_per_step >= 16 * 512 * 4


def test_the_longest_samples_make_the_batch(run_script: RunScript) -> None:
    run = run_script("varying_lengths.py", *WITH_N, sizes=(2,), detail=Detail.ROWS)
    trial = trial_of(run)
    assert run.ready is not None
    assert run.ready.data is not None
    assert run.ready.data.samples_measured == run.ready.data.samples_total == 320
    assert trial.breakdown is not None
    batch = {row.category.value: row.bytes for row in trial.breakdown.rows}["batch_data"]
    assert batch >= 2 * 92 * 16 * 4


def test_rows_add_up_and_name_lines(run_script: RunScript) -> None:
    trial = trial_of(run_script("plain.py", *WITH_N, sizes=(64,), detail=Detail.MODULES))
    breakdown = trial.breakdown
    assert breakdown is not None
    assert sum(row.bytes for row in breakdown.rows) == breakdown.total_bytes
    assert breakdown.lines
    lines = {share.line for share in breakdown.lines}
    assert "plain.py:52" in lines  # backward
    assert "plain.py:39" in lines  # the activation of the second convolution
    assert all(line.startswith("plain.py:") for line in lines)
    assert "conv2" in {module.path for module in breakdown.modules}


def test_an_exception_of_the_script_is_the_error(run_script: RunScript) -> None:
    run = run_script("raises.py", *WITH_N)
    assert run.refusal is not None
    assert run.refusal.kind == "WorkloadError"
    assert "ValueError: label 255 of a data set with 10 classes" in run.refusal.message
    assert ", in check" in run.refusal.traceback
    assert "vram_cli" not in run.refusal.traceback


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("sys.exit(3)", "it ended with exit code 3"),
        ("sys.exit('no data')", "it ended: no data"),
        ("os._exit(9)", "ended with exit code 9"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_other_ends_are_told(on_t4: RunScript, end: str, message: str) -> None:
    run = on_t4(HEAD + f"train(*data[:n])\n{end}\n", "{n}")
    assert run.refusal is not None
    assert message in run.refusal.message
    assert "train.py" in run.refusal.message


def test_a_script_that_never_steps_is_noted(on_t4: RunScript) -> None:
    trial = trial_of(on_t4("never_steps.py", *WITH_N, sizes=(8,)))
    assert trial.outcome is Outcome.FITS
    assert trial.notes == ("no optimizer of torch.optim stepped, so each backward pass counts as a step",)


def test_a_script_that_talks_and_listens(run_script: RunScript) -> None:
    run = run_script("prints.py", *WITH_N, sizes=(8,))
    assert trial_of(run).outcome is Outcome.FITS
    assert "answer '', 0 more characters on stdin" in run.printed
    assert run.trials[0].writes == ("started echo 'from a command'",)


def test_children_end_with_the_trial(run_script: RunScript) -> None:
    run = run_script("forks.py", *WITH_N, sizes=(8,))
    assert trial_of(run).outcome is Outcome.FITS
    assert run.children == []


def test_nothing_of_the_script_runs_after_its_trial(run_script: RunScript, folder: Path) -> None:
    overrides = ["script.isolation=none"]
    run = run_script("catches_everything.py", *WITH_N, sizes=(8, 65536), overrides=overrides)
    assert run.refusal is None, run.refusal
    fits, fails = run.trials
    assert fits.outcome is Outcome.FITS
    assert fails.outcome is Outcome.OUT_OF_MEMORY
    assert fails.phase is not None
    assert sorted(path.name for path in folder.iterdir()) == ["catches_everything.py"]
    assert "Traceback" not in run.printed


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_the_folder_is_as_before(on_t4: RunScript, folder: Path, isolation: str) -> None:
    script = HEAD + "os.makedirs('runs', exist_ok=True)\n" + LOOP + "    torch.save(model.state_dict(), 'model.pt')\n"
    (folder / "model.pt").write_text("weights of last week")
    (folder / "runs").mkdir()
    (folder / "train.py").write_text(script)
    before = checksums(folder)
    run = on_t4(script, "{n}", sizes=(8,), overrides=[f"script.isolation={isolation}"])
    assert trial_of(run).writes[0] == "torch.save model.pt (not written)"
    after = checksums(folder)
    assert {name: after[name].split()[2] for name in after} == {name: before[name].split()[2] for name in before}


def test_a_script_that_compiles_is_noted(run_script: RunScript) -> None:
    run = run_script(HEAD + "model = torch.compile(model, backend='eager')\n" + LOOP, "{n}", sizes=(8,))
    (note,) = trial_of(run).notes
    assert "torch.compile at train.py:19" in note


def test_the_last_words_of_a_script_that_ends_are_shown(on_t4: RunScript) -> None:
    text = "import argparse, torch\nparser = argparse.ArgumentParser()\nparser.add_argument('--data', required=True)\n"
    run = on_t4(text + "parser.parse_args()\n", "{n}")
    assert run.refusal is not None
    assert run.refusal.message.endswith("it ended with exit code 2")
    assert run.refusal.traceback.endswith("train.py: error: the following arguments are required: --data")
    run = on_t4("import os\nprint('bye', flush=True)\nos._exit(1)\n", "{n}")
    assert run.refusal is not None
    assert (run.refusal.kind, run.refusal.traceback) == ("WorkloadError", "bye")
