"""Debian's kernels: find the newest of a version, fetch it, unpack it; nothing is installed.

Everything apt is told here lives in a directory of its own: source list, package lists, cache.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUITES: Final = ("bullseye", "bookworm", "trixie", "sid")
_NAMES_OF_DEBIAN: Final = {
    *SUITES, "forky", "stable", "testing", "unstable", "oldstable", "oldoldstable",
}  # fmt: skip
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LISTS_AGE_S: Final = 86400

# linux-image-6.1.0-50-amd64, linux-binary-7.2.13+deb14-amd64, and "unsigned" before or after; a
# -cloud- (it has no 9p), -rt- or -dbg package has one part more and does not match
_PACKAGE: Final = re.compile(
    r"linux-(?P<part>image|binary)-(?P<before>unsigned-)?"
    r"(?P<release>\d[\w.+~]*(?:-\d[\w.+~]*)?-amd64)(?P<after>-unsigned)?"
)
# the only drivers that the emulated machine has a use for; all others are most of the megabytes
_DRIVERS: Final = frozenset({"block", "char", "net", "virtio"})


class KernelsError(Exception):
    """Kernels cannot be tried on this machine; the message says why and what to do."""


class UnreachableError(KernelsError):
    """The mirror does not answer, and there is no copy from earlier."""


@dataclass(frozen=True, slots=True)
class Found:
    """A kernel that Debian offers.

    Attributes:
        release: as `uname -r` will have it.
        packages: the packages that hold the image and its modules.
    """

    release: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel that is unpacked and ready to boot."""

    release: str
    vmlinuz: Path


def _natural(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def newest(names: Iterable[str], version: str) -> Found | None:
    """Return the newest kernel of a version among the names of packages.

    Args:
        names: as `apt-cache pkgnames` lists them.
        version: the beginning of a release that ends at a dot or other mark: "6.1" is no 6.12.

    Returns:
        None if there is no such kernel. An unsigned image only if no other is there.
    """
    known = set(names)
    candidates = []
    for name in known:
        match = _PACKAGE.fullmatch(name)
        if not match or not re.match(re.escape(version) + r"(?!\d)", match["release"]):
            continue
        modules = f"linux-modules-{match['release']}"
        if match["part"] == "binary":
            if modules not in known:
                continue
            packages: tuple[str, ...] = (name, modules)
        elif modules in known:
            continue  # an empty package that asks for the two others
        else:
            packages = (name,)
        signed = not (match["before"] or match["after"])
        candidates.append((signed, _natural(match["release"]), match["release"], packages))
    if not candidates:
        return None
    _, _, release, packages = max(candidates)
    return Found(release, packages)


def mirror(sources: Iterable[str]) -> str | None:
    """Return the address of the Debian mirror that apt's source files name, if any does.

    Args:
        sources: the files' contents, in one-line style or deb822.
    """
    for text in sources:
        for uri, suite in _entries(text):
            if suite in _NAMES_OF_DEBIAN and uri.startswith(("http://", "https://")):
                return uri
    return None


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield each (URI, suite) of a source file."""
    text = re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE)
    for match in re.finditer(r"^deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)", text, re.MULTILINE):
        yield match[1], match[2]
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
        for uri in fields.get("URIs", "").split():
            for suite in fields.get("Suites", "").split():
                yield uri, suite


def cache_directory() -> Path:
    """Return where kernels are kept for the next time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tailrace" / "kernels"


class Archive:
    """Debian's archive, as seen through an apt of our own."""

    def __init__(self, cache: Path) -> None:
        """Prepare; nothing is fetched yet.

        Raises:
            KernelsError: this is no Debian machine, or a program is missing.
        """
        needed = ("apt-get", "apt-cache", "dpkg", "depmod", "unxz")
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        missing = [name for name in needed if not shutil.which(name, path=path)]
        if missing:
            raise KernelsError(
                f"missing: {', '.join(missing)}. Other kernels come from Debian's archive and are "
                "unpacked with Debian's tools: run this on Debian, with kmod and xz-utils."
            )
        files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
        uri = mirror(file.read_text(encoding="utf-8") for file in files if file.is_file())
        if uri is None:
            raise KernelsError(
                "apt's sources on this machine name no mirror of Debian's. Kernels are taken from "
                f"there: add one for any of {', '.join(SUITES)} to /etc/apt/sources.list.d."
            )
        if not _KEYRING.exists():
            raise KernelsError(
                f"{_KEYRING} is missing: install debian-archive-keyring, so that what is "
                "downloaded can be trusted."
            )
        self._cache = cache
        self._environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}
        self._configuration = cache / "apt" / "apt.conf"
        self._configure(uri)
        self._names: frozenset[str] | None = None

    def _configure(self, uri: str) -> None:
        home = self._configuration.parent
        for folder in ("lists/partial", "archives/partial"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "sources.list").write_text(
            "".join(f"deb [arch=amd64 signed-by={_KEYRING}] {uri} {s} main\n" for s in SUITES)
        )
        # the machine's own hooks after an update would run on the machine's own cache
        self._configuration.write_text(
            "#clear APT::Update::Pre-Invoke;\n"
            "#clear APT::Update::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke-Success;\n"
            "#clear Acquire::IndexTargets::deb::DEP-11;\n"
            f'Dir::Etc::sourcelist "{home}/sources.list";\n'
            'Dir::Etc::sourceparts "-";\n'
            f'Dir::State::lists "{home}/lists";\n'
            'Dir::State::status "/dev/null";\n'
            f'Dir::Cache "{home}";\n'
            'APT::Architecture "amd64";\n'
            'APT::Sandbox::User "";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Retries "2";\n'
        )

    def _run(
        self, *command: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=cwd, env=self._environment
        )

    def _apt(self, tool: str, *words: str, cwd: Path | None = None) -> str:
        ended = self._run(tool, "-c", self._configuration, "-q", *words, cwd=cwd)
        if ended.returncode:
            raise UnreachableError(
                f"{tool} {words[0]} failed: {ended.stderr.strip() or ended.stdout.strip()}"
            )
        return ended.stdout

    def names(self) -> frozenset[str]:
        """Return the names of all packages of Debian's that begin with linux-.

        Raises:
            UnreachableError: the mirror does not answer.
        """
        if self._names is None:
            stamp = self._configuration.parent / "updated"
            if not stamp.exists() or time.time() - stamp.stat().st_mtime > _LISTS_AGE_S:
                # one suite that fails leaves the others' lists in place, and is an error here
                self._apt("apt-get", "update", "--error-on=any")
                stamp.touch()
            self._names = frozenset(self._apt("apt-cache", "pkgnames", "linux-").split())
        return self._names

    def image(self, version: str) -> Image:
        """Return the newest kernel of a version, ready to boot; fetched if need be.

        Raises:
            UnreachableError: the mirror does not answer, and no such kernel is in the cache.
            KernelsError: Debian has no such kernel.
        """
        try:
            found = newest(self.names(), version)
        except UnreachableError:
            old = newest(self._kept(), version)
            if old is None:
                raise
            return self._unpacked(old.release)
        if found is None:
            raise KernelsError(
                f"Debian's {', '.join(SUITES)} have no kernel {version}. They have: "
                f"{', '.join(offered(self.names()))}."
            )
        if not self._home(found.release).is_dir():
            self._fetch(found)
        return self._unpacked(found.release)

    def _home(self, release: str) -> Path:
        return self._cache / "images" / release

    def _kept(self) -> list[str]:
        """Return the kernels in the cache, as if each were one package."""
        return [f"linux-image-{home.name}" for home in (self._cache / "images").glob("*-amd64")]

    def _unpacked(self, release: str) -> Image:
        return Image(release, self._home(release) / "boot" / f"vmlinuz-{release}")

    def _fetch(self, found: Found) -> None:
        (self._cache / "images").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix="unpacking-") as name:
            work, home = Path(name), Path(name) / "home"
            self._apt("apt-get", "download", *found.packages, cwd=work)
            for package in work.glob("*.deb"):
                self._must("dpkg", "-x", package, home)
            self._make_bootable(home, found.release)
            with contextlib.suppress(FileExistsError):  # another run was faster
                home.rename(self._home(found.release))

    def _make_bootable(self, home: Path, release: str) -> None:
        """Put image and modules where the emulator's loader looks, the modules uncompressed."""
        usual = home / "lib" / "modules"
        if not usual.is_dir():
            usual.parent.mkdir(parents=True, exist_ok=True)
            usual.symlink_to("../usr/lib/modules")
        vmlinuz = home / "boot" / f"vmlinuz-{release}"
        if not vmlinuz.exists():
            vmlinuz.parent.mkdir(exist_ok=True)
            vmlinuz.symlink_to(f"../usr/lib/modules/{release}/vmlinuz")
        modules = usual / release / "kernel"
        drivers = modules / "drivers"
        useless = [modules / "sound", *(d for d in drivers.iterdir() if d.name not in _DRIVERS)]
        useless += [card for card in (drivers / "net").iterdir() if card.is_dir()]
        for folder in useless:
            shutil.rmtree(folder, ignore_errors=True)
        packed = sorted(str(file) for file in modules.rglob("*.ko.xz"))
        for first in range(0, len(packed), 500):
            self._must("unxz", "-T0", *packed[first : first + 500])
        self._must("depmod", "-b", home, release)

    def _must(self, *command: str | Path) -> None:
        ended = self._run(*command)
        if ended.returncode:
            raise KernelsError(f"{command[0]} failed: {ended.stderr.strip()[:500]}")


def offered(names: Iterable[str]) -> list[str]:
    """Return the versions (two numbers) that can be asked for, oldest first."""
    found = {
        ".".join(match["release"].split(".")[:2])
        for match in map(_PACKAGE.fullmatch, names)
        if match
    }
    return sorted(found, key=_natural)
