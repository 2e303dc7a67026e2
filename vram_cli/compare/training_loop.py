"""One training of `vram compare`: from new weights to validation, with gradient noise measured on the way."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from math import isfinite

import torch

from vram_cli.compare.gradient_noise import gradient_noise
from vram_cli.compare.loss_history import LossHistory
from vram_cli.compare.messages import OpenTraining, RunTraining, TrainingProgress
from vram_cli.compare.records import NoisePoint, TrainingRun
from vram_cli.compare.scores import Score, add_score
from vram_cli.compare.splits import shuffled_steps, split, steps_per_epoch
from vram_cli.config import Config, with_overrides
from vram_cli.workload import (
    Batch,
    IndexedSamples,
    build_workload,
    channels_last,
    data_dtype,
    update,
)

NUM_GRADIENT_SAMPLES = 4
"""Gradient noise measurements per training, equally spaced; the last is at the end."""
NUM_GROUPS = 16
"""Groups of training samples per gradient noise measurement."""
MAX_NOISE_SAMPLES = 2048
"""Training samples per gradient noise measurement; all together use at most a tenth of the samples trained on."""
MAX_EVAL_BATCH = 1024
PROGRESS_INTERVAL_S = 0.2
"""Seconds between progress messages: reading a loss waits for the GPU."""


class TrainingLoop:
    """A model, its optimizer and its data. The seed fixes weights and order, whatever the batch size."""

    def __init__(
        self,
        config: Config,
        session: OpenTraining,
        request: RunTraining,
        data: IndexedSamples,
        device: torch.device,
    ) -> None:
        self._config, self._request, self._data, self._device = config, request, data, device
        self._plan = plan = session.plan
        self._max_eval_batch = session.max_eval_batch
        self._train_samples, self._val_samples = map(torch.tensor, split(data.length, plan, request.fold))
        self._seed = plan.seed + request.repeat
        torch.manual_seed(self._seed)
        steps = config.train.gradient_accumulation_steps
        work = build_workload(
            with_overrides(config, [f"train.gradient_accumulation_steps={steps * request.micro_batches}"]), device
        )
        # Trials use a scale of 1, with which small gradients would vanish in float16.
        scaler = torch.amp.GradScaler(device.type, enabled=work.scaler.is_enabled())
        self._work = dataclasses.replace(work, scaler=scaler)
        self._total = len(self._train_samples) * plan.epochs
        self._history = LossHistory(self._total)
        self._gradient_noise: list[NoisePoint] = []
        self._gradient_samples = 0
        self._seconds = 0.0

    def run(self, report: Callable[[TrainingProgress], None]) -> TrainingRun:
        """Train and validate."""
        self._train(report)
        request, history = self._request, self._history
        score = Score() if history.diverged_at is not None else self._validate(report)
        is_full = request.batch_size >= len(self._train_samples)
        # Whether the last step made the weights infinite.
        diverged_last = history.diverged_at is None and not isfinite(score.mean_loss)
        return TrainingRun(
            batch_size=request.batch_size,
            repeat=request.repeat,
            fold=request.fold,
            micro_batches=request.micro_batches,
            learning_rate=request.learning_rate,
            steps=history.steps,
            samples=history.samples,
            seconds=self._seconds,
            loss=score.mean_loss if score.samples and not diverged_last else None,
            accuracy=None if diverged_last else score.accuracy,
            # With micro-batches only the last one's loss is recorded, and a full batch has no sampling noise.
            loss_noise=None if request.micro_batches > 1 or is_full else history.noise(request.batch_size),
            diverged_at=history.steps if diverged_last else history.diverged_at,
            curve=history.curve(),
            gradient_noise=tuple(self._gradient_noise),
        )

    def _train(self, report: Callable[[TrainingProgress], None]) -> None:
        request, history, num_samples = self._request, self._history, len(self._train_samples)
        step_size = request.batch_size * self._config.train.gradient_accumulation_steps
        micro_batch_size = -(-request.batch_size // request.micro_batches)
        num_steps = self._plan.epochs * steps_per_epoch(num_samples, step_size, micro_batch_size)
        order = torch.Generator().manual_seed(self._seed)
        steps = shuffled_steps(num_samples, step_size, micro_batch_size, self._plan.epochs, order)
        start = last_report = self._now()
        for step, batches in enumerate(steps, 1):
            self._set_learning_rate()
            loss = update(self._work, [self._batch(self._train_samples[batch]) for batch in batches], lambda _: None)
            history.add(sum(map(len, batches)), len(batches[-1]), loss)
            is_sampled = self._is_gradient_sample_due()
            is_reported = step == num_steps or time.perf_counter() - last_report >= PROGRESS_INTERVAL_S
            if not (is_sampled or is_reported):
                continue
            last_loss = history.read()
            if history.diverged_at is not None:
                break
            last_report = time.perf_counter()
            report(TrainingProgress(step=step, steps=num_steps, loss=last_loss))
            if is_sampled:
                self._seconds += self._now() - start
                self._sample_gradients()
                start = self._now()
        self._seconds += self._now() - start

    def _set_learning_rate(self) -> None:
        """Set the learning rate of the next step.

        Warm-up raises it linearly from the config's to the scaled one, as in Goyal et al. 2017 (arXiv 1706.02677),
        section 2.2. A lower rate than the config's needs no warm-up.
        """
        initial, target = self._config.train.learning_rate, self._request.learning_rate
        warmup_samples = self._plan.warmup * len(self._train_samples)
        progress = self._history.samples / warmup_samples if self._history.samples < warmup_samples else 1.0
        for group in self._work.optimizer.param_groups:
            group["lr"] = initial + progress * (target - initial) if target > initial else target

    def _is_gradient_sample_due(self) -> bool:
        return self._history.samples * NUM_GRADIENT_SAMPLES >= self._total * (self._gradient_samples + 1)

    def _sample_gradients(self) -> None:
        """Measure the gradient noise, with no effect on the random numbers that training draws."""
        self._gradient_samples += 1
        samples = min(MAX_NOISE_SAMPLES, self._total // (10 * NUM_GRADIENT_SAMPLES), len(self._train_samples))
        group_size = min(samples // NUM_GROUPS, self._max_eval_batch)
        if group_size < 2:  # batch norm rejects a single sample
            return
        order = torch.Generator().manual_seed(self._seed * NUM_GRADIENT_SAMPLES + self._gradient_samples)
        indices = torch.randperm(len(self._train_samples), generator=order)[: group_size * NUM_GROUPS]
        groups = (self._batch(self._train_samples[group]) for group in indices.split(group_size))
        devices = [] if self._device.type == "cpu" else [self._device.index or 0]
        with torch.random.fork_rng(devices):
            signal, variance = gradient_noise(self._work, groups, group_size)
        if isfinite(signal) and isfinite(variance):
            self._gradient_noise.append(NoisePoint(samples=self._history.samples, signal=signal, variance=variance))

    def _validate(self, report: Callable[[TrainingProgress], None]) -> Score:
        """Validate; the reports show that it makes progress."""
        score, steps, loss = Score(), self._history.steps, self._history.read()
        self._work.model.eval()
        for indices in self._val_samples.split(min(MAX_EVAL_BATCH, self._max_eval_batch)):
            add_score(self._work, self._batch(indices), score)
            report(TrainingProgress(step=steps, steps=steps, loss=loss))
        return score

    def _batch(self, indices: torch.Tensor) -> Batch:
        batch = self._data.batch(indices, self._device, data_dtype(self._work.model))
        return channels_last(batch) if self._config.train.channels_last else batch

    def _now(self) -> float:
        if self._device.type != "cpu":
            getattr(torch, self._device.type).synchronize(self._device)
        return time.perf_counter()
