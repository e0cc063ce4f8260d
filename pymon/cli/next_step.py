"""The hints that commands print: each names the next command on the way from `pymon up` to a tenant's Prometheus."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
from pathlib import Path

from pymon.cli.site import Site
from pymon.data_dir import default_data_dir

PROMETHEUS_USER = "prometheus"
CONFIGURATION = Path("/etc/prometheus")
"""The user and the configuration directory of Prometheus in Debian's package."""


def program() -> str:
    """Return the shell word that starts this program from any directory."""
    called = Path(sys.argv[0])
    if called.name != "pymon":
        return "pymon"
    found = shutil.which("pymon")
    if found is not None and Path(found).resolve() == called.resolve():
        return "pymon"
    return shlex.quote(str(called.absolute()))


def create_account(name: str, data_dir: Path) -> str:
    """Return the command line that creates an account."""
    return f"{program()} account create {shlex.quote(name)}{_data_dir(data_dir)}"


def after_account(name: str, data_dir: Path, site: Site) -> str:
    """Return the hint after the creation of an account: start a container for it, and create a certificate."""
    out = f"--out {shlex.quote(name)}"
    if os.geteuid() == 0 and _prometheus_is_a_service():
        out = f"--owner {PROMETHEUS_USER} --out {shlex.quote(str(CONFIGURATION / name))}"
    return (
        f"Next, start a container of {name}{_how(site)}:\n"
        f"  {_run(name, site)}\n"
        "and create a certificate for its Prometheus:\n"
        f"  {program()} cert create {shlex.quote(name)} {out}{_data_dir(data_dir)}\n"
    )


def after_certificate(name: str, folder: Path, owner: pwd.struct_passwd | None) -> str:
    """Return the hint after the creation of a certificate: start Prometheus.

    owner: the user that Prometheus is to run as, None for the present user.
    """
    config = shlex.quote(str(folder.absolute() / "prometheus.yml"))
    if owner is None:
        command, data = "prometheus", folder.absolute() / "data"
    else:
        command, data = f"runuser -u {shlex.quote(owner.pw_name)} -- prometheus", Path(owner.pw_dir) / name
    return f"Next, start Prometheus:\n  {command} --config.file={config} --storage.tsdb.path={shlex.quote(str(data))}\n"


def _how(site: Site) -> str:
    return f"; its label {site.owner_label} names the account" if site.owner_label else ""


def _run(name: str, site: Site) -> str:
    if not site.owner_label:
        return "docs/owners.md says which rules of the configuration give one to an account"
    label = shlex.quote(f"{site.owner_label}={name}")
    podman = shutil.which("podman") is not None and (os.geteuid() != 0 or shutil.which("docker") is None)
    if podman:
        # pymon cannot read the labels of Podman before 4.8, but it can read annotations.
        return f"podman run --detach --label {label} --annotation {label} docker.io/library/nginx"
    return f"docker run --detach --label {label} nginx"


def _prometheus_is_a_service() -> bool:
    """Return whether Prometheus is installed as in Debian's package, with a user and a configuration directory."""
    try:
        home = pwd.getpwnam(PROMETHEUS_USER).pw_dir
    except KeyError:
        return False
    return CONFIGURATION.is_dir() and Path(home).is_dir()


def _data_dir(data_dir: Path) -> str:
    here = data_dir.absolute()
    return "" if here == default_data_dir(os.environ, os.geteuid()) else f" --data-dir {shlex.quote(str(here))}"
