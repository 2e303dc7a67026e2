"""One training of `vram compare`, from fresh weights to the validation, with looks at gradients on the way."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from math import isfinite

import torch

from vram_cli.compare.gradient_noise import gradient_noise
from vram_cli.compare.loss_history import LossHistory
from vram_cli.compare.messages import OpenTraining, RunTraining, TrainingProgress
from vram_cli.compare.records import NoisePoint, Run
from vram_cli.compare.scores import Score, add_score
from vram_cli.compare.splits import split, steps_per_epoch, updates
from vram_cli.config import Config, with_overrides
from vram_cli.workload import (
    Batch,
    IndexedSamples,
    build_workload,
    channels_last,
    parameter_dtype,
    update,
)

LOOKS = 4
"""At gradients, at equal distances; the last is at the end."""
GROUPS = 16
"""Of samples, whose gradients are compared at a look."""
MOST_LOOKED_AT = 2048
"""Samples a look; and all looks together take a tenth of the images trained on, at most."""
VALIDATED_AT_ONCE = 1024
TELL_SECONDS = 0.2
"""Between two messages: to know a loss, a GPU has to be waited for."""


class TrainingLoop:
    """A model and all that it is trained with; the seed decides about weights and order, whatever the batch size."""

    def __init__(
        self, config: Config, course: OpenTraining, task: RunTraining, data: IndexedSamples, device: torch.device
    ) -> None:
        plan = course.plan
        self._config, self._plan, self._task, self._data, self._device = config, plan, task, data, device
        self._largest = course.largest
        self._trained, self._validated = map(torch.tensor, split(data.length, plan, task.fold))
        self._seed = plan.seed + task.repeat
        torch.manual_seed(self._seed)
        self._per_batch = -(-task.batch_size // task.parts)
        accumulated = config.train.gradient_accumulation_steps * task.parts
        overrides = ["mode=train", f"train.gradient_accumulation_steps={accumulated}"]
        work = build_workload(with_overrides(config, overrides), device)
        # A trial's scale of 1 would let small gradients vanish in float16.
        scaler = torch.amp.GradScaler(device.type, enabled=work.scaler.is_enabled())
        self._work = dataclasses.replace(work, scaler=scaler)
        self._total = len(self._trained) * plan.epochs
        self._diary = LossHistory(self._total)
        self._noise: list[NoisePoint] = []
        self._looks = 0
        self._seconds = 0.0

    def run(self, tell: Callable[[TrainingProgress], None]) -> Run:
        """Train, then validate."""
        self._train(tell)
        task, diary = self._task, self._diary
        score = Score() if diary.diverged_at is not None else self._validate()
        is_full = task.batch_size >= len(self._trained)
        lost = diary.diverged_at is None and not isfinite(score.mean_loss)  # its last step made the weights infinite
        return Run(
            batch_size=task.batch_size,
            repeat=task.repeat,
            fold=task.fold,
            parts=task.parts,
            learning_rate=task.learning_rate,
            steps=diary.steps,
            images=diary.images,
            seconds=self._seconds,
            loss=score.mean_loss if score.samples and not lost else None,
            accuracy=None if lost else score.accuracy,
            # Of parts only the last one's loss is known; and with all samples in a step nothing in it is by chance.
            loss_noise=None if task.parts > 1 or is_full else diary.noise(task.batch_size),
            diverged_at=diary.steps if lost else diary.diverged_at,
            curve=diary.curve(),
            noise=tuple(self._noise),
        )

    def _train(self, tell: Callable[[TrainingProgress], None]) -> None:
        plan, task, work, diary = self._plan, self._task, self._work, self._diary
        order = torch.Generator().manual_seed(self._seed)
        shape = len(self._trained), task.batch_size * self._config.train.gradient_accumulation_steps, self._per_batch
        steps = plan.epochs * steps_per_epoch(*shape)
        began = told = self._now()
        for step, pieces in enumerate(updates(*shape, plan.epochs, order), 1):
            self._set_rate()
            loss = update(work, [self._batch(self._trained[piece]) for piece in pieces], lambda _: None)
            diary.add(sum(map(len, pieces)), len(pieces[-1]), loss)
            looks = self._is_time_to_look()
            if not looks and step < steps and time.perf_counter() - told < TELL_SECONDS:
                continue
            last = diary.read()
            if diary.diverged_at is not None:
                break
            told = time.perf_counter()
            tell(TrainingProgress(step=step, steps=steps, loss=last))
            if looks:
                self._seconds += self._now() - began
                self._look()
                began = self._now()
        self._seconds += self._now() - began

    def _set_rate(self) -> None:
        """Set the learning rate of the next step: during warm-up between the config's own, where lower, and the task's.

        As in Goyal et al. 2017 (arXiv 1706.02677), section 2.2: in equal steps from the rate of the small batch.
        """
        own, rate = self._config.train.learning_rate, self._task.learning_rate
        warm = self._plan.warmup * len(self._trained)
        part = self._diary.images / warm if self._diary.images < warm else 1.0
        for group in self._work.optimizer.param_groups:
            group["lr"] = own + part * (rate - own) if rate > own else rate

    def _is_time_to_look(self) -> bool:
        return self._diary.images * LOOKS >= self._total * (self._looks + 1)

    def _look(self) -> None:
        """Compare the gradients of groups of training samples; what the training draws is the same without it."""
        self._looks += 1
        samples = min(MOST_LOOKED_AT, self._total // (10 * LOOKS), len(self._trained))
        size = min(samples // GROUPS, self._largest)
        if size < 2:  # batch norm takes no single sample
            return
        order = torch.Generator().manual_seed(self._seed * LOOKS + self._looks)
        rows = torch.randperm(len(self._trained), generator=order)[: size * GROUPS].split(size)
        with torch.random.fork_rng(self._forked()):
            found = gradient_noise(self._work, (self._batch(self._trained[group]) for group in rows), size)
        self._noise.append(NoisePoint(images=self._diary.images, signal=found[0], variance=found[1]))

    def _validate(self) -> Score:
        score = Score()
        self._work.model.eval()
        for places in self._validated.split(min(VALIDATED_AT_ONCE, self._largest)):
            add_score(self._work, self._batch(places), score)
        return score

    def _batch(self, places: torch.Tensor) -> Batch:
        batch = self._data.batch(places, self._device, parameter_dtype(self._config))
        return channels_last(batch) if self._config.train.channels_last else batch

    def _now(self) -> float:
        if self._device.type != "cpu":
            getattr(torch, self._device.type).synchronize(self._device)
        return time.perf_counter()

    def _forked(self) -> list[int]:
        return [] if self._device.type == "cpu" else [self._device.index or 0]
