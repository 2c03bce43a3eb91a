"""timm, imported when it is needed and without what it would pull in."""

from __future__ import annotations

import sys
from typing import Any


def library() -> Any:
    """timm. Where wandb is installed timm would import it, for a logger of its own: a second or two for nothing."""
    hidden = sys.modules.setdefault("wandb", None) is None  # type: ignore[arg-type]
    try:
        import timm
    finally:
        if hidden:
            del sys.modules["wandb"]
    return timm
