"""The base class of all sections: no unknown keys, no values of another type, no keys of another choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from vram_cli.config.value_types import invalid


class Section(BaseModel):
    """A frozen group of keys, which refuses unknown keys and values of another type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The names that a key applies to, for keys that do not apply to all names."""

    choices: ClassVar[tuple[str, ...]] = ("name",)
    """Keys of which a config sets exactly one: the subject of the section."""

    @classmethod
    def takes(cls, kind: Any, key: str) -> bool:
        """Whether `key` applies to a section of this kind: a name, or the key of its choice."""
        return key not in cls.only_for or kind in cls.only_for[key]

    @property
    def kind(self) -> Any:
        """The section's name, or else the key that says what it is about, such as "factory"."""
        name = getattr(self, "name", None)
        return name or next((key for key in self.choices if getattr(self, key, None) is not None), None)

    @model_validator(mode="before")
    @classmethod
    def _null_is_all_defaults(cls, value: Any) -> Any:
        # "search:" with every key under it commented out is null to YAML.
        return {} if value is None else value

    @model_validator(mode="after")
    def _no_key_of_another_name(self) -> Section:
        for key in sorted(self.model_fields_set) if self.kind is not None else ():
            if not self.takes(self.kind, key) and getattr(self, key) is not None:
                names = ", ".join(self.only_for[key])
                raise invalid(f"does not apply to {self.kind}", f"remove it; it is for {names}", key=key)
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> Section:
        if len(self.choices) > 1:
            present = [key for key in self.choices if getattr(self, key) is not None]
            *others, last = self.choices
            names = f"{', '.join(others)} or {last}"
            if not present:
                raise invalid(f"is missing: set {names}", key=self.choices[0])
            if len(present) > 1:
                raise invalid(f"cannot be combined with {present[0]}", f"set only one of {names}", key=present[1])
        return self

    @model_serializer(mode="wrap")
    def _without_keys_of_other_names(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        optional = self.choices if len(self.choices) > 1 else ()
        return {
            key: value
            for key, value in handler(self).items()
            if self.takes(self.kind, key) and (value is not None or key not in optional)
        }
