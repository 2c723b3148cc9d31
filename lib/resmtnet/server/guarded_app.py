"""The part of the MONAI Label app that puts the checks of requests before the server."""

from __future__ import annotations

from typing import Any

from resmtnet.server.platform_fixes import guard_platform, mend_platform
from resmtnet.server.rules import ServerRules


class GuardedApp:
    """A mixin beside MONAILabelApp; `rules` say who may ask the server, and what it takes."""

    rules: ServerRules

    def server_mode(self, mode: bool) -> None:
        """Put the checks before MONAI Label's own server when it starts."""
        parent: Any = super()
        parent.server_mode(mode)
        if mode:
            mend_platform()
            guard_platform(lambda: self.rules)
