"""What makes a cache this cache and no other: everything that its numbers depend on, by content."""

from collections.abc import Mapping, Sequence

from flowlab.core.digest import digest_json
from flowlab.core.plugins import Encoder, Source
from flowlab.core.types import Split
from flowlab.study.settings import WindowSettings

LAYOUT_VERSION = 2
"""Of the arrays that a cache holds; 2 added speed_mps."""


def describe_identity(
    source: Source,
    split: Split,
    windows: WindowSettings,
    encoder: Encoder,
    variants: Sequence[str],
    plugins: Mapping[str, str],
) -> dict:
    """The identity as plain JSON: encoder, condition spec, every drive by content, split, windows, variants, layout.

    `plugins` are the digests of the source code of a source and an encoder that are not flowlab's own, by kind.
    """
    drive_ids = sorted({*split.train, *split.val})
    return {
        "encoder": encoder.digest,
        "spec": encoder.spec.to_json(),
        "channels": list(source.channels),
        "manifest": {drive_id: source.digest(drive_id) for drive_id in drive_ids},
        "split": split.to_json(),
        "windows": windows.model_dump(mode="json"),
        "variants": list(variants),
        "layout": LAYOUT_VERSION,
    } | ({"plugins": dict(plugins)} if plugins else {})


def cache_id(identity: dict) -> str:
    """The cache's name."""
    return digest_json(identity)
