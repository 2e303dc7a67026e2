"""Keep a script that runs for a trial from logging to services, and from saving and publishing models.

The rest is noted, not prevented: see `writes.py`, and `overlay.py` for the working folder.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from vram_cli.probe.scripts.import_hooks import when_imported

QUIET = {
    "WANDB_MODE": "disabled",
    "COMET_AUTO_LOG_DISABLE": "1",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "disabled",
    "MLFLOW_TRACKING_URI": f"sqlite:///{Path(tempfile.gettempdir(), 'vram-mlflow.db').as_posix()}",
}
"""Environment variables that keep loggers from their services. An argument in the script overrides most of them.

- wandb: mock objects, no network (docs.wandb.ai, "What is the difference between wandb.init modes?").
- Comet: `comet.auto_log.disable` of Experiment (comet.com/docs, Python SDK reference, Experiment).
- Neptune: the old client knows "debug" and the new one "disabled"; both know "offline", which keeps the log in
  `.neptune` (docs.neptune.ai, "Set the logging mode", and "Environment variables" of neptune-scale).
- ClearML: the log stays in its cache (clear.ml/docs, `Task.set_offline`).
- SwanLab: docs.swanlab.cn, "Environment Variables".
- MLflow has no switch: runs go to a database in the folder for temporary files (mlflow.org, "Tracking").
- TensorBoard, Aim and Trackio write only files.

HF_HUB_OFFLINE is not set: it would also refuse the downloads that a script needs. `keep_from_writing` replaces uploads.
DISABLE_MLFLOW_INTEGRATION is not set: Trainer raises an exception if its arguments ask for MLflow.
"""


class _Saver(NamedTuple):
    module: str
    function: str
    """Name in the module, such as "PreTrainedModel.save_pretrained"."""
    position: int
    """Position of the path among the arguments."""
    keyword: str
    name: str
    """Name in the notes."""
    is_folder: bool = False
    makes_parents: bool = False
    """Whether it makes the folder in which it saves."""


_LIGHTNING = "TorchCheckpointIO.save_checkpoint"
_SAVERS = (
    _Saver("torch", "save", 1, "f", "torch.save"),
    _Saver("torch.serialization", "save", 1, "f", "torch.save"),
    _Saver("torch.jit", "save", 1, "f", "torch.jit.save"),
    _Saver("torch.distributed.checkpoint", "save", 9, "checkpoint_id", "torch.distributed.checkpoint.save", True),
    _Saver("torch.distributed.checkpoint", "async_save", 9, "checkpoint_id", "torch.distributed.checkpoint.save", True),
    _Saver("safetensors.torch", "save_file", 1, "filename", "safetensors.torch.save_file"),
    _Saver("safetensors.torch", "save_model", 1, "filename", "safetensors.torch.save_model"),
    _Saver(
        "transformers.modeling_utils", "PreTrainedModel.save_pretrained", 1, "save_directory", "save_pretrained", True
    ),
    _Saver(
        "lightning.fabric.plugins.io.torch_io",
        "TorchCheckpointIO.save_checkpoint",
        2,
        "path",
        "save_checkpoint",
        makes_parents=True,
    ),
    _Saver(
        "lightning_fabric.plugins.io.torch_io",
        "TorchCheckpointIO.save_checkpoint",
        2,
        "path",
        "save_checkpoint",
        makes_parents=True,
    ),
)
_UPLOADS = ("create_repo", "create_commit", "upload_file", "upload_folder", "upload_large_folder")


def keep_from_writing(note: Callable[[str], None], discarded: str | os.PathLike[str] | None = None) -> None:
    """Replace the functions that save models, in all modules that are imported from now on, and uploads.

    Tensors that a script makes to be saved, such as a state_dict, it has made before. A script that reads a file which
    it has saved in the same run gets a FileNotFoundError that gives the reason; a file of an earlier run is read.

    Args:
        note: called with a line about each file that was not written.
        discarded: a folder in which whatever is written is discarded. There an empty file or folder stands for what was
            not saved, because scripts rename and copy it.
    """
    saved = _Saved(note, discarded)
    for saver in _SAVERS:
        when_imported(saver.module, lambda module, saver=saver: saved.replace(module, saver))  # type: ignore[misc]
    for module_name in ("torch", "torch.serialization"):
        when_imported(module_name, saved.replace_load)
    when_imported("huggingface_hub.hf_api", lambda module: _replace_uploads(module, note))


class _Saved:
    """The paths to which a script has saved, though nothing was written."""

    def __init__(self, note: Callable[[str], None], discarded: str | os.PathLike[str] | None) -> None:
        self._note, self._paths = note, set[str]()
        self._discarded = "" if discarded is None else os.path.join(os.path.realpath(discarded), "")  # noqa: PTH118

    def replace(self, module: ModuleType, saver: _Saver) -> None:
        """Replace a function of a module that saves."""
        *owner_name, name = saver.function.split(".")
        owner: Any = getattr(module, owner_name[0], None) if owner_name else module
        original = getattr(owner, name, None)
        if original is None:  # another version of the package
            return

        @wraps(original)
        def save(*args: Any, **kwargs: Any) -> Any:
            place = kwargs.get(saver.keyword, args[saver.position] if len(args) > saver.position else None)
            if isinstance(place, io.BytesIO):  # in memory: the script reads it again
                return original(*args, **kwargs)
            self._add(saver, place)
            return _done() if name == "async_save" else None

        setattr(owner, name, save)

    def replace_load(self, module: ModuleType) -> None:
        """Replace `torch.load`, to give the reason if the script has saved the file in this run."""
        original = module.load

        @wraps(original)
        def load(f: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(f, (str, os.PathLike)) and _absolute(f) in self._paths and not _has_content(f):
                reason = "the script has saved it in this run, and vram has kept torch.save from writing it"
                raise FileNotFoundError(2, reason, os.fspath(f))
            return original(f, *args, **kwargs)

        module.load = load  # type: ignore[attr-defined]

    def _add(self, saver: _Saver, place: Any) -> None:
        is_path = isinstance(place, (str, os.PathLike))
        name = place if is_path or place is None else getattr(place, "name", type(place).__name__)
        self._note(f"{saver.name} {'' if name is None else name}".rstrip() + " (not written)")
        if not is_path:
            return
        self._paths.add(_absolute(place))
        if self._discarded and _absolute(place).startswith(self._discarded):
            if saver.is_folder:
                Path(place).mkdir(parents=True, exist_ok=True)
            else:
                if saver.makes_parents:
                    Path(place).parent.mkdir(parents=True, exist_ok=True)
                Path(place).write_bytes(b"")


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(path)


def _has_content(path: str | os.PathLike[str]) -> bool:
    return Path(path).exists() and Path(path).stat().st_size > 0


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def _replace_uploads(module: ModuleType, note: Callable[[str], None]) -> None:
    """Replace the methods of the Hugging Face Hub's client that change a repository, and their functions."""
    for name in _UPLOADS:
        if not hasattr(module.HfApi, name):
            continue

        @wraps(getattr(module.HfApi, name))
        def upload(_: Any, *args: Any, name: str = name, **kwargs: Any) -> Any:
            repository = kwargs.get("repo_id", args[0] if args and name.startswith("create") else "")
            note(f"huggingface_hub.{name} {repository}".rstrip() + " (not done)")
            if name == "create_repo":
                return module.RepoUrl(f"https://huggingface.co/{repository}")
            return _done() if kwargs.get("run_as_future") else None

        setattr(module.HfApi, name, upload)
        setattr(module, name, getattr(module.api, name, None))
