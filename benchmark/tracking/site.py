"""Whether W&B can be reached: is it installed, is there a key, and does its site answer. Imports nothing of it."""

from __future__ import annotations

import configparser
import contextlib
import importlib.util
import netrc
import os
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

SITES = ("https://api.forge.coreweave.com", "https://api.wandb.ai")  # where W&B itself is, of new clients and of old
PROBE = 2.0  # seconds that a cell waits at most for a connection


def is_installed(package: str) -> bool:
    """Whether it can be imported. A folder of that name, such as the client leaves behind, is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def has_key() -> bool:
    """Whether the client will find a key without asking: in the environment, its settings, or netrc for its site."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or _setting("api_key"):
        return True
    netrc_path = os.environ.get("NETRC")
    paths = [Path(netrc_path).expanduser()] if netrc_path else [Path.home() / ".netrc", Path.home() / "_netrc"]
    try:
        logins = netrc.netrc(next(path for path in paths if path.exists()))
    except (StopIteration, OSError, netrc.NetrcParseError):
        return False
    address = site()
    entries = [logins.authenticators(urlsplit(url).netloc) for url in (SITES if address in SITES else (address,))]
    return any(entry and entry[2] for entry in entries)


def site() -> str:
    """Where the client would connect to."""
    return os.environ.get("WANDB_BASE_URL") or _setting("base_url") or SITES[0]


def find_obstacle() -> str:
    """Why no connection can be made now, in a few words; empty where one can. Takes `PROBE` seconds at most."""
    if not has_key():
        return "no key is configured (`wandb login`, or WANDB_API_KEY)"
    answers: list[bool] = []
    # In a thread: where names are not resolved, asking for one has no timeout of its own.
    probe = threading.Thread(target=lambda: answers.append(_can_connect(site())), name="probe", daemon=True)
    probe.start()
    probe.join(PROBE)
    return "" if any(answers) else f"{site()} does not answer"


def _can_connect(url: str) -> bool:
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), PROBE).close()
    except (OSError, ValueError):
        return False
    return True


def find_mode() -> tuple[str, str]:
    """Where a mode of the client is set, and which, in its own words; two times "" where nowhere."""
    disabled = os.environ.get("WANDB_DISABLED", "")
    if disabled.strip().lower() not in ("", "false", "0", "no", "off"):
        return f"WANDB_DISABLED={disabled}", "disabled"
    variable, setting = os.environ.get("WANDB_MODE", ""), _setting("mode")
    if variable.strip():
        return f"WANDB_MODE={variable}", variable.strip().lower()
    return ("`wandb offline` or the like, in W&B's settings", setting.lower()) if setting else ("", "")


def _setting(name: str) -> str:
    """From the files that `wandb login` and `wandb offline` write, whose one section is `default`; the latter's, of the
    current folder, counts first."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    run_folder = Path(os.environ.get("WANDB_DIR") or ".")
    local_folder = run_folder / (".wandb" if (run_folder / ".wandb").exists() else "wandb")
    parser = configparser.ConfigParser(interpolation=None)
    for path in (folder, local_folder):
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read(path / "settings")
    return parser.get("default", name, fallback="")
