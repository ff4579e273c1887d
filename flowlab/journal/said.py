"""What every line of a journal is: a frozen model that is written, read and documented field by field."""

import time
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from flowlab.journal.values import BadLine, Whole, as_list, checked


class Said(BaseModel):
    """A line, or an object in one. Fields are written in their order, and unknown keys are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)  # few commands need every kind

    checked_last: ClassVar[tuple[str, ...]] = ()
    """Fields that are looked at after all others, in this order: of two faults a reader tells the first it meets."""

    left_out: ClassVar[tuple[str, ...]] = ()
    """Fields that are not written when they are None."""

    @classmethod
    def read(cls, fields: Any, run_id: str | None = None) -> Self:
        """What `fields`, from a journal, say. A field that is missing is None; `run_id` is the name of the folder.

        Raises BadLine with the first fault.
        """
        if not isinstance(fields, dict):
            raise BadLine(f"got {fields!r}, expected an object")
        try:
            given = dict.fromkeys(cls.__pydantic_fields__) | fields
            return cls.__pydantic_validator__.validate_python(given, context=run_id)  # model_validate, at 0.6 its time
        except ValidationError as error:
            raise BadLine(cls.fault(error)) from None

    @classmethod
    def fault(cls, error: ValidationError) -> str:
        """The first fault that was found, as a sentence without its full stop."""

        def turn(found: Any) -> int:
            name = found["loc"][0] if found["loc"] else ""
            return cls.checked_last.index(name) if name in cls.checked_last else -1

        first: Any = min(error.errors(include_url=False), key=turn)
        return str(first["ctx"]["error"]) if "ctx" in first else f"{first['loc'][0]} is missing"

    def told(self) -> dict[str, Any]:
        """The fields as JSON values, as they are written."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in fields.items() if value is not None or name not in self.left_out}


class JournalLine(Said):
    """One line. Each kind of line is a model of its own, named by its `kind`."""

    kind: str
    time_us: Whole = Field(default_factory=lambda: time.time_ns() // 1000)  # UTC, microseconds since 1970


def object_of(kind: type[Said]) -> PlainValidator:
    """For a field that holds an object of that kind."""
    return checked(lambda value, _: kind.read(value))


def objects_of(kind: type[Said]) -> PlainValidator:
    """For a field that holds a list of such objects."""
    return checked(lambda value, name: [kind.read(item) for item in as_list(value, name)])
