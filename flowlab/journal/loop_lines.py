"""The lines of the study's journal that the loop writes, and people: a tree, its phases, notes and tags."""

from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from flowlab.core.digest import digest_json
from flowlab.journal.said import JournalLine
from flowlab.journal.values import Object, Text, TextOrNone, fault


class Tree(JournalLine):
    """The phases that the loop goes through from now on, in place of the tree `amended_digest` if there was one."""

    left_out = ("amended_digest", "reason")

    kind: Literal["tree"] = "tree"
    digest: Text
    tree: Object
    amended_digest: TextOrNone = None
    reason: TextOrNone = None

    @field_validator("tree")
    @classmethod
    def _is_the_tree_of_its_digest(cls, tree: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "digest" in info.data and digest_json(tree) != info.data["digest"]:
            raise fault(f"the tree's digest is {digest_json(tree)}, the line says {info.data['digest']}")
        return tree


class Phase(JournalLine):
    """A phase of a tree that began, or ended, and why."""

    kind: Literal["phase"] = "phase"
    tree_digest: Text
    phase: Text
    what: Text
    why: Text


class Note(JournalLine):
    """What somebody says about a run or a lever."""

    kind: Literal["note"] = "note"
    about: Text
    subject: Text
    note: Text


class Tag(JournalLine):
    """A word of the taxonomy that somebody gives to a run or a lever. The last one of a taxonomy counts."""

    kind: Literal["tag"] = "tag"
    about: Text
    subject: Text
    taxonomy: Text
    value: Text
