"""Which package is taken, and from which mirror; and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels import images
from tests.kernels.images import Archive, KernelsError, UnreachableError, mirror, newest, offered

# as apt-cache pkgnames has them
_TEXT = """
linux-image-5.10.0-9-amd64 linux-image-5.10.0-32-amd64 linux-image-5.10.0-32-amd64-dbg
linux-image-5.10.0-32-amd64-unsigned linux-image-5.10.0-33-amd64-unsigned
linux-image-5.10.0-34-cloud-amd64 linux-image-5.10.0-34-rt-amd64 linux-image-5.10.0-34-arm64
linux-image-6.1.0-50-amd64-unsigned linux-image-6.1.0-47-amd64-unsigned
linux-image-6.12.94+deb13-amd64 linux-image-6.12.107+deb13-amd64
linux-image-6.12.107+deb13-cloud-amd64 linux-image-amd64 linux-image-cloud-amd64
linux-image-7.2.13+deb14-amd64 linux-image-7.2.13+deb14-amd64-dbg
linux-binary-7.2.13+deb14-amd64 linux-binary-unsigned-7.2.13+deb14-amd64
linux-binary-7.2.14+deb14-amd64 linux-binary-7.2.13+deb14-rt-amd64
linux-modules-7.2.13+deb14-amd64 linux-modules-7.2.13+deb14-rt-amd64 linux-headers-7.3.1-amd64
"""
LISTED = _TEXT.split()


@pytest.mark.parametrize(
    ("version", "packages"),
    [
        # by number and not by letter, and signed before newer
        ("5.10", ("linux-image-5.10.0-32-amd64",)),
        # 6.1 is not the beginning of 6.12, and unsigned is better than nothing
        ("6.1", ("linux-image-6.1.0-50-amd64-unsigned",)),
        ("6.12", ("linux-image-6.12.107+deb13-amd64",)),
        ("6.12.94", ("linux-image-6.12.94+deb13-amd64",)),
        # in two packages; 7.2.14 has no modules yet
        ("7.2", ("linux-binary-7.2.13+deb14-amd64", "linux-modules-7.2.13+deb14-amd64")),
    ],
)
def test_the_newest(version: str, packages: tuple[str, ...]) -> None:
    found = newest(LISTED, version)
    assert found is not None
    assert found.packages == packages
    assert found.release in packages[0]


@pytest.mark.parametrize("version", ["7.3", "5.1", "6.12.10", ".*"])
def test_no_such_version(version: str) -> None:
    assert newest(LISTED, version) is None


def test_unsigned_in_the_middle_of_the_name() -> None:
    names = ["linux-binary-unsigned-7.2.13+deb14-amd64", "linux-modules-7.2.13+deb14-amd64"]
    found = newest(names, "7.2")
    assert found is not None
    assert found.release == "7.2.13+deb14-amd64"


def test_what_is_offered_is_in_order() -> None:
    assert offered(LISTED) == ["5.10", "6.1", "6.12", "7.2"]


@pytest.mark.parametrize(
    ("sources", "uri"),
    [
        ("deb http://one/debian bookworm main", "http://one/debian"),
        ("deb [arch=amd64 signed-by=/k] https://two/d/ sid main contrib", "https://two/d/"),
        ("#deb http://no/debian sid main\ndeb http://yes/debian sid main", "http://yes/debian"),
        (
            "Types: deb\n# a remark\nURIs: http://three/debian\nSuites: trixie trixie-updates\n"
            "Components: main\n\nTypes: deb\nURIs: http://no/x\nSuites: trixie-security\n",
            "http://three/debian",
        ),
        ("Types: deb\nURIs: http://no/x\nSuites: trixie-security\n", None),
        ("deb http://no/ubuntu noble main", None),
        ("deb http://no/sdk sdk-bookworm main", None),
        ("deb file:/media/cdrom bookworm main", None),
        ("", None),
    ],
)
def test_the_mirror(sources: str, uri: str | None) -> None:
    assert mirror([sources]) == uri


def test_without_the_tools_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(KernelsError, match=r"missing: apt-get, .*depmod.*on Debian"):
        Archive(tmp_path)


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="needs Debian's apt")
class TestWithoutNetwork:
    """A mirror that refuses connections: the real apt-get, a port where nobody listens."""

    @pytest.fixture
    def archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
        monkeypatch.setattr(images, "mirror", lambda sources: "http://127.0.0.1:1/debian")
        return Archive(tmp_path)

    def test_nothing_kept(self, archive: Archive) -> None:
        with pytest.raises(UnreachableError, match="apt-get update failed"):
            archive.image("6.1")

    def test_what_is_kept_is_used(self, archive: Archive, tmp_path: Path) -> None:
        for release in ("6.1.0-9-amd64", "6.1.0-50-amd64", "6.12.1-amd64"):
            (tmp_path / "images" / release).mkdir(parents=True)
        image = archive.image("6.1")
        assert image.release == "6.1.0-50-amd64"
        assert image.vmlinuz == tmp_path / "images/6.1.0-50-amd64/boot/vmlinuz-6.1.0-50-amd64"
