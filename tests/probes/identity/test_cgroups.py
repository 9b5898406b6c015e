"""Paths as each runtime and each version of cgroups has them."""

from __future__ import annotations

import pytest

from probes.identity.cgroups import Membership, membership

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD = "0a1b2c3d-1111-2222-3333-444455556666"
POD_SLICE = "kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", Membership()),
        ("/init.scope", Membership()),
        ("/user.slice/user-1000.slice/session-2.scope", Membership()),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", Membership()),
        (f"/build/{ID[:40]}", Membership()),
        ("/system.slice/nginx.service", Membership(unit="nginx")),
        (
            "/system.slice/system-postgresql.slice/postgresql@15-main.service",
            Membership(unit="postgresql@15-main"),
        ),
        (r"/system.slice/my\x2dapp.service/worker", Membership(unit="my-app")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
            Membership(unit="web", user=True),
        ),
        (f"/system.slice/docker-{ID}.scope", Membership(container=ID, runtime="docker")),
        (f"/docker/{ID}", Membership(container=ID, runtime="docker")),
        (f"/docker/{ID}/system.slice/cron.service",
         Membership(container=ID, runtime="docker", unit="cron")),
        (f"/docker/{OTHER}/docker/{ID}", Membership(container=ID, runtime="docker")),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
            Membership(container=ID, runtime="podman"),
        ),
        (f"/machine.slice/libpod-{ID}.scope", Membership(container=ID, runtime="podman")),
        (f"/system.slice/nerdctl-{ID}.scope", Membership(container=ID, runtime="containerd")),
        (
            f"/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{ID}.scope",
            Membership(container=ID, runtime="containerd", pod=POD),
        ),
        (
            f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{ID}.scope",
            Membership(container=ID, runtime="cri-o", pod=POD),
        ),
        (f"/kubepods/besteffort/pod{POD}/{ID}", Membership(container=ID, pod=POD)),
        (
            f"/system.slice/containerd.service/kubepods-besteffort-pod{POD}:cri-containerd:{ID}",
            Membership(container=ID, runtime="containerd", pod=POD),
        ),
        ("/lxc.payload.web/system.slice/nginx.service", Membership(machine="web", unit="nginx")),
        ("/lxc/old/init.scope", Membership(machine="old")),
        ("/machine.slice/systemd-nspawn@web.service/payload", Membership(machine="web")),
        (r"/machine.slice/machine-my\x2dvm.scope", Membership(machine="my-vm")),
    ],
)  # fmt: skip
def test_a_path_says(path: str, said: Membership) -> None:
    assert membership(path) == said
    assert bool(said) == (said != Membership())
