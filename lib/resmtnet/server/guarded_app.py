"""The part of the MONAI Label app that puts the checks of requests before the server."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from resmtnet.ct.cache import cache_folder
from resmtnet.errors import ConfigError
from resmtnet.files import tighten
from resmtnet.page.address import case_address
from resmtnet.readings.location import own_files
from resmtnet.server.logs import log_as_configured
from resmtnet.server.platform_fixes import guard_platform, mend_platform
from resmtnet.server.rules import ServerRules
from resmtnet.server.scratch import own_temporary_folder
from resmtnet.server.tokens import NAMED as TOKENS_NAMED
from resmtnet.server.tokens import Tokens, find_tokens

logger = logging.getLogger(__name__)


class GuardedApp:
    """A mixin beside MONAILabelApp; `rules` say who may ask the server, and what it takes."""

    app_dir: str
    studies: str
    rules: ServerRules
    shared: Any
    datastore: Any

    def server_mode(self, mode: bool) -> None:
        """Put the checks before MONAI Label's own server when it starts."""
        parent: Any = super()
        parent.server_mode(mode)
        if mode:
            settings = self.shared.settings
            self.rules = replace(self.rules, tokens=self._tokens(settings.token_file))
            log_as_configured(settings.log_format)
            own_temporary_folder()
            self._tighten(settings)
            mend_platform()
            if "resmtnet.server.app" in sys.modules:  # MONAI Label's own server has no review page
                self.shared.url_of = case_address
            guard_platform(lambda: self.rules)

    def _tighten(self, settings: Any) -> None:
        """Take from other users what an earlier version or another umask has let them read."""
        umask = int(settings.umask, 8)
        database = settings.database(self.app_dir, self.studies)
        for path in (*own_files(database), Path(self.app_dir) / "logs"):
            tighten(path, umask)
        pacs = getattr(self.datastore(), "cache_of_pacs", None)
        for folder in (cache_folder(), *([Path(pacs)] if pacs else [])):
            tighten(folder, umask, inside=False)  # that many files take their time

    def _tokens(self, file: Path | None) -> Tokens | None:
        """Return the tokens; None where none can be kept and none is needed on this machine.

        Raises:
            ConfigError: they are needed.
        """
        try:
            return find_tokens(file)
        except ConfigError as error:
            if file is not None or self.rules.asks_always or TOKENS_NAMED & set(os.environ):
                raise
            logger.warning("Clients of other machines cannot log in: %s", error)
            return None
