"""What all sections of a config share: nothing unknown, nothing of the wrong type, no key of another choice's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from vram_cli.config.value_types import invalid


class Section(BaseModel):
    """What all sections share: unknown keys and values of another type are refused, and nothing changes later."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Keys that mean something for some names only, with those names."""

    choices: ClassVar[tuple[str, ...]] = ("name",)
    """Keys of which one, and only one, says what the section is about."""

    @classmethod
    def takes(cls, kind: Any, key: str) -> bool:
        """Return whether `key` means something where the section is about this: a name, or the key of its choice."""
        return key not in cls.only_for or kind in cls.only_for[key]

    @property
    def kind(self) -> Any:
        """The section's name; without one, the key by which it says what it is about, such as "target"."""
        name = getattr(self, "name", None)
        return name or next((key for key in self.choices if getattr(self, key, None) is not None), None)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_all_defaults(cls, given: Any) -> Any:
        # "search:" with every key under it commented out is null to YAML.
        return {} if given is None else given

    @model_validator(mode="after")
    def _no_key_of_another_name(self) -> Section:
        for key in sorted(self.model_fields_set) if self.kind is not None else ():
            if not self.takes(self.kind, key) and getattr(self, key) is not None:
                names = ", ".join(self.only_for[key])
                raise invalid(f"means nothing for {self.kind}", f"leave it out; it is for {names}", key=key)
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> Section:
        if len(self.choices) > 1:
            given = [key for key in self.choices if getattr(self, key) is not None]
            if not given:
                raise invalid(f"is missing: give {self._named_choices()}", key=self.choices[0])
            if len(given) > 1:
                raise invalid(f"goes not with {given[0]}", f"give {self._named_choices()}, and only one", key=given[1])
        return self

    @classmethod
    def _named_choices(cls) -> str:
        *others, last = cls.choices
        return f"{', '.join(others)} or {last}"

    @model_serializer(mode="wrap")
    def _without_keys_of_other_names(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = {key: value for key, value in handler(self).items() if self.takes(self.kind, key)}
        return {key: value for key, value in given.items() if value is not None or key not in self._unset_choices()}

    def _unset_choices(self) -> tuple[str, ...]:
        return self.choices if len(self.choices) > 1 else ()
