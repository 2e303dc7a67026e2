"""What all sections of a config share: nothing unknown, nothing of the wrong type, no key of another choice's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from vram_cli.config.fields import wrong


class Section(BaseModel):
    """What all sections share: unknown keys and values of another type are refused, and nothing changes later."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Keys that mean something for some names only, with those names."""

    @classmethod
    def takes(cls, name: Any, key: str) -> bool:
        """Return whether `key` means something where the section's `name` is this."""
        return key not in cls.only_for or name in cls.only_for[key]

    @model_validator(mode="before")
    @classmethod
    def _empty_is_all_defaults(cls, given: Any) -> Any:
        # "search:" with every key under it commented out is null to YAML.
        return {} if given is None else given

    @model_validator(mode="after")
    def _no_key_of_another_name(self) -> Section:
        name = getattr(self, "name", None)
        for key in sorted(self.model_fields_set):
            if not self.takes(name, key) and getattr(self, key) is not None:
                names = ", ".join(self.only_for[key])
                raise wrong(f"means nothing for {name}", f"leave it out; it is for {names}", key=key)
        return self

    @model_serializer(mode="wrap")
    def _without_keys_of_other_names(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        name = getattr(self, "name", None)
        return {key: value for key, value in handler(self).items() if self.takes(name, key)}
